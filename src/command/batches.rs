//! `midtrain export-batches`: what an arm is pretrained on, for other programs' trainers.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;
use data_mixer::{Batch, BatchSource as _};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};
use study::{LocalEngine, Progress, StopSignal, Store, Study, StudySpec, batches, prepare};

use crate::terminal::Terminal;
use crate::{Backend, Error};

/// A study's arm, and which of its steps.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  midtrain export-batches study.toml --arm \"Starcoder (20%)\" --steps 0..100 --out batches
Each step is a file: step-000000000.safetensors holds input_ids [rows, T + 1] (I32; a row's inputs are all but its last token, its
targets all but its first), sources [rows] (U16, places in the list `sources` of the file's metadata, beside `digest`, the one in the
run's ledger) and, where the study has a document_mask, document_starts [rows, T] (I32, where each position's document begins in its
row).")]
pub(super) struct ExportBatchesArgs {
    /// The study file.
    #[arg(value_name = "STUDY.toml")]
    study: PathBuf,
    /// The arm's name.
    #[arg(long)]
    arm: String,
    /// The pretraining seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Steps, such as 0..100: the first, and the one after the last.
    #[arg(long, value_parser = steps)]
    steps: Range<u64>,
    /// The folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where tokenised data are kept; made there if they are not.
    #[arg(long, value_name = "DIR", default_value = "runs/store")]
    store: PathBuf,
    /// No progress.
    #[arg(long)]
    quiet: bool,
}

fn steps(text: &str) -> Result<Range<u64>, String> {
    const FORM: &str = "must be FIRST..END, such as 0..100";
    let (first, end) = text.split_once("..").ok_or(FORM)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| FORM);
    let steps = number(first)?..number(end)?;
    if steps.is_empty() { Err("must hold a step".to_owned()) } else { Ok(steps) }
}

impl ExportBatchesArgs {
    pub(super) fn run(self) -> Result<String, Error> {
        let study = Study::new(StudySpec::read(&self.study)?)?;
        let arm = study.arm_named(&self.arm)?;
        if self.seed >= study.spec().pretrain_seeds {
            let limit = format!("must be below pretrain_seeds = {}", study.spec().pretrain_seeds);
            return Err(Error::option("seed", self.seed, limit));
        }
        let last = study.spec().pretrain.steps;
        if self.steps.end > last {
            let given = format!("{}..{}", self.steps.start, self.steps.end);
            return Err(Error::option("steps", given, format!("must end at the run's {last} steps or before")));
        }
        std::fs::create_dir_all(&self.out).map_err(Error::io(&self.out))?;
        let signal = StopSignal::install().map_err(Error::io(Path::new("signal handlers")))?;
        let store = Store::new(&self.store);
        let mut engine = LocalEngine::new(Backend::Flex.processor(0.0)?, signal.clone());
        let mut progress = Progress::new(Terminal::new(self.quiet), signal);
        let data = prepare(&study, &store, &mut engine, &mut progress)?;
        progress.finish();
        let batches = batches(&study, &data, &store, arm, self.seed)?;
        let names = batches.source_names().join(",");
        for step in self.steps.clone() {
            if let Some(signal) = progress.signal.received() {
                return Err(study::Error::Stopped { signal }.into());
            }
            write(&self.out.join(format!("step-{step:09}.safetensors")), &batches.batch(step)?, &names)?;
        }
        let count = self.steps.end - self.steps.start;
        Ok(format!("{}: {count} steps of {} rows\n", self.out.display(), batches.rows(self.steps.start)))
    }
}

/// Writes a batch, atomically.
fn write(path: &Path, batch: &Batch, sources: &str) -> Result<(), Error> {
    let rows = batch.inputs.chunks_exact(batch.time).zip(batch.targets.chunks_exact(batch.time));
    // A row's last target completes its sequence.
    let ids = rows.flat_map(|(inputs, targets)| inputs.iter().chain(&targets[batch.time - 1..]));
    let ids: Vec<u8> = ids.flat_map(|id| id.to_le_bytes()).collect();
    let places: Vec<u8> = batch.sources.iter().flat_map(|s| s.to_le_bytes()).collect();
    let wrong = |e: SafeTensorError| match e {
        SafeTensorError::IoError(e) => Error::io(path)(e),
        other => Error::content(path, other),
    };
    let starts: Vec<u8> = batch.document_starts.iter().flatten().flat_map(|s| s.to_le_bytes()).collect();
    let mut views = vec![
        ("input_ids", TensorView::new(Dtype::I32, vec![batch.rows(), batch.time + 1], &ids).map_err(wrong)?),
        ("sources", TensorView::new(Dtype::U16, vec![batch.rows()], &places).map_err(wrong)?),
    ];
    if batch.document_starts.is_some() {
        let view = TensorView::new(Dtype::I32, vec![batch.rows(), batch.time], &starts).map_err(wrong)?;
        views.push(("document_starts", view));
    }
    let digest = format!("{:016x}", batch.digest());
    let metadata = HashMap::from([("sources".to_owned(), sources.to_owned()), ("digest".to_owned(), digest)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(wrong)?;
    atomic_file::write(path, &bytes).map_err(Error::io(path))
}
