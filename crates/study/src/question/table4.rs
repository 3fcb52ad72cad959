//! Table 4: this study's hyperparameters beside the paper's; what differs is marked.

use report::{Column, Curves, Figure, Format, Lines, Page, Table};
use schedule::{Convention, LrSpec, Step};

use super::Question;
use super::losses::named;
use super::printed::{Printed, papers_study};
use crate::graph::Graph;
use crate::plan::Plan;
use crate::protocol::{RATES, Size};
use crate::spec::{CurveShape, LrChoice, PretrainSpec, StudySpec};
use crate::{Error, Study};

/// The hyperparameters as they were resolved. Nothing is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Table4;

impl Question for Table4 {
    fn name(&self) -> &str {
        "table4"
    }

    fn trains(&self) -> bool {
        false
    }

    fn needs(&self, _: &mut Graph<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        page(name, graph.study())
    }

    fn on_stated(&self, name: &str, study: &Study, _: &Plan) -> Result<Page, Error> {
        page(name, study)
    }
}

/// A hyperparameter: what the paper says, where, and how a study's value is found.
struct Row {
    name: &'static str,
    /// Where the paper says it.
    source: &'static str,
    /// The same at each of the paper's sizes; `None`: the row of its Table 4.
    paper: Option<String>,
    own: fn(&StudySpec) -> String,
}

impl Row {
    /// A row of Table 4.
    fn printed(name: &'static str, own: fn(&StudySpec) -> String) -> Self {
        Self { name, source: "Table 4", paper: None, own }
    }

    fn said(name: &'static str, source: &'static str, paper: &str, own: fn(&StudySpec) -> String) -> Self {
        Self { name, source, paper: Some(paper.to_owned()), own }
    }

    /// What the paper has for a size; of sizes that it does not have, what it has for all.
    fn paper(&self, table: &Printed, size: Option<Size>) -> Result<String, Error> {
        if let Some(paper) = &self.paper {
            return Ok(paper.clone());
        }
        let missing = || Error::field("the paper's table 4", self.name, "is no row of it");
        let row = table.row("hyperparameter", self.name).ok_or_else(missing)?;
        if let Some(size) = size {
            return Ok(row.get(size.name()).cloned().unwrap_or_default());
        }
        let mut all: Vec<&str> = Size::ALL.iter().filter_map(|size| row.get(size.name()).map(String::as_str)).collect();
        all.dedup();
        Ok(all.join(" / "))
    }
}

fn rows() -> Vec<Row> {
    vec![
        Row::printed("Global batch size", |s| s.pretrain.batch.to_string()),
        Row::printed("Micro batch size", |s| micro(&s.pretrain).to_string()),
        Row::printed("LR schedule", |s| curve(s.pretrain.shape, s.pretrain.warmup as f64 / s.pretrain.steps as f64)),
        Row::printed("Max LR", |s| format!("{:e}", s.pretrain.lr_peak)),
        Row::printed("Min LR", |s| match s.pretrain.shape {
            CurveShape::Constant => format!("{:e}", s.pretrain.lr_peak),
            _ => format!("{:e}", s.pretrain.lr_min),
        }),
        Row::printed("Optimizer", |_| "AdamW".to_owned()),
        Row::printed("Betas", |s| format!("({}, {})", s.pretrain.optimizer.beta1, s.pretrain.optimizer.beta2)),
        Row::printed("Weight decay", |s| s.pretrain.optimizer.weight_decay.to_string()),
        Row::printed("Precision", |s| format!("{:?}", s.pretrain.precision).to_uppercase()),
        Row::printed("Num ranks", |s| ranks(&s.pretrain)),
        Row::said("Steps", "Section 3.1", "61000", |s| s.pretrain.steps.to_string()),
        Row::said("Sequence length", "Section 3.1 (128B tokens)", "2048", |s| s.pretrain.time.to_string()),
        Row::said("SFT epochs", "Appendix C", "4", |s| s.sft.epochs.to_string()),
        Row::said("SFT batch size", "Appendix C", "64", |s| s.sft.batch.to_string()),
        Row::said("SFT LR schedule", "Appendix C", "Cosine w/ 10% warmup", |s| {
            curve(s.sft.curve.shape, s.sft.curve.warmup.as_f64())
        }),
        Row::said("SFT LR choice", "Appendix C", "sweep on the base checkpoint", |s| choice(&s.sft.lr).to_owned()),
        Row::said("SFT LR grid", "Table 6", &list(RATES), |s| {
            s.sft.sets.first().map_or_else(String::new, |set| list(s.sft.lr.grid(&set.name)))
        }),
        Row::said("SFT seeds", "Section 4", "5", |s| s.sft_seeds.to_string()),
        Row::said("Pretraining seeds", "not stated", "1", |s| s.pretrain_seeds.to_string()),
    ]
}

/// Sequences of a micro-batch.
fn micro(p: &PretrainSpec) -> u64 {
    ((p.micro_tokens / p.time.max(1)).max(1) as u64).min(p.batch)
}

/// What LitGPT's curve implies: of other curves the number of ranks changes nothing.
fn ranks(p: &PretrainSpec) -> String {
    match p.convention {
        Convention::Litgpt { accumulation } => (p.batch / accumulation.saturating_mul(micro(p)).max(1)).to_string(),
        _ => "any".to_owned(),
    }
}

fn curve(shape: CurveShape, warmup: f64) -> String {
    let shape = match shape {
        CurveShape::Cosine => "Cosine",
        CurveShape::Linear => "Linear",
        CurveShape::Constant => "Constant",
    };
    format!("{shape} w/ {}% warmup", (1000.0 * warmup).round() / 10.0)
}

fn choice(lr: &LrChoice) -> &'static str {
    match lr {
        LrChoice::Fixed { .. } => "given",
        LrChoice::SweepBase { .. } => "sweep on the base checkpoint",
        LrChoice::SweepEach { .. } => "sweep on each checkpoint",
    }
}

fn list(rates: &[f64]) -> String {
    rates.iter().map(|rate| format!("{rate:e}")).collect::<Vec<_>>().join(" ")
}

/// Whether two cells say the same: numbers are compared as such.
fn same(own: &str, paper: &str) -> bool {
    match (own.parse::<f64>(), paper.parse::<f64>()) {
        (Ok(own), Ok(paper)) => own == paper,
        _ => own == paper,
    }
}

/// The paper's size that a model is, or stands for: `smoke-s` for 70m.
fn papers_size(model: &str) -> Option<Size> {
    let of = |size: &Size| size.name() == model || model.ends_with(&format!("-{}", size.letter()));
    Size::ALL.into_iter().find(of)
}

fn page(name: &str, study: &Study) -> Result<Page, Error> {
    let printed = Printed::table(4)?;
    let rows = rows();
    let mut table = Table::new(name, "Hyperparameters of this study beside the paper's")
        .with(Column::text("hyperparameter", rows.iter().map(|r| r.name)));
    let mut differing = Vec::new();
    for size in study.sizes() {
        let spec = study[size].spec();
        let model = &spec.model_name;
        let own: Vec<String> = rows.iter().map(|r| (r.own)(spec)).collect();
        let size = papers_size(model);
        let paper = rows.iter().map(|r| r.paper(&printed, size)).collect::<Result<Vec<_>, _>>()?;
        let marks: Vec<bool> = own.iter().zip(&paper).map(|(own, paper)| !same(own, paper)).collect();
        differing.push((model, marks.iter().filter(|differs| **differs).count()));
        let heading = size.map_or_else(|| "paper".to_owned(), |size| format!("paper, {}", size.name()));
        table = table
            .with(Column::text(&named("own", model), own).heading(model).marked(marks))
            .with(Column::text(&named("paper", model), paper).heading(&heading));
    }
    table = table
        .with(Column::text("source", rows.iter().map(|r| r.source)).heading("said in").documents_only())
        .note("* or bold: differs from the paper's. LitGPT's curve counts micro-batches, so that ranks and micro-batches change it.");
    let mut page = Page::new(&format!("{}: hyperparameters", super::heading(name)));
    page.asked =
        "With which hyperparameters are models trained here, and where do they differ from the paper's?".to_owned();
    let each =
        differing.iter().map(|(model, count)| format!("{model}: {count} of {} differ from the paper's.", rows.len()));
    page.found = each.collect();
    page.notes.push(
        "Appendix B speaks of \"all three models\" where Table 4 has four columns; Appendix C gives micro-batches of fine-tuning for \
         70m, 160m and 410m, none for 1b."
            .to_owned(),
    );
    page.tables = vec![table];
    page.figures = vec![figure(name, study)?];
    Ok(page)
}

/// Points of each curve of the picture.
const POINTS: u64 = 120;

/// Rates as shares of their peak over shares of the run.
fn shape(curve: LrSpec, peak: f64, steps: u64) -> Result<Vec<f64>, Error> {
    let schedule = curve.build().map_err(|source| Error::Schedule { what: "a curve".to_owned(), source })?;
    let at =
        |i: u64| schedule.at(Step((u128::from(steps.saturating_sub(1)) * u128::from(i) / u128::from(POINTS)) as u64));
    Ok((0..=POINTS).map(|i| at(i) / peak).collect())
}

/// A study's two curves; fine-tunes of other numbers of steps have the same shape.
fn shapes(spec: &StudySpec) -> Result<[Vec<f64>; 2], Error> {
    /// Steps enough for the curve's shape to be seen.
    const FINETUNE: u64 = 1000;
    let pretraining = shape(crate::study::pretrain_lr(spec), spec.pretrain.lr_peak, spec.pretrain.steps)?;
    Ok([pretraining, shape(spec.sft.curve.over(1.0, FINETUNE), 1.0, FINETUNE)?])
}

/// Both learning-rate curves of each size, and the paper's. What is the same is one curve.
fn figure(name: &str, study: &Study) -> Result<Figure, Error> {
    let mut all: Vec<(String, [Vec<f64>; 2])> = Vec::new();
    let mut add = |name: String, curves: [Vec<f64>; 2]| match all.iter_mut().find(|(_, known)| *known == curves) {
        Some((names, _)) => *names += &format!(", {name}"),
        None => all.push((name, curves)),
    };
    for size in study.sizes() {
        add(study[size].spec().model_name.clone(), shapes(study[size].spec())?);
    }
    for size in Size::ALL {
        add(format!("the paper's {}", size.name()), shapes(&papers_study(size)?)?);
    }
    let x: Vec<f64> = (0..=POINTS).map(|i| i as f64 / POINTS as f64).collect();
    let parts = ["pretraining", "fine-tuning"];
    let panel = |(i, title): (usize, &&str)| Curves {
        title: (*title).to_owned(),
        y_axis: None,
        x: x.clone(),
        ys: all.iter().map(|(_, curves)| curves[i].clone()).collect(),
        bands: Vec::new(),
        points: false,
    };
    let picture = Lines {
        x_axis: "share of the steps".to_owned(),
        y_axis: "share of the peak rate".to_owned(),
        names: all.iter().map(|(name, _)| name.clone()).collect(),
        scaled_to: all.len(),
        from_zero: true,
        own_scales: false,
        panels: parts.iter().enumerate().map(panel).collect(),
        across: 2,
    };
    let rows: Vec<(&str, &str, f64, f64)> = parts
        .iter()
        .enumerate()
        .flat_map(|(part, title)| all.iter().map(move |(name, curves)| (*title, name.as_str(), &curves[part])))
        .flat_map(|(title, name, curve)| x.iter().zip(curve).map(move |(x, y)| (title, name, *x, *y)))
        .collect();
    let data = Table::new(name, "Learning rates over a run, as shares of their peak")
        .with(Column::text("part", rows.iter().map(|r| r.0)))
        .with(Column::text("models", rows.iter().map(|r| r.1)))
        .with(Column::number("share_of_steps", Format::Fixed(4), rows.iter().map(|r| r.2)))
        .with(Column::number("share_of_peak", Format::Fixed(4), rows.iter().map(|r| r.3)));
    Ok(Figure::new(data, picture).subtitle(["Where curves coincide the last of them is seen.".to_owned()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert!(same("3e-4", "0.0003") && same("BF16", "BF16") && !same("F32", "BF16") && !same("512", "1024"));
        assert_eq!(papers_size("smoke-s"), Some(Size::S));
        assert_eq!(papers_size("1b"), Some(Size::Xl));
        assert_eq!(papers_size("pythia"), None);
    }
}
