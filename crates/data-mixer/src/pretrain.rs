//! Pretraining batches: concatenate-and-chop sequences of token stores, placed by a mixture.

use std::sync::Arc;

use corpus::TokenStore;

use crate::{Batch, BatchSource, Error, MixPlan};

/// A store read as sequences of T+1 tokens with stride T (as LitGPT): document borders are ordinary tokens.
#[derive(Debug, Clone)]
pub struct Sequences {
    store: Arc<TokenStore>,
    time: usize,
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
        Ok(Self { store, time })
    }

    /// How many whole sequences there are.
    pub fn len(&self) -> u64 {
        self.store.token_count().saturating_sub(1) / self.time as u64
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        let mut tokens = vec![0u32; self.time + 1];
        self.store.read(i * self.time as u64, &mut tokens)?;
        // Token ids are below 2³¹: stores refuse larger ones.
        batch.inputs.extend(tokens[..self.time].iter().map(|t| *t as i32));
        batch.targets.extend(tokens[1..].iter().map(|t| *t as i32));
        batch.sources.push(source);
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
    /// `sources[0]` is the general source; the others follow the plan's order.
    ///
    /// # Errors
    /// Sources whose number, length or sequence count differ from the plan's.
    pub fn new(plan: MixPlan, sources: Vec<Sequences>) -> Result<Self, Error> {
        let expected = plan.spec().specialised.len() + 1;
        if sources.len() != expected {
            return Err(Error::field("sources", sources.len(), format!("must be the plan's {expected}")));
        }
        for (i, s) in sources.iter().enumerate() {
            let size = plan.source(i);
            if s.len() != size.sequences || s.time != sources[0].time {
                let limit = format!("of length {} differ from the plan's {}", s.time, size.sequences);
                return Err(Error::field(format!("sequences of {}", size.name), s.len(), limit));
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

    fn batch(&self, step: u64) -> Result<Batch, Error> {
        let rows = self.plan.spec().batch;
        let time = self.sources[0].time;
        let capacity = rows as usize * time;
        let mut batch = Batch {
            time,
            inputs: Vec::with_capacity(capacity),
            targets: Vec::with_capacity(capacity),
            sources: Vec::with_capacity(rows as usize),
        };
        for slot in step * rows..(step + 1) * rows {
            let draw = self.plan.draw(slot);
            self.sources[draw.source].push(draw.sequence, draw.source as u16, &mut batch)?;
        }
        Ok(batch)
    }

    fn source_names(&self) -> Vec<String> {
        (0..self.sources.len()).map(|i| self.plan.source(i).name.clone()).collect()
    }
}
