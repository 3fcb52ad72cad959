//! Pretraining batches: concatenate-and-chop sequences of token stores, placed by a mixture.

use std::ops::Range;
use std::sync::Arc;

use corpus::TokenStore;

use crate::batch::check_rows;
use crate::{Batch, BatchSource, Error, MixPlan};

/// A store read as sequences of T+1 tokens with stride T (as LitGPT): document borders are ordinary tokens, unless
/// attention is to stop at them.
#[derive(Debug, Clone)]
pub struct Sequences {
    store: Arc<TokenStore>,
    time: usize,
    document_mask: bool,
}

impl Sequences {
    /// The sequences of a store.
    ///
    /// # Errors
    /// A zero length.
    pub fn new(store: Arc<TokenStore>, time: usize) -> Result<Self, Error> {
        if time == 0 {
            return Err(Error::field("sequence length", 0, "must be at least 1"));
        }
        Ok(Self { store, time, document_mask: false })
    }

    /// The same, with [`Batch::document_starts`] from the store's own borders.
    #[must_use]
    pub fn with_document_mask(self, document_mask: bool) -> Self {
        Self { document_mask, ..self }
    }

    /// How many whole sequences there are.
    pub fn len(&self) -> u64 {
        self.store.token_count().saturating_sub(1) / self.time as u64
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The store.
    pub fn store(&self) -> &TokenStore {
        &self.store
    }

    /// T.
    pub fn time(&self) -> usize {
        self.time
    }

    /// Appends sequence `i` to a batch.
    ///
    /// # Errors
    /// A sequence beyond the store's end.
    pub fn push(&self, i: u64, source: u16, batch: &mut Batch) -> Result<(), Error> {
        let from = i.saturating_mul(self.time as u64);
        // Token ids are below 2³¹: stores refuse larger ones.
        self.store.extend_i32(from, self.time, &mut batch.inputs)?;
        self.store.extend_i32(from + 1, self.time, &mut batch.targets)?;
        batch.sources.push(source);
        if self.document_mask {
            let starts = batch.document_starts.get_or_insert_default();
            for document in self.store.documents_in(from..from + self.time as u64) {
                let start = document.start.saturating_sub(from);
                let end = document.end.min(from + self.time as u64) - from;
                starts.extend(std::iter::repeat_n(start as i32, (end - start) as usize));
            }
        }
        Ok(())
    }
}

/// The batches of a mixture over stores.
#[derive(Debug, Clone)]
pub struct MixedBatches {
    plan: MixPlan,
    sources: Vec<Sequences>,
}

impl MixedBatches {
    /// `sources` in the plan's order.
    ///
    /// # Errors
    /// Sources whose number, length or sequence count differ from the plan's, stores of different tokenizers, or a
    /// document mask on some of them only.
    pub fn new(plan: MixPlan, sources: Vec<Sequences>) -> Result<Self, Error> {
        let expected = plan.spec().sources.len();
        if sources.len() != expected {
            return Err(Error::field("sources", sources.len(), format!("must be the plan's {expected}")));
        }
        // Rows name their source in two bytes.
        if expected > usize::from(u16::MAX) {
            return Err(Error::field("sources", expected, format!("must not exceed {}", u16::MAX)));
        }
        let time = plan.spec().time;
        for (i, s) in sources.iter().enumerate() {
            let size = plan.source(i);
            if s.len() != size.sequences || s.time as u64 != time {
                let limit = format!("of length {} differ from the plan's {} of {time}", s.time, size.sequences);
                return Err(Error::field(format!("sequences of {}", size.name), s.len(), limit));
            }
            // The same ids mean other tokens elsewhere: a mixture of them would train on noise.
            if s.store.tokenizer() != sources[0].store.tokenizer() {
                return Err(Error::Store(corpus::StoreError::Tokenizer {
                    path: s.store.path().to_owned(),
                    found: s.store.tokenizer().to_owned(),
                    expected: sources[0].store.tokenizer().to_owned(),
                }));
            }
            if s.document_mask != sources[0].document_mask {
                let field = format!("document mask of {}", size.name);
                return Err(Error::field(field, s.document_mask, "must be the same for all sources"));
            }
        }
        Ok(Self { plan, sources })
    }

    /// The mixture.
    pub fn plan(&self) -> &MixPlan {
        &self.plan
    }
}

impl BatchSource for MixedBatches {
    fn steps(&self) -> u64 {
        self.plan.spec().timeline.end().0
    }

    fn rows(&self, _step: u64) -> usize {
        self.plan.spec().batch as usize
    }

    fn batch_rows(&self, step: u64, rows: Range<usize>) -> Result<Batch, Error> {
        check_rows(self, step, &rows)?;
        let first = step * self.plan.spec().batch;
        let mut batch = Batch::with_capacity(rows.len(), self.plan.spec().time as usize);
        for slot in first + rows.start as u64..first + rows.end as u64 {
            let draw = self.plan.draw(slot);
            self.sources[draw.source].push(draw.sequence, draw.source as u16, &mut batch)?;
        }
        Ok(batch)
    }

    fn source_names(&self) -> Vec<String> {
        self.plan.spec().sources.iter().map(|s| s.name.clone()).collect()
    }
}
