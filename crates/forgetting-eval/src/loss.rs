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

    /// e to the mean loss.
    pub fn perplexity(&self) -> f64 {
        self.nats_per_token().exp()
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

/// Held-out losses by document: tokens of one document are not independent, documents are.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DocumentLosses(Vec<HeldOut>);

impl DocumentLosses {
    /// Of these documents; those without a predicted token are left out.
    pub fn new(documents: impl IntoIterator<Item = HeldOut>) -> Self {
        Self(documents.into_iter().filter(|d| d.tokens > 0).collect())
    }

    /// Documents.
    pub fn documents(&self) -> &[HeldOut] {
        &self.0
    }

    /// All of it.
    pub fn total(&self) -> HeldOut {
        self.0.iter().copied().reduce(HeldOut::merge).unwrap_or_default()
    }

    /// Standard error of [`HeldOut::nats_per_token`] over documents (the ratio estimator's, each document weighted by
    /// its tokens); `None` below two documents.
    pub fn standard_error(&self) -> Option<f64> {
        self.ratio_error(|d| (d.nats, d.tokens as f64))
    }

    /// Standard error of [`HeldOut::bits_per_byte`] over documents; `None` below two or where bytes are unknown.
    pub fn bits_per_byte_standard_error(&self) -> Option<f64> {
        self.total().bytes?;
        self.ratio_error(|d| (d.nats / std::f64::consts::LN_2, d.bytes.unwrap_or(0) as f64))
    }

    /// Linearised variance of Σa/Σb.
    fn ratio_error(&self, parts: impl Fn(&HeldOut) -> (f64, f64)) -> Option<f64> {
        let n = self.0.len();
        if n < 2 {
            return None;
        }
        let (a, b) = self.0.iter().map(&parts).fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
        let ratio = a / b;
        let squares: f64 = self.0.iter().map(&parts).map(|(x, y)| (x - ratio * y).powi(2)).sum();
        Some((squares * n as f64 / (n - 1) as f64).sqrt() / b)
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

    #[test]
    fn the_error_is_over_documents() {
        let document = |nats, tokens| HeldOut { nats, tokens, bytes: Some(tokens * 4) };
        // Equal sizes: the error of the mean of 1, 2 and 3.
        let even = DocumentLosses::new([document(10.0, 10), document(20.0, 10), document(30.0, 10)]);
        assert!((even.standard_error().unwrap() - 1.0 / 3f64.sqrt()).abs() < 1e-12);
        let bits = even.bits_per_byte_standard_error().unwrap();
        assert!((bits * 4.0 * std::f64::consts::LN_2 - 1.0 / 3f64.sqrt()).abs() < 1e-12);
        // A document without tokens says nothing, nor does a single one of the spread.
        let one = DocumentLosses::new([document(10.0, 10), document(0.0, 0)]);
        assert_eq!((one.documents().len(), one.standard_error()), (1, None));
        assert_eq!(one.total().nats_per_token(), 1.0);
        assert!(DocumentLosses::default().total().nats_per_token().is_nan());
    }
}
