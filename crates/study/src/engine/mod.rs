//! What runs jobs: this process, on one backend.

use burn::tensor::backend::AutodiffBackend;
use data_mixer::{Batch, BatchSource};
use fused_ops::TrainingBackend;
use gptneox_model::GptNeoX;
use schedule::LrSpec;
use trainer::{Control, Outcome, RunOptions, TrainSpec, Trainer, run};

use crate::job::{Context, Job};
use crate::store::{Lock, Store};
use crate::{Error, Machine, Progress, Study};

/// Most steps between checkpoints.
const CHECKPOINT_STEPS: u64 = 500;
/// Checkpoints kept while a job runs.
const KEEP: usize = 2;

/// A locked job, and where it is run.
pub struct Work<'a> {
    /// The job.
    pub job: &'a Job,
    pub(crate) store: &'a Store,
    pub(crate) lock: &'a Lock,
    /// Where progress is told, and where signals are seen.
    pub progress: &'a mut Progress,
}

/// Runs jobs. Each can be stopped and started again.
pub trait Engine {
    /// What computes: parts of it enter addresses, because machines differ in the last bits.
    fn machine(&self) -> &Machine;

    /// Runs a job and stores its result.
    ///
    /// # Errors
    /// Work that failed, or a signal.
    fn run(&self, work: Work<'_>) -> Result<(), Error>;

    /// Measures the operations a second that pretraining this study's model sustains: two short steps on made-up
    /// tokens.
    ///
    /// # Errors
    /// A model outside its limits, a precision that the backend does not have.
    fn speed(&self, study: &Study) -> Result<f64, Error>;
}

/// Trains in this process.
#[derive(Debug)]
pub struct LocalEngine<AB: AutodiffBackend> {
    machine: Machine,
    device: AB::Device,
    checkpoint_seconds: f64,
}

impl<AB: TrainingBackend> LocalEngine<AB> {
    /// On a device of a backend, with at most so many seconds between checkpoints.
    pub fn new(name: &str, device: AB::Device, checkpoint_seconds: f64) -> Self {
        Self { machine: Machine::of::<AB::InnerBackend>(name, &device), device, checkpoint_seconds }
    }
}

impl<AB: TrainingBackend> Engine for LocalEngine<AB> {
    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn run(&self, work: Work<'_>) -> Result<(), Error> {
        let mut context = Context::<AB> {
            store: work.store,
            folder: work.lock.folder(),
            device: &self.device,
            machine: &self.machine,
            checkpoint_seconds: self.checkpoint_seconds,
            progress: work.progress,
        };
        work.job.perform(work.lock, &mut context)
    }

    fn speed(&self, study: &Study) -> Result<f64, Error> {
        let spec = study.spec();
        let (model, time) = (&spec.model, spec.pretrain.time);
        let recipe = TrainSpec {
            precision: spec.pretrain.precision,
            recompute: spec.pretrain.recompute,
            ..TrainSpec::new(LrSpec::constant(1e-4))
        };
        let mut trainer = Trainer::new(GptNeoX::<AB>::init(model, 0, &self.device)?, recipe, &self.device)?;
        let rows = (2048 / time).max(1);
        let vocabulary = model.vocab_size as u64;
        let ids: Vec<i32> =
            (0..(rows * time) as u64).map(|i| (data_mixer::stream_key(0, "speed", i) % vocabulary) as i32).collect();
        let batch = Batch { time, targets: ids.clone(), inputs: ids, sources: vec![0; rows], ..Batch::default() };
        trainer.step(&batch)?;
        let seconds = trainer.step(&batch)?.seconds.min(trainer.step(&batch)?.seconds);
        Ok(model.training_flops(time).total() * (rows * time) as f64 / seconds)
    }
}

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
    /// What progress counts for the whole run.
    pub(crate) tokens: u64,
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
    let Stretch { label, begin, until, tokens, .. } = *stretch;
    let steps = until.saturating_sub(begin).max(1);
    let share = |done: u64| (u128::from(tokens) * u128::from(done.saturating_sub(begin)) / u128::from(steps)) as u64;
    let from = trainer.steps_done();
    let progress = &mut *cx.progress;
    let signal = progress.signal.clone();
    let (trainer, outcome) = run(trainer, batches, &options, &mut |step, record| {
        match record {
            None if step > from => {
                progress.note(&format!("{label}: restored the checkpoint of step {step}"));
                progress.skip(share(step) - share(from));
            }
            None => {}
            Some(r) => {
                let message = format!("{label}: step {step}/{until}, loss {:.3}", r.loss);
                progress.advance(share(step) - share(step - 1), &message);
            }
        }
        if signal.received().is_some() { Control::Stop } else { Control::Continue }
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
        Outcome::Stopped => Err(Error::Stopped { signal: cx.progress.signal.received().unwrap_or(0) }),
    }
}
