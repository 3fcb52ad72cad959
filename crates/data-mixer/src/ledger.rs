//! What a run has seen, as one number: a chain of batch digests.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The chain's head after some steps. Two runs with the same head saw the same batches in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LedgerHead(pub u64);

impl LedgerHead {
    /// The head after one more batch.
    #[must_use]
    pub fn append(self, batch_digest: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0.to_le_bytes());
        bytes[8..].copy_from_slice(&batch_digest.to_le_bytes());
        Self(xxh3_64(&bytes))
    }
}

impl std::fmt::Display for LedgerHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
