//! Table 5: the fine-tuning sets — examples, masks, lengths, and what training text has in common with them.

use super::Question;
use crate::graph::Graph;
use crate::job::{self, Shared};
use crate::plan::Plan;
use crate::spec::{DataSpec, Sources};
use crate::store::Payload;
use crate::{Error, SetId, Study};
use report::{Column, Page, Table};

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

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let study = graph.study();
        let (mut rows, mut notes) = (Vec::new(), Vec::new());
        for set in study.sets() {
            let job = overlap(graph, set);
            let shared = match graph.outcome(&job)? {
                Ok(shared) => Some(shared),
                Err(failure) => {
                    notes.push(format!("failed: {failure}"));
                    None
                }
            };
            if let Some((count, role)) = shared.as_ref().and_then(|s| s.most.as_ref()) {
                let set = &study[set].name;
                notes.push(format!("{set}: most share text with {role} ({count} held-out examples)"));
            }
            rows.push(row(graph, set, shared));
        }
        let mut page = page(name, study, &rows);
        page.found.extend(contamination(&rows));
        page.notes = notes;
        Ok(page)
    }

    fn on_stated(&self, name: &str, study: &Study, _: &Plan) -> Result<Page, Error> {
        let sources = match &study.spec().data {
            DataSpec::Stated { .. } => Sources::paper()?,
            _ => Sources::default(),
        };
        let (mut rows, mut notes) = (Vec::new(), Vec::new());
        for set in study.sets().map(|set| &study[set]) {
            let files = sources.0.get(&set.role);
            let stated = files.and_then(|f| f.stated_examples);
            rows.push(Row { name: set.name.clone(), train: stated, masked: set.mask_prompt, ..Row::default() });
            let note = files.and_then(|f| f.note.as_ref());
            notes.extend(note.map(|note| format!("{}: {}", set.name, note.trim())));
        }
        let mut page = page(name, study, &rows);
        page.notes = notes;
        Ok(page)
    }
}

/// What is known of a set; of one that is only stated, its size.
#[derive(Default)]
struct Row {
    name: String,
    train: Option<u64>,
    masked: bool,
    available: Option<u64>,
    held_out: Option<u64>,
    tokens: Option<u64>,
    targets: Option<u64>,
    truncated: Option<u64>,
    dropped: Option<u64>,
    /// `None` where the search failed.
    shared: Option<Shared>,
}

fn page(name: &str, study: &Study, rows: &[Row]) -> Page {
    let s = &study.spec().sft;
    let title = format!(
        "The fine-tuning sets ({}). Rows of at most {} tokens; longer examples: {:?}",
        study.spec().model_name,
        s.max_time,
        s.truncation
    );
    let count = |name: &str, value: fn(&Row) -> Option<u64>| Column::count(name, rows.iter().map(value));
    let shared = |name: &str, value: fn(&Shared) -> u64| {
        Column::count(name, rows.iter().map(move |r| r.shared.as_ref().map(value)))
    };
    let table = Table::new(name, &title)
        .with(Column::text("dataset", rows.iter().map(|r| r.name.as_str())).heading("set"))
        .with(count("train_samples", |r| r.train).heading("train"))
        .with(Column::text("prompt_masked", rows.iter().map(|r| if r.masked { "Yes" } else { "No" })).heading("masked"))
        .with(count("available", |r| r.available))
        .with(count("held_out", |r| r.held_out))
        .with(count("tokens", |r| r.tokens).documents_only())
        .with(count("targets", |r| r.targets).documents_only().meaning("tokens that are in the loss"))
        .with(count("truncated", |r| r.truncated).heading("cut"))
        .with(count("dropped", |r| r.dropped).documents_only())
        .with(shared("held_out_contaminated", |s| s.any).heading("shared").meaning(&format!(
            "held-out examples that share {NGRAM} consecutive tokens with training text of any role (a preamble that all \
             examples have is such a text)"
        )))
        .with(shared("held_out_half_contained", |s| s.half).heading("half").meaning(&format!(
            "those of which half of all sequences of {NGRAM} tokens occur in one role"
        )))
        .with(shared("held_out_judged", |s| s.judged).heading("of").meaning("held-out examples long enough to tell"));
    let mut page = Page::new(&format!("{} ({})", super::heading(name), study.spec().model_name));
    page.asked = "What are models fine-tuned on, and is what they are evaluated on really held out?".to_owned();
    page.tables.push(table);
    page
}

/// What the search found; nothing where nothing could be judged.
fn contamination(rows: &[Row]) -> Option<String> {
    let sum = |value: fn(&Shared) -> u64| rows.iter().filter_map(|r| r.shared.as_ref()).map(value).sum::<u64>();
    let judged = sum(|s| s.judged);
    let missing: Vec<&str> = rows.iter().filter(|r| r.shared.is_none()).map(|r| r.name.as_str()).collect();
    let without = if missing.is_empty() { String::new() } else { format!(" (not searched: {})", missing.join(", ")) };
    (judged > 0).then(|| {
        format!(
            "Of {judged} held-out examples long enough to tell, {} share {NGRAM} consecutive tokens with training text, and {} are \
             half contained in one role's{without}.",
            sum(|s| s.any),
            sum(|s| s.half)
        )
    })
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

fn row(graph: &Graph<'_>, set: SetId, shared: Option<Shared>) -> Row {
    let (study, data) = (graph.study(), graph.data());
    let (train, held_out) = (data.train_rows(set).report, data.held_out_rows(set).report);
    Row {
        name: study[set].name.clone(),
        train: Some(train.examples),
        masked: study[set].mask_prompt,
        available: Some(data.role(&study[set].role).train.documents),
        held_out: Some(held_out.examples),
        tokens: Some(train.positions),
        targets: Some(train.targets),
        truncated: Some(train.truncated),
        dropped: Some(train.dropped),
        shared,
    }
}
