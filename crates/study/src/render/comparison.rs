//! Every arm against the control, seed by seed, with what several comparisons cost.

use forgetting_eval::{Level, Nested, compare_arms};

use super::DataTable;
use crate::question::{Losses, Measurement};
use crate::{Error, Study};

/// What is compared of a fine-tuned model.
type Value = fn(&Measurement) -> f64;

/// Level of intervals.
const LEVEL: f64 = 0.95;

/// The table: differences of both losses and of forgetting, their intervals and p-values.
pub(super) fn comparison(study: &Study, results: &Losses) -> Result<DataTable, Error> {
    let (spec, control) = (study.spec(), study.control());
    let seeds = if spec.pretrain_seeds > 1 { "pretraining" } else { "fine-tuning" };
    let title = format!(
        "Arms against {}, paired by {seeds} seed ({}); 95 % t-intervals, p adjusted by Holm within each set and loss",
        study[control].name(),
        spec.model_name
    );
    let header = [
        "dataset",
        "loss",
        "mix",
        "seeds",
        "control",
        "arm",
        "difference",
        "low",
        "high",
        "p",
        "p_adjusted",
        "improvement",
        "sd_within",
        "sd_between",
    ];
    let mut table = DataTable::new("comparison", &title, &header);
    let losses: [(&str, Value); 3] =
        [("sft", |m| m.sft_loss), ("c4", |m| m.c4_loss), ("forgetting", |m| m.c4_loss - m.c4_before)];
    for set in study.sets() {
        for (loss, value) in losses {
            // Of what failed there is nothing to compare.
            let Some(reference) = results.values(control, set, value) else { continue };
            let values = study.treated().filter_map(|arm| Some((arm, results.values(arm, set, value)?)));
            let values: Vec<_> = values.collect();
            let slices: Vec<(&str, &[f64])> =
                values.iter().map(|(arm, v)| (study[*arm].name(), v.as_slice())).collect();
            let rows = compare_arms(&reference, &slices, LEVEL)?;
            for ((arm, _), row) in values.iter().zip(rows) {
                let nested = Nested::of(&results.nested(*arm, set, value));
                let number = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), |v| format!("{v:.4}"));
                let signed = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), |v| format!("{v:+.4}"));
                // A variance that came out negative says that there is none to see.
                let sd = |variance: Option<f64>| number(variance.map(|v| v.max(0.0).sqrt()));
                table.rows.push(vec![
                    study[set].name.clone(),
                    loss.to_owned(),
                    row.arm,
                    row.difference.n.to_string(),
                    number(Some(row.control.mean)),
                    number(Some(row.values.mean)),
                    signed(Some(row.difference.mean)),
                    signed(row.interval.map(|i| i.0)),
                    signed(row.interval.map(|i| i.1)),
                    number(row.p),
                    number(row.p_adjusted),
                    // Forgetting may be 0 or negative: a share of it means nothing.
                    if loss == "forgetting" { "–".to_owned() } else { signed(Some(row.improvement)) },
                    sd(nested.within),
                    match nested.level {
                        Level::Pretraining => sd(nested.between),
                        Level::FineTuning => "–".to_owned(),
                    },
                ]);
            }
        }
    }
    table.notes.push(
        "sd_within: between fine-tunes of one pretrained model; sd_between: between pretraining seeds, that taken out. With one \
         pretraining seed intervals say nothing of other pretraining runs; with one seed of either kind there are none."
            .to_owned(),
    );
    Ok(table)
}
