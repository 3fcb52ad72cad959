//! Table 2: loss on each fine-tuning set and on general text after fine-tuning, by arm, as differences to the control.

use forgetting_eval::{Paired, Summary, forgetting, relative_improvement};

use crate::question::{Losses, Measurement};
use crate::{ArmId, Error, SetId, Study};

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) set: String,
    pub(crate) arm: String,
    pub(crate) weight: String,
    pub(crate) control: bool,
    /// `None` where a fine-tune has no result.
    pub(crate) sft: Option<Cell>,
    pub(crate) c4: Option<Cell>,
    pub(crate) c4_before: Option<f64>,
    /// The general loss after fine-tuning in bits per byte, where bytes are known.
    pub(crate) c4_bits_per_byte: Option<f64>,
    pub(crate) lr: Option<f64>,
}

impl Row {
    /// How much the general loss rose in fine-tuning.
    fn forgetting(&self) -> Option<f64> {
        Some(forgetting(self.c4_before?, self.c4.as_ref()?.loss.mean))
    }
}

/// One loss: its mean over seeds, and its paired difference to the control's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    pub(crate) loss: Summary,
    /// `None` where the control has no result.
    pub(crate) delta: Option<Summary>,
    /// Relative improvement over the control.
    pub(crate) improvement: Option<f64>,
    /// Standard error over held-out documents, mean over seeds: what the held-out set's size alone leaves open.
    pub(crate) document_se: Option<f64>,
    /// Lowest of its set.
    pub(crate) best: bool,
}

/// The table, ready to print.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LossTable {
    pub(crate) model: String,
    pub(crate) seeds: String,
    pub(crate) rows: Vec<Row>,
    /// Arm and its general loss before fine-tuning; `None` where pretraining failed.
    pub(crate) before: Vec<(String, Option<f64>)>,
    pub(crate) unigram_entropy: f64,
    /// What failed, and why.
    pub(crate) failures: Vec<String>,
}

/// What is shown of a fine-tuned model, and its error over documents.
type Value = fn(&Measurement) -> f64;
type Maybe = fn(&Measurement) -> Option<f64>;

impl LossTable {
    /// From a study's losses.
    pub(crate) fn of(study: &Study, losses: &Losses) -> Self {
        let spec = study.spec();
        let mut rows = Vec::new();
        for set in study.sets() {
            let first = rows.len();
            rows.extend(study.arms().map(|arm| row(study, losses, arm, set)));
            mark_best(&mut rows[first..], |row| &mut row.sft);
            mark_best(&mut rows[first..], |row| &mut row.c4);
        }
        let before = |arm: ArmId| {
            let name = study[arm].name().to_owned();
            let loss = before(losses, &name);
            (name, loss)
        };
        Self {
            model: spec.model_name.clone(),
            seeds: format!(
                "study seed {}, {} pretraining seed(s) x {} fine-tuning seed(s)",
                spec.study_seed, spec.pretrain_seeds, spec.sft_seeds
            ),
            rows,
            before: study.arms().map(before).collect(),
            unigram_entropy: losses.unigram_entropy,
            failures: losses.failures(),
        }
    }

    /// For a terminal; the best of each set in bold where `ansi`, with a star everywhere.
    pub(crate) fn text(&self, ansi: bool) -> String {
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
            let cell = |cell: &Option<Cell>| {
                let Some(cell) = cell else { return format!("{:>9} {:>8} {:>7}", "failed ", "–", "–") };
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
            out += &format!("  {arm:<20} {}\n", loss.map_or("failed".to_owned(), |loss| format!("{loss:.3}")));
        }
        if !self.failures.is_empty() {
            out += &format!("\n{}\n", self.failures.join("\n"));
        }
        out
    }

    /// For documents.
    pub(crate) fn markdown(&self) -> String {
        let mut out = format!("**Table 2** ({}; {}). Losses in nats per token.\n\n", self.model, self.seeds);
        out += "| set | mix | SFT | Δ | sd | C4 | Δ | sd | forgetting |\n|---|---|---|---|---|---|---|---|---|\n";
        for row in &self.rows {
            let cell = |cell: &Option<Cell>| {
                let Some(cell) = cell else { return "failed | – | –".to_owned() };
                let value = format!("{:.3}", cell.loss.mean);
                let value = if cell.best { format!("**{value}**") } else { value };
                format!("{value} | {} | {}", difference(cell, row.control).trim(), optional(cell.loss.sd, 3).trim())
            };
            let forgotten = row.forgetting().map_or_else(|| "–".to_owned(), |v| format!("{v:+.3}"));
            out += &format!("| {} | {} | {} | {} | {forgotten} |\n", row.set, row.arm, cell(&row.sft), cell(&row.c4));
        }
        out += &format!("\nHeld-out C4 loss before fine-tuning (unigram entropy {:.3}):", self.unigram_entropy);
        for (arm, loss) in &self.before {
            out += &format!(" {arm} {};", loss.map_or("failed".to_owned(), |loss| format!("{loss:.3}")));
        }
        out.pop();
        out += ".\n";
        self.failures.iter().for_each(|failure| out += &format!("\n{failure}\n"));
        out
    }

    /// In the columns of the paper's tables, and more.
    ///
    /// # Errors
    /// None in practice: writing to memory.
    pub(crate) fn csv(&self) -> Result<String, Error> {
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
            let number = |v: Option<f64>| v.map_or(String::new(), |v| format!("{v:.6}"));
            let of = |cell: &Option<Cell>, value: &dyn Fn(&Cell) -> Option<f64>| number(cell.as_ref().and_then(value));
            let interval = |cell: &Cell| cell.delta.as_ref().and_then(|delta| delta.interval(0.95));
            let mean = |c: &Cell| Some(c.loss.mean);
            let sd = |c: &Cell| c.loss.sd;
            let delta = |c: &Cell| c.delta.as_ref().map(|d| d.mean);
            let delta_sd = |c: &Cell| c.delta.as_ref().and_then(|d| d.sd);
            let (low, high) = (|c: &Cell| interval(c).map(|i| i.0), |c: &Cell| interval(c).map(|i| i.1));
            vec![
                self.model.clone(),
                row.set.clone(),
                row.arm.clone(),
                row.weight.clone(),
                of(&row.sft, &mean),
                of(&row.sft, &delta),
                of(&row.c4, &mean),
                of(&row.c4, &delta),
                row.sft.as_ref().map_or(0, |c| c.loss.n).to_string(),
                of(&row.sft, &sd),
                of(&row.sft, &delta_sd),
                of(&row.sft, &low),
                of(&row.sft, &high),
                of(&row.c4, &sd),
                of(&row.c4, &delta_sd),
                of(&row.c4, &low),
                of(&row.c4, &high),
                number(row.c4_before),
                number(row.forgetting()),
                of(&row.sft, &|c| c.improvement),
                of(&row.c4, &|c| c.improvement),
                row.lr.map_or(String::new(), |lr| format!("{lr:e}")),
                of(&row.sft, &|c| c.document_se),
                of(&row.c4, &|c| c.document_se),
                number(row.c4_bits_per_byte),
            ]
        });
        write_csv(&header, rows)
    }

    /// What the figure shows.
    ///
    /// # Errors
    /// None in practice: writing to memory.
    pub(crate) fn figure_csv(&self) -> Result<String, Error> {
        let rows = self.rows.iter().filter(|r| !r.control).map(|r| {
            let delta = |cell: &Option<Cell>| {
                cell.as_ref().and_then(|c| c.delta.as_ref()).map_or(String::new(), |d| format!("{:.6}", d.mean))
            };
            vec![r.set.clone(), r.arm.clone(), delta(&r.sft), delta(&r.c4)]
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

fn row(study: &Study, losses: &Losses, arm: ArmId, set: SetId) -> Row {
    let control = study.control();
    let complete = losses.values(arm, set, |m| m.sft_loss).is_some();
    let maybe = |value: Maybe| {
        let values = losses.values(arm, set, |m| value(m).unwrap_or(f64::NAN))?;
        Some(Summary::of(&values).mean).filter(|mean| !mean.is_nan())
    };
    let cell = |value: Value, error: Maybe| {
        let loss = Summary::of(&losses.values(arm, set, value)?);
        let reference = losses.values(control, set, value);
        // Every arm has the same seeds, so pairing cannot fail.
        let paired = |reference: &Vec<f64>| Some(Paired::of(&losses.values(arm, set, value)?, reference).ok()?.summary);
        let delta = reference.as_ref().and_then(paired);
        let improvement = reference.as_ref().map(|base| relative_improvement(Summary::of(base).mean, loss.mean));
        Some(Cell { improvement, document_se: maybe(error), loss, delta, best: false })
    };
    Row {
        set: study[set].name.clone(),
        arm: study[arm].name().to_owned(),
        weight: study[arm].spec().weight().to_string(),
        control: arm == control,
        sft: cell(|m| m.sft_loss, |m| m.sft_document_se),
        c4: cell(|m| m.c4_loss, |m| m.c4_document_se),
        c4_before: before(losses, study[arm].name()),
        c4_bits_per_byte: maybe(|m| m.c4_bits_per_byte),
        lr: losses.of_cell(arm, set).next().map(|m| m.lr).filter(|_| complete),
    }
}

/// An arm's general loss before fine-tuning, mean over seeds.
fn before(losses: &Losses, arm: &str) -> Option<f64> {
    let values = losses.c4_before.get(arm)?.iter().copied().collect::<Option<Vec<f64>>>()?;
    Some(Summary::of(&values).mean)
}

/// Marks the lowest mean, and those equal to it.
fn mark_best(rows: &mut [Row], cell: impl Fn(&mut Row) -> &mut Option<Cell>) {
    let means = rows.iter_mut().filter_map(|r| Some(cell(r).as_ref()?.loss.mean));
    let lowest = means.fold(f64::INFINITY, f64::min);
    for row in rows {
        if let Some(cell) = cell(row) {
            cell.best = cell.loss.mean == lowest;
        }
    }
}

fn difference(cell: &Cell, control: bool) -> String {
    match &cell.delta {
        Some(delta) if !control => format!("{:>+8.3}", delta.mean),
        _ => format!("{:>8}", "–"),
    }
}

fn optional(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.decimals$}"))
}
