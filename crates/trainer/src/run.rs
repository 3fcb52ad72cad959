//! Many steps: checkpoints, log, guards, stopping.

use std::path::Path;
use std::time::Instant;

use data_mixer::{BatchSource, LedgerFile, LedgerSpan, prefetch};
use fused_ops::TrainingBackend;

use crate::checkpoint::{checkpoints, file_name, verify_checkpoint};
use crate::log::Log;
use crate::{Error, StepRecord, Trainer};

/// A run's ledger, in its folder: what it has seen, step by step.
const LEDGER: &str = "ledger";
/// Batches made ahead.
const AHEAD: usize = 2;

/// Where a run keeps its files and how far it goes.
#[derive(Debug, Clone)]
pub struct RunOptions<'a> {
    /// Folder of checkpoints and log.
    pub dir: &'a Path,
    /// Most steps between checkpoints.
    pub checkpoint_steps: u64,
    /// Most seconds between checkpoints. (When they are written does not change what is computed.)
    pub checkpoint_seconds: f64,
    /// Checkpoints kept.
    pub keep: usize,
    /// The step to stop before.
    pub until: u64,
}

/// What an observer wants to happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Write a checkpoint and stop.
    Stop,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// At the step asked for.
    Finished,
    /// At the observer's word, with a checkpoint.
    Stopped,
}

/// Runs from the newest valid checkpoint in the folder that is ahead of the trainer, or from where it stands, up to a step. `observe` is
/// told where the run starts (`None`), then of each step.
///
/// # Errors
/// Unavailable batches, files that cannot be written, a run that diverged.
pub fn run<AB: TrainingBackend>(
    mut trainer: Trainer<AB>,
    source: &dyn BatchSource,
    options: &RunOptions<'_>,
    observe: &mut dyn FnMut(u64, Option<&StepRecord>) -> Control,
) -> Result<(Trainer<AB>, Outcome), Error> {
    let io = |source| Error::Io { path: options.dir.to_owned(), source };
    std::fs::create_dir_all(options.dir).map_err(io)?;
    let begins = (trainer.step, trainer.ledger);
    // The newest that is whole and ahead: a damaged one costs the steps since the one before.
    let usable = |(step, path): &(u64, std::path::PathBuf)| {
        *step > trainer.step && *step <= options.until && verify_checkpoint(path).is_ok()
    };
    if let Some((_, path)) = checkpoints(options.dir).into_iter().find(usable) {
        trainer = trainer.load(&path)?;
    }
    let mut log = Log::open(&options.dir.join("log.jsonl"), trainer.step)?;
    let mut ledger = {
        let span = LedgerSpan { begins, goes_on: (trainer.step, trainer.ledger) };
        LedgerFile::open(&options.dir.join(LEDGER), span, source)?
    };
    let mut skipped = trainer.step - trainer.updates;
    let mut control = observe(trainer.step, None);
    let mut saved = (trainer.step, Instant::now());
    prefetch(source, trainer.step..options.until, AHEAD, |batches| {
        while trainer.step < options.until && control == Control::Continue {
            let Some(batch) = batches.next().transpose()? else { break };
            let record = trainer.step(&batch)?;
            log.write(&record)?;
            ledger.record(&batch)?;
            if record.skipped {
                skipped += 1;
                if skipped > trainer.spec.max_skipped {
                    return Err(Error::Diverged { step: record.step, skipped, limit: trainer.spec.max_skipped });
                }
            }
            control = observe(trainer.step, Some(&record));
            let due = trainer.step - saved.0 >= options.checkpoint_steps.max(1)
                || saved.1.elapsed().as_secs_f64() >= options.checkpoint_seconds;
            if due && trainer.step < options.until {
                checkpoint(&trainer, options)?;
                saved = (trainer.step, Instant::now());
            }
        }
        Ok(())
    })?;
    if trainer.step >= options.until {
        return Ok((trainer, Outcome::Finished));
    }
    checkpoint(&trainer, options)?;
    Ok((trainer, Outcome::Stopped))
}

fn checkpoint<AB: TrainingBackend>(trainer: &Trainer<AB>, options: &RunOptions<'_>) -> Result<(), Error> {
    trainer.save(&options.dir.join(file_name(trainer.step)))?;
    for (_, old) in checkpoints(options.dir).into_iter().skip(options.keep.max(1)) {
        // What cannot be removed now is removed after the next checkpoint.
        let _ = std::fs::remove_file(old);
    }
    Ok(())
}
