//! Table 1: the mixes — how much there is of each, and what every arm takes of it.

use std::fmt::Write as _;

use data_mixer::Preflight;
use report::{BarPanel, Bars, Column, Estimate, Figure, Format, Page, Table, TextFile};
use schedule::Tokens;

use super::Question;
use crate::graph::Graph;
use crate::plan::Plan;
use crate::spec::{DataSpec, GENERAL, Sources};
use crate::{Error, Study};

/// The mixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Table1;

/// What there is of a role; of one that is only stated, its tokens.
#[derive(Default)]
struct Amount {
    documents: Option<u64>,
    tokens: u64,
    bytes_per_token: Option<f64>,
    /// Documents.
    held_out: Option<u64>,
}

/// A row of the table.
struct Row {
    role: String,
    amount: Amount,
    used: Option<Tokens>,
    arm: String,
}

impl Question for Table1 {
    fn name(&self) -> &str {
        "table1"
    }

    fn trains(&self) -> bool {
        false
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        graph.data().roles.keys().for_each(|role| drop(graph.counts(role)));
        Ok(())
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let data = graph.data();
        let amount = |role: &str| {
            let stores = data.roles.get(role)?;
            Some(Amount {
                documents: Some(stores.train.documents),
                tokens: stores.train.tokens,
                bytes_per_token: Some(stores.train.text_bytes as f64 / stores.train.tokens as f64),
                held_out: Some(stores.held_out.iter().sum()),
            })
        };
        let plan = Plan::marked(graph.study(), data)?;
        let mut page = page(name, graph.study(), &plan, &amount)?;
        let counts = token_counts(graph)?;
        page.texts.push(TextFile {
            name: "token_counts.csv".to_owned(),
            title: "How often each token occurs in each role's training text".to_owned(),
            text: counts,
            shown: false,
        });
        Ok(page)
    }

    fn on_stated(&self, name: &str, study: &Study, plan: &Plan) -> Result<Page, Error> {
        let DataSpec::Stated { tokens, .. } = &study.spec().data else {
            return Err(Error::field("data", "given", "is to be prepared, not stated"));
        };
        let amount = |role: &str| Some(Amount { tokens: tokens.get(role).copied().unwrap_or(0), ..Amount::default() });
        page(name, study, plan, &amount)
    }
}

fn page(name: &str, study: &Study, plan: &Plan, amount: &dyn Fn(&str) -> Option<Amount>) -> Result<Page, Error> {
    let spec = study.spec();
    let sources = match &spec.data {
        DataSpec::Files { sources, .. } => sources.clone(),
        DataSpec::Stated { .. } => Sources::paper()?,
        DataSpec::Generated { .. } => Sources::default(),
    };
    let row = |role: String| {
        let amount = amount(&role)?;
        let (used, arm) = most_used(study, plan, &role);
        Some(Row { role, amount, used, arm })
    };
    let rows: Vec<Row> = mixes(study).into_iter().filter_map(row).collect();
    let note = |row: &Row| {
        let note = sources.0.get(&row.role)?.note.as_ref()?;
        Some(format!("{}: {}", row.role, note.trim()))
    };
    let notes = rows.iter().filter_map(note);
    let count = |name: &str, value: fn(&Row) -> Option<u64>| Column::count(name, rows.iter().map(value));
    let table = Table::new(name, &format!("The mixes, and what the arms take of them ({})", spec.model_name))
        .with(Column::text("midtrain_mix", rows.iter().map(|r| r.role.as_str())).heading("mix"))
        .with(count("documents", |r| r.amount.documents))
        .with(count("tokens", |r| Some(r.amount.tokens)))
        .with(
            Column::number("num_tokens_B", Format::Fixed(4), rows.iter().map(|r| r.amount.tokens as f64 / 1e9))
                .heading("in billions")
                .documents_only(),
        )
        .with(
            Column::number("bytes_per_token", Format::Fixed(2), rows.iter().map(|r| r.amount.bytes_per_token))
                .documents_only(),
        )
        .with(count("held_out_documents", |r| r.amount.held_out).heading("held out").documents_only())
        .with(
            count("most_used", |r| r.used.map(|t| t.0))
                .meaning("tokens of it that are reserved in the arm that takes most"),
        )
        .with(Column::text("arm", rows.iter().map(|r| r.arm.as_str())).heading("by arm"))
        .notes(notes);
    let mut page = Page::new(&format!("{} ({})", super::heading(name), spec.model_name));
    page.asked = "How much is there of each mix, and is it enough for what the arms take?".to_owned();
    let refused = plan.arms.iter().filter(|a| a.preflight.is_err()).count();
    page.found.push(format!(
        "Of {} arms, {} can be trained as specified and {refused} are refused: plan.txt says why.",
        plan.arms.len(),
        plan.arms.len() - refused
    ));
    page.tables.push(table);
    page.figures.push(figure(name, &rows, &spec.model_name));
    Ok(page)
}

/// What there is of each mix beside what the arm that takes most takes of it.
fn figure(name: &str, rows: &[Row], model: &str) -> Figure {
    let millions = |tokens: u64| Estimate { value: tokens as f64 / 1e6, interval: None };
    let bars = |r: &Row| vec![Some(millions(r.amount.tokens)), r.used.map(|t| millions(t.0))];
    let picture = Bars {
        axis: "million tokens".to_owned(),
        series: vec!["what there is".to_owned(), "what the arm takes that takes most".to_owned()],
        panels: vec![BarPanel {
            title: String::new(),
            groups: rows.iter().map(|r| (r.role.clone(), bars(r))).collect(),
        }],
    };
    let data = Table::new(name, &format!("Tokens of each mix ({model})"))
        .with(Column::text("midtrain_mix", rows.iter().map(|r| r.role.as_str())))
        .with(Column::count("tokens", rows.iter().map(|r| r.amount.tokens)))
        .with(Column::count("most_used", rows.iter().map(|r| r.used.map(|t| t.0))))
        .with(Column::text("arm", rows.iter().map(|r| r.arm.as_str())));
    Figure::new(data, picture)
}

/// General text, then what the arms mix in.
fn mixes(study: &Study) -> Vec<String> {
    let spec = study.spec();
    let sft = |role: &String| spec.sft.sets.iter().any(|set| set.role == *role);
    let mixed_in = |role: &str| spec.arms.iter().any(|arm| arm.roles().any(|r| r == role));
    spec.roles().into_iter().filter(|role| !sft(role) && (role == GENERAL || mixed_in(role))).collect()
}

/// The most tokens that an arm passes of a source, and the arm.
fn most_used(study: &Study, plan: &Plan, role: &str) -> (Option<Tokens>, String) {
    let used = |preflight: &Preflight| {
        let source = preflight.sources.iter().find(|s| s.budget.source == role)?;
        Some(preflight.tokens(source.budget.reserved))
    };
    let arms = plan.arms.iter().filter_map(|a| Some((used(a.preflight.as_ref().ok()?)?, study[a.arm].name())));
    match arms.max_by_key(|(tokens, _)| *tokens) {
        Some((tokens, arm)) => (Some(tokens), arm.to_owned()),
        None => (None, String::new()),
    }
}

/// Every arm's budget, by phase and source; then the verdicts.
pub fn preflights(study: &Study, plan: &Plan) -> String {
    let mut out = String::new();
    let mut verdicts = Vec::new();
    for planned in &plan.arms {
        let name = study[planned.arm].name();
        match &planned.preflight {
            Ok(preflight) => {
                let _ = writeln!(out, "== {name}\n{preflight}");
                if let Some(start) = planned.starts_in_warmup(study.spec().pretrain.warmup) {
                    let _ = writeln!(
                        out,
                        "note: it starts at step {start}, before the warm-up ends ({})\n",
                        study.spec().pretrain.warmup
                    );
                }
                let repeats = preflight.sources.iter().filter(|s| s.first_repeat.is_some()).count();
                verdicts.push((
                    name,
                    if repeats == 0 { "fits, nothing repeats".to_owned() } else { "fits, with repeats".to_owned() },
                ));
            }
            Err(reason) => {
                let _ = writeln!(out, "== {name}\nREFUSED: {reason}\n");
                verdicts.push((name, "REFUSED".to_owned()));
            }
        }
    }
    let width = verdicts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, verdict) in &verdicts {
        let _ = writeln!(out, "{name:<width$}  {verdict}");
    }
    let refused = plan.arms.iter().filter(|a| a.preflight.is_err()).count();
    let _ = writeln!(out, "\n{} arms: {} fit, {refused} refused", plan.arms.len(), plan.arms.len() - refused);
    out
}

/// How often each token occurs in each role's training text: what similarity matrices are made of.
fn token_counts(graph: &mut Graph<'_>) -> Result<String, Error> {
    let mut counts = Vec::new();
    for role in graph.data().roles.keys() {
        let job = graph.counts(role);
        let found = graph.outcome(&job)?.map_err(|failure| Error::Failed { failures: vec![failure] })?;
        counts.push((role, found.counts));
    }
    let mut out = String::from("token");
    counts.iter().for_each(|(role, _)| out += &format!(",{role}"));
    out.push('\n');
    for token in 0..graph.study().spec().model.vocab_size {
        let _ = write!(out, "{token}");
        counts.iter().for_each(|(_, c)| {
            let _ = write!(out, ",{}", c[token]);
        });
        out.push('\n');
    }
    Ok(out)
}
