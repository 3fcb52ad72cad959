//! How often each token occurs in a store.

use fused_ops::TrainingBackend;
use metrics_proximity::Counts;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::tokens::Content;
use super::{Context, Cost, Input, Kind};
use crate::Error;
use crate::address::Address;

/// Counts a store's tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CountTokens {
    /// What messages call the store.
    pub(crate) name: String,
    /// The store.
    pub(crate) tokens: Content,
    /// The model's vocabulary.
    pub(crate) vocabulary: usize,
}

/// A store's counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TokenCounts {
    /// Of each token.
    pub(crate) counts: Vec<u64>,
    /// Entropy of their distribution in nats: the loss without any context.
    pub(crate) entropy: f64,
}

impl Kind for CountTokens {
    const NAME: &'static str = "counts";
    const VERSION: u32 = 1;
    type Output = TokenCounts;

    fn address(&self) -> Address {
        Self::identified_by(&json!({ "tokens": self.tokens.digest, "vocabulary": self.vocabulary }))
    }

    fn label(&self) -> String {
        format!("counting {}", self.name)
    }

    fn inputs(&self) -> Vec<Input> {
        self.tokens.inputs().into()
    }

    fn cost(&self) -> Cost {
        Cost::of("count", self.tokens.tokens as f64)
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let counts = Counts::of_store(self.vocabulary, &*self.tokens.open(cx.store)?)?;
        Ok(TokenCounts { entropy: counts.entropy(), counts: counts.as_slice().to_vec() })
    }
}
