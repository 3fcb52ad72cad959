//! Fine-tuning batches: one example a row, padded to the longest of its batch, the prompt masked where asked.

use std::sync::Arc;

use corpus::TokenStore;

use crate::{Batch, BatchSource, Error, IGNORE, Permutation, stream_key};

/// How examples become batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftSpec {
    /// Passes over the examples.
    pub epochs: u64,
    /// Examples of a step. The last batch of an epoch keeps what is left.
    pub batch: usize,
    /// T, the longest row: what is longer is cut (and counted in [`SftReport`]).
    pub max_time: usize,
    /// Leave the prompt out of the loss.
    pub mask_prompt: bool,
    /// Seed of the order; a new order each epoch.
    pub seed: u64,
}

/// What the spec does to the examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SftReport {
    /// Examples used.
    pub examples: u64,
    /// Of these, cut at the longest row.
    pub truncated: u64,
    /// Examples passed over, because no predicted token is left of them at the longest row.
    pub dropped: u64,
    /// Positions of one epoch, without padding.
    pub positions: u64,
    /// Of these, predicted ones.
    pub targets: u64,
}

/// The batches of a fine-tuning set.
#[derive(Debug, Clone)]
pub struct SftBatches {
    store: Arc<TokenStore>,
    /// The examples: the same ones whatever the seed.
    documents: Arc<[u64]>,
    report: SftReport,
    spec: SftSpec,
}

impl SftBatches {
    /// At most `examples` documents of a store whose documents are examples: a fixed sample, whatever the seed. An
    /// example whose predicted part lies wholly beyond the longest row is passed over and counted.
    ///
    /// # Errors
    /// No examples, epochs, batch or length.
    pub fn new(store: Arc<TokenStore>, examples: u64, spec: SftSpec) -> Result<Self, Error> {
        for (field, value) in [
            ("fine-tuning examples", examples.min(store.document_count())),
            ("epochs", spec.epochs),
            ("fine-tuning batch", spec.batch as u64),
            ("fine-tuning length", spec.max_time as u64),
        ] {
            if value == 0 {
                return Err(Error::field(field, 0, "must be at least 1"));
            }
        }
        let sample = Permutation::new(store.document_count(), stream_key(0, "fine-tuning subset", 0));
        let mut documents = Vec::new();
        let mut report = SftReport::default();
        for document in (0..store.document_count()).map(|i| sample.apply(i)) {
            if report.examples == examples {
                break;
            }
            let len = store.document_len(document) as usize;
            let kept = len.min(spec.max_time + 1);
            let first = if spec.mask_prompt { store.prompt_len(document).max(1) as usize } else { 1 };
            if kept <= first {
                report.dropped += 1;
                continue;
            }
            report.examples += 1;
            report.truncated += u64::from(kept < len);
            report.positions += kept as u64 - 1;
            report.targets += (kept - first) as u64;
            documents.push(document);
        }
        if documents.is_empty() {
            let limit =
                format!("leaves no predicted token of any of the {} examples of {}", report.dropped, store.name());
            return Err(Error::field("fine-tuning length", spec.max_time, limit));
        }
        Ok(Self { store, documents: documents.into(), report, spec })
    }

    /// Examples, truncations and targets.
    pub fn report(&self) -> SftReport {
        self.report
    }

    fn steps_per_epoch(&self) -> u64 {
        self.report.examples.div_ceil(self.spec.batch as u64)
    }

    /// The given documents as one batch, in order.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn rows(&self, documents: &[u64]) -> Result<Batch, Error> {
        let rows = documents
            .iter()
            .map(|d| {
                let mut tokens = self.store.document(*d)?;
                tokens.truncate(self.spec.max_time + 1);
                Ok((tokens, self.store.prompt_len(*d) as usize))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        // A document of one token predicts nothing but still needs a position.
        let time = rows.iter().map(|(t, _)| t.len().saturating_sub(1)).max().unwrap_or(0).max(1);
        let mut batch = Batch {
            time,
            inputs: vec![0; rows.len() * time],
            targets: vec![IGNORE; rows.len() * time],
            sources: vec![0; rows.len()],
        };
        for (r, (tokens, prompt)) in rows.iter().enumerate() {
            // The target at position i is token i+1; a masked prompt's own tokens are no targets.
            let first = if self.spec.mask_prompt { prompt.saturating_sub(1) } else { 0 };
            for (i, pair) in tokens.windows(2).enumerate() {
                batch.inputs[r * time + i] = pair[0] as i32;
                if i >= first {
                    batch.targets[r * time + i] = pair[1] as i32;
                }
            }
        }
        Ok(batch)
    }

    /// All examples in order, once, with the same masking: for evaluation.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn in_order(&self) -> impl Iterator<Item = Result<Batch, Error>> + '_ {
        self.documents.chunks(self.spec.batch).map(|documents| self.rows(documents))
    }
}

impl BatchSource for SftBatches {
    fn steps(&self) -> u64 {
        self.steps_per_epoch() * self.spec.epochs
    }

    fn batch(&self, step: u64) -> Result<Batch, Error> {
        let (epoch, i) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        let examples = self.report.examples;
        let order = Permutation::new(examples, stream_key(self.spec.seed, "order of fine-tuning", epoch));
        let size = self.spec.batch as u64;
        let places = i * size..((i + 1) * size).min(examples);
        let documents: Vec<u64> = places.map(|at| self.documents[order.apply(at) as usize]).collect();
        self.rows(&documents)
    }

    fn source_names(&self) -> Vec<String> {
        vec![self.store.name().to_owned()]
    }
}
