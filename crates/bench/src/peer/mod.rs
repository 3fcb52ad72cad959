//! Measurements that mirror those of other software, for side-by-side runs.

mod assembly;
mod cka;
mod data;
mod run;

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::AutodiffModule as _;
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use data_mixer::{Batch, stream_key};
use fused_ops::{FusedOps, Precision, TrainingBackend};
use gptneox_model::{GptNeoX, GptNeoXConfig};
use schedule::LrSpec;
use serde_json::{Value, json};
use trainer::{StepTimes, TrainSpec, Trainer};

use midtrain::evaluate::{Rows, next_tokens};
use midtrain::{Backend, OnBackend, load_model};

use crate::Error;

pub use assembly::{Assembly, Padding};
pub use cka::Cka;
pub use data::{Count, Tokenize};
pub use run::TrainRun;

/// What a timed step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Forward, loss, backward, clip, AdamW.
    Train,
    /// Forward, loss, backward.
    Gradients,
    /// Forward and loss, without gradients: evaluation.
    Forward,
}

/// A step to time.
#[derive(Debug, Clone)]
pub struct TrainStep {
    /// What the result calls the model.
    pub name: String,
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
    /// What a step does.
    pub work: Work,
    /// What matrix products are computed in.
    pub precision: Precision,
    /// Activation checkpointing.
    pub recompute: bool,
    /// A Hugging Face directory with first weights, instead of seeded ones.
    pub weights: Option<PathBuf>,
    /// A safetensors file with input_ids `[accum · batch, seq]`, instead of seeded ones.
    pub ids: Option<PathBuf>,
    /// Peak TFLOP/s of the device, for MFU.
    pub peak: Option<f64>,
}

/// One step's seconds and loss.
struct Timed {
    seconds: f64,
    phases: StepTimes,
    loss: f64,
}

impl TrainStep {
    /// Runs it on a backend; the result has the fields of the PyTorch script's JSON line.
    ///
    /// # Errors
    /// A backend that this build does not have, files that cannot be read, or a step that failed.
    pub fn run(&self, backend: Backend) -> Result<Value, Error> {
        let steps = backend.on(Task(self))??;
        let timed = &steps[self.warmup.min(steps.len())..];
        let of = |value: fn(&Timed) -> f64| timed.iter().map(value).collect::<Vec<f64>>();
        let seconds = of(|r| r.seconds);
        let step = median(&seconds);
        let tokens = (self.batch * self.seq * self.accum) as f64;
        let flops = self.model.training_flops(self.seq).total() / if self.work == Work::Forward { 3.0 } else { 1.0 };
        let tflops = flops * tokens / step / 1e12;
        let round = |v: f64, digits: i32| (v * 10f64.powi(digits)).round() / 10f64.powi(digits);
        Ok(json!({
            "peer": "midtrain_train_step", "config": self.name,
            "hidden": self.model.hidden_size, "layers": self.model.num_layers, "heads": self.model.num_heads,
            "ffn": self.model.intermediate_size, "vocab": self.model.vocab_size,
            "params": self.model.parameter_count().total,
            "batch": self.batch, "accum": self.accum, "seq": self.seq,
            "dtype": if self.precision == Precision::Bf16 { "bf16" } else { "fp32" },
            "recompute": self.recompute,
            "work": match self.work { Work::Train => "train", Work::Gradients => "gradients", Work::Forward => "forward" },
            "optimizer": self.work == Work::Train,
            "device": backend.name(), "threads": rayon::current_num_threads(), "steps": self.steps,
            "median_step_s": round(step, 5),
            "min_step_s": round(seconds.iter().copied().fold(f64::INFINITY, f64::min), 5),
            "max_step_s": round(seconds.iter().copied().fold(0.0, f64::max), 5),
            "forward_s": round(median(&of(|r| r.phases.forward)), 5),
            "backward_s": round(median(&of(|r| r.phases.backward)), 5),
            "clip_and_optimizer_s": round(median(&of(|r| r.phases.update)), 5),
            "tokens_per_s": round(tokens / step, 1),
            "tflop_per_s": round(tflops, 4),
            "mfu": self.peak.map(|peak| round(tflops / peak, 4)),
            "peak_memory_mib": peak_memory_mib(),
            "device_memory_mib": if backend == Backend::Cuda { device_memory_mib() } else { None },
            "first_loss": steps.first().map(|r| round(r.loss, 6)),
            "last_loss": steps.last().map(|r| round(r.loss, 4)),
            "version": env!("CARGO_PKG_VERSION"),
        }))
    }

    /// Rows and targets: the last position of a row predicts nothing, as in the script.
    fn batch(&self) -> Result<Batch, Error> {
        let rows = self.batch * self.accum;
        let inputs: Vec<i32> = match &self.ids {
            Some(path) => {
                let Rows { time, ids, .. } = Rows::read(path, self.model.vocab_size)?;
                let found = ids.len() / time.max(1);
                if (found, time) != (rows, self.seq) {
                    let reason =
                        format!("input_ids is [{found}, {time}]; batch x accum, seq are [{rows}, {}]", self.seq);
                    return Err(Error::content(path, reason));
                }
                ids
            }
            None => {
                let vocabulary = self.model.vocab_size.min(50_277) as u64;
                let id = |i: u64| (stream_key(self.seed, "peer tokens", i) % vocabulary) as i32;
                (0..(rows * self.seq) as u64).map(id).collect()
            }
        };
        let targets = next_tokens(&inputs, self.seq);
        Ok(Batch::new(self.seq, inputs, targets, vec![0; rows]).map_err(trainer::Error::from)?)
    }
}

/// The middle value; NaN of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

struct Task<'a>(&'a TrainStep);

impl OnBackend for Task<'_> {
    type Output = Result<Vec<Timed>, Error>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let spec = self.0;
        let device = Default::default();
        let model = match &spec.weights {
            Some(dir) => load_model::<AB>(dir, spec.precision, &device)?,
            None => GptNeoX::<AB>::init(&spec.model, spec.seed, &device)?,
        };
        if model.config().parameter_count() != spec.model.parameter_count() {
            let dir = spec.weights.clone().unwrap_or_default();
            return Err(Error::content(&dir, "is another model than the options state"));
        }
        let batch = spec.batch()?;
        // AdamW and clipping as in the script.
        let recipe = TrainSpec {
            micro_tokens: spec.batch * spec.seq,
            precision: spec.precision,
            recompute: spec.recompute,
            ..TrainSpec::new(LrSpec::constant(3e-4))
        };
        let steps = 0..spec.warmup + spec.steps;
        if spec.work == Work::Train {
            let mut trainer = Trainer::new(model, recipe, &device)?;
            return steps
                .map(|_| {
                    let record = trainer.step(&batch)?;
                    Ok(Timed { seconds: record.seconds, phases: record.phases, loss: record.loss })
                })
                .collect();
        }
        let model = model.with_compute(recipe.compute());
        let plain = model.valid();
        let micro: Vec<Batch> = (0..spec.accum).map(|i| batch.slice(i * spec.batch..(i + 1) * spec.batch)).collect();
        let scale = 1.0 / batch.target_count() as f64;
        steps
            .map(|_| {
                let started = Instant::now();
                let mut phases = StepTimes::default();
                let mut loss = 0.0;
                for micro in &micro {
                    let begun = Instant::now();
                    if spec.work == Work::Forward {
                        let ids = tensor::<AB::InnerBackend>(micro.inputs(), spec.seq);
                        let losses = plain.token_losses(ids, tensor(micro.targets(), spec.seq));
                        loss += sum(losses) * scale;
                        phases.forward += begun.elapsed().as_secs_f64();
                        continue;
                    }
                    let ids = tensor::<AB>(micro.inputs(), spec.seq);
                    let result = model.loss(ids, tensor(micro.targets(), spec.seq), scale);
                    loss += sum(result.tokens) * scale;
                    phases.forward += begun.elapsed().as_secs_f64();
                    let begun = Instant::now();
                    let gradients = GradientsParams::from_grads(result.scaled_sum.backward(), &model);
                    drop(gradients);
                    if let Err(error) = AB::sync(&device) {
                        return Err(Error::option("backend", AB::name(&device), format!("failed: {error:?}")));
                    }
                    phases.backward += begun.elapsed().as_secs_f64();
                }
                Ok(Timed { seconds: started.elapsed().as_secs_f64(), phases, loss })
            })
            .collect()
    }
}

/// Loads a model from a Hugging Face directory or a checkpoint: seconds, parameters, memory.
///
/// # Errors
/// A backend that this build does not have, a model that cannot be loaded.
pub fn import(path: &Path, backend: Backend) -> Result<Value, Error> {
    let (seconds, params) = backend.on(Import(path))??;
    Ok(json!({
        "peer": "midtrain_import", "device": backend.name(), "params": params, "seconds": (seconds * 1e4).round() / 1e4,
        "peak_memory_mib": peak_memory_mib(), "version": env!("CARGO_PKG_VERSION"),
    }))
}

struct Import<'a>(&'a Path);

impl OnBackend for Import<'_> {
    type Output = Result<(f64, u64), Error>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let started = Instant::now();
        let model = load_model::<AB::InnerBackend>(self.0, Precision::F32, &Default::default())?;
        Ok((started.elapsed().as_secs_f64(), model.config().parameter_count().total))
    }
}

fn tensor<B: FusedOps>(values: &[i32], time: usize) -> Tensor<B, 2, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / time, time]), &Default::default())
}

fn sum<B: FusedOps>(losses: Tensor<B, 1>) -> f64 {
    let losses: Vec<f32> = losses.into_data().convert::<f32>().into_vec().expect("converted to f32 just above");
    losses.into_iter().map(f64::from).sum()
}

/// The process's largest resident size, where the system tells.
fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// What the process holds of the GPU's memory now, where nvidia-smi tells.
fn device_memory_mib() -> Option<u64> {
    let query = ["--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"];
    let output = std::process::Command::new("nvidia-smi").args(query).output().ok()?;
    let pid = std::process::id().to_string();
    let text = String::from_utf8(output.stdout).ok()?;
    let mut fields = text.lines().map(|l| l.split(',').map(str::trim));
    fields.find_map(|mut f| if f.next() == Some(&pid) { f.next()?.parse().ok() } else { None })
}
