//! Every arm against the control: over seeds, over documents, and with what several comparisons cost.

use forgetting_eval::{ArmComparison, DocumentComparison, Level, Nested, OverDocuments, Summary, compare_arms, holm};
use report::{Column, Format, Table};

use super::losses::{Loss, Losses, named};
use crate::{ArmId, Error, SetId, Study};

/// Level of intervals.
pub(super) const LEVEL: f64 = 0.95;

/// Whether p is below 5 %. Of permutations it may be 5 % exactly, up to rounding.
pub(super) fn is_significant(p: f64) -> bool {
    p < 0.05 - 1e-12
}
/// With which chance an effect is to be found, where the smallest one is said.
pub(super) const POWER: f64 = 0.8;
/// Fewer documents than this, of equal length, or fewer groups of them, give no interval.
pub(super) const LEAST: usize = 5;
/// What is said of an interval that stands for itself.
pub(super) const ALONE: &str = "each interval alone";

/// What an interval is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Pretraining seeds.
    Pretraining,
    /// Fine-tuning seeds of one pretrained model.
    FineTuning,
    /// Held-out documents, of one model of each kind.
    Documents,
}

impl Unit {
    /// That of a study's intervals.
    pub(super) fn of(study: &Study) -> Self {
        match (study.spec().pretrain_seeds, study.spec().sft_seeds) {
            (1, 1) => Self::Documents,
            (1, _) => Self::FineTuning,
            _ => Self::Pretraining,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pretraining => "pretraining seeds",
            Self::FineTuning => "fine-tuning seeds of one checkpoint",
            Self::Documents => "documents, one model each",
        }
    }
}

/// In sentences: what a seed is, how many there were, and what intervals speak of.
pub(super) fn unit(study: &Study) -> String {
    format!("{} {}", seeds_in_words(study), speaks(study))
}

/// What a seed is, and how many there were.
pub(super) fn seeds_in_words(study: &Study) -> String {
    format!(
        "Seeds: {} for pretraining and {} for fine-tuning; a seed stands for first weights and the order of data, on one corpus.",
        study.spec().pretrain_seeds,
        study.spec().sft_seeds
    )
}

/// The same as [`unit`], of a page that has intervals over seeds alone.
pub(super) fn unit_of_seeds(study: &Study) -> String {
    match Unit::of(study) {
        Unit::Documents => format!(
            "{} With one seed of each kind there are no intervals over seeds, and nothing is claimed about mixes.",
            seeds_in_words(study)
        ),
        _ => unit(study),
    }
}

fn speaks(study: &Study) -> &'static str {
    match Unit::of(study) {
        Unit::Documents => {
            "Intervals are over held-out documents: they say what other documents of the same kind would show of these models. \
             With one seed of each kind nothing is claimed about mixes."
        }
        Unit::FineTuning => {
            "Intervals are over fine-tuning seeds of one pretrained model per mix: they speak of these models, not of other \
             pretraining runs, and nothing is claimed about mixes."
        }
        Unit::Pretraining => "Intervals are over pretraining seeds: they speak of other runs on this corpus.",
    }
}

/// A difference to another arm, as far as this study's seeds and documents show it.
#[derive(Debug, Clone)]
pub(super) struct Difference {
    /// Seed by seed.
    pub(super) seeds: Summary,
    /// Over held-out documents, mean over seeds.
    pub(super) documents: Option<DocumentComparison>,
    unit: Unit,
}

impl Difference {
    /// Of an arm's loss to another arm's; `None` where one of them has no result.
    pub(super) fn of(
        study: &Study,
        losses: &Losses,
        (arm, against): (ArmId, ArmId),
        set: SetId,
        loss: Loss,
    ) -> Result<Option<Self>, Error> {
        let values = |arm| losses.values(arm, set, |m| loss.of(m));
        let (Some(left), Some(right)) = (values(arm), values(against)) else { return Ok(None) };
        let seeds = forgetting_eval::Paired::of(&left, &right)?.summary;
        let documents = losses.over_documents((arm, against), set, loss)?;
        Ok(Some(Self { seeds, documents, unit: Unit::of(study) }))
    }

    /// The interval over the study's unit.
    pub(super) fn interval(&self) -> Option<(f64, f64)> {
        match self.unit {
            Unit::Documents => self.document_interval(),
            _ => self.seeds.interval(LEVEL),
        }
    }

    pub(super) fn document_interval(&self) -> Option<(f64, f64)> {
        Some(self.over_documents()?.interval)
    }

    /// Where there are documents enough.
    fn over_documents(&self) -> Option<&OverDocuments> {
        let documents = self.documents.as_ref()?;
        (documents.effective_documents >= LEAST as f64).then_some(&documents.jackknife)
    }

    /// Of no difference, over the study's unit.
    pub(super) fn p(&self) -> Option<f64> {
        match self.unit {
            Unit::Documents => self.over_documents()?.p,
            _ => Some(self.seeds.t_test()?.1),
        }
    }

    /// `None` also of what does not vary at all, such as an arm that is the control.
    fn detectable(&self) -> Option<f64> {
        let detectable = match self.unit {
            Unit::Documents => self.over_documents()?.detectable(LEVEL, POWER),
            _ => self.seeds.detectable(LEVEL, POWER),
        };
        detectable.filter(|smallest| *smallest > 0.0)
    }
}

/// One comparison with the control.
pub(super) struct Row {
    pub(super) set: SetId,
    pub(super) loss: Loss,
    compared: ArmComparison,
    nested: Nested,
    difference: Difference,
    p: Option<f64>,
    pub(super) p_adjusted: Option<f64>,
    family: String,
}

impl Row {
    /// A variance that came out negative says that there is none to see.
    fn sd_within(&self) -> Option<f64> {
        self.nested.within.map(|v| v.max(0.0).sqrt())
    }

    fn sd_between(&self) -> Option<f64> {
        match self.nested.level {
            Level::Pretraining => self.nested.between.map(|v| v.max(0.0).sqrt()),
            Level::FineTuning => None,
        }
    }

    /// Forgetting may be 0 or negative: a share of it means nothing.
    fn improvement(&self) -> Option<f64> {
        (self.loss != Loss::Forgetting).then_some(self.compared.improvement)
    }

    pub(super) fn mean(&self) -> f64 {
        self.compared.difference.mean
    }
}

/// The table: differences of both losses and of forgetting, their intervals and p-values.
pub(super) fn comparison(study: &Study, rows: &[Row]) -> Table {
    comparison_of(study, "", rows)
}

/// The same of one of several sizes.
pub(super) fn comparison_of(study: &Study, size: &str, rows: &[Row]) -> Table {
    let compared = |value: fn(&ArmComparison) -> Option<f64>| rows.iter().map(move |r| value(&r.compared));
    let (loss, change) = (Format::Fixed(4), Format::Signed(4));
    let unit = Unit::of(study);
    let title = format!(
        "{}ach mix against {}; 95 % intervals over {}, p adjusted by Holm over the mixes of each set and loss",
        if size.is_empty() { "E".to_owned() } else { format!("{size}: e") },
        study[study.control()].name(),
        unit.name()
    );
    let documents = |value: fn(&DocumentComparison) -> Option<f64>| {
        rows.iter().map(move |r| value(r.difference.documents.as_ref()?))
    };
    let table = Table::new(&named("comparison", size), &title)
        .with(Column::text("dataset", rows.iter().map(|r| study[r.set].name.as_str())).heading("set"))
        .with(Column::text("loss", rows.iter().map(|r| r.loss.name())))
        .with(Column::text("mix", rows.iter().map(|r| r.compared.arm.as_str())))
        .with(Column::count("seeds", rows.iter().map(|r| r.compared.difference.n as u64)).documents_only())
        .with(Column::number("control", loss, compared(|c| Some(c.control.mean))).documents_only())
        .with(Column::number("arm", loss, compared(|c| Some(c.values.mean))).documents_only())
        .with(Column::number("difference", change, compared(|c| Some(c.difference.mean))).heading("Δ"))
        .with(Column::interval("ci", change, rows.iter().map(|r| r.difference.interval())).heading("95 % interval"))
        .with(
            Column::text("unit", rows.iter().map(|r| r.difference.interval().map_or("", |_| unit.name()))).file_only(),
        )
        .with(Column::number("p", Format::Probability, rows.iter().map(|r| r.p)).documents_only())
        .with(Column::number("p_adjusted", Format::Probability, rows.iter().map(|r| r.p_adjusted)).heading("p (Holm)"))
        .with(Column::text("family", rows.iter().map(|r| r.family.as_str())).file_only())
        .with(
            Column::number("detectable", loss, rows.iter().map(|r| r.difference.detectable().filter(|_| r.p.is_some())))
                .documents_only()
                .meaning("the smallest true difference that is found with a chance of 80 % (two-sided 5 %, one comparison)"),
        )
        .with(
            Column::interval("document_ci", change, rows.iter().map(|r| r.difference.document_interval()))
                .heading("over documents")
                .documents_only()
                .meaning(
                    "95 % interval of the difference on the same held-out documents, mean over seeds: it speaks of these models on \
                     other documents",
                ),
        )
        .with(Column::count("documents", rows.iter().map(|r| Some(r.difference.documents.as_ref()?.documents as u64))).file_only())
        .with(
            Column::number("effective_documents", Format::Fixed(1), documents(|d| Some(d.effective_documents))).file_only(),
        )
        .with(Column::number("improvement", change, rows.iter().map(Row::improvement)).documents_only())
        .with(
            Column::number("sd_within", loss, rows.iter().map(Row::sd_within))
                .documents_only()
                .meaning("between fine-tunes of one pretrained model"),
        )
        .with(
            Column::number("sd_between", loss, rows.iter().map(Row::sd_between))
                .documents_only()
                .meaning("between pretraining seeds, that taken out"),
        )
        .grouped();
    match unit {
        Unit::FineTuning => table.note(
            "With one pretraining seed the general loss before fine-tuning is one number a mix: forgetting is the general loss \
             less a constant, its interval over seeds is as wide, and it has no p of its own.",
        ),
        _ => table,
    }
}

/// Every comparison of an arm with the control.
pub(super) fn rows(study: &Study, losses: &Losses) -> Result<Vec<Row>, Error> {
    let mut out = Vec::new();
    for set in study.sets() {
        for loss in Loss::ALL {
            // Of what failed there is nothing to compare.
            let value = |arm| losses.values(arm, set, |m| loss.of(m));
            let Some(control) = value(study.control()) else { continue };
            let arms: Vec<_> = study.treated().filter_map(|arm| Some((arm, value(arm)?))).collect();
            let named: Vec<(&str, &[f64])> = arms.iter().map(|(arm, v)| (study[*arm].name(), v.as_slice())).collect();
            let first = out.len();
            for ((arm, _), compared) in arms.iter().zip(compare_arms(&control, &named, LEVEL)?) {
                let Some(difference) = Difference::of(study, losses, (*arm, study.control()), set, loss)? else {
                    continue;
                };
                let nested = Nested::of(&losses.nested(*arm, set, |m| loss.of(m)));
                // Forgetting over fine-tuning seeds is the general loss less a constant.
                let constant = loss == Loss::Forgetting && difference.unit == Unit::FineTuning;
                let p = difference.p().filter(|_| !constant);
                out.push(Row { set, loss, compared, nested, difference, p, p_adjusted: None, family: String::new() });
            }
            let adjusted = holm(&out[first..].iter().map(|r| r.p).collect::<Vec<_>>());
            let members = match adjusted.iter().flatten().count() {
                1 => "1 mix".to_owned(),
                members => format!("{members} mixes"),
            };
            for (row, p) in out[first..].iter_mut().zip(adjusted) {
                row.p_adjusted = p;
                // What has no p is no member.
                row.family =
                    p.map_or_else(String::new, |_| format!("{members} on {}, {}", study[set].name, loss.name()));
            }
        }
    }
    Ok(out)
}

/// In sentences: the smallest differences that the design finds, and why intervals are missing.
pub(super) fn detectable(study: &Study, rows: &[Row]) -> Vec<String> {
    let of = |loss: Loss, what: &str| {
        let found: Vec<f64> =
            rows.iter().filter(|r| r.loss == loss).filter_map(|r| r.difference.detectable()).collect();
        let (low, high) = (found.iter().copied().reduce(f64::min)?, found.iter().copied().reduce(f64::max)?);
        Some(format!("{what} {:.3} nats per token in the median (from {low:.3} to {high:.3})", median(&found)?))
    };
    let said: Vec<String> =
        [of(Loss::Sft, "on a set"), of(Loss::C4, "on general text")].into_iter().flatten().collect();
    let mut out = Vec::new();
    if !said.is_empty() {
        out.push(format!(
            "The smallest true difference that this design finds with a chance of 80 % (two-sided 5 %, one comparison): {}.{}",
            said.join("; "),
            uncertain(study)
        ));
    }
    let few = |r: &&Row| r.difference.documents.as_ref().is_none_or(|d| d.effective_documents < LEAST as f64);
    let few = rows.iter().filter(few).count();
    if few > 0 {
        out.push(format!(
            "{few} of {} comparisons have no interval over documents: these are worth fewer than {LEAST} documents of one length.",
            rows.len()
        ));
    }
    out
}

/// What few values leave open of an effect that they are said to detect.
pub(super) fn uncertain(study: &Study) -> String {
    let values = match Unit::of(study) {
        Unit::Documents => return String::new(),
        Unit::FineTuning => study.spec().sft_seeds,
        Unit::Pretraining => study.spec().pretrain_seeds,
    };
    if values >= 5 {
        return String::new();
    }
    format!(
        " It follows from the spread over {values} seeds, which so few show only roughly: it may be several times too low or too high."
    )
}

/// The middle value, or the mean of the two middle ones.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some(0.5 * (sorted[low] + sorted[high]))
}
