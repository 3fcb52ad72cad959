//! Training a part of a run in a job's folder, resumably.

use data_mixer::{BatchSource, LedgerHead};
use fused_ops::TrainingBackend;
use trainer::{Control, EvalSpec, Event, Outcome, PassedOver, RunOptions, Start, Trainer, run};

use super::Context;
use crate::Error;

/// Most steps between checkpoints.
const CHECKPOINT_STEPS: u64 = 500;
/// Checkpoints kept while a job runs.
const KEEP: usize = 2;

/// A part of a run.
pub(crate) struct Stretch<'a> {
    /// What progress calls the run.
    pub(crate) label: &'a str,
    /// The run's first step.
    pub(crate) begin: u64,
    /// The same, with what was seen by then.
    pub(crate) began: Option<(u64, LedgerHead)>,
    /// The run's last step, and one more.
    pub(crate) until: u64,
    /// The step that this part is started at.
    pub(crate) from: u64,
    /// Where this part stops.
    pub(crate) stop: u64,
    /// What is evaluated on the way.
    pub(crate) evals: &'a [EvalSpec],
}

/// Trains up to the part's end, in the job's folder; goes on from its newest whole checkpoint.
pub(crate) fn train<'a, AB: TrainingBackend>(
    start: impl Into<Start<'a, AB>>,
    batches: &dyn BatchSource,
    stretch: &Stretch<'_>,
    cx: &mut Context<'_, AB>,
) -> Result<Trainer<AB>, Error> {
    let options = RunOptions {
        checkpoint_steps: CHECKPOINT_STEPS,
        checkpoint_seconds: cx.checkpoint_seconds,
        keep: KEEP,
        // The job keeps its result itself.
        last_checkpoint: false,
        evals: stretch.evals,
        began: stretch.began,
        end: stretch.until,
        ..RunOptions::new(cx.folder, stretch.stop)
    };
    let Stretch { label, begin, until, .. } = *stretch;
    let steps = until.saturating_sub(begin).max(1) as f64;
    let share = |step: u64| step.saturating_sub(begin) as f64 / steps;
    let report = cx.report;
    let mut from = stretch.from;
    let (trainer, outcome) = run(start, batches, &options, &mut |event| {
        match event {
            Event::Began { step, passed_over } => {
                for PassedOver { reason, .. } in passed_over {
                    report.note(&format!("{label}: passed over a checkpoint: {reason}"));
                }
                if step > std::mem::replace(&mut from, step) {
                    report.note(&format!("{label}: restored the checkpoint of step {step}"));
                    report.resumed(share(step));
                }
            }
            Event::Step(line) => report.advanced(share(line.record.step + 1), || {
                let speed = line.tokens_per_second.unwrap_or(0.0);
                format!(
                    "{label}: step {}/{until}, loss {:.3}, {speed:.0} tokens/s",
                    line.record.step + 1,
                    line.record.loss
                )
            }),
            Event::Evaluated(r) => {
                report.note(&format!("{label}: step {}, {:.3} nats per token on {}", r.step, r.loss, r.set))
            }
            Event::Checkpoint { .. } => {}
        }
        if report.signal().received().is_some() { Control::Stop } else { Control::Continue }
    })
    .map_err(|e| Error::labelled(label, e))?;
    match outcome {
        Outcome::Finished if !trainer.is_finite() => {
            let reason = format!(
                "diverged: its weights are not finite; {} of {} steps were left out",
                trainer.steps_skipped(),
                trainer.steps_done()
            );
            Err(Error::NotFinite { what: label.to_owned(), reason })
        }
        Outcome::Finished => Ok(trainer),
        Outcome::Stopped => Err(Error::Stopped { signal: report.signal().received().unwrap_or(0) }),
    }
}
