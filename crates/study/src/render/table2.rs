//! Table 2: loss on each fine-tuning set and on general text after fine-tuning, by arm, as differences to the control.

use forgetting_eval::{Paired, Summary, forgetting, relative_improvement};

use crate::{Error, StudyResults, StudySpec};

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) set: String,
    pub(crate) arm: String,
    pub(crate) weight: String,
    pub(crate) control: bool,
    pub(crate) sft: Cell,
    pub(crate) c4: Cell,
    pub(crate) c4_before: f64,
    /// The general loss after fine-tuning in bits per byte; NaN where bytes are unknown.
    pub(crate) c4_bits_per_byte: f64,
    pub(crate) lr: f64,
}

/// One loss: its mean over seeds, and its paired difference to the control's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    pub(crate) loss: Summary,
    pub(crate) delta: Summary,
    /// Relative improvement over the control.
    pub(crate) improvement: f64,
    /// Standard error over held-out documents, mean over seeds: what the held-out set's size alone leaves open.
    pub(crate) document_se: f64,
    /// Lowest of its set.
    pub(crate) best: bool,
}

/// The table, ready to print.
#[derive(Debug, Clone, PartialEq)]
pub struct Table2 {
    pub(crate) model: String,
    pub(crate) seeds: String,
    pub(crate) rows: Vec<Row>,
    /// Arm and its general loss before fine-tuning.
    pub(crate) before: Vec<(String, f64)>,
    pub(crate) unigram_entropy: f64,
}

impl Table2 {
    /// From a study's results.
    pub fn of(spec: &StudySpec, results: &StudyResults) -> Self {
        let control = spec.control().unwrap_or(0);
        let mut rows = Vec::new();
        for (set_index, set) in spec.sft.sets.iter().enumerate() {
            let first = rows.len();
            for (index, arm) in spec.arms.iter().enumerate() {
                let mean = |value: fn(&crate::Measurement) -> Option<f64>| {
                    Summary::of(&results.values(index, set_index, |m| value(m).unwrap_or(f64::NAN))).mean
                };
                let cell = |value: fn(&crate::Measurement) -> f64, error: fn(&crate::Measurement) -> Option<f64>| {
                    let values = results.values(index, set_index, value);
                    let reference = results.values(control, set_index, value);
                    let (loss, base) = (Summary::of(&values), Summary::of(&reference));
                    // Every arm has the same seeds, so pairing cannot fail; an empty study gives empty summaries.
                    let delta = Paired::of(&values, &reference).map_or(Summary::of(&[]), |p| p.summary);
                    let improvement = relative_improvement(base.mean, loss.mean);
                    Cell { improvement, document_se: mean(error), loss, delta, best: false }
                };
                let before = Summary::of(&results.c4_before[index]).mean;
                let lr = results.measurements.iter().find(|m| m.arm == index && m.set == set_index);
                rows.push(Row {
                    set: set.name.clone(),
                    arm: arm.name.clone(),
                    weight: arm.weight().to_string(),
                    control: index == control,
                    sft: cell(|m| m.sft_loss, |m| m.sft_document_se),
                    c4: cell(|m| m.c4_loss, |m| m.c4_document_se),
                    c4_before: before,
                    c4_bits_per_byte: mean(|m| m.c4_bits_per_byte),
                    lr: lr.map_or(f64::NAN, |m| m.lr),
                });
            }
            mark_best(&mut rows[first..], |row| &mut row.sft);
            mark_best(&mut rows[first..], |row| &mut row.c4);
        }
        let before = spec.arms.iter().zip(&results.c4_before);
        Self {
            model: spec.model_name.clone(),
            seeds: format!(
                "study seed {}, {} pretraining seed(s) x {} fine-tuning seed(s)",
                spec.study_seed, spec.pretrain_seeds, spec.sft_seeds
            ),
            rows,
            before: before.map(|(arm, losses)| (arm.name.clone(), Summary::of(losses).mean)).collect(),
            unigram_entropy: results.unigram_entropy,
        }
    }

    /// For a terminal; the best of each set in bold where `ansi`, with a star everywhere.
    pub fn text(&self, ansi: bool) -> String {
        let mut out = format!("Table 2 ({}; {}). Losses in nats per token.\n", self.model, self.seeds);
        out += "SFT: held-out loss on the set after fine-tuning. C4: held-out general loss after fine-tuning.\n";
        out += "Differences are to the C4 row, paired by seed; * is the lowest of its set.\n\n";
        out += &format!(
            "{:<8} {:<20} {:>9} {:>8} {:>7}   {:>9} {:>8} {:>7}\n",
            "set", "mix", "SFT", "Δ", "sd", "C4", "Δ", "sd"
        );
        let mut last = "";
        for row in &self.rows {
            if !last.is_empty() && last != row.set {
                out.push('\n');
            }
            let cell = |cell: &Cell| {
                let star = if cell.best { "*" } else { " " };
                let value = format!("{:>8.3}{star}", cell.loss.mean);
                let value = if ansi && cell.best { format!("\x1b[1m{value}\x1b[0m") } else { value };
                format!("{value} {} {:>7}", difference(cell, row.control), optional(cell.loss.sd, 3))
            };
            let set = if last == row.set { "" } else { &row.set };
            out += &format!("{set:<8} {:<20} {}   {}\n", row.arm, cell(&row.sft), cell(&row.c4));
            last = &row.set;
        }
        out += &format!(
            "\nBefore fine-tuning (held-out C4 loss; a model that ignores context has {:.3}, the unigram entropy):\n",
            self.unigram_entropy
        );
        for (arm, loss) in &self.before {
            out += &format!("  {arm:<20} {loss:.3}\n");
        }
        out
    }

    /// For documents.
    pub fn markdown(&self) -> String {
        let mut out = format!("**Table 2** ({}; {}). Losses in nats per token.\n\n", self.model, self.seeds);
        out += "| set | mix | SFT | Δ | sd | C4 | Δ | sd | forgetting |\n|---|---|---|---|---|---|---|---|---|\n";
        for row in &self.rows {
            let cell = |cell: &Cell| {
                let value = format!("{:.3}", cell.loss.mean);
                let value = if cell.best { format!("**{value}**") } else { value };
                format!("{value} | {} | {}", difference(cell, row.control).trim(), optional(cell.loss.sd, 3).trim())
            };
            let forgotten = forgetting(row.c4_before, row.c4.loss.mean);
            out +=
                &format!("| {} | {} | {} | {} | {forgotten:+.3} |\n", row.set, row.arm, cell(&row.sft), cell(&row.c4));
        }
        out += &format!("\nHeld-out C4 loss before fine-tuning (unigram entropy {:.3}):", self.unigram_entropy);
        for (arm, loss) in &self.before {
            out += &format!(" {arm} {loss:.3};");
        }
        out.pop();
        out + ".\n"
    }

    /// In the columns of the paper's tables, and more.
    ///
    /// # Errors
    /// None in practice: writing to memory.
    pub fn csv(&self) -> Result<String, Error> {
        let header = [
            "model",
            "dataset",
            "mix",
            "mix_weight",
            "sft_loss",
            "sft_delta",
            "c4_loss",
            "c4_delta",
            "seeds",
            "sft_sd",
            "sft_delta_sd",
            "sft_delta_ci_low",
            "sft_delta_ci_high",
            "c4_sd",
            "c4_delta_sd",
            "c4_delta_ci_low",
            "c4_delta_ci_high",
            "c4_before",
            "forgetting",
            "sft_improvement",
            "c4_improvement",
            "sft_lr",
            "sft_document_se",
            "c4_document_se",
            "c4_bits_per_byte",
        ];
        let rows = self.rows.iter().map(|row| {
            let number = |v: f64| format!("{v:.6}");
            let maybe = |v: Option<f64>| v.map_or(String::new(), number);
            let known = |v: f64| maybe((!v.is_nan()).then_some(v));
            let ends = |cell: &Cell| {
                let interval = cell.delta.interval(0.95);
                (maybe(interval.map(|i| i.0)), maybe(interval.map(|i| i.1)))
            };
            let ((sft_low, sft_high), (c4_low, c4_high)) = (ends(&row.sft), ends(&row.c4));
            vec![
                self.model.clone(),
                row.set.clone(),
                row.arm.clone(),
                row.weight.clone(),
                number(row.sft.loss.mean),
                number(row.sft.delta.mean),
                number(row.c4.loss.mean),
                number(row.c4.delta.mean),
                row.sft.loss.n.to_string(),
                maybe(row.sft.loss.sd),
                maybe(row.sft.delta.sd),
                sft_low,
                sft_high,
                maybe(row.c4.loss.sd),
                maybe(row.c4.delta.sd),
                c4_low,
                c4_high,
                number(row.c4_before),
                number(forgetting(row.c4_before, row.c4.loss.mean)),
                number(row.sft.improvement),
                number(row.c4.improvement),
                format!("{:e}", row.lr),
                known(row.sft.document_se),
                known(row.c4.document_se),
                known(row.c4_bits_per_byte),
            ]
        });
        write_csv(&header, rows)
    }

    /// What the figure shows.
    ///
    /// # Errors
    /// None in practice: writing to memory.
    pub fn figure_csv(&self) -> Result<String, Error> {
        let rows = self.rows.iter().filter(|r| !r.control).map(|r| {
            let number = |v: f64| format!("{v:.6}");
            vec![r.set.clone(), r.arm.clone(), number(r.sft.delta.mean), number(r.c4.delta.mean)]
        });
        write_csv(&["dataset", "mix", "sft_delta", "c4_delta"], rows)
    }
}

fn write_csv(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Result<String, Error> {
    let failed = |reason: String| Error::Render { what: "a table".to_owned(), reason };
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(header).map_err(|e| failed(e.to_string()))?;
    for row in rows {
        writer.write_record(row).map_err(|e| failed(e.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| failed(e.to_string()))
}

/// Marks the lowest mean, and those equal to it.
fn mark_best(rows: &mut [Row], cell: impl Fn(&mut Row) -> &mut Cell) {
    let lowest = rows.iter_mut().map(|r| cell(r).loss.mean).fold(f64::INFINITY, f64::min);
    for row in rows {
        let cell = cell(row);
        cell.best = cell.loss.mean == lowest;
    }
}

fn difference(cell: &Cell, control: bool) -> String {
    if control { format!("{:>8}", "–") } else { format!("{:>+8.3}", cell.delta.mean) }
}

fn optional(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.decimals$}"))
}
