//! Table 5: the fine-tuning sets — examples, masks, lengths, and what training text has in common with them.

use std::collections::BTreeSet;

use super::Question;
use crate::data::stated_examples;
use crate::graph::Graph;
use crate::job::Shared;
use crate::plan::Plan;
use crate::spec::{DataSpec, Sources, StatedExamples};
use crate::{Error, SetId, Study};
use report::{BarPanel, Bars, Column, Estimate, Figure, Page, Table};

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

    /// The data say it all.
    fn needs(&self, _: &mut Graph<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let study = graph.study();
        let sources = match &study.spec().data {
            DataSpec::Files { sources, .. } => sources.clone(),
            _ => Sources::default(),
        };
        let rows: Vec<Row> = study.sets().map(|set| row(graph, set, &sources)).collect();
        let mut page = page(name, study, &rows);
        page.found.extend(contamination(study, &rows));
        let most = |r: &Row| {
            let (count, role) = r.most.as_ref()?;
            Some(format!("{}: most share text with {role} ({count} test examples)", r.name))
        };
        page.notes = rows.iter().filter_map(most).collect();
        Ok(page)
    }

    fn on_stated(&self, name: &str, study: &Study, _: &Plan) -> Result<Page, Error> {
        let sources = Sources::paper()?;
        let (mut rows, mut notes) = (Vec::new(), Vec::new());
        for id in study.sets() {
            let (set, used) = (&study[id], stated_examples(study, id));
            let files = sources.0.get(&set.role);
            let StatedExamples { train, validation, test } = used;
            rows.push(Row {
                name: set.name.clone(),
                printed: files.and_then(|f| f.stated_examples),
                train: Some(train),
                masked: set.mask_prompt,
                validation: Some(validation),
                test: Some(test),
                ..Row::default()
            });
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
    /// Training examples that a paper states.
    printed: Option<u64>,
    train: Option<u64>,
    masked: bool,
    available: Option<u64>,
    validation: Option<u64>,
    test: Option<u64>,
    tokens: Option<u64>,
    targets: Option<u64>,
    truncated: Option<u64>,
    dropped: Option<u64>,
    /// Test examples that are long enough to tell what they share.
    judged: Option<u64>,
    /// Those that share a sequence with training text of any role, and those of which one role holds half the sequences.
    any: Option<u64>,
    half: Option<u64>,
    /// The role that most share a sequence with, and how many.
    most: Option<(u64, String)>,
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
    let ngram = study.spec().ngram;
    let table = Table::new(name, &title)
        .with(Column::text("dataset", rows.iter().map(|r| r.name.as_str())).heading("set"))
        .with(count("printed", |r| r.printed).meaning("training examples that the paper states"))
        .with(count("train_samples", |r| r.train).heading("train").meaning("training examples that are used"))
        .with(Column::text("prompt_masked", rows.iter().map(|r| if r.masked { "Yes" } else { "No" })).heading("masked"))
        .with(count("available", |r| r.available))
        .with(count("validation", |r| r.validation))
        .with(count("test", |r| r.test))
        .with(count("tokens", |r| r.tokens).documents_only())
        .with(count("targets", |r| r.targets).documents_only().meaning("tokens that are in the loss"))
        .with(count("truncated", |r| r.truncated).heading("cut"))
        .with(count("dropped", |r| r.dropped).documents_only())
        .with(count("test_contaminated", |r| r.any).heading("shared").meaning(&format!(
            "test examples that share {ngram} consecutive tokens with training text of any role (a preamble that all \
             examples have is such a text)"
        )))
        .with(
            count("test_half_contained", |r| r.half)
                .heading("half")
                .meaning(&format!("those of which half of all sequences of {ngram} tokens occur in one role")),
        )
        .with(count("test_judged", |r| r.judged).heading("of").meaning("test examples long enough to tell"));
    let mut page = Page::new(&format!("{} ({})", super::heading(name), study.spec().model_name));
    page.asked = "What are models fine-tuned on, and is what they are evaluated on really held out?".to_owned();
    page.tables.push(table);
    page.figures.push(figure(name, rows, &study.spec().model_name));
    page
}

/// The examples of each set's splits.
fn figure(name: &str, rows: &[Row], model: &str) -> Figure {
    type Count = fn(&Row) -> Option<u64>;
    let splits: [(&str, Count); 3] = [("train", |r| r.train), ("validation", |r| r.validation), ("test", |r| r.test)];
    let bar = |count: u64| Estimate { value: count as f64, interval: None };
    let picture = Bars {
        axis: "examples".to_owned(),
        series: splits.iter().map(|(name, _)| (*name).to_owned()).collect(),
        panels: vec![BarPanel {
            title: String::new(),
            groups: rows.iter().map(|r| (r.name.clone(), splits.map(|(_, of)| of(r).map(bar)).to_vec())).collect(),
        }],
    };
    let data = Table::new(name, &format!("Examples of the fine-tuning sets ({model})"))
        .with(Column::text("dataset", rows.iter().map(|r| r.name.as_str())));
    let data = splits.iter().fold(data, |data, (name, of)| data.with(Column::count(name, rows.iter().map(of))));
    Figure::new(data, picture)
}

/// What the search found; nothing where nothing could be judged.
fn contamination(study: &Study, rows: &[Row]) -> Option<String> {
    let sum = |value: fn(&Row) -> Option<u64>| rows.iter().filter_map(value).sum::<u64>();
    let (judged, ngram) = (sum(|r| r.judged), study.spec().ngram);
    (judged > 0).then(|| {
        format!(
            "Of {judged} test examples long enough to tell, {} share {ngram} consecutive tokens with training text, and {} \
             are half contained in one role's.",
            sum(|r| r.any),
            sum(|r| r.half)
        )
    })
}

fn row(graph: &Graph<'_>, set: SetId, sources: &Sources) -> Row {
    let (study, data) = (graph.study(), graph.data());
    let (role, rows) = (&study[set].role, data.rows(set));
    // A set's own training examples and all that is pretrained on; not other sets'.
    let others: Vec<&String> = study.sets().map(|s| &study[s].role).filter(|other| *other != role).collect();
    let test = format!("{role}, test");
    let shared: Vec<(&String, &Shared)> = data
        .roles
        .iter()
        .filter(|(other, _)| !others.contains(other))
        .flat_map(|(role, data)| data.shared.iter().filter(|s| s.with == test).map(move |s| (role, s)))
        .collect();
    let union = |of: fn(&Shared) -> &Vec<u64>| {
        let numbers: BTreeSet<u64> = shared.iter().flat_map(|(_, s)| of(s).iter().copied()).collect();
        (!shared.is_empty()).then_some(numbers.len() as u64)
    };
    let most = shared.iter().map(|(role, s)| (s.any.len() as u64, (*role).clone())).filter(|(count, _)| *count > 0);
    Row {
        name: study[set].name.clone(),
        printed: sources.0.get(role).and_then(|files| files.stated_examples),
        train: Some(rows.train.report.examples),
        masked: study[set].mask_prompt,
        available: Some(data.role(role).train.documents),
        validation: rows.validation.as_ref().map(|rows| rows.report.examples),
        test: Some(rows.test.report.examples),
        tokens: Some(rows.train.report.positions),
        targets: Some(rows.train.report.targets),
        truncated: Some(rows.train.report.truncated),
        dropped: Some(rows.train.report.dropped),
        judged: shared.first().map(|(_, s)| s.judged),
        any: union(|s| &s.any),
        half: union(|s| &s.half),
        most: most.max_by_key(|(count, _)| *count),
    }
}
