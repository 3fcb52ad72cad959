//! Unigram counts.

use corpus::{Piece, TokenStore};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Tokens that one task counts.
const TASK: u64 = 1 << 24;

/// How often each token occurs. Mergeable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    counts: Vec<u64>,
    total: u64,
}

impl Counts {
    /// Of these tokens.
    ///
    /// # Errors
    /// A token id that is not below `vocabulary`.
    pub fn of_tokens(vocabulary: usize, tokens: impl IntoIterator<Item = u32>) -> Result<Self, Error> {
        let mut out = Self { counts: vec![0; vocabulary], total: 0 };
        for id in tokens {
            *out.counts.get_mut(id as usize).ok_or(Error::Id { id, vocabulary })? += 1;
            out.total += 1;
        }
        Ok(out)
    }

    /// Of a whole store, on all cores.
    ///
    /// # Errors
    /// A token id that is not below `vocabulary`.
    pub fn of_store(vocabulary: usize, store: &TokenStore) -> Result<Self, Error> {
        let tasks = (0..store.token_count().div_ceil(TASK)).into_par_iter();
        tasks
            .map(|task| {
                let range = task * TASK..((task + 1) * TASK).min(store.token_count());
                let mut out = Self::none(vocabulary);
                let mut outcome = Ok(());
                store.for_each_piece(range, &mut |piece| {
                    let counted = Self::of_piece(vocabulary, piece).and_then(|counts| out.merge(&counts));
                    if outcome.is_ok() {
                        outcome = counted;
                    }
                })?;
                outcome.map(|()| out)
            })
            .try_reduce(|| Self::none(vocabulary), Self::merged)
    }

    /// Of token ids as they lie in a file, on all cores.
    ///
    /// # Errors
    /// A token id that is not below `vocabulary`.
    pub fn of_ids(vocabulary: usize, ids: Piece<'_>) -> Result<Self, Error> {
        let task = TASK as usize;
        let tasks: Vec<Piece<'_>> = match ids {
            Piece::Two(ids) => ids.chunks(task).map(Piece::Two).collect(),
            Piece::Four(ids) => ids.chunks(task).map(Piece::Four).collect(),
        };
        let counts = tasks.into_par_iter().map(|piece| Self::of_piece(vocabulary, piece));
        counts.try_reduce(|| Self::none(vocabulary), Self::merged)
    }

    /// From the counts themselves, by token id.
    pub fn from_counts(counts: Vec<u64>) -> Self {
        let total = counts.iter().sum();
        Self { counts, total }
    }

    /// Of no tokens.
    pub(crate) fn none(vocabulary: usize) -> Self {
        Self { counts: vec![0; vocabulary], total: 0 }
    }

    fn merged(mut self, other: Self) -> Result<Self, Error> {
        self.merge(&other)?;
        Ok(self)
    }

    fn of_piece(vocabulary: usize, piece: Piece<'_>) -> Result<Self, Error> {
        let total = piece.len() as u64;
        let mut counts = vec![0u64; vocabulary];
        match piece {
            Piece::Two(ids) => {
                // A place for every id of two bytes: no id needs a check. A task is too short for a count to overflow.
                let mut table = vec![0u32; 1 << 16];
                let table: &mut [u32; 1 << 16] = table.as_mut_slice().try_into().expect("65 536 places");
                ids.iter().for_each(|id| table[usize::from(u16::from_le_bytes(*id))] += 1);
                if let Some(id) = table.iter().skip(vocabulary).rposition(|n| *n > 0) {
                    return Err(Error::Id { id: (vocabulary + id) as u32, vocabulary });
                }
                counts.iter_mut().zip(table).for_each(|(c, n)| *c = u64::from(*n));
            }
            Piece::Four(ids) => {
                for id in ids {
                    let id = u32::from_le_bytes(*id);
                    *counts.get_mut(id as usize).ok_or(Error::Id { id, vocabulary })? += 1;
                }
            }
        }
        Ok(Self { counts, total })
    }

    /// Adds another corpus's counts.
    ///
    /// # Errors
    /// Another vocabulary size.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        same_vocabulary(self, other)?;
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a += b;
        }
        self.total += other.total;
        Ok(())
    }

    /// Tokens counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Tokens that occur.
    pub fn types(&self) -> usize {
        self.counts.iter().filter(|c| **c > 0).count()
    }

    /// The counts by token id.
    pub fn as_slice(&self) -> &[u64] {
        &self.counts
    }

    /// Entropy of the token distribution, in nats: the loss of the best model that ignores context.
    pub fn entropy(&self) -> f64 {
        let total = self.total as f64;
        -self.counts.iter().filter(|c| **c > 0).map(|c| *c as f64 / total).map(|p| p * p.ln()).sum::<f64>()
    }
}

fn same_vocabulary(a: &Counts, b: &Counts) -> Result<(), Error> {
    match (a.counts.len(), b.counts.len()) {
        (left, right) if left != right => Err(Error::Vocabulary { left, right }),
        _ => Ok(()),
    }
}
