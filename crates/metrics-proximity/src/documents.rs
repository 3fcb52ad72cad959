//! The tokens of a corpus by document: documents are what is drawn, and what intervals are over.

use corpus::TokenStore;
use rayon::prelude::*;

use crate::{Counts, Error};

/// A corpus's documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    vocabulary: usize,
    /// Where each document ends.
    ends: Vec<usize>,
    tokens: Vec<u32>,
}

/// Which of `documents` documents a sample of at most `most` holds: without replacement, the same for the same seed on
/// any machine, in ascending order. (The paper's Appendix D prints max(size, 10 000), which cannot be meant.)
pub fn sample_documents(documents: u64, most: u64, seed: u64) -> Vec<u64> {
    if documents <= most {
        return (0..documents).collect();
    }
    // Those with the lowest hashes.
    let mut ranked: Vec<(u64, u64)> =
        (0..documents).into_par_iter().map(|document| (rank(seed, document), document)).collect();
    ranked.select_nth_unstable(most as usize);
    let mut chosen: Vec<u64> = ranked[..most as usize].iter().map(|(_, document)| *document).collect();
    chosen.sort_unstable();
    chosen
}

/// A document's place among all, as a hash.
pub(crate) fn rank(seed: u64, document: u64) -> u64 {
    let key: [[u8; 8]; 2] = [seed.to_le_bytes(), document.to_le_bytes()];
    xxhash_rust::xxh3::xxh3_64(key.as_flattened())
}

impl Documents {
    /// Of these documents of a store, without the token that ends each.
    ///
    /// # Errors
    /// A document beyond the last, a token id that is not below `vocabulary`.
    pub fn of_store(vocabulary: usize, store: &TokenStore, documents: &[u64]) -> Result<Self, Error> {
        let read = documents.par_iter().map(|document| {
            let mut tokens = store.document(*document)?;
            tokens.pop();
            Ok(tokens)
        });
        Self::new(vocabulary, read.collect::<Result<Vec<_>, Error>>()?)
    }

    /// Of documents' tokens. A document without tokens says nothing and is left out.
    ///
    /// # Errors
    /// A token id that is not below `vocabulary`.
    pub fn new<D: AsRef<[u32]>>(vocabulary: usize, documents: impl IntoIterator<Item = D>) -> Result<Self, Error> {
        let mut out = Self { vocabulary, ends: Vec::new(), tokens: Vec::new() };
        for document in documents {
            let document = document.as_ref();
            if let Some(id) = document.iter().find(|id| **id as usize >= vocabulary) {
                return Err(Error::Id { id: *id, vocabulary });
            }
            if !document.is_empty() {
                out.tokens.extend_from_slice(document);
                out.ends.push(out.tokens.len());
            }
        }
        Ok(out)
    }

    /// Documents with tokens.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Tokens of all documents.
    pub fn tokens(&self) -> u64 {
        self.tokens.len() as u64
    }

    /// Tokens that can occur.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// A document's tokens.
    ///
    /// # Panics
    /// A document beyond the last.
    pub fn document(&self, index: usize) -> &[u32] {
        let from = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.tokens[from..self.ends[index]]
    }

    /// Counts of all documents.
    pub fn counts(&self) -> Counts {
        let mut counts = vec![0; self.vocabulary];
        self.tokens.iter().for_each(|id| counts[*id as usize] += 1);
        Counts::from_counts(counts)
    }
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
    fn documents_keep_their_order() {
        let documents = Documents::new(4, [vec![3, 1, 1], vec![], vec![2]]).unwrap();
        assert_eq!((documents.len(), documents.tokens()), (2, 4));
        assert_eq!((documents.document(0), documents.document(1)), (&[3, 1, 1][..], &[2][..]));
        assert_eq!(documents.counts(), Counts::from_counts(vec![0, 2, 1, 1]));
        assert!(matches!(Documents::new(4, [[9]]), Err(Error::Id { id: 9, vocabulary: 4 })));
        assert!(Documents::new(4, [[0; 0]; 3]).unwrap().is_empty());
    }
}
