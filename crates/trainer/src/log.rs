//! The log: one JSON object a step.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;

use data_mixer::{Batch, LedgerHead};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The loss on one source's rows of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceLoss {
    /// The source's index.
    pub source: u16,
    /// Its rows.
    pub rows: u64,
    /// Its predicted tokens.
    pub targets: u64,
    /// The sum of their losses; not finite where a step was left out.
    #[serde(with = "finite")]
    pub nats: f64,
}

impl SourceLoss {
    pub(crate) fn per_source(batch: &Batch) -> Vec<Self> {
        let mut sources = batch.sources.clone();
        sources.sort_unstable();
        sources.dedup();
        sources.into_iter().map(|source| Self { source, rows: 0, targets: 0, nats: 0.0 }).collect()
    }

    pub(crate) fn add(sums: &mut [Self], micro: &Batch, token_losses: &[f32]) {
        let rows = token_losses.chunks_exact(micro.time).zip(micro.targets.chunks_exact(micro.time));
        for (source, (losses, targets)) in micro.sources.iter().zip(rows) {
            let Some(sum) = sums.iter_mut().find(|s| s.source == *source) else { continue };
            sum.rows += 1;
            sum.targets += targets.iter().filter(|t| **t != data_mixer::IGNORE).count() as u64;
            sum.nats += losses.iter().map(|l| f64::from(*l)).sum::<f64>();
        }
    }
}

/// Where a step's wall time went, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct StepTimes {
    /// Forward passes with the loss. (On a GPU: until they are queued.)
    pub forward: f64,
    /// Backward passes. (On a GPU: until they are queued.)
    pub backward: f64,
    /// Gradient norm, clipping, AdamW, and reading the losses. (On a GPU: and all that was still to be done.)
    pub update: f64,
}

/// A number that may not be finite: JSON has no NaN and no infinity, null stands for either and reads back as NaN.
mod finite {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

/// What happened in one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step, from 0.
    pub step: u64,
    /// Mean loss in nats per predicted token, before the update; not finite where it was left out.
    #[serde(with = "finite")]
    pub loss: f64,
    /// The same by source.
    pub sources: Vec<SourceLoss>,
    /// Learning rate of the update.
    pub lr: f64,
    /// Global gradient norm before clipping; not finite where the update was left out.
    #[serde(with = "finite")]
    pub grad_norm: f64,
    /// Global norm of the change of the parameters, decay included; 0 where the update was left out.
    #[serde(with = "finite")]
    pub update_norm: f64,
    /// Predicted tokens.
    pub targets: u64,
    /// Positions computed.
    pub tokens: u64,
    /// Wall time.
    pub seconds: f64,
    /// Where it went.
    pub phases: StepTimes,
    /// The update was left out, because loss or gradient was not finite.
    pub skipped: bool,
    /// What was seen up to here.
    pub ledger: LedgerHead,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

/// An append-only log that begins at a step: later records of an earlier attempt are cut off.
pub(crate) struct Log {
    file: File,
    path: std::path::PathBuf,
}

impl Log {
    pub(crate) fn open(path: &Path, step: u64) -> Result<Self, Error> {
        let mut keep = 0u64;
        if let Ok(file) = File::open(path) {
            let mut reader = BufReader::new(file);
            let mut line = String::new();
            loop {
                line.clear();
                let n = reader.read_line(&mut line).map_err(io(path))?;
                let record = serde_json::from_str::<serde_json::Value>(&line).ok();
                let at = record.as_ref().and_then(|r| r.get("step")).and_then(serde_json::Value::as_u64);
                match at {
                    // A line without its end was being written when the run was killed.
                    Some(at) if at < step && line.ends_with('\n') => keep += n as u64,
                    _ => break,
                }
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(io(path))?;
        file.set_len(keep).map_err(io(path))?;
        Ok(Self { file, path: path.to_owned() })
    }

    pub(crate) fn write(&mut self, record: &impl Serialize) -> Result<(), Error> {
        let mut line = serde_json::to_vec(record).map_err(|e| io(&self.path)(e.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(io(&self.path))
    }
}
