//! Measurements that mirror those of other software, for side-by-side runs.

use std::path::Path;

use burn::tensor::backend::AutodiffBackend;
use data_mixer::{Batch, stream_key};
use fused_ops::FusedOps;
use gptneox_model::{GptNeoX, GptNeoXConfig};
use schedule::LrSpec;
use serde_json::{Value, json};
use trainer::{StepRecord, TrainSpec, Trainer};

use crate::Backend;
use crate::backend::{OnBackend, UnknownBackend};

/// A training step to time: forward, loss, backward, clip, AdamW.
#[derive(Debug, Clone)]
pub struct TrainStep {
    /// The model.
    pub model: GptNeoXConfig,
    /// Sequences of a micro-batch.
    pub batch: usize,
    /// Micro-batches of a step.
    pub accum: usize,
    /// Tokens of a sequence.
    pub seq: usize,
    /// Steps that are timed.
    pub steps: usize,
    /// Steps before them.
    pub warmup: usize,
    /// Seed of weights and tokens.
    pub seed: u64,
    /// Peak TFLOP/s of the device, for MFU.
    pub peak: Option<f64>,
}

impl TrainStep {
    /// Runs it on a backend; the result has the fields of the PyTorch script's JSON line.
    ///
    /// # Errors
    /// A backend that this build does not have, or a step that failed.
    pub fn run(&self, backend: Backend) -> Result<Value, Box<dyn std::error::Error>> {
        let records = backend.on(self).map_err(|e: UnknownBackend| e.to_string())??;
        let timed = &records[self.warmup.min(records.len())..];
        let median = |value: fn(&StepRecord) -> f64| {
            let mut values: Vec<f64> = timed.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            let middle = values.len() / 2;
            match values.len() {
                0 => f64::NAN,
                n if n % 2 == 1 => values[middle],
                _ => (values[middle - 1] + values[middle]) / 2.0,
            }
        };
        let step = median(|r| r.seconds);
        let tokens = (self.batch * self.seq * self.accum) as f64;
        let tflops = self.model.training_flops(self.seq).total() * tokens / step / 1e12;
        let round = |v: f64, digits: i32| (v * 10f64.powi(digits)).round() / 10f64.powi(digits);
        let of_all = |f: fn(f64, f64) -> f64, start: f64| timed.iter().map(|r| r.seconds).fold(start, f);
        Ok(json!({
            "peer": "midtrain_train_step",
            "hidden": self.model.hidden_size, "layers": self.model.num_layers, "heads": self.model.num_heads,
            "ffn": self.model.intermediate_size, "vocab": self.model.vocab_size,
            "params": self.model.parameter_count().total,
            "batch": self.batch, "accum": self.accum, "seq": self.seq, "dtype": "fp32", "optimizer": true,
            "device": backend.name(), "threads": rayon::current_num_threads(), "steps": self.steps,
            "median_step_s": round(step, 5),
            "min_step_s": round(of_all(f64::min, f64::INFINITY), 5),
            "max_step_s": round(of_all(f64::max, 0.0), 5),
            "forward_s": round(median(|r| r.phases.forward), 5),
            "backward_s": round(median(|r| r.phases.backward), 5),
            "clip_and_optimizer_s": round(median(|r| r.phases.update), 5),
            "tokens_per_s": round(tokens / step, 1),
            "tflop_per_s": round(tflops, 4),
            "mfu": self.peak.map(|peak| round(tflops / peak, 4)),
            "peak_memory_mib": peak_memory_mib(),
            "first_loss": records.first().map(|r| round(r.loss, 5)),
            "last_loss": records.last().map(|r| round(r.loss, 4)),
            "version": env!("CARGO_PKG_VERSION"),
        }))
    }
}

impl OnBackend for TrainStep {
    type Output = Result<Vec<StepRecord>, trainer::Error>;

    fn run<AB>(&self) -> Self::Output
    where
        AB: AutodiffBackend + FusedOps,
        AB::InnerBackend: FusedOps,
    {
        let device = Default::default();
        // AdamW and clipping as in the script.
        let recipe =
            TrainSpec { micro_tokens: self.batch * self.seq, ..TrainSpec::new(LrSpec::Constant { rate: 3e-4 }) };
        let mut trainer = Trainer::new(GptNeoX::<AB>::init(&self.model, self.seed, &device)?, recipe, &device)?;
        let rows = self.batch * self.accum;
        let vocabulary = self.model.vocab_size.min(50_277) as u64;
        let id = |i: usize| (stream_key(self.seed, "peer tokens", i as u64) % vocabulary) as i32;
        let inputs: Vec<i32> = (0..rows * self.seq).map(id).collect();
        // The last position of a row predicts nothing, as in the script.
        let last = |i: usize| i % self.seq == self.seq - 1;
        let targets = (0..inputs.len()).map(|i| if last(i) { data_mixer::IGNORE } else { inputs[i + 1] }).collect();
        let batch = Batch { time: self.seq, inputs, targets, sources: vec![0; rows] };
        (0..self.warmup + self.steps).map(|_| trainer.step(&batch)).collect()
    }
}

/// The process's largest resident size, where the system tells.
fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}
