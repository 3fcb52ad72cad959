//! A training run by a command line: the folder of one in a store, or a study file and an arm.

use std::path::{Path, PathBuf};

use clap::Args;
use study::{LocalEngine, Progress, StopSignal, Store, Study, StudySpec, TrainingRun, prepare};

use crate::terminal::Terminal;
use crate::{Backend, Error};

/// Which training run.
#[derive(Debug, Args)]
pub(super) struct TargetArgs {
    /// A run's folder in a store (STORE/pretrain/KEY, STORE/finetune/KEY), or a study file.
    #[arg(value_name = "RUN | STUDY.toml")]
    target: PathBuf,
    /// Of a study: the arm's name.
    #[arg(long)]
    arm: Option<String>,
    /// Of a study: the pretraining seed (default: 0).
    #[arg(long)]
    seed: Option<u64>,
    /// Of a study: where tokenised data are kept (default: runs/store); made there if they are not.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// No progress.
    #[arg(long)]
    pub(super) quiet: bool,
}

impl TargetArgs {
    /// The run; a study's data are made ready, once `check` has found nothing wrong with what is asked of so many steps. (The signal
    /// handlers are installed by then.)
    pub(super) fn run(
        &self,
        backend: Backend,
        signal: &StopSignal,
        check: &dyn Fn(u64) -> Result<(), Error>,
    ) -> Result<TrainingRun, Error> {
        if self.target.is_dir() {
            let given = [
                ("arm", self.arm.clone()),
                ("seed", self.seed.map(|seed| seed.to_string())),
                ("store", self.store.as_ref().map(|dir| dir.display().to_string())),
            ];
            if let Some((option, value)) = given.into_iter().find_map(|(name, value)| Some((name, value?))) {
                return Err(Error::option(option, value, "is a study's: a run's folder says it itself"));
            }
            let run = TrainingRun::of_folder(&self.target)?;
            check(run.steps())?;
            return Ok(run);
        }
        let study = Study::new(StudySpec::read(&self.target)?)?;
        let Some(arm) = &self.arm else {
            let names: Vec<&str> = study.arms().map(|arm| study[arm].name()).collect();
            return Err(Error::option("arm", "(none)", format!("must be one of the study's: {}", names.join(", "))));
        };
        let (arm, seed) = (study.arm_named(arm)?, self.seed.unwrap_or(0));
        if seed >= study.spec().pretrain_seeds {
            let limit = format!("must be below pretrain_seeds = {}", study.spec().pretrain_seeds);
            return Err(Error::option("seed", seed, limit));
        }
        check(study.spec().pretrain.steps)?;
        let store = Store::new(self.store.as_deref().unwrap_or(Path::new("runs/store")));
        let mut engine = LocalEngine::new(backend.processor(0.0)?, signal.clone());
        let mut progress = Progress::new(Terminal::new(self.quiet), signal.clone());
        let data = prepare(&study, &store, &mut engine, &mut progress)?;
        progress.finish();
        let machine = backend.processor(0.0)?.machine().clone();
        Ok(TrainingRun::of_arm(&study, &data, &store, &machine, arm, seed)?)
    }
}

/// The handlers of signals that stop a command.
pub(super) fn signal() -> Result<StopSignal, Error> {
    StopSignal::install().map_err(Error::io(Path::new("signal handlers")))
}
