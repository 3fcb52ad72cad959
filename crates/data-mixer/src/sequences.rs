//! Sequences of equal length, cut from token ids in a row.

use std::ops::Range;
use std::sync::Arc;

use corpus::TokenArray;

use crate::{Batch, Error};

/// A row of token ids read as sequences of T+1 tokens with stride T (as LitGPT): document borders are ordinary tokens, unless
/// attention is to stop at them.
#[derive(Debug, Clone)]
pub struct Sequences {
    tokens: Arc<dyn TokenArray>,
    time: usize,
    document_mask: bool,
}

/// Where a sequence goes.
pub(crate) struct Row<'a> {
    pub(crate) inputs: &'a mut [i32],
    pub(crate) targets: &'a mut [i32],
    pub(crate) starts: Option<&'a mut [i32]>,
}

impl Sequences {
    /// The sequences of a store, or of any other [`TokenArray`].
    ///
    /// # Errors
    /// A zero length.
    pub fn new(tokens: Arc<dyn TokenArray>, time: usize) -> Result<Self, Error> {
        if time == 0 {
            return Err(Error::field("sequence length", 0, "must be at least 1"));
        }
        Ok(Self { tokens, time, document_mask: false })
    }

    /// The same, with [`Batch::document_starts`] from the documents' own borders.
    #[must_use]
    pub fn with_document_mask(self, document_mask: bool) -> Self {
        Self { document_mask, ..self }
    }

    /// How many whole sequences there are.
    pub fn len(&self) -> u64 {
        self.tokens.token_count().saturating_sub(1) / self.time as u64
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What they are cut from.
    pub fn tokens(&self) -> &dyn TokenArray {
        &*self.tokens
    }

    /// T.
    pub fn time(&self) -> usize {
        self.time
    }

    /// Whether attention stops at document borders.
    pub fn document_mask(&self) -> bool {
        self.document_mask
    }

    /// Some of the sequences as a batch, in this order, of source 0.
    ///
    /// # Errors
    /// A sequence beyond the end.
    pub fn batch_of(&self, places: &[u64]) -> Result<Batch, Error> {
        let mut batch = Batch::empty(places.len(), self.time);
        places.iter().try_for_each(|i| self.push(*i, 0, &mut batch))?;
        Ok(batch)
    }

    /// Appends sequence `i` to a batch of rows like these.
    pub(crate) fn push(&self, i: u64, source: u16, batch: &mut Batch) -> Result<(), Error> {
        let mut one = Batch::zeros(1, self.time, self.document_mask);
        let starts = one.document_starts.as_deref_mut();
        self.fill(i, Row { inputs: &mut one.inputs, targets: &mut one.targets, starts })?;
        batch.inputs.extend(one.inputs);
        batch.targets.extend(one.targets);
        batch.sources.push(source);
        if let Some(starts) = one.document_starts {
            batch.document_starts.get_or_insert_default().extend(starts);
        }
        Ok(())
    }

    /// Writes sequence `i` into a row.
    pub(crate) fn fill(&self, i: u64, row: Row<'_>) -> Result<(), Error> {
        let from = i.saturating_mul(self.time as u64);
        let to = from.saturating_add(self.time as u64);
        self.tokens.read_i32(from, row.inputs)?;
        self.tokens.read_i32(from.saturating_add(1), row.targets)?;
        if let Some(starts) = row.starts {
            self.document_starts(from..to, starts);
        }
        Ok(())
    }

    fn document_starts(&self, tokens: Range<u64>, starts: &mut [i32]) {
        let mut at = tokens.start;
        let mut document = self.tokens.document_of(at);
        while at < tokens.end {
            // Damaged borders end nothing.
            let range = document.and_then(|d| self.tokens.document_range(d)).unwrap_or(tokens.clone());
            let end = range.end.clamp(at, tokens.end);
            let start = range.start.saturating_sub(tokens.start) as i32;
            starts[(at - tokens.start) as usize..(end - tokens.start) as usize].fill(start);
            (at, document) = (end, document.map(|d| d + 1));
            if document.is_some_and(|d| d >= self.tokens.document_count()) {
                break;
            }
        }
    }

    /// The tokens of sequence `i`, its last target included.
    pub(crate) fn range(&self, i: u64) -> Range<u64> {
        let from = i.saturating_mul(self.time as u64);
        from..from.saturating_add(self.time as u64 + 1)
    }
}
