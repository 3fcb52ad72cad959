//! Token ids in a row: what sequences are cut from, whatever kind of file holds them.

use std::ops::Range;
use std::path::Path;

use super::{StoreError, TokenStore};

/// Token ids in a row, and the documents that they are: what mixtures draw sequences from. [`TokenStore`] is one,
/// [`MegatronStore`](crate::MegatronStore) another.
pub trait TokenArray: std::fmt::Debug + Send + Sync {
    /// What messages and logs call it.
    fn name(&self) -> &str;

    /// Where it lies.
    fn path(&self) -> &Path;

    /// The fingerprint of the tokenizer whose ids these are. Arrays of different tokenizers do not mix.
    fn tokenizer(&self) -> &str;

    /// Tokens in all.
    fn token_count(&self) -> u64;

    /// Documents in all.
    fn document_count(&self) -> u64;

    /// A document's tokens among all. `None` beyond the last, or where damaged.
    fn document_range(&self, document: u64) -> Option<Range<u64>>;

    /// The document that a token is of. `None` beyond the last token.
    fn document_of(&self, token: u64) -> Option<u64>;

    /// Fills `out` with the ids from a token on, as the signed numbers that tensors hold.
    ///
    /// # Errors
    /// A range beyond the end; an id outside the vocabulary, where files may hold one.
    fn read_i32(&self, from: u64, out: &mut [i32]) -> Result<(), StoreError>;

    /// Says that tokens are read soon, so that they are there by then. A hint: nothing may come of it.
    fn will_need(&self, _tokens: Range<u64>) {}

    /// Says that tokens are read here and there, so that nothing beside them is read ahead.
    fn random_access(&self) {}
}

impl TokenArray for TokenStore {
    fn name(&self) -> &str {
        Self::name(self)
    }

    fn path(&self) -> &Path {
        Self::path(self)
    }

    fn tokenizer(&self) -> &str {
        Self::tokenizer(self)
    }

    fn token_count(&self) -> u64 {
        Self::token_count(self)
    }

    fn document_count(&self) -> u64 {
        Self::document_count(self)
    }

    fn document_range(&self, document: u64) -> Option<Range<u64>> {
        Self::document_range(self, document)
    }

    fn document_of(&self, token: u64) -> Option<u64> {
        Self::document_of(self, token)
    }

    fn read_i32(&self, from: u64, out: &mut [i32]) -> Result<(), StoreError> {
        Self::read_i32(self, from, out)
    }

    fn will_need(&self, tokens: Range<u64>) {
        Self::will_need(self, tokens);
    }

    fn random_access(&self) {
        Self::random_access(self);
    }
}
