//! A plan's budget as a table, before anything runs.

use std::fmt;

use schedule::{Step, Tokens};

use super::{Budget, MixPlan};

/// What a plan will take from every source, over the phases and in all.
#[derive(Debug, Clone, PartialEq)]
pub struct Preflight {
    /// Tokens of a sequence.
    pub time: u64,
    /// Sequences of a step.
    pub batch: u64,
    /// The phases; the first is what comes before any specialised data.
    pub phases: Vec<PhaseUse>,
    /// The sources that the timeline names.
    pub sources: Vec<SourceUse>,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseUse {
    /// First step.
    pub from: Step,
    /// One past the last.
    pub to: Step,
    /// What is mixed, in words.
    pub mix: String,
    /// Whether anything specialised is.
    pub mixed: bool,
    /// Sequences drawn of each source, in the order of [`Preflight::sources`].
    pub drawn: Vec<u64>,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceUse {
    /// Over the whole run.
    pub budget: Budget,
    /// The first step that repeats a sequence, if any does.
    pub first_repeat: Option<Step>,
}

impl MixPlan {
    /// The plan's budget by phase and source.
    pub fn preflight(&self) -> Preflight {
        let used: Vec<usize> = (0..self.spec.sources.len())
            .filter(|i| self.general.sources().contains(i) || self.specialised.sources().contains(i))
            .collect();
        let timeline = &self.spec.timeline;
        let drawn = |from: Step, to: Step| -> Vec<u64> {
            let at = |i: usize, step: Step| self.drawn(i, step.0 * self.spec.batch);
            used.iter().map(|i| at(*i, to) - at(*i, from)).collect()
        };
        let mut general = timeline.general();
        let mut phases = Vec::new();
        let opening = timeline.phases().first().map_or(timeline.end(), |p| p.start);
        if opening.0 > 0 {
            let (from, to) = (Step(0), opening);
            phases.push(PhaseUse { from, to, mix: general.to_string(), mixed: false, drawn: drawn(from, to) });
        }
        for (i, phase) in timeline.phases().iter().enumerate() {
            general = phase.general.as_ref().unwrap_or(general);
            let mix = match &phase.specialised {
                Some(shares) => format!("{general} with {} of {shares}", phase.weight),
                None => general.to_string(),
            };
            let (from, to) = (phase.start, timeline.phase_end(i));
            phases.push(PhaseUse { from, to, mix, mixed: !phase.weight.is_zero(), drawn: drawn(from, to) });
        }
        let budgets = self.budgets();
        let sources = used
            .iter()
            .map(|i| SourceUse { budget: budgets[*i].clone(), first_repeat: self.first_repeat(*i) })
            .collect();
        Preflight { time: self.spec.time, batch: self.spec.batch, phases, sources }
    }
}

impl Preflight {
    /// Sequences as tokens.
    pub fn tokens(&self, sequences: u64) -> Tokens {
        Tokens(sequences.saturating_mul(self.time))
    }
}

/// Two tables: tokens by phase and source, and each source's budget.
impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![vec!["steps".to_owned(), "mix".to_owned()]];
        rows[0].extend(self.sources.iter().map(|s| s.budget.source.clone()));
        for phase in &self.phases {
            let mut row = vec![format!("{}..{}", phase.from, phase.to), phase.mix.clone()];
            row.extend(phase.drawn.iter().map(|n| self.tokens(*n).to_string()));
            rows.push(row);
        }
        write_table(f, &rows)?;
        writeln!(f)?;
        let header = ["source", "has", "drawn", "reserved", "epochs", "first repeat"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for SourceUse { budget, first_repeat } in &self.sources {
            rows.push(vec![
                budget.source.clone(),
                self.tokens(budget.available).to_string(),
                self.tokens(budget.drawn).to_string(),
                self.tokens(budget.reserved).to_string(),
                format!("{:.3}", budget.epochs()),
                first_repeat.map_or_else(|| "none".to_owned(), |step| format!("step {step}")),
            ]);
        }
        write_table(f, &rows)
    }
}

/// Columns as wide as their widest cell: names to the left, numbers to the right.
fn write_table(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let is_number = |c: usize| rows.iter().skip(1).all(|r| r[c].starts_with(|x: char| x.is_ascii_digit()) && c > 0);
    for row in rows {
        let cells = row.iter().enumerate().map(|(c, cell)| {
            let pad = " ".repeat(widths[c] - cell.chars().count());
            if is_number(c) { format!("{pad}{cell}") } else { format!("{cell}{pad}") }
        });
        writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
