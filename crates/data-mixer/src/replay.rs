//! General text that is added to fine-tuning batches, against forgetting.

use schedule::Weight;

use crate::{Batch, Error, Permutation, Sequences, stream_key};

/// General sequences that are added to each batch of fine-tuning examples: a share of all rows is theirs.
///
/// After n rows of examples, over the whole run, ⌊n·w/(1 − w) + φ⌋ rows of general text have been added, with w the share: the
/// count differs from its exact value by less than 1 at every batch. Examples and steps are what they are without replay.
/// Sequences are drawn in a random order, each once before any comes again.
#[derive(Debug, Clone)]
pub struct Replay {
    sequences: Sequences,
    share: Weight,
    seed: u64,
}

impl Replay {
    /// A share of the rows of each batch, from sequences of the general text that a model was pretrained on.
    ///
    /// # Errors
    /// A share of 1, no whole sequence.
    pub fn new(sequences: Sequences, share: Weight, seed: u64) -> Result<Self, Error> {
        if share == Weight::ONE {
            return Err(Error::field("share of replay", share, "must be below 1: examples are rows too"));
        }
        if sequences.is_empty() && share != Weight::ZERO {
            return Err(Error::field("sequences for replay", 0, "must be at least 1"));
        }
        Ok(Self { sequences, share, seed })
    }

    /// Tokens of a row.
    pub fn time(&self) -> usize {
        self.sequences.time()
    }

    /// The general text.
    pub(crate) fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    /// Rows added by the time of so many rows of examples.
    pub fn rows_by(&self, examples: u64) -> u64 {
        let (share, rest) = (u128::from(self.share.parts()), u128::from(Weight::PARTS - self.share.parts()));
        if share == 0 {
            return 0;
        }
        // The same for every seed: seeds differ in the order of what is added, not in how much.
        let phi = u128::from(stream_key(0, "share of replay", 0)) % rest;
        ((share * u128::from(examples) + phi) / rest) as u64
    }

    /// The sequence of a row.
    pub(crate) fn sequence(&self, row: u64) -> u64 {
        let sequences = self.sequences.len();
        let key = stream_key(self.seed, "order of replay", row / sequences);
        Permutation::new(sequences, key).apply(row % sequences)
    }

    /// Appends a row to a batch whose rows are as long.
    pub(crate) fn push(&self, row: u64, source: u16, batch: &mut Batch) -> Result<(), Error> {
        self.sequences.push(self.sequence(row), source, batch)
    }
}
