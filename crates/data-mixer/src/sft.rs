//! Fine-tuning batches: one example a row, padded to the longest of its batch, prompts masked where asked.

use std::ops::Range;
use std::sync::Arc;

use corpus::TokenStore;
use serde::{Deserialize, Serialize};

use crate::batch::check_rows;
use crate::{Batch, BatchSource, Error, IGNORE, Permutation, Replay, stream_key};

/// What happens to an example that is longer than a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Truncation {
    /// Its end is cut off.
    #[default]
    Cut,
    /// It is left out.
    Drop,
    /// It is an error.
    Refuse,
}

/// Which examples share a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Grouping {
    /// Any.
    #[default]
    Random,
    /// Examples of similar length, so that less of a batch is padding: the random order is cut into windows of 50 batches, each
    /// window's examples are sorted by length and cut into batches, and the epoch's batches are put into a random order. (As
    /// `group_by_length` of Hugging Face's trainer, which leaves out the last.)
    Length,
}

fn is_random(grouping: &Grouping) -> bool {
    *grouping == Grouping::Random
}

/// Batches whose examples are sorted together.
const WINDOW: u64 = 50;

/// How examples become batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftSpec {
    /// Passes over the examples.
    pub epochs: u64,
    /// Examples of a step. The last batch of an epoch keeps what is left.
    pub batch: usize,
    /// T, the longest row.
    pub max_time: usize,
    /// What happens to longer ones (counted in [`SftReport`]).
    pub truncation: Truncation,
    /// Leave prompts out of the loss, those of later turns too.
    pub mask_prompt: bool,
    /// Seed of the order; a new order each epoch.
    pub seed: u64,
    /// Which examples share a batch.
    #[serde(default, skip_serializing_if = "is_random")]
    pub grouping: Grouping,
}

/// What the spec does to the examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SftReport {
    /// Examples used.
    pub examples: u64,
    /// Of these, cut at the longest row.
    pub truncated: u64,
    /// Examples left out: too long where those are dropped, or without any predicted token in a row.
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
    replay: Option<Replay>,
}

impl SftBatches {
    /// At most `examples` documents of a store whose documents are examples: a fixed sample, whatever the seed. An
    /// example whose predicted part lies wholly beyond the longest row is passed over and counted.
    ///
    /// # Errors
    /// No examples, epochs, batch or length; a long example where these are refused.
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
            if kept < len && spec.truncation == Truncation::Refuse {
                let (tokens, limit) = (len as u64, spec.max_time as u64 + 1);
                return Err(Error::TooLong { store: store.name().to_owned(), document, tokens, limit });
            }
            let targets = targets(&store, document, kept, spec.mask_prompt);
            if targets == 0 || (kept < len && spec.truncation == Truncation::Drop) {
                report.dropped += 1;
                continue;
            }
            report.examples += 1;
            report.truncated += u64::from(kept < len);
            report.positions += kept as u64 - 1;
            report.targets += targets;
            documents.push(document);
        }
        if documents.is_empty() {
            let limit =
                format!("leaves no predicted token of any of the {} examples of {}", report.dropped, store.name());
            return Err(Error::field("fine-tuning length", spec.max_time, limit));
        }
        Ok(Self { store, documents: documents.into(), report, spec, replay: None })
    }

    /// The same with general text added to each batch, after the examples.
    ///
    /// # Errors
    /// Rows longer than the spec's, text of another tokenizer.
    pub fn with_replay(self, replay: Replay) -> Result<Self, Error> {
        if replay.time() > self.spec.max_time {
            let limit = format!("must not exceed the longest row, {}", self.spec.max_time);
            return Err(Error::field("length of replayed rows", replay.time(), limit));
        }
        let general = replay.sequences().tokens();
        if general.tokenizer() != self.store.tokenizer() {
            return Err(Error::Store(corpus::StoreError::Tokenizer {
                path: general.path().to_owned(),
                found: general.tokenizer().to_owned(),
                expected: self.store.tokenizer().to_owned(),
            }));
        }
        Ok(Self { replay: Some(replay), ..self })
    }

    /// Rows of general text that all epochs add.
    pub fn replayed_rows(&self) -> u64 {
        self.replayed_before(self.steps())
    }

    /// Rows of general text before a step.
    fn replayed_before(&self, step: u64) -> u64 {
        let (epoch, i) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        let examples = epoch * self.report.examples + (i * self.spec.batch as u64).min(self.report.examples);
        self.replay.as_ref().map_or(0, |replay| replay.rows_by(examples))
    }

    /// The rows of general text of a step, counted over the run.
    fn replayed(&self, step: u64) -> Range<u64> {
        self.replayed_before(step)..self.replayed_before(step + 1)
    }

    /// Positions of a step's rows: those of its longest example, or of general text where it has some and that is longer.
    fn row_length(&self, step: u64, documents: &[u64]) -> usize {
        let longest = documents.iter().map(|d| self.positions(*d)).max().unwrap_or(1);
        match &self.replay {
            Some(replay) if !self.replayed(step).is_empty() => longest.max(replay.time()),
            _ => longest,
        }
    }

    /// Examples, truncations and targets.
    pub fn report(&self) -> SftReport {
        self.report
    }

    /// Positions of the first epoch's batches, padding included.
    pub fn padded_positions(&self) -> u64 {
        let padded = |step: u64| (self.rows(step) * self.row_length(step, &self.documents(step))) as u64;
        (0..self.steps_per_epoch()).map(padded).sum()
    }

    fn steps_per_epoch(&self) -> u64 {
        self.report.examples.div_ceil(self.spec.batch as u64)
    }

    /// Positions that an example takes in a row: one at least.
    fn positions(&self, document: u64) -> usize {
        (self.store.document_len(document) as usize).min(self.spec.max_time + 1).saturating_sub(1).max(1)
    }

    /// The given documents as one batch, in order.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn batch_of(&self, documents: &[u64]) -> Result<Batch, Error> {
        let time = documents.iter().map(|d| self.positions(*d)).max().unwrap_or(1);
        self.padded(documents, time)
    }

    /// Examples as one batch, by their places among those that are used (from 0 to [`SftReport::examples`]).
    ///
    /// # Errors
    /// A place beyond the last, a store that cannot be read.
    pub fn examples(&self, places: &[u64]) -> Result<Batch, Error> {
        let document = |place: &u64| {
            let known = usize::try_from(*place).ok().and_then(|place| self.documents.get(place));
            let limit = format!("must be below {}, the examples that are used", self.documents.len());
            known.copied().ok_or_else(|| Error::field("place of an example", place, limit))
        };
        self.batch_of(&places.iter().map(document).collect::<Result<Vec<u64>, _>>()?)
    }

    fn padded(&self, documents: &[u64], time: usize) -> Result<Batch, Error> {
        let mut batch = Batch {
            time,
            inputs: vec![0; documents.len() * time],
            targets: vec![IGNORE; documents.len() * time],
            sources: vec![0; documents.len()],
            document_starts: None,
        };
        for (r, document) in documents.iter().enumerate() {
            let mut tokens = self.store.document(*document)?;
            tokens.truncate(self.spec.max_time + 1);
            let row = r * time..(r + 1) * time;
            let (inputs, targets) = (&mut batch.inputs[row.clone()], &mut batch.targets[row]);
            for (i, pair) in tokens.windows(2).enumerate() {
                inputs[i] = pair[0] as i32;
                targets[i] = pair[1] as i32;
            }
            if self.spec.mask_prompt {
                // The target at position i is token i+1: a masked token is no target.
                for masked in self.store.prompts(*document) {
                    let to = (masked.end as usize).min(tokens.len()).saturating_sub(1);
                    let from = (masked.start as usize).saturating_sub(1);
                    targets.iter_mut().take(to).skip(from).for_each(|t| *t = IGNORE);
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
        self.documents.chunks(self.spec.batch).map(|documents| self.batch_of(documents))
    }

    /// The documents of a step's batch.
    fn documents(&self, step: u64) -> Vec<u64> {
        let (epoch, i) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        let examples = self.report.examples;
        let order = Permutation::new(examples, stream_key(self.spec.seed, "order of fine-tuning", epoch));
        let size = self.spec.batch as u64;
        let at = |places: Range<u64>| places.map(|at| self.documents[order.apply(at) as usize]).collect::<Vec<_>>();
        if self.spec.grouping == Grouping::Random {
            return at(i * size..((i + 1) * size).min(examples));
        }
        // The last batch may have fewer examples: it stays the last.
        let full = examples / size;
        let batches = Permutation::new(full, stream_key(self.spec.seed, "order of batches", epoch));
        let batch = if i < full { batches.apply(i) } else { i };
        let (window, place) = (batch / WINDOW, batch % WINDOW);
        let mut documents = at(window * WINDOW * size..((window + 1) * WINDOW * size).min(examples));
        // By their places in the random order where lengths are equal.
        documents.sort_by_cached_key(|document| self.positions(*document));
        // Its shortest make the last batch, where that is not full.
        let rest = documents.len() as u64 % size;
        let from = if i < full { rest + place * size } else { 0 };
        let until = if i < full { from + size } else { rest };
        documents[from as usize..until as usize].to_vec()
    }
}

/// Predicted tokens among an example's first `kept`.
fn targets(store: &TokenStore, document: u64, kept: usize, mask_prompt: bool) -> u64 {
    let all = kept.saturating_sub(1) as u64;
    if !mask_prompt {
        return all;
    }
    // The first token is no target, masked or not.
    let masked =
        store.prompts(document).map(|m| u64::from(m.end).min(kept as u64).saturating_sub(u64::from(m.start).max(1)));
    all.saturating_sub(masked.sum())
}

impl BatchSource for SftBatches {
    fn steps(&self) -> u64 {
        self.steps_per_epoch() * self.spec.epochs
    }

    fn rows(&self, step: u64) -> usize {
        let (i, size) = (step % self.steps_per_epoch(), self.spec.batch as u64);
        let replayed = self.replayed(step);
        ((self.report.examples - i * size).min(size) + replayed.end - replayed.start) as usize
    }

    fn batch_rows(&self, step: u64, rows: Range<usize>) -> Result<Batch, Error> {
        check_rows(self, step, &rows)?;
        let documents = self.documents(step);
        // Padded to the longest of the whole batch, so that parts are slices of it.
        let time = self.row_length(step, &documents);
        let examples = rows.start.min(documents.len())..rows.end.min(documents.len());
        let mut batch = self.padded(&documents[examples], time)?;
        if let Some(replay) = &self.replay {
            let first = self.replayed(step).start;
            for row in rows.start.max(documents.len())..rows.end.max(documents.len()) {
                let mut general = Batch::empty(1, replay.time());
                replay.push(first + (row - documents.len()) as u64, 1, &mut general)?;
                batch.push_padded(&general);
            }
        }
        Ok(batch)
    }

    fn source_names(&self) -> Vec<String> {
        let own = self.store.name().to_owned();
        // Where a study fine-tunes on its own general text the two are told apart.
        let general = self.replay.as_ref().map(|replay| match replay.sequences().tokens().name() {
            name if name == own => format!("{name} (replay)"),
            name => name.to_owned(),
        });
        [own].into_iter().chain(general).collect()
    }

    fn origin(&self, step: u64, row: usize) -> Option<(String, u64)> {
        let documents = self.documents(step);
        if let Some(document) = documents.get(row) {
            return Some((self.source_names().swap_remove(0), *document));
        }
        let replay = self.replay.as_ref()?;
        let at = self.replayed(step).start + (row - documents.len()) as u64;
        Some((self.source_names().pop()?, replay.sequence(at)))
    }
}
