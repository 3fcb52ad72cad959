//! What a building says: how far it is, and what it did.

use std::time::Duration;

use crate::ReadReport;

/// How far a building is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BuildProgress<'a> {
    /// The input it is at.
    pub input: &'a str,
    /// Inputs finished.
    pub inputs_done: usize,
    /// Inputs in all.
    pub inputs: usize,
    /// Documents tokenised by this process.
    pub documents: u64,
    /// Bytes of text tokenised by this process.
    pub bytes: u64,
    /// Tokens they became.
    pub tokens: u64,
    /// Time since the beginning.
    pub elapsed: Duration,
}

impl BuildProgress<'_> {
    /// Documents a second.
    pub fn documents_per_second(&self) -> f64 {
        self.documents as f64 / self.elapsed.as_secs_f64()
    }

    /// Megabytes of text a second.
    pub fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.elapsed.as_secs_f64()
    }
}

/// What a building did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildReport {
    /// Documents in the store.
    pub documents: u64,
    /// What reading the inputs met, those that were tokenised before too.
    pub read: ReadReport,
    /// Inputs without any document.
    pub empty: Vec<String>,
    /// Shards that were there already, or were made by another process.
    pub shards_kept: usize,
    /// Shards written.
    pub shards_written: usize,
    /// Shards of inputs that are none any more, removed.
    pub shards_removed: usize,
}
