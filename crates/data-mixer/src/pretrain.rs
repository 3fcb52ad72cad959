//! Pretraining batches: sequences placed by a mixture.

use std::ops::Range;

use rayon::prelude::*;

use crate::batch::check_rows;
use crate::sequences::Row;
use crate::{Batch, BatchSource, Error, MixPlan, Sequences};

/// Tokens of a batch from which on its rows are made by several threads: fewer are made sooner than threads are woken.
const PARALLEL: usize = 1 << 17;
/// Rows that a thread makes at once.
const ROWS: usize = 16;

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
            if s.len() != size.sequences || s.time() as u64 != time {
                let limit = format!("of length {} differ from the plan's {} of {time}", s.time(), size.sequences);
                return Err(Error::field(format!("sequences of {}", size.name), s.len(), limit));
            }
            // The same ids mean other tokens elsewhere: a mixture of them would train on noise.
            let (own, first) = (s.tokens(), sources[0].tokens());
            if own.tokenizer() != first.tokenizer() {
                return Err(Error::Store(corpus::StoreError::Tokenizer {
                    path: own.path().to_owned(),
                    found: own.tokenizer().to_owned(),
                    expected: first.tokenizer().to_owned(),
                }));
            }
            if s.document_mask() != sources[0].document_mask() {
                let field = format!("document mask of {}", size.name);
                return Err(Error::field(field, s.document_mask(), "must be the same for all sources"));
            }
            // Draws are in random order: what lies beside a sequence is not read with it.
            own.random_access();
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
        let time = self.plan.spec().time as usize;
        let mask = self.sources.iter().any(Sequences::document_mask);
        let mut batch = Batch::zeros(rows.len(), time, mask);
        let made = rows_of(&mut batch);
        let fill = |(place, (source, row)): (usize, (&mut u16, Row<'_>))| {
            let draw = self.plan.draw(first + (rows.start + place) as u64);
            *source = draw.source as u16;
            self.sources[draw.source].fill(draw.sequence, row)
        };
        if rows.len() * time < PARALLEL {
            made.into_iter().enumerate().try_for_each(fill)?;
        } else {
            made.into_par_iter().enumerate().with_min_len(ROWS).try_for_each(fill)?;
        }
        Ok(batch)
    }

    fn source_names(&self) -> Vec<String> {
        self.plan.spec().sources.iter().map(|s| s.name.clone()).collect()
    }

    fn origin(&self, step: u64, row: usize) -> Option<(String, u64)> {
        let draw = self.plan.draw(step.checked_mul(self.plan.spec().batch)?.checked_add(row as u64)?);
        Some((self.plan.source(draw.source).name.clone(), draw.sequence))
    }

    fn will_need(&self, step: u64, rows: Range<usize>) {
        if check_rows(self, step, &rows).is_err() {
            return;
        }
        let first = step * self.plan.spec().batch;
        for slot in first + rows.start as u64..first + rows.end as u64 {
            let draw = self.plan.draw(slot);
            let sequences = &self.sources[draw.source];
            sequences.tokens().will_need(sequences.range(draw.sequence));
        }
    }
}

/// Each row's source and content, to be written apart.
fn rows_of(batch: &mut Batch) -> Vec<(&mut u16, Row<'_>)> {
    let time = batch.time;
    let starts: Box<dyn Iterator<Item = Option<&mut [i32]>>> = match &mut batch.document_starts {
        Some(starts) => Box::new(starts.chunks_exact_mut(time).map(Some)),
        None => Box::new(std::iter::repeat_with(|| None)),
    };
    let content = batch.inputs.chunks_exact_mut(time).zip(batch.targets.chunks_exact_mut(time)).zip(starts);
    let rows = content.map(|((inputs, targets), starts)| Row { inputs, targets, starts });
    batch.sources.iter_mut().zip(rows).collect()
}
