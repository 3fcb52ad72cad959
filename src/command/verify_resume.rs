//! `midtrain verify-resume`: proof that a run that stops and goes on is the run that does not.

use std::path::Path;

use clap::Args;
use fused_ops::TrainingBackend;
use study::{Error as StudyError, TrainingRun, Watcher as _};
use trainer::{ResumeDifference, verify_resume};

use super::target::{TargetArgs, signal};
use crate::backend::OnBackend;
use crate::terminal::Terminal;
use crate::{Backend, Error};

/// Steps that are trained twice, when none are asked for.
const STEPS: u64 = 10;

/// A run, how far it is trained, and where it stops in between.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  midtrain verify-resume study.toml --arm C4
  midtrain verify-resume runs/store/finetune/KEY --steps 40 --at 17
The run is trained twice from its beginning, beside what a store holds of it: once without a stop, once stopped, saved and read again.
From there on weights, both moments and batches are compared after every step, to the bit; the first difference is told, with status 1.
On a CPU there is none; a GPU whose kernels add in another order each time shows some.")]
pub(super) struct VerifyResumeArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Steps to train (default: 10, or as many as the run has).
    #[arg(long)]
    steps: Option<u64>,
    /// The step to stop at (default: half of them).
    #[arg(long)]
    at: Option<u64>,
    /// What computes.
    #[arg(long, default_value = "flex")]
    backend: String,
}

impl VerifyResumeArgs {
    /// Steps, and where the stop is, in a run of so many.
    fn sizes(&self, all: u64) -> Result<(u64, u64), Error> {
        let steps = self.steps.unwrap_or(STEPS.min(all));
        if !(2..=all).contains(&steps) {
            return Err(Error::option("steps", steps, format!("must be from 2 to the run's {all}")));
        }
        let at = self.at.unwrap_or(steps / 2);
        if !(1..steps).contains(&at) {
            let limit = format!("must be from 1 to {}, with steps before and after", steps - 1);
            return Err(Error::option("at", at, limit));
        }
        Ok((steps, at))
    }

    pub(super) fn run(self) -> Result<String, Error> {
        let backend: Backend = self.backend.parse()?;
        let signal = signal()?;
        let run = self.target.run(backend, &signal, &|all| self.sizes(all).map(drop))?;
        let (steps, at) = self.sizes(run.steps())?;
        let terminal = Terminal::new(self.target.quiet);
        let dir = run.store().join(format!(".verify-resume-{}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(Error::io(&dir))?;
        let mut progress = |done: u64| {
            terminal
                .at(done as f64 / (2 * steps) as f64, &|| format!("{}: step {} of both runs", run.label(), done / 2));
            signal.received().map_or(Ok(()), Err)
        };
        let found = backend.on(Verify { run: &run, steps, at, dir: &dir, progress: &mut progress })?;
        terminal.finish();
        let _ = std::fs::remove_dir_all(&dir);
        match found? {
            None => Ok(format!(
                "{}: {steps} steps are the same with a stop after {at}: weights, moments and batches, to the bit\n",
                run.label()
            )),
            Some(difference) => Err(Error::Resume { run: run.label(), difference: Box::new(difference) }),
        }
    }
}

struct Verify<'a> {
    run: &'a TrainingRun,
    steps: u64,
    at: u64,
    dir: &'a Path,
    progress: &'a mut dyn FnMut(u64) -> Result<(), i32>,
}

impl OnBackend for Verify<'_> {
    type Output = Result<Option<ResumeDifference>, Error>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let Self { run, steps, at, dir, progress } = self;
        let device = Default::default();
        let start = || run.trainer::<AB>(&device).map_err(|e| trainer::Error::Start { reason: e.to_string() });
        let (straight, resumed) = (run.batches()?, run.batches()?);
        let mut stopped = None;
        let mut told = |done| match progress(done) {
            Ok(()) => true,
            Err(signal) => {
                stopped = Some(signal);
                false
            }
        };
        let found = verify_resume(&start, &*straight, &*resumed, (steps, at), dir, &mut told);
        match stopped {
            Some(signal) => Err(StudyError::Stopped { signal }.into()),
            None => Ok(found?),
        }
    }
}
