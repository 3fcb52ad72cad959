//! Contamination: which documents of evaluation sets occur, in part, in a training store, and in which of its documents.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::{StoreError, TokenStore};

/// The base of the rolling hash, and its modulus 2⁶¹ − 1.
const BASE: u64 = 0x1FFF_0A37_5E1C_9B4D;
const MODULUS: u64 = (1 << 61) - 1;
/// Training tokens that one task looks through.
const TASK: u64 = 1 << 20;
/// The most evaluation sets of an index: each is a bit.
const MAX_SETS: usize = 64;

/// All sequences of n tokens in evaluation sets, within documents and without their end tokens.
///
/// A document shorter than n (its end token left out) has none: it is counted as too short to judge. n = 13 is usual
/// (Brown et al. 2020).
///
/// 1. Each different sequence is kept once, with the sets that it is in, under its hash; sequences of one hash are a chain
///    and are told apart token by token. So a text that repeats itself takes no more than one that does not.
/// 2. A training store is passed once, whatever the number of sets: each of its sequences is looked up, and compared token by
///    token. Time is linear in both sides.
#[derive(Debug)]
pub struct NgramIndex<'a> {
    sets: Vec<&'a TokenStore>,
    n: usize,
    /// By hash, the first of its chain.
    first: HashMap<u64, u32, BuildHasherDefault<Itself>>,
    grams: Vec<Gram>,
    /// The sequences of each set's documents, in order.
    sequences: Vec<Vec<u32>>,
    /// BASE^(n−1).
    top: u64,
}

/// A sequence of n tokens.
#[derive(Debug)]
struct Gram {
    /// Where it first occurs: a token position of a set.
    place: u64,
    set: u8,
    /// The sets that it occurs in, a bit each.
    sets: u64,
    /// Another one of the same hash.
    next: Option<std::num::NonZeroU32>,
}

/// What an evaluation set has in common with a training store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Overlap {
    /// Tokens of a sequence.
    pub n: usize,
    /// Documents evaluated.
    pub documents: u64,
    /// Of these, too short to judge.
    pub too_short: u64,
    /// Of these, with at least one sequence that the training store has too.
    pub contaminated: u64,
    /// Sequences in the evaluated documents.
    pub sequences: u64,
    /// Of these, in the training store too.
    pub shared: u64,
    /// Contaminated documents: number, shared sequences, sequences; the most shared first.
    pub worst: Vec<(u64, u64, u64)>,
    /// Training documents with at least one of the set's sequences.
    pub holders: u64,
}

/// What evaluation sets have in common with a training store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Contamination {
    /// By set, in the index's order.
    pub sets: Vec<Overlap>,
    /// The training documents with a sequence of any set, ascending.
    pub documents: Vec<u64>,
}

impl<'a> NgramIndex<'a> {
    /// Of evaluation sets of one tokenizer. It is held in memory: at most about 60 bytes a token.
    ///
    /// # Errors
    /// n of zero, no set or more than 64, sets of different tokenizers, a store that cannot be read.
    pub fn new(sets: &[&'a TokenStore], n: usize) -> Result<Self, StoreError> {
        let path = sets.first().map_or_else(Default::default, |set| set.path().to_owned());
        let format = |reason: String| StoreError::Format { path: path.clone(), reason };
        if n == 0 {
            return Err(format("n = 0 must be at least 1".to_owned()));
        }
        if !(1..=MAX_SETS).contains(&sets.len()) {
            return Err(format(format!("evaluation sets = {} must be from 1 to {MAX_SETS}", sets.len())));
        }
        let top = (1..n).fold(1, |power, _| multiply(power, BASE));
        let (first, grams, sequences) = (HashMap::default(), Vec::new(), Vec::new());
        let mut index = Self { sets: sets.to_vec(), n, first, grams, sequences, top };
        for (place, set) in sets.iter().enumerate() {
            index.check_tokenizer(set)?;
            index.add(place)?;
        }
        Ok(index)
    }

    fn add(&mut self, set: usize) -> Result<(), StoreError> {
        let store = self.sets[set];
        let (mut sequences, mut buffer) = (Vec::new(), vec![0; self.n]);
        for document in 0..store.document_count() {
            let range = body(store, document);
            let tokens = read(store, range.clone())?;
            let mut hashes = Vec::new();
            self.rolling(&tokens, |at, hash| hashes.push((at, hash)));
            for (at, hash) in hashes {
                let known = self.find(hash, &tokens[at..at + self.n], &mut buffer)?;
                let gram = match known {
                    Some(gram) => gram,
                    None => self.insert(hash, set, range.start + at as u64)?,
                };
                self.grams[gram as usize].sets |= 1 << set;
                sequences.push(gram);
            }
        }
        self.sequences.push(sequences);
        Ok(())
    }

    /// A new sequence, in front of its chain.
    fn insert(&mut self, hash: u64, set: usize, place: u64) -> Result<u32, StoreError> {
        // Chains name their members plus one.
        let number = u32::try_from(self.grams.len()).ok().filter(|n| *n < u32::MAX).ok_or_else(|| {
            let reason = "evaluation sets hold more than 4 billion different sequences".to_owned();
            StoreError::Format { path: self.sets[set].path().to_owned(), reason }
        })?;
        let next = self.first.insert(hash, number).and_then(|before| std::num::NonZeroU32::new(before + 1));
        self.grams.push(Gram { place, set: set as u8, sets: 0, next });
        Ok(number)
    }

    /// The sequence with these tokens. `buffer`: n tokens.
    fn find(&self, hash: u64, tokens: &[u32], buffer: &mut [u32]) -> Result<Option<u32>, StoreError> {
        let mut next = self.first.get(&hash).copied();
        while let Some(number) = next {
            let gram = &self.grams[number as usize];
            self.sets[usize::from(gram.set)].read(gram.place, buffer)?;
            if buffer == tokens {
                return Ok(Some(number));
            }
            next = gram.next.map(|n| n.get() - 1);
        }
        Ok(None)
    }

    /// Calls `each(start, hash)` for every n tokens.
    fn rolling(&self, tokens: &[u32], mut each: impl FnMut(usize, u64)) {
        let mut hash = 0;
        for (i, token) in tokens.iter().enumerate() {
            if i >= self.n {
                let gone = multiply(digit(tokens[i - self.n]), self.top);
                hash = reduce(hash + MODULUS - gone);
            }
            hash = reduce(multiply(hash, BASE) + digit(*token));
            if i + 1 >= self.n {
                each(i + 1 - self.n, hash);
            }
        }
    }

    fn check_tokenizer(&self, store: &TokenStore) -> Result<(), StoreError> {
        let expected = self.sets[0].tokenizer();
        if store.tokenizer() == expected {
            return Ok(());
        }
        let (found, expected) = (store.tokenizer().to_owned(), expected.to_owned());
        Err(StoreError::Tokenizer { path: store.path().to_owned(), found, expected })
    }

    /// Compares with a training store, of the same tokenizer, on all cores.
    ///
    /// # Errors
    /// Another tokenizer's store, or one that cannot be read.
    pub fn contamination(&self, training: &TokenStore) -> Result<Contamination, StoreError> {
        self.contamination_while(training, &|| true)
    }

    /// The same, as long as `go_on` says so: it is asked every million tokens. What is found after that is not all.
    ///
    /// # Errors
    /// As [`contamination`](Self::contamination).
    pub fn contamination_while(
        &self,
        training: &TokenStore,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<Contamination, StoreError> {
        self.search_all(training, TASK, go_on)
    }

    fn search_all(
        &self,
        training: &TokenStore,
        size: u64,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<Contamination, StoreError> {
        self.check_tokenizer(training)?;
        let found: Vec<AtomicU64> = (0..self.grams.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let tasks = training.token_count().div_ceil(size);
        let held = (0..tasks)
            .into_par_iter()
            .map(|task| match go_on() {
                true => self.search(training, task * size..(task + 1) * size, &found),
                false => Ok(Vec::new()),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut held = held.concat();
        held.sort_unstable();
        // A document that several tasks looked through is one.
        held.dedup_by(|later, first| {
            let same = later.0 == first.0;
            first.1 |= if same { later.1 } else { 0 };
            same
        });
        let holders = |set: usize| held.iter().filter(|(_, sets)| sets >> set & 1 == 1).count() as u64;
        let report = |set| Overlap { holders: holders(set), ..self.report(set, &found) };
        Ok(Contamination {
            sets: (0..self.sets.len()).map(report).collect(),
            documents: held.into_iter().map(|(document, _)| document).collect(),
        })
    }

    /// Marks the sequences that begin in one task's part, and gives the documents that hold them with their sets.
    fn search(
        &self,
        training: &TokenStore,
        task: Range<u64>,
        found: &[AtomicU64],
    ) -> Result<Vec<(u64, u64)>, StoreError> {
        let (from, to) = (task.start, task.end.min(training.token_count()));
        let (mut held, mut buffer) = (Vec::new(), vec![0; self.n]);
        for document in training.documents_in(from..to) {
            // Sequences that begin before this part are another task's.
            let begin = document.start.max(from);
            let end = (document.end - 1).min(to + self.n as u64 - 1);
            if begin >= end {
                continue;
            }
            let tokens = read(training, begin..end)?;
            let mut candidates = Vec::new();
            self.rolling(&tokens, |at, hash| {
                if self.first.contains_key(&hash) {
                    candidates.push((at, hash));
                }
            });
            let mut sets = 0;
            for (at, hash) in candidates {
                if let Some(gram) = self.find(hash, &tokens[at..at + self.n], &mut buffer)? {
                    sets |= self.grams[gram as usize].sets;
                    found[gram as usize / 64].fetch_or(1 << (gram % 64), Ordering::Relaxed);
                }
            }
            if let Some(number) = training.document_of(document.start).filter(|_| sets != 0) {
                held.push((number, sets));
            }
        }
        Ok(held)
    }

    fn report(&self, set: usize, found: &[AtomicU64]) -> Overlap {
        let store = self.sets[set];
        let mut overlap = Overlap { n: self.n, documents: store.document_count(), ..Overlap::default() };
        let mut rest = &self.sequences[set][..];
        for document in 0..overlap.documents {
            let range = body(store, document);
            let sequences = (range.end - range.start + 1).saturating_sub(self.n as u64);
            let (own, others) = rest.split_at(sequences as usize);
            rest = others;
            let is_found = |gram: &&u32| found[**gram as usize / 64].load(Ordering::Relaxed) >> (**gram % 64) & 1 == 1;
            let shared = own.iter().filter(is_found).count() as u64;
            overlap.sequences += sequences;
            overlap.shared += shared;
            overlap.too_short += u64::from(sequences == 0);
            if shared > 0 {
                overlap.contaminated += 1;
                overlap.worst.push((document, shared, sequences));
            }
        }
        // By the part that is shared; exact, because a·d > b·c compares a/c with b/d.
        let times = |a: u64, b: u64| u128::from(a) * u128::from(b);
        overlap.worst.sort_by(|a, b| times(b.1, a.2).cmp(&times(a.1, b.2)).then(a.0.cmp(&b.0)));
        overlap
    }
}

/// A document's tokens without its end token.
fn body(store: &TokenStore, document: u64) -> Range<u64> {
    let range = store.document_range(document).unwrap_or_default();
    range.start..range.end.saturating_sub(1).max(range.start)
}

fn read(store: &TokenStore, range: Range<u64>) -> Result<Vec<u32>, StoreError> {
    let mut tokens = vec![0; (range.end - range.start) as usize];
    store.read(range.start, &mut tokens)?;
    Ok(tokens)
}

/// A token as a digit: none is zero, so that lengths matter.
fn digit(token: u32) -> u64 {
    u64::from(token) + 1
}

fn multiply(a: u64, b: u64) -> u64 {
    // 2⁶¹ leaves 1: the high part counts as it is.
    let product = u128::from(a) * u128::from(b);
    reduce((product as u64 & MODULUS) + (product >> 61) as u64)
}

/// A number below twice the modulus, less the modulus where it can be.
fn reduce(number: u64) -> u64 {
    if number >= MODULUS { number - MODULUS } else { number }
}

/// A hash of what is a hash already.
#[derive(Debug, Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole numbers are hashed")
    }

    fn write_u64(&mut self, number: u64) {
        // Tables take the high bits too: the modulus leaves three of them zero.
        self.0 = number.rotate_left(32) ^ number << 3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StoreDocument, StoreInfo, StoreWriter};

    /// However a store is cut among tasks, the same is found: what begins before a border and ends after it too.
    #[test]
    fn borders_of_tasks_hide_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = |name: &str, documents: &[Vec<u32>]| {
            let path = dir.path().join(name);
            let mut writer = StoreWriter::create(&path, StoreInfo::new(name, "t", 1000)).unwrap();
            for tokens in documents {
                writer.push(StoreDocument { tokens, ..Default::default() }).unwrap();
            }
            writer.finish().unwrap();
            TokenStore::open(&path).unwrap()
        };
        let document = |from: u32, len: u32| (from..from + len).chain([0]).collect::<Vec<u32>>();
        let training = store("train", &[document(1, 40), document(60, 7), document(30, 25), document(200, 3)]);
        let evaluated = store("eval", &[document(8, 9), document(33, 30), document(61, 5), document(201, 2)]);
        let index = NgramIndex::new(&[&evaluated], 4).unwrap();
        let whole = index.contamination(&training).unwrap();
        assert_eq!(whole.documents, [0, 1, 2]);
        for size in 1..30 {
            assert_eq!(index.search_all(&training, size, &|| true).unwrap(), whole, "tasks of {size} tokens");
        }
    }
}
