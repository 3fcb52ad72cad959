//! Table 5: the fine-tuning sets — examples, masks, lengths, and what training text has in common with them.

use super::Question;
use crate::graph::Graph;
use crate::job::{self, Shared};
use crate::plan::Plan;
use crate::spec::{DataSpec, Sources};
use crate::store::Payload;
use crate::{DataTable, Error, Page, SetId, Study};

/// Tokens of the sequences that are looked for (as GPT-3's authors did).
const NGRAM: usize = 13;

/// The fine-tuning sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Table5;

impl Question for Table5 {
    fn name(&self) -> &str {
        "table5"
    }

    fn trains(&self) -> bool {
        false
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        graph.study().sets().for_each(|set| drop(overlap(graph, set)));
        Ok(())
    }

    fn answer(&self, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let study = graph.study();
        let mut table = empty(study);
        for set in study.sets() {
            let job = overlap(graph, set);
            match graph.outcome(&job)? {
                Ok(shared) => push(&mut table, graph, set, &shared),
                Err(failure) => table.notes.push(format!("failed: {failure}")),
            }
        }
        table.notes.push(format!(
            "held_out_contaminated: held-out examples that share {NGRAM} consecutive tokens with training text of any \
             role, of those long enough to tell. (A preamble that all examples have is such a text.) \
             held_out_half_contained: those of which half of all sequences of {NGRAM} tokens occur in one role."
        ));
        Ok(table.into())
    }

    fn on_stated(&self, study: &Study, _: &Plan) -> Result<Page, Error> {
        let mut table = empty(study);
        let sources = match &study.spec().data {
            DataSpec::Stated { .. } => Sources::paper()?,
            _ => Sources::default(),
        };
        for set in study.sets().map(|set| &study[set]) {
            let files = sources.0.get(&set.role);
            let stated = files.and_then(|f| f.stated_examples).map_or_else(String::new, |n| n.to_string());
            let mut row = vec![set.name.clone(), stated, masked(set.mask_prompt)];
            row.resize(table.header.len(), String::new());
            table.rows.push(row);
            let note = files.and_then(|f| f.note.as_ref());
            table.notes.extend(note.map(|note| format!("{}: {}", set.name, note.trim())));
        }
        Ok(table.into())
    }
}

fn empty(study: &Study) -> DataTable {
    let s = &study.spec().sft;
    let title = format!(
        "Table 5 ({}): the fine-tuning sets. Rows of at most {} tokens; longer examples: {:?}.",
        study.spec().model_name,
        s.max_time,
        s.truncation
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
    DataTable::new("table5", &title, &header)
}

fn masked(mask: bool) -> String {
    if mask { "Yes" } else { "No" }.to_owned()
}

/// Adds the search for a set's held-out examples in its own training examples and all that is pretrained on.
fn overlap(graph: &mut Graph<'_>, set: SetId) -> job::Overlap {
    let (study, data) = (graph.study(), graph.data());
    let role = &study[set].role;
    let others: Vec<&String> = study.sets().map(|s| &study[s].role).filter(|other| *other != role).collect();
    let training = data.roles.iter().filter(|(other, _)| !others.contains(other));
    let job = job::Overlap {
        name: study[set].name.clone(),
        evaluated: data.role(role).held_out.clone(),
        training: training.map(|(role, stores)| (role.clone(), stores.train.clone())).collect(),
        ngram: NGRAM,
    };
    graph.add(job.clone(), Payload::Result);
    job
}

fn push(table: &mut DataTable, graph: &Graph<'_>, set: SetId, shared: &Shared) {
    let (study, data) = (graph.study(), graph.data());
    let (train, held_out) = (data.train_rows(set).report, data.held_out_rows(set).report);
    let name = &study[set].name;
    table.rows.push(vec![
        name.clone(),
        train.examples.to_string(),
        masked(study[set].mask_prompt),
        data.role(&study[set].role).train.documents.to_string(),
        held_out.examples.to_string(),
        train.positions.to_string(),
        train.targets.to_string(),
        train.truncated.to_string(),
        train.dropped.to_string(),
        format!("{} of {}", shared.any, shared.judged),
        format!("{} of {}", shared.half, shared.judged),
    ]);
    if let Some((count, role)) = &shared.most {
        table.notes.push(format!("{name}: most share text with {role} ({count} held-out examples)"));
    }
}
