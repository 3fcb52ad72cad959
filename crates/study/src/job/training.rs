//! Training a part of a run in a job's folder, resumably.

use data_mixer::BatchSource;
use fused_ops::TrainingBackend;
use trainer::{Control, Outcome, RunOptions, Trainer, run};

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
    /// The run's last step, and one more.
    pub(crate) until: u64,
    /// Where this part stops.
    pub(crate) stop: u64,
}

/// Trains up to the part's end, in the job's folder; goes on from its newest whole checkpoint.
pub(crate) fn train<AB: TrainingBackend>(
    trainer: Trainer<AB>,
    batches: &dyn BatchSource,
    stretch: &Stretch<'_>,
    cx: &mut Context<'_, AB>,
) -> Result<Trainer<AB>, Error> {
    let options = RunOptions {
        dir: cx.folder,
        checkpoint_steps: CHECKPOINT_STEPS,
        checkpoint_seconds: cx.checkpoint_seconds,
        keep: KEEP,
        until: stretch.stop,
    };
    let Stretch { label, begin, until, .. } = *stretch;
    let steps = until.saturating_sub(begin).max(1) as f64;
    let share = |step: u64| step.saturating_sub(begin) as f64 / steps;
    let from = trainer.steps_done();
    let report = cx.report;
    let (trainer, outcome) = run(trainer, batches, &options, &mut |step, record| {
        match record {
            None if step > from => {
                report.note(&format!("{label}: restored the checkpoint of step {step}"));
                report.resumed(share(step));
            }
            None => {}
            Some(r) => report.advanced(share(step), || {
                let speed = r.tokens as f64 / r.seconds.max(1e-9);
                format!("{label}: step {step}/{until}, loss {:.3}, {speed:.0} tokens/s", r.loss)
            }),
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
