//! Table 1: the mixes — how much there is of each, and what every arm takes of it.

use std::fmt::Write as _;

use data_mixer::Preflight;
use schedule::Tokens;

use super::Question;
use crate::graph::Graph;
use crate::plan::Plan;
use crate::spec::{DataSpec, GENERAL, Sources};
use crate::{DataTable, Error, Page, Study};

/// The mixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Table1;

/// What there is of a role.
struct Amount {
    documents: String,
    tokens: u64,
    bytes_per_token: String,
    held_out: String,
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

    fn answer(&self, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let data = graph.data();
        let amount = |role: &str| {
            let stores = data.roles.get(role)?;
            Some(Amount {
                documents: stores.train.documents.to_string(),
                tokens: stores.train.tokens,
                bytes_per_token: format!("{:.2}", stores.train.text_bytes as f64 / stores.train.tokens as f64),
                held_out: stores.held_out.tokens.to_string(),
            })
        };
        let plan = Plan::marked(graph.study(), data)?;
        let mut table = table(graph.study(), &plan, &amount)?;
        table.files.push(("tables/token_counts.csv".to_owned(), token_counts(graph)?));
        Ok(table.into())
    }

    fn on_stated(&self, study: &Study, plan: &Plan) -> Result<Page, Error> {
        let DataSpec::Stated { tokens } = &study.spec().data else {
            return Err(Error::field("data", "given", "is to be prepared, not stated"));
        };
        let amount = |role: &str| {
            let tokens = tokens.get(role).copied().unwrap_or(0);
            let none = String::new;
            Some(Amount { documents: none(), tokens, bytes_per_token: none(), held_out: none() })
        };
        Ok(table(study, plan, &amount)?.into())
    }
}

fn table(study: &Study, plan: &Plan, amount: &dyn Fn(&str) -> Option<Amount>) -> Result<DataTable, Error> {
    let spec = study.spec();
    let title = format!("Table 1 ({}): the mixes, and what the arms take of them.", spec.model_name);
    let header = [
        "midtrain_mix",
        "documents",
        "tokens",
        "num_tokens_B",
        "bytes_per_token",
        "held_out_tokens",
        "most_used",
        "arm",
    ];
    let mut table = DataTable::new("table1", &title, &header);
    let notes = match &spec.data {
        DataSpec::Files { sources, .. } => sources.clone(),
        DataSpec::Stated { .. } => Sources::paper()?,
        DataSpec::Generated { .. } => Sources::default(),
    };
    for role in mixes(study) {
        let Some(of) = amount(&role) else { continue };
        let (used, arm) = most_used(study, plan, &role);
        let billions = format!("{:.6}", of.tokens as f64 / 1e9);
        let billions = billions.trim_end_matches('0').trim_end_matches('.').to_owned();
        let used = used.map_or_else(String::new, |t| t.0.to_string());
        let tokens = of.tokens.to_string();
        table.rows.push(vec![role.clone(), of.documents, tokens, billions, of.bytes_per_token, of.held_out, used, arm]);
        if let Some(note) = notes.0.get(&role).and_then(|files| files.note.as_ref()) {
            table.notes.push(format!("{role}: {}", note.trim()));
        }
    }
    Ok(table)
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
