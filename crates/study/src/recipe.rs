//! A study's recipe in words: for plans and pages.

use std::fmt::Write as _;

use schedule::Convention;

use crate::data::{SetRows, stated_examples};
use crate::datasheet::sampled;
use crate::protocol::{RATES, SFT, Size};
use crate::spec::{CurveShape, DataSpec, FixedRate, LrChoice};
use crate::{SetId, Study};

/// Pretraining's optimiser, curve, precision and micro-batches; where LitGPT's curve counts micro-batches, on how many ranks that is.
pub(crate) fn pretraining(study: &Study) -> String {
    let p = &study.spec().pretrain;
    let micro = ((p.micro_tokens / p.time.max(1)).max(1) as u64).min(p.batch);
    let o = &p.optimizer;
    let mut out = format!(
        "recipe: AdamW ({}, {}), weight decay {}, clip {}; {}, warm-up {} steps; {}; micro-batches of {micro} sequences",
        o.beta1,
        o.beta2,
        o.weight_decay,
        p.clip,
        match p.shape {
            CurveShape::Cosine => format!("rates {:e} to {:e}", p.lr_peak, p.lr_min),
            CurveShape::Linear => format!("rates {:e} to {:e} on a line", p.lr_peak, p.lr_min),
            CurveShape::Constant => format!("a constant rate of {:e}", p.lr_peak),
        },
        p.warmup,
        format!("{:?}", p.precision).to_lowercase()
    );
    if let Convention::Litgpt { accumulation } = p.convention {
        let ranks = p.batch / accumulation.saturating_mul(micro).max(1);
        let _ = write!(out, ", accumulation {accumulation} on {ranks} ranks (LitGPT's curve)");
    }
    out
}

/// Fine-tuning: epochs, each set's examples and rates.
pub(crate) fn finetuning(study: &Study, rows: &[SetRows]) -> String {
    let s = &study.spec().sft;
    let mut out = format!(
        "fine-tuning: {} epochs of batches of {}, rows of at most {} tokens, warm-up {} of the steps\n",
        s.epochs, s.batch, s.max_time, s.curve.warmup
    );
    for (set, rows) in study.sets().zip(rows) {
        let spec = &study[set];
        let [validation, test] = rows.held_out;
        let validation = sampled(validation, rows.validation.as_ref().map_or(0, |rows| rows.report.examples));
        let test = sampled(test, rows.test.report.examples);
        let prompts = if spec.mask_prompt { "prompts masked" } else { "prompts learnt" };
        let _ = write!(
            out,
            "    {:<16} {} examples, {} steps, {prompts}; {validation} for validation, {test} for test",
            spec.name, rows.train.report.examples, rows.train.steps
        );
        if let Some(less) = less_than_asked(study, set, rows) {
            let _ = write!(out, "; {less}");
        }
        if rows.train.replayed_rows > 0 {
            // Of stated sizes positions are not known.
            let own = rows.train.report.positions.saturating_mul(s.epochs);
            let share = rows.train.replayed_tokens as f64 / (own + rows.train.replayed_tokens).max(1) as f64;
            let of = format!("{:.1} % of all tokens", 100.0 * share);
            let _ = write!(out, "; {} rows of general text added, {of}", rows.train.replayed_rows);
        }
        out.push('\n');
    }
    let _ = writeln!(out, "    rates: {}", rates(study));
    out
}

/// Where splits leave fewer examples than a study asks for.
fn less_than_asked(study: &Study, set: SetId, rows: &SetRows) -> Option<String> {
    let asked = study[set].examples?;
    let used = match &study.spec().data {
        DataSpec::Stated { .. } => stated_examples(study, set).train,
        _ => rows.train.report.examples + rows.train.report.dropped,
    };
    (used < asked).then(|| format!("{asked} cannot be had beside its splits"))
}

/// How fine-tuning's rates are chosen.
pub(crate) fn rates(study: &Study) -> String {
    let list = |rates: &[f64]| rates.iter().map(|rate| format!("{rate:e}")).collect::<Vec<_>>().join(", ");
    let spec = study.spec();
    let chosen = |grid: &[f64], extend: u32, on: &str| {
        let grows = if extend > 0 {
            format!(", extended at its edge up to {extend} times (each adds fine-tunes)")
        } else {
            String::new()
        };
        let mut out = format!("the best of {}{grows}, by the loss on the validation split, on {on}", list(grid));
        if grid == RATES
            && let Some(paper) = papers_rates(study)
        {
            let _ = write!(out, " (Table 6; the paper chose {paper}: Table 7)");
        }
        out
    };
    match &spec.sft.lr {
        LrChoice::Fixed { lr: FixedRate::One(lr) } => format!("{lr:e}, as given"),
        LrChoice::Fixed { lr: FixedRate::BySet(rates) } => {
            let each: Vec<String> = rates.iter().map(|(set, rate)| format!("{set} {rate:e}")).collect();
            format!("{}, as given", each.join(", "))
        }
        LrChoice::SweepBase { grid, extend } => chosen(grid, *extend, "the control's checkpoint"),
        LrChoice::SweepEach { grid, extend } => chosen(grid, *extend, "each arm's own checkpoint"),
    }
}

/// What the paper chose for the study's sets at its size, if that is one of the paper's.
fn papers_rates(study: &Study) -> Option<String> {
    let size = Size::ALL.into_iter().find(|size| size.name() == study.spec().model_name)?;
    let of = |name: &str| SFT.iter().find(|set| set.name == name).map(|set| set.rates[size as usize]);
    let each = study.sets().filter_map(|set| Some((&study[set].name, of(&study[set].name)?)));
    Some(each.map(|(name, rate)| format!("{name} {rate:e}")).collect::<Vec<_>>().join(", "))
}
