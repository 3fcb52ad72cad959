//! What is recorded of a step, and of an evaluation.

use data_mixer::{Batch, LedgerHead};
use serde::{Deserialize, Serialize};

/// The loss on one source's rows of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceLoss {
    /// The source's index.
    pub source: u16,
    /// Its name, in a run's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
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
        let mut sources = batch.sources().to_vec();
        sources.sort_unstable();
        sources.dedup();
        sources.into_iter().map(|source| Self { source, name: None, rows: 0, targets: 0, nats: 0.0 }).collect()
    }

    pub(crate) fn add(sums: &mut [Self], micro: &Batch, token_losses: &[f32]) {
        let rows = token_losses.chunks_exact(micro.time()).zip(micro.targets().chunks_exact(micro.time()));
        for (source, (losses, targets)) in micro.sources().iter().zip(rows) {
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

/// A line of a run's log: a step, how fast it was, and how long the rest will take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// The step.
    #[serde(flatten)]
    pub record: StepRecord,
    /// Positions computed in a second.
    #[serde(default)]
    pub tokens_per_second: Option<f64>,
    /// Floating-point operations of a second, recomputation not counted.
    #[serde(default)]
    pub flops_per_second: Option<f64>,
    /// The same as a share of the device's peak, where that is known (model FLOPs utilisation).
    #[serde(default)]
    pub mfu: Option<f64>,
    /// Seconds to the run's end at the speed of the last steps.
    #[serde(default)]
    pub eta_seconds: Option<f64>,
    /// When it ended, in seconds since 1970.
    #[serde(default)]
    pub time: Option<f64>,
}

/// The loss on a held-out set during training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// Steps done.
    pub step: u64,
    /// The set's name.
    pub set: String,
    /// Mean loss in nats per predicted token.
    #[serde(with = "finite")]
    pub loss: f64,
    /// Predicted tokens.
    pub targets: u64,
    /// Bits per byte of the predicted text, where its bytes are known.
    pub bits_per_byte: Option<f64>,
    /// Wall time.
    pub seconds: f64,
    /// When it ended, in seconds since 1970.
    #[serde(default)]
    pub time: Option<f64>,
}
