//! Every arm against the control, seed by seed, with what several comparisons cost.

use forgetting_eval::{ArmComparison, Level, Nested, compare_arms};
use report::{Column, Format, Table};

use super::losses::{Losses, Measurement};
use crate::{Error, SetId, Study};

/// Level of intervals.
pub(super) const LEVEL: f64 = 0.95;

/// What is compared of a fine-tuned model.
type Value = fn(&Measurement) -> f64;

/// What a study's intervals are over.
pub(super) fn seeds(study: &Study) -> &'static str {
    if study.spec().pretrain_seeds > 1 { "pretraining seeds" } else { "fine-tuning seeds" }
}

/// The same in a sentence, with what follows from it.
pub(super) fn unit(study: &Study) -> String {
    let spec = study.spec();
    match (spec.pretrain_seeds, spec.sft_seeds) {
        (1, 1) => "One seed of each kind: there are no intervals, and nothing is claimed about mixes.".to_owned(),
        (1, n) => format!(
            "Intervals are over {n} fine-tuning seeds of one pretrained model each: they speak of these models, not of other \
             pretraining runs."
        ),
        (n, _) => format!("Intervals are over {n} pretraining seeds."),
    }
}

struct Row {
    set: SetId,
    loss: &'static str,
    compared: ArmComparison,
    nested: Nested,
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
        (self.loss != "forgetting").then_some(self.compared.improvement)
    }
}

/// The table: differences of both losses and of forgetting, their intervals and p-values.
pub(super) fn comparison(study: &Study, losses: &Losses) -> Result<Table, Error> {
    let rows = rows(study, losses)?;
    let compared = |value: fn(&ArmComparison) -> Option<f64>| rows.iter().map(move |r| value(&r.compared));
    let (loss, change) = (Format::Fixed(4), Format::Signed(4));
    let title = format!(
        "Each mix against {}, paired by {}; 95 % t-intervals, p adjusted by Holm within each set and loss",
        study[study.control()].name(),
        seeds(study)
    );
    Ok(Table::new("comparison", &title)
        .with(Column::text("dataset", rows.iter().map(|r| study[r.set].name.as_str())).heading("set"))
        .with(Column::text("loss", rows.iter().map(|r| r.loss)))
        .with(Column::text("mix", rows.iter().map(|r| r.compared.arm.as_str())))
        .with(Column::count("seeds", rows.iter().map(|r| r.compared.difference.n as u64)).documents_only())
        .with(Column::number("control", loss, compared(|c| Some(c.control.mean))).documents_only())
        .with(Column::number("arm", loss, compared(|c| Some(c.values.mean))).documents_only())
        .with(Column::number("difference", change, compared(|c| Some(c.difference.mean))).heading("Δ"))
        .with(Column::interval("ci", change, rows.iter().map(|r| r.compared.interval)).heading("95 % interval"))
        .with(Column::number("p", Format::Probability, compared(|c| c.p)).documents_only())
        .with(Column::number("p_adjusted", Format::Probability, compared(|c| c.p_adjusted)).heading("p (Holm)"))
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
        .grouped())
}

fn rows(study: &Study, losses: &Losses) -> Result<Vec<Row>, Error> {
    const LOSSES: [(&str, Value); 3] =
        [("sft", |m| m.sft_loss), ("c4", |m| m.c4_loss), ("forgetting", |m| m.c4_loss - m.c4_before)];
    let mut out = Vec::new();
    for set in study.sets() {
        for (loss, value) in LOSSES {
            // Of what failed there is nothing to compare.
            let Some(control) = losses.values(study.control(), set, value) else { continue };
            let arms: Vec<_> = study.treated().filter_map(|arm| Some((arm, losses.values(arm, set, value)?))).collect();
            let named: Vec<(&str, &[f64])> = arms.iter().map(|(arm, v)| (study[*arm].name(), v.as_slice())).collect();
            for ((arm, _), compared) in arms.iter().zip(compare_arms(&control, &named, LEVEL)?) {
                let nested = Nested::of(&losses.nested(*arm, set, value));
                out.push(Row { set, loss, compared, nested });
            }
        }
    }
    Ok(out)
}
