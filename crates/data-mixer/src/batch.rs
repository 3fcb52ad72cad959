//! A batch of token rows, and where batches come from.

use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

use crate::Error;

/// The target of a position that is not predicted.
pub const IGNORE: i32 = -1;
/// The same in Hugging Face's and PyTorch's files; [`Batch::new`] takes it for [`IGNORE`].
pub const HUGGING_FACE_IGNORE: i32 = -100;

/// Rows of equal length.
///
/// ```
/// use data_mixer::{Batch, IGNORE};
///
/// // Two rows of three positions; the first position of each predicts nothing.
/// let batch = Batch::new(3, vec![5, 6, 7, 5, 8, 9], vec![-100, 7, 8, IGNORE, 9, 5], vec![0, 1])?;
/// assert_eq!((batch.rows(), batch.target_count()), (2, 4));
/// # Ok::<(), data_mixer::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// T, positions of a row: at least 1.
    pub(crate) time: usize,
    /// Token ids, `[rows, T]`.
    pub(crate) inputs: Vec<i32>,
    /// What each position predicts, `[rows, T]`; [`IGNORE`] for none.
    pub(crate) targets: Vec<i32>,
    /// Each row's source, an index into [`BatchSource::source_names`].
    pub(crate) sources: Vec<u16>,
    /// The position in its row at which each position's document begins, `[rows, T]`, where attention is to stop there.
    pub(crate) document_starts: Option<Vec<i32>>,
}

impl Batch {
    /// Rows of `time` token ids, what each position predicts, and each row's source.
    ///
    /// # Errors
    /// Rows without positions; another number of inputs or targets than rows times `time`; ids below 0; targets below 0 other than
    /// [`IGNORE`] and [`HUGGING_FACE_IGNORE`].
    pub fn new(time: usize, inputs: Vec<i32>, targets: Vec<i32>, sources: Vec<u16>) -> Result<Self, Error> {
        if time == 0 {
            return Err(Error::field("time of a batch", time, "must be at least 1"));
        }
        let places = sources.len().saturating_mul(time);
        for (field, found) in [("inputs", inputs.len()), ("targets", targets.len())] {
            if found != places {
                let limit = format!("must be {places}: {} rows (one a source) of {time}", sources.len());
                return Err(Error::field(format!("{field} of a batch"), found, limit));
            }
        }
        let at = |place: usize| format!("row {}, position {}", place / time, place % time);
        if let Some(place) = inputs.iter().position(|id| *id < 0) {
            let field = format!("token id of {}", at(place));
            return Err(Error::field(field, inputs[place], "must not be negative"));
        }
        let mut targets = targets;
        for target in targets.iter_mut().filter(|target| **target == HUGGING_FACE_IGNORE) {
            *target = IGNORE;
        }
        if let Some(place) = targets.iter().position(|target| *target < IGNORE) {
            let limit = format!("must not be negative, but for {IGNORE} and {HUGGING_FACE_IGNORE}: not predicted");
            return Err(Error::field(format!("target of {}", at(place)), targets[place], limit));
        }
        Ok(Self { time, inputs, targets, sources, document_starts: None })
    }

    /// The same, in which attention stops at the beginnings of documents: for each position the place in its row where its document
    /// begins.
    ///
    /// # Errors
    /// Another number of places than positions, a place after its position or below 0.
    pub fn with_document_starts(self, starts: Vec<i32>) -> Result<Self, Error> {
        if starts.len() != self.inputs.len() {
            let limit = format!("must be {}, one a position", self.inputs.len());
            return Err(Error::field("document starts of a batch", starts.len(), limit));
        }
        let outside = |(place, start): (usize, &i32)| *start < 0 || *start as usize > place % self.time;
        if let Some(place) = starts.iter().enumerate().position(outside) {
            let (row, position) = (place / self.time, place % self.time);
            let field = format!("document start of row {row}, position {position}");
            return Err(Error::field(field, starts[place], format!("must be from 0 to {position}")));
        }
        Ok(Self { document_starts: Some(starts), ..self })
    }

    /// Rows of zeros, of source 0; with document starts where asked.
    pub(crate) fn zeros(rows: usize, time: usize, document_starts: bool) -> Self {
        Self {
            time,
            inputs: vec![0; rows * time],
            targets: vec![0; rows * time],
            sources: vec![0; rows],
            document_starts: document_starts.then(|| vec![0; rows * time]),
        }
    }

    /// An empty batch with room for rows.
    pub(crate) fn empty(rows: usize, time: usize) -> Self {
        Self {
            time,
            inputs: Vec::with_capacity(rows * time),
            targets: Vec::with_capacity(rows * time),
            sources: Vec::with_capacity(rows),
            document_starts: None,
        }
    }

    /// T, positions of a row: at least 1.
    pub fn time(&self) -> usize {
        self.time
    }

    /// Token ids, `[rows, T]`: none below 0.
    pub fn inputs(&self) -> &[i32] {
        &self.inputs
    }

    /// What each position predicts, `[rows, T]`; [`IGNORE`] for none, else not below 0.
    pub fn targets(&self) -> &[i32] {
        &self.targets
    }

    /// Each row's source, an index into [`BatchSource::source_names`].
    pub fn sources(&self) -> &[u16] {
        &self.sources
    }

    /// The position in its row at which each position's document begins, `[rows, T]`, where attention is to stop there.
    pub fn document_starts(&self) -> Option<&[i32]> {
        self.document_starts.as_deref()
    }

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
            targets: self.targets[tokens.clone()].to_vec(),
            sources: self.sources[rows].to_vec(),
            document_starts: self.document_starts.as_ref().map(|starts| starts[tokens].to_vec()),
        }
    }

    /// Appends rows that are no longer than its own, padded.
    pub(crate) fn push_padded(&mut self, rows: &Self) {
        for row in 0..rows.rows() {
            let tokens = row * rows.time..(row + 1) * rows.time;
            let padding = self.time - rows.time;
            self.inputs.extend(&rows.inputs[tokens.clone()]);
            self.inputs.extend(std::iter::repeat_n(0, padding));
            self.targets.extend(&rows.targets[tokens]);
            self.targets.extend(std::iter::repeat_n(IGNORE, padding));
            self.sources.push(rows.sources[row]);
            if let Some(starts) = &rows.document_starts {
                // Rows before are a document each; padding attends to nothing that matters.
                let before = (self.sources.len() - 1) * self.time;
                let own = self.document_starts.get_or_insert_with(|| vec![0; before]);
                own.resize(before, 0);
                own.extend(&starts[row * rows.time..(row + 1) * rows.time]);
                own.extend(std::iter::repeat_n(0, padding));
            }
        }
    }

    /// Positions computed of each source: its rows times T, padding included.
    pub fn tokens_by_source(&self, sources: usize) -> Vec<u64> {
        let mut tokens = vec![0; sources];
        for source in &self.sources {
            if let Some(n) = tokens.get_mut(usize::from(*source)) {
                *n += self.time as u64;
            }
        }
        tokens
    }

    /// A digest of everything that a model reads.
    pub fn digest(&self) -> u64 {
        self.digest_from(0)
    }

    /// The digest of these rows as a part of a batch, in which `first` is the place of the first of them: the sum, modulo 2⁶⁴,
    /// of each row's hash (xxh3 of its length and content, seeded by its place). So the digests of parts add up to that of
    /// the batch: ranks need exchange a number each to know that of the global batch.
    pub fn digest_from(&self, first: usize) -> u64 {
        let row = |row: usize| {
            let mut hash = Xxh3::with_seed((first + row) as u64);
            hash.update(&(self.time as u64).to_le_bytes());
            for values in [&self.inputs, &self.targets].into_iter().chain(&self.document_starts) {
                let mut bytes = [0u8; 4096];
                for chunk in values[row * self.time..(row + 1) * self.time].chunks(bytes.len() / 4) {
                    for (b, v) in bytes.chunks_exact_mut(4).zip(chunk) {
                        b.copy_from_slice(&v.to_le_bytes());
                    }
                    hash.update(&bytes[..chunk.len() * 4]);
                }
            }
            hash.digest()
        };
        (0..self.rows()).fold(0, |sum, i| sum.wrapping_add(row(i)))
    }
}

/// Batches by step: a pure function, so that a run can be resumed or inspected anywhere.
pub trait BatchSource: Send + Sync {
    /// Steps there are.
    fn steps(&self) -> u64;

    /// Rows of a step's global batch.
    fn rows(&self, step: u64) -> usize;

    /// Some rows of a step's global batch: the same as [`Batch::slice`] of the whole, without making the others.
    ///
    /// # Errors
    /// A step or row that there is not, data that cannot be read.
    fn batch_rows(&self, step: u64, rows: Range<usize>) -> Result<Batch, Error>;

    /// Names of the sources that rows refer to.
    fn source_names(&self) -> Vec<String>;

    /// What a row of a step's batch was made of: its source's name and which of its sequences or examples. `None` where it cannot be
    /// said.
    fn origin(&self, _step: u64, _row: usize) -> Option<(String, u64)> {
        None
    }

    /// Says that rows of a step's batch are wanted soon, so that their data are in memory by then. A hint: nothing may come of
    /// it, and rows that there are not ask for nothing.
    fn will_need(&self, _step: u64, _rows: Range<usize>) {}

    /// The global batch of a step.
    ///
    /// # Errors
    /// A step that there is not, data that cannot be read.
    fn batch(&self, step: u64) -> Result<Batch, Error> {
        self.batch_rows(step, 0..self.rows(step))
    }
}

/// The step and rows asked for must exist.
pub(crate) fn check_rows(source: &dyn BatchSource, step: u64, rows: &Range<usize>) -> Result<(), Error> {
    if step >= source.steps() {
        return Err(Error::field("step", step, format!("must be below {}", source.steps())));
    }
    let all = source.rows(step);
    if rows.start > rows.end || rows.end > all {
        return Err(Error::field("rows", format!("{}..{}", rows.start, rows.end), format!("must lie in 0..{all}")));
    }
    Ok(())
}

/// One rank's part of every batch: consecutive rows, equal in number up to one. The ranks' parts together are the
/// global batch, in order, whatever their number.
#[derive(Debug, Clone)]
pub struct RankView<S> {
    source: S,
    rank: usize,
    ranks: usize,
}

impl<S: BatchSource> RankView<S> {
    /// The part of `rank` of `ranks`.
    ///
    /// # Errors
    /// No ranks, or a rank that is not among them.
    pub fn new(source: S, rank: usize, ranks: usize) -> Result<Self, Error> {
        if rank >= ranks {
            return Err(Error::field("rank", rank, format!("must be below ranks = {ranks}")));
        }
        Ok(Self { source, rank, ranks })
    }

    /// Its rows of a step's global batch.
    pub fn range(&self, step: u64) -> Range<usize> {
        let all = self.source.rows(step);
        all * self.rank / self.ranks..all * (self.rank + 1) / self.ranks
    }
}

impl<S: BatchSource> BatchSource for RankView<S> {
    fn steps(&self) -> u64 {
        self.source.steps()
    }

    fn rows(&self, step: u64) -> usize {
        self.range(step).len()
    }

    fn batch_rows(&self, step: u64, rows: Range<usize>) -> Result<Batch, Error> {
        check_rows(self, step, &rows)?;
        let first = self.range(step).start;
        self.source.batch_rows(step, first + rows.start..first + rows.end)
    }

    fn source_names(&self) -> Vec<String> {
        self.source.source_names()
    }

    fn origin(&self, step: u64, row: usize) -> Option<(String, u64)> {
        self.source.origin(step, self.range(step).start + row)
    }

    fn will_need(&self, step: u64, rows: Range<usize>) {
        let first = self.range(step).start;
        self.source.will_need(step, first + rows.start..first + rows.end);
    }
}

impl<S: BatchSource + ?Sized> BatchSource for &S {
    fn steps(&self) -> u64 {
        (**self).steps()
    }

    fn rows(&self, step: u64) -> usize {
        (**self).rows(step)
    }

    fn batch_rows(&self, step: u64, rows: Range<usize>) -> Result<Batch, Error> {
        (**self).batch_rows(step, rows)
    }

    fn source_names(&self) -> Vec<String> {
        (**self).source_names()
    }

    fn origin(&self, step: u64, row: usize) -> Option<(String, u64)> {
        (**self).origin(step, row)
    }

    fn will_need(&self, step: u64, rows: Range<usize>) {
        (**self).will_need(step, rows);
    }
}
