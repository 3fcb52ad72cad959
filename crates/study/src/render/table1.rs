//! Table 1: the mixes — how much there is of each, and what every arm takes of it.

use std::fmt::Write as _;

use data_mixer::Preflight;
use metrics_proximity::Counts;
use schedule::Tokens;

use super::DataTable;
use crate::spec::GENERAL;
use crate::{DataSpec, Error, Plan, Prepared, Sources, StudySpec};

/// The table, from prepared data or, without any, from stated counts.
///
/// # Errors
/// Stores that cannot be read.
pub fn table1(spec: &StudySpec, plan: &Plan, prepared: Option<&Prepared>) -> Result<DataTable, Error> {
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
    for role in mixes(spec) {
        let (documents, tokens, bytes, held_out) = match (prepared.map(|p| &p.roles[&role]), &spec.data) {
            (Some(stores), _) => {
                let (train, held_out) = (stores.train.inspect(), stores.held_out.token_count());
                let bytes = format!("{:.2}", train.text_bytes as f64 / train.tokens as f64);
                (train.documents.to_string(), train.tokens, bytes, held_out.to_string())
            }
            (None, DataSpec::Stated { tokens }) => {
                (String::new(), tokens.get(&role).copied().unwrap_or(0), String::new(), String::new())
            }
            _ => continue,
        };
        let (used, arm) = most_used(plan, &role);
        let billions = format!("{:.6}", tokens as f64 / 1e9);
        let billions = billions.trim_end_matches('0').trim_end_matches('.').to_owned();
        let used = used.map_or_else(String::new, |t| t.0.to_string());
        table.rows.push(vec![role.clone(), documents, tokens.to_string(), billions, bytes, held_out, used, arm]);
        if let Some(note) = notes.0.get(&role).and_then(|files| files.note.as_ref()) {
            table.notes.push(format!("{role}: {}", note.trim()));
        }
    }
    if let Some(prepared) = prepared {
        table.files.push(("tables/token_counts.csv".to_owned(), token_counts(spec, prepared)?));
    }
    Ok(table)
}

/// General text, then what the arms mix in.
fn mixes(spec: &StudySpec) -> Vec<String> {
    let sft = |role: &String| spec.sft.sets.iter().any(|set| set.role == *role);
    spec.roles().into_iter().filter(|role| !sft(role) && (role == GENERAL || mixed_in(spec, role))).collect()
}

fn mixed_in(spec: &StudySpec, role: &str) -> bool {
    let shares = spec.arms.iter().flat_map(|a| &a.phases).flat_map(|p| p.specialised.iter().chain(&p.general));
    shares.flat_map(|s| s.iter()).any(|(name, _)| name == role)
}

/// The most tokens that an arm passes of a source, and the arm.
fn most_used(plan: &Plan, role: &str) -> (Option<Tokens>, String) {
    let used = |preflight: &Preflight| {
        let source = preflight.sources.iter().find(|s| s.budget.source == role)?;
        Some(preflight.tokens(source.budget.reserved))
    };
    let arms = plan.arms.iter().filter_map(|a| Some((used(a.preflight.as_ref().ok()?)?, &a.arm.name)));
    match arms.max_by_key(|(tokens, _)| *tokens) {
        Some((tokens, arm)) => (Some(tokens), arm.clone()),
        None => (None, String::new()),
    }
}

/// Every arm's budget, by phase and source; then the verdicts.
pub fn preflights(plan: &Plan) -> String {
    let mut out = String::new();
    let mut verdicts = Vec::new();
    for planned in &plan.arms {
        let name = &planned.arm.name;
        match &planned.preflight {
            Ok(preflight) => {
                let _ = writeln!(out, "== {name}\n{preflight}");
                if let Some(start) = planned.starts_in_warmup(plan.spec.pretrain.warmup) {
                    let _ = writeln!(
                        out,
                        "note: it starts at step {start}, before the warm-up ends ({})\n",
                        plan.spec.pretrain.warmup
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
fn token_counts(spec: &StudySpec, prepared: &Prepared) -> Result<String, Error> {
    let counts = prepared.roles.iter().map(|(role, stores)| {
        let counts = Counts::of_store(spec.model.vocab_size, &stores.train)?;
        Ok((role.as_str(), counts))
    });
    let counts = counts.collect::<Result<Vec<_>, Error>>()?;
    let mut out = String::from("token");
    counts.iter().for_each(|(role, _)| out += &format!(",{role}"));
    out.push('\n');
    for token in 0..spec.model.vocab_size {
        let _ = write!(out, "{token}");
        counts.iter().for_each(|(_, c)| {
            let _ = write!(out, ",{}", c.as_slice()[token]);
        });
        out.push('\n');
    }
    Ok(out)
}
