//! Counts by document: for intervals, which are over documents, and for sampling them.

use corpus::TokenStore;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

use crate::{Counts, Error};

/// Token counts of each of a corpus's documents, sparse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentCounts {
    vocabulary: usize,
    /// Where each document's entries end.
    ends: Vec<usize>,
    /// Token ids and how often they occur.
    entries: Vec<(u32, u32)>,
}

/// Which of `documents` documents a sample of at most `most` holds: without replacement, the same for the same seed on
/// any machine, in ascending order. (The paper's Appendix D prints max(size, 10 000), which cannot be meant.)
pub fn sample_documents(documents: u64, most: u64, seed: u64) -> Vec<u64> {
    if documents <= most {
        return (0..documents).collect();
    }
    // Those with the lowest hashes.
    let mut ranked: Vec<(u64, u64)> = (0..documents)
        .into_par_iter()
        .map(|document| {
            let key: [[u8; 8]; 2] = [seed.to_le_bytes(), document.to_le_bytes()];
            (xxhash_rust::xxh3::xxh3_64(key.as_flattened()), document)
        })
        .collect();
    ranked.select_nth_unstable(most as usize);
    let mut chosen: Vec<u64> = ranked[..most as usize].iter().map(|(_, document)| *document).collect();
    chosen.sort_unstable();
    chosen
}

impl DocumentCounts {
    /// Of these documents of a store, without the token that ends each.
    ///
    /// # Errors
    /// A document beyond the last, a token id that is not below `vocabulary`.
    pub fn of_store(vocabulary: usize, store: &TokenStore, documents: &[u64]) -> Result<Self, Error> {
        let counted = documents.par_iter().map(|document| {
            let mut tokens = store.document(*document)?;
            tokens.pop();
            sparse(vocabulary, tokens)
        });
        Ok(Self::joined(vocabulary, counted.collect::<Result<Vec<_>, _>>()?))
    }

    /// Of documents' tokens.
    ///
    /// # Errors
    /// A token id that is not below `vocabulary`.
    pub fn of_documents(vocabulary: usize, documents: impl IntoIterator<Item = Vec<u32>>) -> Result<Self, Error> {
        let counted = documents.into_iter().map(|tokens| sparse(vocabulary, tokens));
        Ok(Self::joined(vocabulary, counted.collect::<Result<Vec<_>, _>>()?))
    }

    fn joined(vocabulary: usize, documents: Vec<Vec<(u32, u32)>>) -> Self {
        let mut out = Self { vocabulary, ends: Vec::with_capacity(documents.len()), entries: Vec::new() };
        for entries in documents {
            out.entries.extend(entries);
            out.ends.push(out.entries.len());
        }
        out
    }

    /// Documents.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Counts of all documents.
    pub fn total(&self) -> Counts {
        self.sum((0..self.len()).map(|d| (d, 1)))
    }

    /// Counts of as many documents as there are, drawn with replacement: draw `index` of the bootstrap of a seed.
    pub fn resample(&self, seed: u64, index: u64) -> Counts {
        let mut rng = stream(seed, index);
        let mut times = vec![0u32; self.len()];
        (0..self.len()).for_each(|_| times[below(&mut rng, self.len())] += 1);
        self.sum(times.into_iter().enumerate().filter(|(_, times)| *times > 0))
    }

    /// Counts of two halves of the documents, drawn at random: split `index` of a seed.
    pub fn halves(&self, seed: u64, index: u64) -> (Counts, Counts) {
        let mut rng = stream(seed, index);
        let mut order: Vec<usize> = (0..self.len()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, below(&mut rng, i + 1));
        }
        let (a, b) = order.split_at(order.len() / 2);
        (self.sum(a.iter().map(|d| (*d, 1))), self.sum(b.iter().map(|d| (*d, 1))))
    }

    fn sum(&self, documents: impl Iterator<Item = (usize, u32)>) -> Counts {
        let mut counts = vec![0u64; self.vocabulary];
        for (document, times) in documents {
            let from = document.checked_sub(1).map_or(0, |before| self.ends[before]);
            for (id, n) in &self.entries[from..self.ends[document]] {
                counts[*id as usize] += u64::from(*n) * u64::from(times);
            }
        }
        Counts::from_counts(counts)
    }
}

/// Sorted ids with their counts.
fn sparse(vocabulary: usize, mut tokens: Vec<u32>) -> Result<Vec<(u32, u32)>, Error> {
    tokens.sort_unstable();
    if let Some(id) = tokens.last().filter(|id| **id as usize >= vocabulary) {
        return Err(Error::Id { id: *id, vocabulary });
    }
    Ok(tokens.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)).collect())
}

fn stream(seed: u64, index: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index);
    rng
}

/// A number below `n`.
fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_without_replacement_and_reproducible() {
        let sample = sample_documents(1000, 100, 3);
        assert_eq!(sample.len(), 100);
        assert!(sample.windows(2).all(|w| w[0] < w[1]) && sample[99] < 1000);
        assert_eq!(sample, sample_documents(1000, 100, 3));
        assert_ne!(sample, sample_documents(1000, 100, 4));
        assert_eq!(sample_documents(3, 10, 0), [0, 1, 2]);
        assert!(sample_documents(0, 10, 0).is_empty() && sample_documents(5, 0, 0).is_empty());
    }

    #[test]
    fn halves_make_the_whole() {
        let documents = DocumentCounts::of_documents(4, (0..9u32).map(|d| vec![d % 4, 1, 1])).unwrap();
        let (a, b) = documents.halves(1, 0);
        let mut both = a.clone();
        both.merge(&b).unwrap();
        assert_eq!(both, documents.total());
        assert_ne!(documents.halves(1, 0), documents.halves(1, 1));
        assert_eq!(documents.resample(1, 5).total(), 27);
        assert_eq!(documents.resample(1, 5), documents.resample(1, 5));
        assert!(matches!(DocumentCounts::of_documents(4, [vec![9]]), Err(Error::Id { id: 9, vocabulary: 4 })));
    }
}
