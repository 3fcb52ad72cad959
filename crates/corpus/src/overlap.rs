//! Contamination: which documents of an evaluation set occur, in part, in a training store.

use std::collections::HashMap;
use std::ops::Range;

use rayon::prelude::*;

use crate::{StoreError, TokenStore};

/// The base of the rolling hash, and its modulus 2⁶¹ − 1.
const BASE: u64 = 0x1FFF_0A37_5E1C_9B4D;
const MODULUS: u64 = (1 << 61) - 1;
/// Training tokens that one task looks through.
const TASK: u64 = 1 << 20;

/// All sequences of n tokens in an evaluation set, within its documents and without their end tokens.
///
/// A document shorter than n (its end token left out) has none: it is counted as too short to judge. n = 13 is usual
/// (Brown et al. 2020).
#[derive(Debug)]
pub struct NgramIndex<'a> {
    evaluated: &'a TokenStore,
    n: usize,
    /// A hash's places: token positions in the evaluated store.
    places: HashMap<u64, Vec<u64>>,
    /// BASE^(n−1).
    top: u64,
}

/// What an evaluation set has in common with a training store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
}

impl<'a> NgramIndex<'a> {
    /// Of an evaluation set. It is held in memory: about 40 bytes a token.
    ///
    /// # Errors
    /// n of zero, a store that cannot be read.
    pub fn new(evaluated: &'a TokenStore, n: usize) -> Result<Self, StoreError> {
        if n == 0 {
            let reason = "n = 0 must be at least 1".to_owned();
            return Err(StoreError::Format { path: evaluated.path().to_owned(), reason });
        }
        let top = (1..n).fold(1, |power, _| multiply(power, BASE));
        let mut index = Self { evaluated, n, places: HashMap::new(), top };
        let mut places: HashMap<u64, Vec<u64>> = HashMap::new();
        for document in 0..evaluated.document_count() {
            let range = body(evaluated, document);
            let tokens = read(evaluated, range.clone())?;
            index.rolling(&tokens, |at, hash| places.entry(hash).or_default().push(range.start + at));
        }
        index.places = places;
        Ok(index)
    }

    /// Calls `each(start, hash)` for every n tokens.
    fn rolling(&self, tokens: &[u32], mut each: impl FnMut(u64, u64)) {
        let mut hash = 0;
        for (i, token) in tokens.iter().enumerate() {
            if i >= self.n {
                let gone = multiply(digit(tokens[i - self.n]), self.top);
                hash = (hash + MODULUS - gone) % MODULUS;
            }
            hash = (multiply(hash, BASE) + digit(*token)) % MODULUS;
            if i + 1 >= self.n {
                each((i + 1 - self.n) as u64, hash);
            }
        }
    }

    /// Compares with a training store, of the same tokenizer, on all cores. Equal hashes are compared token by token.
    ///
    /// # Errors
    /// Another tokenizer's store, or one that cannot be read.
    pub fn overlap(&self, training: &TokenStore) -> Result<Overlap, StoreError> {
        if training.tokenizer() != self.evaluated.tokenizer() {
            return Err(StoreError::Tokenizer {
                path: training.path().to_owned(),
                found: training.tokenizer().to_owned(),
                expected: self.evaluated.tokenizer().to_owned(),
            });
        }
        let tasks = training.token_count().div_ceil(TASK);
        let found = (0..tasks).into_par_iter().map(|task| self.search(training, task * TASK)).collect::<Vec<_>>();
        let mut shared: Vec<u64> = Vec::new();
        for places in found {
            shared.extend(places?);
        }
        shared.sort_unstable();
        shared.dedup();
        Ok(self.report(&shared))
    }

    /// Places in the evaluated store whose tokens occur in sequences that begin in one task's part.
    fn search(&self, training: &TokenStore, from: u64) -> Result<Vec<u64>, StoreError> {
        let to = (from + TASK).min(training.token_count());
        let mut found = Vec::new();
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
                if let Some(places) = self.places.get(&hash) {
                    candidates.push((at as usize, places));
                }
            });
            for (at, places) in candidates {
                for place in places {
                    let mut evaluated = vec![0; self.n];
                    self.evaluated.read(*place, &mut evaluated)?;
                    if evaluated == tokens[at..at + self.n] {
                        found.push(*place);
                    }
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn report(&self, shared: &[u64]) -> Overlap {
        let mut overlap = Overlap { n: self.n, documents: self.evaluated.document_count(), ..Overlap::default() };
        let mut rest = shared;
        for document in 0..overlap.documents {
            let range = body(self.evaluated, document);
            let sequences = (range.end - range.start + 1).saturating_sub(self.n as u64);
            overlap.sequences += sequences;
            overlap.too_short += u64::from(sequences == 0);
            let own = rest.partition_point(|place| *place < range.end);
            if own > 0 {
                overlap.contaminated += 1;
                overlap.shared += own as u64;
                overlap.worst.push((document, own as u64, sequences));
            }
            rest = &rest[own..];
        }
        // By the part that is shared; exact, because a·d > b·c compares a/c with b/d.
        overlap.worst.sort_by(|a, b| (b.1 * a.2).cmp(&(a.1 * b.2)).then(a.0.cmp(&b.0)));
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
    (u128::from(a) * u128::from(b) % u128::from(MODULUS)) as u64
}
