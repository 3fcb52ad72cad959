//! Token distributions: of a corpus, and exactly of a mixture of corpora.

use crate::{Counts, Error};

/// Relative frequencies of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    p: Vec<f64>,
    tokens: u64,
}

impl Distribution {
    /// Of a corpus.
    ///
    /// # Errors
    /// No tokens.
    pub fn of(counts: &Counts) -> Result<Self, Error> {
        if counts.total() == 0 {
            return Err(Error::Empty);
        }
        let total = counts.total() as f64;
        Ok(Self { p: counts.as_slice().iter().map(|c| *c as f64 / total).collect(), tokens: counts.total() })
    }

    /// Of a mixture, in expectation: Σ wᵢ pᵢ. What has weight 0 leaves no trace, what has weight 1 is itself.
    ///
    /// # Errors
    /// Weights outside 0 to 1 or whose sum is not 1, different vocabularies.
    pub fn mixture(parts: &[(&Self, f64)]) -> Result<Self, Error> {
        let weights = || parts.iter().map(|(_, w)| *w).collect::<Vec<_>>();
        let sum: f64 = weights().iter().sum();
        if parts.is_empty() || weights().iter().any(|w| !(0.0..=1.0).contains(w)) || (sum - 1.0).abs() > 1e-9 {
            return Err(Error::Weights { weights: weights() });
        }
        let len = parts[0].0.p.len();
        if let Some((other, _)) = parts.iter().find(|(d, _)| d.p.len() != len) {
            return Err(Error::Vocabulary { left: len, right: other.p.len() });
        }
        let present: Vec<&(&Self, f64)> = parts.iter().filter(|(_, w)| *w > 0.0).collect();
        if let [(only, _)] = present.as_slice() {
            return Ok((*only).clone());
        }
        let mut p = vec![0.0; len];
        for (part, weight) in &present {
            p.iter_mut().zip(&part.p).for_each(|(sum, p)| *sum += weight * p);
        }
        Ok(Self { p, tokens: present.iter().map(|(part, _)| part.tokens).sum() })
    }

    /// The frequencies by token id.
    pub fn as_slice(&self) -> &[f64] {
        &self.p
    }

    /// Tokens that they were counted on; of a mixture, those of all its parts.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Tokens with a frequency above 0.
    pub fn types(&self) -> usize {
        self.p.iter().filter(|p| **p > 0.0).count()
    }

    /// Entropy in nats: the loss of the best model that ignores context.
    pub fn entropy(&self) -> f64 {
        -self.p.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>()
    }
}
