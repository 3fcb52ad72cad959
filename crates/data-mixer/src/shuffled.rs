//! Documents in a random order, before sequences are cut from them.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use corpus::{StoreError, TokenArray};
use rayon::prelude::*;

use crate::{Permutation, stream_key};

/// Documents between places whose beginnings are known.
const BLOCK: u64 = 16;

/// A token array with its documents in a random order: neighbours in a file, which are often of one kind, are none in a
/// sequence.
///
/// The order is a keyed permutation ([`Permutation`]), so that it takes no memory; where every 16th document begins is kept:
/// half a byte a document, found once, when it is made.
#[derive(Debug)]
pub struct ShuffledDocuments {
    tokens: Arc<dyn TokenArray>,
    order: Permutation,
    /// Where each block of documents begins, and the end.
    starts: Vec<u64>,
}

impl ShuffledDocuments {
    /// The documents of an array in the order of a seed.
    ///
    /// # Errors
    /// Documents whose borders are damaged.
    pub fn new(tokens: Arc<dyn TokenArray>, seed: u64) -> Result<Self, StoreError> {
        let documents = tokens.document_count();
        let order = Permutation::new(documents, stream_key(seed, "order of documents", 0));
        let blocks = 0..documents.div_ceil(BLOCK);
        let lengths = blocks.into_par_iter().map(|block| {
            let places = block * BLOCK..((block + 1) * BLOCK).min(documents);
            places.map(|place| Self::length(&*tokens, order.apply(place))).sum::<Option<u64>>()
        });
        let broken = || {
            let reason = "its document borders do not span its tokens".to_owned();
            StoreError::Format { path: tokens.path().to_owned(), reason }
        };
        let mut starts = vec![0u64];
        for length in lengths.collect::<Option<Vec<u64>>>().ok_or_else(broken)? {
            starts.push(starts[starts.len() - 1].checked_add(length).ok_or_else(broken)?);
        }
        if starts[starts.len() - 1] != tokens.token_count() {
            return Err(broken());
        }
        Ok(Self { tokens, order, starts })
    }

    fn length(tokens: &dyn TokenArray, document: u64) -> Option<u64> {
        tokens.document_range(document).and_then(|range| range.end.checked_sub(range.start))
    }

    /// The document at a place of the order that holds a token, and where it begins.
    fn place_of(&self, token: u64) -> Option<(u64, u64)> {
        if token >= self.tokens.token_count() {
            return None;
        }
        let block = self.starts.partition_point(|start| *start <= token) - 1;
        let (mut place, mut start) = (block as u64 * BLOCK, self.starts[block]);
        loop {
            let length = Self::length(&*self.tokens, self.order.apply(place))?;
            if token < start + length {
                return Some((place, start));
            }
            (place, start) = (place + 1, start + length);
        }
    }

    /// Calls `each` with the parts of the documents that a range of tokens is made of: as they lie in the array.
    fn parts(
        &self,
        tokens: Range<u64>,
        each: &mut dyn FnMut(Range<u64>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let beyond = || StoreError::Range {
            path: self.tokens.path().to_owned(),
            what: "tokens",
            from: tokens.start,
            to: tokens.end,
            len: self.tokens.token_count(),
        };
        if tokens.end > self.tokens.token_count() {
            return Err(beyond());
        }
        let mut at = tokens.start;
        let Some((mut place, mut start)) = self.place_of(at) else { return Ok(()) };
        while at < tokens.end {
            let range = self.tokens.document_range(self.order.apply(place)).ok_or_else(beyond)?;
            let length = range.end - range.start;
            let end = tokens.end.min(start + length);
            if at < end {
                each(range.start + at - start..range.start + end - start)?;
                at = end;
            }
            (place, start) = (place + 1, start + length);
        }
        Ok(())
    }
}

impl TokenArray for ShuffledDocuments {
    fn name(&self) -> &str {
        self.tokens.name()
    }

    fn path(&self) -> &Path {
        self.tokens.path()
    }

    fn tokenizer(&self) -> &str {
        self.tokens.tokenizer()
    }

    fn token_count(&self) -> u64 {
        self.tokens.token_count()
    }

    fn document_count(&self) -> u64 {
        self.tokens.document_count()
    }

    fn document_range(&self, document: u64) -> Option<Range<u64>> {
        if document >= self.document_count() {
            return None;
        }
        let block = document / BLOCK;
        let mut start = self.starts[block as usize];
        for place in block * BLOCK..document {
            start += Self::length(&*self.tokens, self.order.apply(place))?;
        }
        Some(start..start + Self::length(&*self.tokens, self.order.apply(document))?)
    }

    fn document_of(&self, token: u64) -> Option<u64> {
        self.place_of(token).map(|(place, _)| place)
    }

    fn read_i32(&self, from: u64, out: &mut [i32]) -> Result<(), StoreError> {
        let mut filled = 0;
        self.parts(from..from.saturating_add(out.len() as u64), &mut |range| {
            let n = (range.end - range.start) as usize;
            self.tokens.read_i32(range.start, &mut out[filled..filled + n])?;
            filled += n;
            Ok(())
        })
    }

    fn will_need(&self, tokens: Range<u64>) {
        let end = tokens.end.min(self.token_count());
        let _ = self.parts(tokens.start.min(end)..end, &mut |range| {
            self.tokens.will_need(range);
            Ok(())
        });
    }

    fn random_access(&self) {
        self.tokens.random_access();
    }
}
