//! What determines a training run besides its data and first weights.

use burn::tensor::DType;
use burn::tensor::backend::Backend;
use fused_ops::Precision;
use gptneox_model::Compute;
use schedule::{LrSchedule, LrSpec};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Which parameters decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayGroup {
    /// All of them (LitGPT, the paper).
    #[default]
    All,
    /// Matrices, embeddings included; not biases and norms.
    Matrices,
}

/// AdamW's constants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWSpec {
    /// DecayGroup of the first moment.
    pub beta1: f64,
    /// DecayGroup of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// What decays.
    pub decay: DecayGroup,
}

impl Default for AdamWSpec {
    /// The paper's (Table 4), eps as PyTorch.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, decay: DecayGroup::All }
    }
}

/// The recipe of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Learning rate by step.
    pub lr: LrSpec,
    /// The optimiser.
    pub optimizer: AdamWSpec,
    /// Largest global gradient norm.
    pub clip: f64,
    /// Most tokens of a micro-batch; the global batch does not depend on it.
    pub micro_tokens: usize,
    /// How many steps may be skipped because their loss or gradient is not finite.
    pub max_skipped: u64,
    /// What matrix products are computed in; parameters and optimiser state are f32 either way.
    #[serde(default)]
    pub precision: Precision,
    /// Whether each block's inner activations are computed again in the backward pass instead of kept.
    #[serde(default)]
    pub recompute: bool,
}

impl TrainSpec {
    /// The defaults with a learning rate.
    pub fn new(lr: LrSpec) -> Self {
        Self {
            lr,
            optimizer: AdamWSpec::default(),
            clip: 1.0,
            micro_tokens: 8192,
            max_skipped: 10,
            precision: Precision::F32,
            recompute: false,
        }
    }

    /// How the model computes under it.
    pub fn compute(&self) -> Compute {
        Compute { precision: self.precision, recompute: self.recompute }
    }

    /// Checks that a backend has the types that it computes in.
    pub(crate) fn check_backend<B: Backend>(&self, device: &B::Device) -> Result<(), Error> {
        if self.precision == Precision::Bf16 && !B::supports_dtype(device, DType::BF16) {
            let limit = format!("is unavailable on the backend {}", B::name(device));
            return Err(Error::Field { field: "precision", value: "bf16".to_owned(), limit });
        }
        Ok(())
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first outside its limits.
    pub fn validate(&self) -> Result<(), Error> {
        self.build().map(|_| ())
    }

    /// Checks every field; the learning rate's curve.
    pub(crate) fn build(&self) -> Result<LrSchedule, Error> {
        let o = &self.optimizer;
        let field =
            |field, value: f64, limit: &str| Error::Field { field, value: value.to_string(), limit: limit.into() };
        for (name, beta) in [("beta1", o.beta1), ("beta2", o.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(field(name, beta, "must be from 0 to below 1"));
            }
        }
        for (name, value) in [("eps", o.eps), ("clip", self.clip)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(field(name, value, "must be positive"));
            }
        }
        if !(o.weight_decay.is_finite() && o.weight_decay >= 0.0) {
            return Err(field("weight_decay", o.weight_decay, "must not be negative"));
        }
        if self.micro_tokens == 0 {
            return Err(field("micro_tokens", 0.0, "must be at least 1"));
        }
        Ok(self.lr.clone().build()?)
    }
}
