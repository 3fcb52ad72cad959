//! What a run has seen: a digest and the tokens of each source, step by step.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use atomic_file::AtomicFile;
use schedule::{Step, Tokens};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::{Batch, BatchSource, Error};

/// A chain of batch digests: two runs with the same head saw the same batches in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LedgerHead(pub u64);

impl LedgerHead {
    /// The head after one more batch.
    #[must_use]
    pub fn append(self, batch_digest: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0.to_le_bytes());
        bytes[8..].copy_from_slice(&batch_digest.to_le_bytes());
        Self(xxh3_64(&bytes))
    }
}

impl std::fmt::Display for LedgerHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The file's first line.
const TITLE: &str = "midtrain ledger 2";
/// That of files whose digests are others.
const EARLIER: &str = "midtrain ledger 1";

/// A run's ledger, in memory: from plans it can be computed without training, from a run's file it is read.
///
/// ```
/// # use data_mixer::{Batch, Ledger};
/// let batch = |id| Batch::new(2, vec![id, 7], vec![7, 8], vec![0]).unwrap();
/// let mut a = Ledger::new(0, vec!["C4".into(), "Starcoder".into()]);
/// let mut b = a.clone();
/// for step in 0..10 {
///     a.record(&batch(step));
///     b.record(&batch(if step < 6 { step } else { 40 + step }));
/// }
/// let diff = a.diff(&b);
/// assert_eq!(diff.first_difference.map(|step| step.0), Some(6));
/// assert_eq!((diff.equal, diff.different), (6, 4));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    sources: Vec<String>,
    /// The first step recorded.
    first: u64,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    digest: u64,
    /// Of this and all steps before, by source.
    tokens: Vec<u64>,
}

/// How two runs' data differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerDiff {
    /// Steps that both have recorded.
    pub common: u64,
    /// Of these, with the same batch.
    pub equal: u64,
    /// Of these, with another.
    pub different: u64,
    /// The first with another.
    pub first_difference: Option<Step>,
    /// Source, tokens by the last common step in the one run and in the other (0 where it does not have the source).
    pub tokens: Vec<(String, Tokens, Tokens)>,
}

impl Ledger {
    /// An empty ledger of a run that starts at a step.
    pub fn new(first: u64, sources: Vec<String>) -> Self {
        Self { sources, first, entries: Vec::new() }
    }

    /// What a run will see, without running it.
    ///
    /// # Errors
    /// Unavailable batches.
    pub fn of(source: &dyn BatchSource, steps: Range<u64>) -> Result<Self, Error> {
        let mut ledger = Self::new(steps.start, source.source_names());
        for step in steps {
            ledger.record(&source.batch(step)?);
        }
        Ok(ledger)
    }

    /// Adds the next step's batch.
    pub fn record(&mut self, batch: &Batch) {
        let mut tokens = batch.tokens_by_source(self.sources.len());
        if let Some(last) = self.entries.last() {
            tokens.iter_mut().zip(&last.tokens).for_each(|(n, before)| *n = n.saturating_add(*before));
        }
        self.entries.push(Entry { digest: batch.digest(), tokens });
    }

    /// The steps recorded.
    pub fn steps(&self) -> Range<u64> {
        self.first..self.first + self.entries.len() as u64
    }

    /// The digest of a step's batch, if it is recorded.
    pub fn digest(&self, step: Step) -> Option<u64> {
        let entry = step.0.checked_sub(self.first)?;
        self.entries.get(usize::try_from(entry).ok()?).map(|e| e.digest)
    }

    /// Tokens of each source in the recorded steps before this one.
    pub fn seen_by(&self, step: Step) -> Vec<(&str, Tokens)> {
        let n = step.0.saturating_sub(self.first).min(self.entries.len() as u64) as usize;
        let tokens = |i: usize| n.checked_sub(1).map_or(0, |last| self.entries[last].tokens[i]);
        self.sources.iter().enumerate().map(|(i, name)| (name.as_str(), Tokens(tokens(i)))).collect()
    }

    /// Checks that every step before this one is recorded.
    ///
    /// # Errors
    /// A step before the first or after the last recorded one.
    pub fn covers(&self, step: Step) -> Result<(), Error> {
        let Range { start, end } = self.steps();
        if step.0 < start || step.0 > end {
            return Err(Error::field("step", step, format!("must be from {start} to {end}, what is recorded")));
        }
        Ok(())
    }

    /// The ledger of a run that this one began and another continued. Where they overlap the other is right: it began
    /// at a checkpoint that this one was ahead of.
    ///
    /// # Errors
    /// Another that begins after the end of this one, or before its beginning.
    pub fn then(mut self, next: &Self) -> Result<Self, Error> {
        self.covers(Step(next.first))?;
        for name in &next.sources {
            if !self.sources.contains(name) {
                self.sources.push(name.clone());
                self.entries.iter_mut().for_each(|e| e.tokens.push(0));
            }
        }
        self.entries.truncate((next.first - self.first) as usize);
        let before = self.entries.last().map_or_else(|| vec![0; self.sources.len()], |e| e.tokens.clone());
        let places: Vec<Option<usize>> =
            self.sources.iter().map(|name| next.sources.iter().position(|n| n == name)).collect();
        let joined = next.entries.iter().map(|entry| {
            let own = places.iter().map(|place| place.map_or(0, |i| entry.tokens[i]));
            Entry { digest: entry.digest, tokens: before.iter().zip(own).map(|(a, b)| a.saturating_add(b)).collect() }
        });
        self.entries.extend(joined);
        Ok(self)
    }

    /// Where another run saw something else.
    pub fn diff(&self, other: &Self) -> LedgerDiff {
        let steps = self.first.max(other.first)..self.steps().end.min(other.steps().end);
        let mut diff = LedgerDiff { common: 0, equal: 0, different: 0, first_difference: None, tokens: Vec::new() };
        for step in steps.clone().map(Step) {
            diff.common += 1;
            if self.digest(step) == other.digest(step) {
                diff.equal += 1;
            } else {
                diff.different += 1;
                diff.first_difference.get_or_insert(step);
            }
        }
        let end = Step(steps.end.max(steps.start));
        let theirs = other.seen_by(end);
        let of = |name: &str| theirs.iter().find(|(n, _)| *n == name).map_or(Tokens(0), |(_, t)| *t);
        diff.tokens = self.seen_by(end).into_iter().map(|(name, tokens)| (name.to_owned(), tokens, of(name))).collect();
        let others = theirs.iter().filter(|(name, _)| !self.sources.iter().any(|s| s == name));
        diff.tokens.extend(others.map(|(name, tokens)| ((*name).to_owned(), Tokens(0), *tokens)));
        diff
    }

    /// Reads a run's file. A last line that a kill left unfinished is passed over.
    ///
    /// # Errors
    /// A file that cannot be read or is no ledger.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let mut lines = BufReader::new(File::open(path).map_err(io)?);
        let (mut text, mut number) = (String::new(), 0);
        let mut next = |text: &mut String| -> Result<bool, Error> {
            text.clear();
            number += 1;
            lines.read_line(text).map_err(io)?;
            Ok(text.ends_with('\n'))
        };
        let broken = |line: u64, reason: &str| Error::Ledger { path: path.to_owned(), line, reason: reason.into() };
        let whole = next(&mut text)?;
        if whole && text.trim_end() == EARLIER {
            return Err(broken(
                1,
                "was written by an earlier version, whose digests are others: delete it, and it is made again",
            ));
        }
        if !whole || text.trim_end() != TITLE {
            return Err(broken(1, &format!("is no ledger: it does not begin with {TITLE:?}")));
        }
        if !next(&mut text)? {
            return Err(broken(2, "the names of the sources are missing"));
        }
        let sources: Vec<String> =
            serde_json::from_str(&text).map_err(|e| broken(2, &format!("the names of the sources: {e}")))?;
        let mut ledger = Self::new(0, sources);
        let mut line = 2;
        while next(&mut text)? {
            line += 1;
            let (step, entry) =
                ledger.parse(&text).ok_or_else(|| broken(line, "must be: step, digest, tokens by source"))?;
            if ledger.entries.is_empty() {
                ledger.first = step;
            } else if step != ledger.steps().end {
                return Err(broken(line, &format!("step {step} follows step {}", ledger.steps().end - 1)));
            }
            ledger.entries.push(entry);
        }
        Ok(ledger)
    }

    fn parse(&self, line: &str) -> Option<(u64, Entry)> {
        let mut fields = line.split_whitespace();
        // Steps are counted on from it.
        let step = fields.next()?.parse().ok().filter(|step| *step < u64::MAX / 2)?;
        let digest = u64::from_str_radix(fields.next()?, 16).ok()?;
        let tokens = fields.map(|f| f.parse().ok()).collect::<Option<Vec<u64>>>()?;
        (tokens.len() == self.sources.len()).then_some((step, Entry { digest, tokens }))
    }

    fn line(&self, step: u64) -> String {
        let entry = &self.entries[(step - self.first) as usize];
        let mut line = format!("{step} {:016x}", entry.digest);
        for tokens in &entry.tokens {
            let _ = write!(line, " {tokens}");
        }
        line.push('\n');
        line
    }

    fn head(&self) -> String {
        let names = serde_json::to_string(&self.sources).expect("a list of strings is JSON");
        format!("{TITLE}\n{names}\n")
    }
}

/// Writes a run's ledger while it runs.
#[derive(Debug)]
pub struct LedgerFile {
    path: PathBuf,
    file: File,
    ledger: Ledger,
}

/// Where a run goes on, and what it has seen for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerSpan {
    /// A step from which on the file must hold all, and the head there. It may hold what was before.
    pub begins: (u64, LedgerHead),
    /// The step that the run goes on at, and the head there.
    pub goes_on: (u64, LedgerHead),
}

impl LedgerFile {
    /// Opens a run's file at the step from which it goes on.
    ///
    /// 1. Later steps, seen before a kill, are forgotten.
    /// 2. Steps that the file does not hold, because it is gone or ends too early, are made again from the run's batches.
    /// 3. The whole must lead from the one head to the other: else the run has seen other data than these batches.
    ///
    /// # Errors
    /// A file that cannot be read or written, is no ledger or of other sources; batches that are not those of the run.
    pub fn open(path: &Path, span: LedgerSpan, batches: &dyn BatchSource) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let LedgerSpan { begins: (begin, first), goes_on: (step, last) } = span;
        let mut ledger = Ledger::new(begin, batches.source_names());
        // A kill or a power cut may leave less than its first lines.
        let head = ledger.head();
        let found = match std::fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            found => found.map_err(io)?,
        };
        let begun = !head.as_bytes().starts_with(&found);
        if begun {
            let mut old = Ledger::read(path)?;
            if old.sources != ledger.sources {
                let limit = format!("differ from this run's: {}", ledger.sources.join(", "));
                return Err(Error::field(format!("sources of {}", path.display()), old.sources.join(", "), limit));
            }
            // One that begins earlier holds what led here too; one that does not reach here is of another stretch.
            if old.first <= begin && begin <= old.steps().end {
                old.entries.truncate(usize::try_from(step.saturating_sub(old.first)).unwrap_or(usize::MAX));
                ledger = old;
            }
        }
        for step in ledger.steps().end..step {
            ledger.record(&batches.batch(step)?);
        }
        let here = ledger.entries.iter().skip(usize::try_from(begin - ledger.first).unwrap_or(usize::MAX));
        let found = here.fold(first, |head, entry| head.append(entry.digest));
        if found != last {
            let limit = format!("is not that of the run, {last}: the run has seen other data by step {step}");
            return Err(Error::field(format!("ledger of {}", path.display()), found, limit));
        }
        let mut text = ledger.head();
        ledger.steps().for_each(|step| text.push_str(&ledger.line(step)));
        let mut begun = AtomicFile::create(path).map_err(io)?;
        begun.write_all(text.as_bytes()).map_err(io)?;
        let file = begun.commit().map_err(io)?;
        Ok(Self { path: path.to_owned(), file, ledger })
    }

    /// Adds the next step's batch.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn record(&mut self, batch: &Batch) -> Result<(), Error> {
        self.ledger.record(batch);
        let line = self.ledger.line(self.ledger.steps().end - 1);
        self.file.write_all(line.as_bytes()).map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    /// The file, to be brought to the disk by whoever makes something that relies on it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What is recorded so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
