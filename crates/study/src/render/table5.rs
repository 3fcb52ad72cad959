//! Table 5: the fine-tuning sets — examples, masks, lengths, and what training text has in common with them.

use std::collections::BTreeSet;

use corpus::NgramIndex;

use super::DataTable;
use crate::recipe::{sft_batches, sft_held_out};
use crate::{DataSpec, Error, Prepared, Sources, StudySpec};

/// Tokens of the sequences that are looked for (as GPT-3's authors did).
const NGRAM: usize = 13;

/// The table, from prepared data or, without any, from stated counts.
///
/// # Errors
/// Stores that cannot be read, sets without an example.
pub fn table5(spec: &StudySpec, prepared: Option<&Prepared>) -> Result<DataTable, Error> {
    let title = format!(
        "Table 5 ({}): the fine-tuning sets. Rows of at most {} tokens; longer examples: {:?}.",
        spec.model_name, spec.sft.max_time, spec.sft.truncation
    );
    let header = [
        "dataset",
        "train_samples",
        "prompt_masked",
        "available",
        "held_out",
        "tokens",
        "targets",
        "truncated",
        "dropped",
        "held_out_contaminated",
        "held_out_half_contained",
    ];
    let mut table = DataTable::new("table5", &title, &header);
    let sources = match &spec.data {
        DataSpec::Files { sources, .. } => sources.clone(),
        DataSpec::Stated { .. } => Sources::paper()?,
        DataSpec::Generated { .. } => Sources::default(),
    };
    for set in &spec.sft.sets {
        let masked = if set.mask_prompt { "Yes" } else { "No" }.to_owned();
        let files = sources.0.get(&set.role);
        let Some(prepared) = prepared else {
            let stated = files.and_then(|f| f.stated_examples).map_or_else(String::new, |n| n.to_string());
            let mut row = vec![set.name.clone(), stated, masked];
            row.resize(header.len(), String::new());
            table.rows.push(row);
            table
                .notes
                .extend(files.and_then(|f| f.note.as_ref()).map(|note| format!("{}: {}", set.name, note.trim())));
            continue;
        };
        let stores = &prepared.roles[&set.role];
        let (train, held_out) =
            (sft_batches(spec, prepared, set, 0)?.report(), sft_held_out(spec, prepared, set)?.report());
        let shared = contamination(spec, prepared, &set.role)?;
        table.rows.push(vec![
            set.name.clone(),
            train.examples.to_string(),
            masked,
            stores.train.document_count().to_string(),
            held_out.examples.to_string(),
            train.positions.to_string(),
            train.targets.to_string(),
            train.truncated.to_string(),
            train.dropped.to_string(),
            format!("{} of {}", shared.any.len(), shared.judged),
            format!("{} of {}", shared.half.len(), shared.judged),
        ]);
        if shared.most.0 > 0 {
            let (count, role) = shared.most;
            table.notes.push(format!("{}: most share text with {role} ({count} held-out examples)", set.name));
        }
    }
    if prepared.is_some() {
        table.notes.push(format!(
            "held_out_contaminated: held-out examples that share {NGRAM} consecutive tokens with training text of any \
             role, of those long enough to tell. (A preamble that all examples have is such a text.) \
             held_out_half_contained: those of which half of all sequences of {NGRAM} tokens occur in one role."
        ));
    }
    Ok(table)
}

/// What a set's held-out examples share with training text.
#[derive(Default)]
struct Shared {
    /// Held-out examples that are long enough to tell.
    judged: u64,
    /// Those that share a sequence.
    any: BTreeSet<u64>,
    /// Those of which one role holds half the sequences.
    half: BTreeSet<u64>,
    /// The role that most share a sequence with, and how many.
    most: (u64, String),
}

fn contamination(spec: &StudySpec, prepared: &Prepared, set: &str) -> Result<Shared, Error> {
    let index = NgramIndex::new(&prepared.roles[set].held_out, NGRAM)?;
    let mut shared = Shared::default();
    // The set's own training examples, and all that is pretrained on.
    let other_sets: Vec<&String> = spec.sft.sets.iter().map(|s| &s.role).filter(|role| *role != set).collect();
    for (role, stores) in prepared.roles.iter().filter(|(role, _)| !other_sets.contains(role)) {
        let overlap = index.overlap(&stores.train)?;
        shared.judged = overlap.documents - overlap.too_short;
        if overlap.contaminated > shared.most.0 {
            shared.most = (overlap.contaminated, role.clone());
        }
        for (document, own, sequences) in overlap.worst {
            shared.any.insert(document);
            if own * 2 >= sequences {
                shared.half.insert(document);
            }
        }
    }
    Ok(shared)
}
