//! Operations, models and training steps beside a CPU's and beside fixtures of other software.

use std::path::Path;

use burn::backend::Autodiff;
use conformance::{self, Options, Verdict};
use data_mixer::{Batch, stream_key};
use fused_ops::{FusedOps, Precision, TrainingBackend, backends};
use gptneox_model::{GptNeoX, GptNeoXConfig, export_parameters};
use midtrain::{Backend, OnBackend};
use schedule::LrSpec;
use serde_json::{Value, json};
use trainer::{TrainSpec, Trainer};

use crate::Args;
use crate::cases::{greatest, relative, same_bits};
use crate::child::{Limit, measure};

/// Families of fixtures that a backend computes, and whether in bf16.
const FIXTURES: [&str; 4] = ["models,f32", "models,bf16", "train,f32", "cka,f32"];
/// Training steps.
const STEPS: u64 = 20;
/// Largest difference of a step's loss, in nats.
const LOSS: [f64; 2] = [2e-4, 2e-2];
/// Largest relative difference of the parameters' way from their first values.
const WAY: [f64; 2] = [2e-2, 0.5];

pub(crate) fn part(
    args: &Args,
    limit: &Limit,
    keep: &mut dyn FnMut(Value) -> Result<(), String>,
) -> Result<(), String> {
    let bf16 = args.backend == "cuda" || args.backend == "flex";
    let mut all = vec!["cases:f32".to_owned(), "steps:f32".to_owned()];
    if bf16 {
        all.extend(["cases:bf16".to_owned(), "steps:bf16".to_owned()]);
    }
    if args.backend == "cuda" {
        all.push("large".to_owned());
    }
    let fixtures = FIXTURES.iter().filter(|f| bf16 || !f.ends_with("bf16"));
    all.extend(fixtures.map(|f| format!("fixtures:{f}")));
    for what in all {
        keep(measure(&what, args, limit)?)?;
    }
    Ok(())
}

/// A folder of fixtures: how many failed, and each line.
pub(crate) fn fixtures(backend: Backend, dir: &Path, what: &str) -> Result<Value, String> {
    let (family, precision) = what.split_once(',').ok_or("fixtures: FAMILY,PRECISION")?;
    let precision = midtrain::parse_precision(precision).map_err(|e| e.to_string())?;
    let options = Options { family: Some(family), backend, tokenizer: None, precision, tolerance: 1.0 };
    let lines = conformance::run(dir, &options)?;
    let failures = lines.iter().filter(|l| l.failed()).count();
    let worst = lines.iter().filter_map(|l| match &l.verdict {
        Verdict::Compared { worst, .. } => Some(*worst),
        _ => None,
    });
    let worst = greatest(worst);
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    Ok(json!({
        "cases": lines.len(), "failures": failures, "failed": failures > 0 || lines.is_empty(),
        "worst_of_tolerance": worst, "lines": text,
    }))
}

/// A small model of head size 64 in training: each step's loss and norm, and the parameters before and after.
struct Steps {
    precision: Precision,
    tiny: bool,
}

struct Trained {
    losses: Vec<f64>,
    norms: Vec<f64>,
    first: Vec<f32>,
    last: Vec<f32>,
}

fn batch(step: u64, vocabulary: u64, rows: usize, time: usize) -> Batch {
    // The next token follows from the last one, so that there is something to learn.
    let mut inputs = Vec::new();
    for row in 0..rows as u64 {
        let mut id = stream_key(step, "gpu-check row", row) % vocabulary;
        for t in 0..=time as u64 {
            inputs.push(id as i32);
            let jump = stream_key(step * 1000 + row, "gpu-check jump", t) % 4;
            id = (id * 7 + 3 + jump) % vocabulary;
        }
    }
    let rows_of = |from: usize| {
        inputs.chunks_exact(time + 1).flat_map(move |row| row[from..from + time].to_vec()).collect::<Vec<i32>>()
    };
    Batch::new(time, rows_of(0), rows_of(1), vec![0; rows]).expect("ids of a vocabulary, in rows of `time`")
}

fn parameters<B: FusedOps>(model: &GptNeoX<B>) -> Vec<f32> {
    export_parameters(model).into_iter().flat_map(|p| p.values).collect()
}

impl OnBackend for &Steps {
    type Output = Result<Trained, String>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let (time, rows, steps) = if self.tiny { (24, 4, 5) } else { (96, 4, STEPS) };
        let config = GptNeoXConfig::of_size(509, 128, 2, 2);
        let device = AB::Device::default();
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let model = GptNeoX::<AB>::init(&config, 1, &device).map_err(|e| text(&e))?;
        let first = parameters(&model);
        // Two micro-batches a step.
        let spec = TrainSpec {
            micro_tokens: rows / 2 * time,
            precision: self.precision,
            ..TrainSpec::new(LrSpec::constant(3e-3))
        };
        let mut trainer = Trainer::new(model, spec, &device).map_err(|e| text(&e))?;
        let mut trained = Trained { losses: vec![], norms: vec![], first, last: vec![] };
        for step in 0..steps {
            let record = trainer.step(&batch(step, 509, rows, time)).map_err(|e| text(&e))?;
            if record.skipped {
                return Err(format!("step {step} was skipped: its loss or gradient is not finite"));
            }
            trained.losses.push(record.loss);
            trained.norms.push(record.grad_norm);
        }
        trained.last = parameters(&trainer.into_model());
        Ok(trained)
    }
}

/// Training on a backend beside the same on flex in f32; and once more, for the same bits.
pub(crate) fn steps(backend: Backend, bf16: bool, tiny: bool) -> Result<Value, String> {
    let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
    let run = || backend.on(&Steps { precision, tiny }).map_err(|e| e.to_string())?;
    let (found, again) = (run()?, run()?);
    let truth = OnBackend::run::<Autodiff<backends::Flex>>(&Steps { precision: Precision::F32, tiny })?;
    let largest = |a: &[f64], b: &[f64]| greatest(a.iter().zip(b).map(|(a, b)| (a - b).abs()));
    let way = |t: &Trained| t.last.iter().zip(&t.first).map(|(a, b)| a - b).collect::<Vec<f32>>();
    let (loss, way) = (largest(&found.losses, &truth.losses), relative(&way(&found), &way(&truth)));
    let norm = largest(&found.norms, &truth.norms);
    let same_bits = found.losses == again.losses && same_bits(&found.last, &again.last);
    let which = usize::from(bf16);
    let failed = !(loss <= LOSS[which] && way <= WAY[which] && same_bits);
    Ok(json!({
        "steps": found.losses.len(), "first_loss": found.losses.first(), "last_loss": found.losses.last(),
        "loss_difference": loss, "loss_limit": LOSS[which], "norm_difference": norm, "way_difference": way,
        "way_limit": WAY[which], "same_bits_twice": same_bits, "failed": failed,
    }))
}
