//! A batch of token rows, and where batches come from.

use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

use crate::Error;

/// The target of a position that is not predicted.
pub const IGNORE: i32 = -1;

/// Rows of equal length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// T, positions of a row.
    pub time: usize,
    /// Token ids, `[rows, T]`.
    pub inputs: Vec<i32>,
    /// What each position predicts, `[rows, T]`; [`IGNORE`] for none.
    pub targets: Vec<i32>,
    /// Each row's source, an index into [`BatchSource::source_names`].
    pub sources: Vec<u16>,
}

impl Batch {
    /// How many rows.
    pub fn rows(&self) -> usize {
        self.sources.len()
    }

    /// How many positions are predicted.
    pub fn target_count(&self) -> usize {
        self.targets.iter().filter(|t| **t != IGNORE).count()
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If the range reaches beyond the rows.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let tokens = rows.start * self.time..rows.end * self.time;
        Self {
            time: self.time,
            inputs: self.inputs[tokens.clone()].to_vec(),
            targets: self.targets[tokens].to_vec(),
            sources: self.sources[rows].to_vec(),
        }
    }

    /// A digest of everything in it (xxh3).
    pub fn digest(&self) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&(self.time as u64).to_le_bytes());
        for values in [&self.inputs, &self.targets] {
            for v in values.iter() {
                hash.update(&v.to_le_bytes());
            }
        }
        hash.digest()
    }
}

/// Batches by step: a pure function, so that a run can be resumed or inspected anywhere.
pub trait BatchSource: Send + Sync {
    /// Steps there are.
    fn steps(&self) -> u64;

    /// The global batch of a step.
    ///
    /// # Errors
    /// Data that cannot be read.
    fn batch(&self, step: u64) -> Result<Batch, Error>;

    /// Names of the sources that rows refer to.
    fn source_names(&self) -> Vec<String>;
}
