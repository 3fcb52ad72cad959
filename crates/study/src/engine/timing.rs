//! How fast models are trained and evaluated here: measured on made-up tokens, in the shapes of the study.

use std::time::Instant;

use burn::module::AutodiffModule as _;
use data_mixer::Batch;
use fused_ops::{Precision, TrainingBackend};
use gptneox_model::{GptNeoX, GptNeoXConfig};
use schedule::LrSpec;
use serde::{Deserialize, Serialize};
use trainer::{TrainSpec, Trainer, evaluate_tokens};

use crate::job::Cost;
use crate::{Error, Study};

/// Tokens of the first, small batch.
const FIRST: usize = 1024;
/// Seconds that a measured batch is to take, about.
const LONG_ENOUGH: f64 = 0.4;
/// Batches measured: the fastest counts.
const TRIES: usize = 2;

/// A piece of work to be timed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// The model.
    pub model: GptNeoXConfig,
    /// Sequences of a batch.
    pub rows: usize,
    /// Tokens of a sequence.
    pub time: usize,
    /// Whether it is trained; else evaluated.
    pub trains: bool,
    /// Most tokens of a micro-batch.
    pub micro_tokens: usize,
    /// What matrix products are computed in.
    pub precision: Precision,
    /// Whether blocks are recomputed in the backward pass.
    pub recompute: bool,
}

impl Timing {
    /// The work that jobs of a class do in a study; `None` for classes that are not timed.
    pub(crate) fn of_class(class: &str, study: &Study) -> Option<Self> {
        let mut words = class.split(' ');
        let trains = match words.next()? {
            "train" => true,
            "evaluate" => false,
            _ => return None,
        };
        let shape = words.next()?;
        let sizes = || study.sizes().map(|size| &study[size]);
        let of_shape = |size: &&Study| Cost::shape(&size.spec().model, &size.pretrain_recipe()) == shape;
        let spec = sizes().find(of_shape).unwrap_or(study).spec();
        let time: usize = words.next()?.parse().ok()?;
        let time = time.min(spec.model.longest());
        let rows = if time == spec.pretrain.time { spec.pretrain.batch as usize } else { spec.sft.batch };
        Some(Self {
            model: spec.model.clone(),
            rows: if trains { rows } else { (spec.pretrain.micro_tokens / time).max(1) },
            time,
            trains,
            micro_tokens: spec.pretrain.micro_tokens,
            precision: spec.pretrain.precision,
            recompute: spec.pretrain.recompute,
        })
    }

    /// Operations of a batch.
    fn operations(&self, rows: usize) -> f64 {
        let passes = if self.trains { 1.0 } else { 1.0 / 3.0 };
        self.model.training_flops(self.time).total() * passes * (rows * self.time) as f64
    }

    /// Operations a second: of a whole batch, or of as much of it as takes a good part of a second.
    pub(super) fn measure<AB: TrainingBackend>(&self, device: &AB::Device) -> Result<f64, Error> {
        let recipe = TrainSpec {
            precision: self.precision,
            recompute: self.recompute,
            micro_tokens: self.micro_tokens,
            ..TrainSpec::new(LrSpec::constant(1e-4))
        };
        let model = GptNeoX::<AB>::init(&self.model, 0, device)?;
        let mut trainer = Trainer::new(model, recipe.clone(), device)?;
        let mut step = |rows: usize| -> Result<f64, Error> {
            let batch = self.batch(rows);
            let started = Instant::now();
            if self.trains {
                trainer.step(&batch)?;
            } else {
                let model = trainer.model().valid().with_compute(recipe.compute());
                evaluate_tokens(&model, [Ok(batch)].into_iter(), &recipe, device, &mut |_, _| {})?;
            }
            Ok(started.elapsed().as_secs_f64())
        };
        let most = self.rows.max(1);
        let first = (FIRST / self.time.max(1)).clamp(1, most);
        // The first one warms up.
        let seconds = step(first)?.min(step(first)?);
        let rows = (first as f64 * (LONG_ENOUGH / seconds.max(1e-6))) as usize;
        let rows = rows.clamp(first, most);
        let mut best = if rows == first { seconds } else { f64::INFINITY };
        for _ in 0..TRIES {
            best = best.min(step(rows)?);
        }
        Ok(self.operations(rows) / best)
    }

    fn batch(&self, rows: usize) -> Batch {
        let vocabulary = self.model.vocab_size as u64;
        let count = (rows * self.time) as u64;
        let ids: Vec<i32> = (0..count).map(|i| (data_mixer::stream_key(0, "speed", i) % vocabulary) as i32).collect();
        Batch::new(self.time, ids.clone(), ids, vec![0; rows])
            .expect("rows of at least one position, and ids of a vocabulary")
    }
}
