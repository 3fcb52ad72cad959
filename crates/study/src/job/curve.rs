//! The losses of a fine-tune's steps, from its log: a result, so that it is there without the fine-tune's files.

use fused_ops::TrainingBackend;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Context, Cost, Input, Kind, pretrain};
use crate::Error;
use crate::address::Address;

/// Reads a fine-tune's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Curve {
    /// What messages call the fine-tune.
    pub(crate) label: String,
    /// The fine-tune.
    pub(crate) finetuned: Address,
    /// Its steps.
    pub(crate) steps: u64,
}

/// The training loss of each step: before its update, in nats per predicted token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepLosses {
    /// Step by step; `None` where the loss was not finite and the update was left out.
    pub(crate) losses: Vec<Option<f64>>,
}

impl Kind for Curve {
    const NAME: &'static str = "curve";
    const VERSION: u32 = 1;
    type Output = StepLosses;

    fn address(&self) -> Address {
        Self::identified_by(&json!({ "finetuned": self.finetuned }))
    }

    fn label(&self) -> String {
        format!("training losses of {}", self.label)
    }

    fn inputs(&self) -> Vec<Input> {
        vec![Input::files(&self.finetuned)]
    }

    fn cost(&self) -> Cost {
        Cost::of("curve", self.steps as f64)
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let records = pretrain::log_of(cx.store, &self.finetuned)?;
        if records.len() as u64 != self.steps {
            let path = cx.store.folder(&self.finetuned).join("log.jsonl");
            return Err(Error::Parse { path, reason: format!("holds {} of {} steps", records.len(), self.steps) });
        }
        let loss = |loss: f64| loss.is_finite().then_some(loss);
        Ok(StepLosses { losses: records.iter().map(|record| loss(record.loss)).collect() })
    }
}
