//! What a run costs beside its steps: log, ledger, batches, and checkpoints that are written while it goes on.

use std::path::PathBuf;
use std::time::Instant;

use data_mixer::{Batch, BatchSource, stream_key};
use fused_ops::TrainingBackend;
use gptneox_model::{GptNeoX, GptNeoXConfig};
use midtrain::{Backend, OnBackend};
use schedule::LrSpec;
use serde_json::{Value, json};
use trainer::{Control, Event, RunOptions, TrainSpec, Trainer, run};

use super::median;
use crate::Error;

/// A run to time.
#[derive(Debug, Clone)]
pub struct TrainRun {
    /// What the result calls the model.
    pub name: String,
    /// The model.
    pub model: GptNeoXConfig,
    /// Rows of a step.
    pub rows: usize,
    /// Tokens of a row.
    pub time: usize,
    /// Steps.
    pub steps: u64,
    /// Steps between checkpoints.
    pub every: u64,
    /// Whether training waits for them.
    pub wait: bool,
    /// Where they go.
    pub dir: PathBuf,
}

/// Random tokens.
struct Random {
    rows: usize,
    time: usize,
    steps: u64,
    vocabulary: u64,
}

impl BatchSource for Random {
    fn steps(&self) -> u64 {
        self.steps
    }

    fn rows(&self, _: u64) -> usize {
        self.rows
    }

    fn batch_rows(&self, step: u64, rows: std::ops::Range<usize>) -> Result<Batch, data_mixer::Error> {
        let all = self.rows * self.time;
        let ids = |from: usize| -> Vec<i32> {
            (from..from + all).map(|i| (stream_key(step, "bench", i as u64) % self.vocabulary) as i32).collect()
        };
        Ok(Batch::new(self.time, ids(0), ids(1), vec![0; self.rows])?.slice(rows))
    }

    fn source_names(&self) -> Vec<String> {
        vec!["random".to_owned()]
    }
}

/// What was seen of a run.
#[derive(Default)]
struct Seen {
    /// Seconds of each step, and whether a checkpoint was being written.
    steps: Vec<(f64, bool)>,
    /// How long training stood still for each checkpoint.
    stalls: Vec<f64>,
    /// From the first step to the last.
    wall: f64,
}

impl TrainRun {
    /// Runs it on a backend.
    ///
    /// # Errors
    /// A backend that this build does not have, a folder that cannot be written.
    pub fn run(&self, backend: Backend) -> Result<Value, Error> {
        let seen = backend.on(Task(self))??;
        let all: f64 = seen.steps.iter().map(|(seconds, _)| seconds).sum();
        let of = |busy: bool| -> Vec<f64> { seen.steps.iter().filter(|(_, b)| *b == busy).map(|(s, _)| *s).collect() };
        let stalls: f64 = seen.stalls.iter().sum();
        Ok(json!({
            "peer": "midtrain_train_run", "config": self.name, "params": self.model.parameter_count().total,
            "rows": self.rows, "time": self.time, "steps": self.steps, "checkpoint_every": self.every,
            "background": !self.wait, "threads": rayon::current_num_threads(),
            "wall_s": seen.wall, "steps_s": all,
            "median_step_s": median(&seen.steps.iter().map(|(s, _)| *s).collect::<Vec<_>>()),
            "median_step_while_writing_s": median(&of(true)), "median_step_else_s": median(&of(false)),
            "steps_while_writing": of(true).len(),
            "checkpoints": seen.stalls.len(), "stall_s_each": seen.stalls,
            "stall_share": stalls / seen.wall,
            "overhead_share_without_checkpoints": (seen.wall - all - stalls) / seen.wall,
            "overhead_share": (seen.wall - all) / seen.wall,
            "version": env!("CARGO_PKG_VERSION"),
        }))
    }
}

struct Task<'a>(&'a TrainRun);

impl OnBackend for Task<'_> {
    type Output = Result<Seen, Error>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let spec = self.0;
        let device = Default::default();
        let model = GptNeoX::<AB>::init(&spec.model, 0, &device)?;
        let recipe = TrainSpec::new(LrSpec::constant(3e-4));
        let trainer = Trainer::new(model, recipe, &device)?;
        let vocabulary = spec.model.vocab_size as u64;
        let source = Random { rows: spec.rows, time: spec.time, steps: spec.steps, vocabulary };
        let options = RunOptions {
            checkpoint_steps: spec.every,
            checkpoint_seconds: f64::INFINITY,
            background: !spec.wait,
            last_checkpoint: false,
            ..RunOptions::new(&spec.dir, spec.steps)
        };
        let (mut seen, mut began, mut last) = (Seen::default(), None, None);
        let mut written = 0;
        let mut pending = false;
        run(trainer, &source, &options, &mut |event| {
            match event {
                Event::Began { .. } => {}
                Event::Step(line) => {
                    // The first one touches all memory for the first time.
                    if began.is_none() {
                        began = Some(Instant::now());
                    } else {
                        seen.steps.push((line.record.seconds, pending));
                    }
                    last = Some(Instant::now());
                    let files = trainer::checkpoints(&spec.dir).len().max(written);
                    pending = pending && files == written;
                    written = files;
                }
                Event::Checkpoint { seconds, .. } => {
                    seen.stalls.push(seconds);
                    pending = !spec.wait;
                }
                Event::Evaluated(_) => {}
            }
            Control::Continue
        })?;
        seen.wall = began.zip(last).map_or(f64::NAN, |(began, last)| last.duration_since(began).as_secs_f64());
        Ok(seen)
    }
}
