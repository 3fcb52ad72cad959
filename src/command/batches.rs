//! `midtrain export-batches`: what a run is trained on, for other programs' trainers.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use atomic_file::AtomicFolder;
use burn::module::AutodiffModule as _;
use clap::Args;
use data_mixer::{Batch, HUGGING_FACE_IGNORE, IGNORE};
use fused_ops::TrainingBackend;
use gptneox_model::{SaveOptions, save_pretrained};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};
use schedule::Step;
use serde::Serialize;
use study::TrainingRun;
use trainer::{DecayGroup, TrainSpec};

use super::target::{TargetArgs, signal};
use crate::backend::OnBackend;
use crate::{Backend, Error};

/// A run, and which of its steps.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  midtrain export-batches runs/store/pretrain/KEY --steps 0..50 --out batches --weights
  midtrain export-batches study.toml --arm \"Starcoder (20%)\" --steps 0..100 --out batches
Each step is a file: step-000000000.safetensors holds input_ids [rows, T], targets [rows, T] (I32: what each position predicts, -100
for nothing), sources [rows] (U16, places in the list `sources` of the file's metadata `batch`, JSON, beside `digest`, the one in the
run's ledger) and, where attention stops at documents, document_starts [rows, T] (I32, where each position's document begins in its row).
recipe.json holds the optimiser and the learning rate of each step; losses.csv what the run's own log says of them, where it was
trained; with --weights the first weights lie in weights/, a Hugging Face directory. benches/torch_on_batches.py trains on all that.")]
pub(super) struct ExportBatchesArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Steps, such as 0..100: the first, and the one after the last.
    #[arg(long, value_parser = steps)]
    steps: Range<u64>,
    /// The folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The run's first weights too.
    #[arg(long)]
    weights: bool,
}

fn steps(text: &str) -> Result<Range<u64>, String> {
    const FORM: &str = "must be FIRST..END, such as 0..100";
    let (first, end) = text.split_once("..").ok_or(FORM)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| FORM);
    let steps = number(first)?..number(end)?;
    if steps.is_empty() { Err("must hold a step".to_owned()) } else { Ok(steps) }
}

impl ExportBatchesArgs {
    fn check(&self, steps: u64) -> Result<(), Error> {
        if std::fs::read_dir(&self.out).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Error::option(
                "out",
                self.out.display(),
                "is not empty: what lies there would be taken for this run's",
            ));
        }
        let given = format!("{}..{}", self.steps.start, self.steps.end);
        if self.steps.end > steps {
            return Err(Error::option("steps", given, format!("must end at the run's {steps} steps or before")));
        }
        if self.weights && self.steps.start > 0 {
            let limit = "must begin at 0 with --weights, which are those of the first step";
            return Err(Error::option("steps", given, limit));
        }
        Ok(())
    }

    pub(super) fn run(self) -> Result<String, Error> {
        let signal = signal()?;
        let run = self.target.run(Backend::Flex, &signal, &|steps| self.check(steps))?;
        let recipe = Recipe::new(&run.recipe(), self.steps.clone())?;
        let batches = run.batches()?;
        // All of it, or nothing.
        let folder = AtomicFolder::create(&self.out).map_err(Error::io(&self.out))?;
        let out = folder.path();
        let names = batches.source_names();
        for step in self.steps.clone() {
            if let Some(signal) = signal.received() {
                return Err(study::Error::Stopped { signal }.into());
            }
            write(&out.join(format!("step-{step:09}.safetensors")), &batches.batch(step)?, &names)?;
        }
        recipe.write(&out.join("recipe.json"))?;
        let logged = match write_losses(&out.join("losses.csv"), &run, self.steps.clone())? {
            None => ", with the losses of its log".to_owned(),
            Some(why) => format!(" (no losses: {why})"),
        };
        if self.weights {
            Backend::Flex.on(Weights { run: &run, to: &out.join("weights") })??;
        }
        folder.commit(&|_| false).map_err(Error::io(&self.out))?;
        let count = self.steps.end - self.steps.start;
        Ok(format!("{}: {count} steps of {} rows{logged}\n", self.out.display(), batches.rows(self.steps.start)))
    }
}

struct Weights<'a> {
    run: &'a TrainingRun,
    to: &'a Path,
}

impl OnBackend for Weights<'_> {
    type Output = Result<(), Error>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let model = self.run.first_weights::<AB>(&Default::default())?.valid();
        Ok(save_pretrained(&model, self.to, &SaveOptions::default())?)
    }
}

/// What another trainer needs besides batches and weights.
#[derive(Serialize)]
struct Recipe {
    first_step: u64,
    lr: Vec<f64>,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    decay: DecayGroup,
    clip: f64,
    micro_tokens: usize,
}

impl Recipe {
    fn new(spec: &TrainSpec, steps: Range<u64>) -> Result<Self, Error> {
        let curve = spec.lr.clone().build().map_err(trainer::Error::from)?;
        let o = &spec.optimizer;
        if !o.groups.is_empty() {
            let limit = "have no place in recipe.json: a run with groups cannot be exported";
            return Err(Error::option("optimizer.groups", o.groups.len(), limit));
        }
        Ok(Self {
            first_step: steps.start,
            lr: steps.map(|step| curve.at(Step(step))).collect(),
            beta1: o.beta1,
            beta2: o.beta2,
            eps: o.eps,
            weight_decay: o.weight_decay,
            decay: o.decay,
            clip: spec.clip,
            micro_tokens: spec.micro_tokens,
        })
    }

    fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self).map_err(|e| Error::content(path, e))?;
        std::fs::write(path, &text).map_err(Error::io(path))
    }
}

/// Step, loss, gradient norm and rate of the run's log; else why there are none.
fn write_losses(path: &Path, run: &TrainingRun, steps: Range<u64>) -> Result<Option<String>, Error> {
    let records = match run.records() {
        Ok(records) => records,
        Err(error) => return Ok(Some(error.to_string())),
    };
    let mut text = "step,loss,grad_norm,lr\n".to_owned();
    let mut found = 0;
    for record in records.iter().filter(|record| steps.contains(&record.step)) {
        text += &format!("{},{},{},{}\n", record.step, record.loss, record.grad_norm, record.lr);
        found += 1;
    }
    if found == 0 {
        return Ok(Some("its log holds none of these steps".to_owned()));
    }
    std::fs::write(path, text.as_bytes()).map_err(Error::io(path))?;
    Ok(None)
}

/// Writes a batch.
fn write(path: &Path, batch: &Batch, sources: &[String]) -> Result<(), Error> {
    let bytes = |values: &[i32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let targets: Vec<i32> =
        batch.targets().iter().map(|t| if *t == IGNORE { HUGGING_FACE_IGNORE } else { *t }).collect();
    let (ids, targets) = (bytes(batch.inputs()), bytes(&targets));
    let places: Vec<u8> = batch.sources().iter().flat_map(|s| s.to_le_bytes()).collect();
    let wrong = |e: SafeTensorError| match e {
        SafeTensorError::IoError(e) => Error::io(path)(e),
        other => Error::content(path, other),
    };
    let starts = batch.document_starts().map(bytes);
    let shape = vec![batch.rows(), batch.time()];
    let mut views = vec![
        ("input_ids", TensorView::new(Dtype::I32, shape.clone(), &ids).map_err(wrong)?),
        ("targets", TensorView::new(Dtype::I32, shape.clone(), &targets).map_err(wrong)?),
        ("sources", TensorView::new(Dtype::U16, vec![batch.rows()], &places).map_err(wrong)?),
    ];
    if let Some(starts) = &starts {
        views.push(("document_starts", TensorView::new(Dtype::I32, shape, starts).map_err(wrong)?));
    }
    let digest = format!("{:016x}", batch.digest());
    // One entry: several would stand in another order each time.
    let batch = serde_json::json!({ "digest": digest, "sources": sources });
    let metadata = HashMap::from([("batch".to_owned(), batch.to_string())]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(wrong)?;
    std::fs::write(path, &bytes).map_err(Error::io(path))
}
