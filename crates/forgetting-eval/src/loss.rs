//! Losses on held-out text.

use serde::{Deserialize, Serialize};

/// A summed loss on held-out text; mergeable.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct HeldOut {
    /// Sum of negative log-likelihoods over predicted tokens, in nats.
    pub nats: f64,
    /// Predicted tokens.
    pub tokens: u64,
    /// Bytes of text that the predicted tokens stand for, where known.
    pub bytes: Option<u64>,
}

impl HeldOut {
    /// Mean loss, token-weighted: nats per predicted token. NaN without tokens.
    pub fn nats_per_token(&self) -> f64 {
        self.nats / self.tokens as f64
    }

    /// Bits per byte, comparable between tokenizers.
    pub fn bits_per_byte(&self) -> Option<f64> {
        let bytes = self.bytes.filter(|b| *b > 0)?;
        Some(self.nats / std::f64::consts::LN_2 / bytes as f64)
    }

    /// Both together: never a mean of means.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            nats: self.nats + other.nats,
            tokens: self.tokens + other.tokens,
            bytes: self.bytes.zip(other.bytes).map(|(a, b)| a + b),
        }
    }
}

/// Δ_P = J_P(θ_K) − J_P(θ_0) (Eq. 9): how much the loss on pretraining text rose in fine-tuning.
pub fn forgetting(before: f64, after: f64) -> f64 {
    after - before
}

/// (L_control − L_arm) / L_control: positive when the arm is better.
pub fn relative_improvement(control: f64, arm: f64) -> f64 {
    (control - arm) / control
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_weights_by_tokens() {
        let a = HeldOut { nats: 10.0, tokens: 10, bytes: Some(40) };
        let b = HeldOut { nats: 90.0, tokens: 30, bytes: Some(60) };
        let both = a.merge(b);
        assert_eq!(both.nats_per_token(), 2.5);
        assert!((both.bits_per_byte().unwrap() - 100.0 / std::f64::consts::LN_2 / 100.0).abs() < 1e-12);
        assert_eq!(a.merge(HeldOut { bytes: None, ..b }).bits_per_byte(), None);
        assert!(HeldOut::default().nats_per_token().is_nan());
    }
}
