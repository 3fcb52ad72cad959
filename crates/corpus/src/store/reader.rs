//! Reading a store, without copying it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::manifest::{self, Opened};
use super::shard::Shard;
use super::{StoreError, TokenWidth};

/// A store, opened for reading. Cheap to open whatever its size.
#[derive(Debug)]
pub struct TokenStore {
    path: PathBuf,
    /// Where its files lie: elsewhere, where it is a selection.
    whole: PathBuf,
    /// Its files; there is always one.
    shards: Vec<Shard>,
    /// What of them belongs to it, in order.
    parts: Vec<Part>,
    /// Tokens and documents before each part, and in all.
    token_starts: Vec<u64>,
    document_starts: Vec<u64>,
}

/// Neighbouring documents of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The shard's place among the store's.
    pub(super) shard: usize,
    /// Its documents that belong to the store.
    pub(super) documents: Range<u64>,
    /// Their tokens.
    pub(super) tokens: Range<u64>,
}

/// What [`TokenStore::inspect`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSummary {
    /// The store's name.
    pub name: String,
    /// The tokenizer's fingerprint.
    pub tokenizer: String,
    /// One more than the largest token id there may be.
    pub vocabulary: u32,
    /// Documents in all.
    pub documents: u64,
    /// Tokens in all.
    pub tokens: u64,
    /// Bytes of all texts.
    pub text_bytes: u64,
    /// Tokens of the shortest, the middle and the longest document.
    pub lengths: Option<[u64; 3]>,
    /// Its files.
    pub shards: Vec<ShardSummary>,
}

/// One file of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSummary {
    /// The file.
    pub path: PathBuf,
    /// Documents in it.
    pub documents: u64,
    /// Tokens in it.
    pub tokens: u64,
    /// What is noted of its source.
    pub source: BTreeMap<String, String>,
}

impl TokenStore {
    /// Opens a store — a file, a folder of shards, or a [selection](Self::select) — and checks headers and sizes, not
    /// checksums.
    ///
    /// # Errors
    /// A file that is missing, no store, shorter or longer than its header says, or not the one its folder lists.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let Opened { whole, shards, parts } = manifest::open(path)?;
        let sums = |of: fn(&Part) -> &Range<u64>| {
            let mut sums = vec![0u64];
            for part in &parts {
                let range = of(part);
                let sum = sums[sums.len() - 1].checked_add(range.end - range.start);
                sums.push(sum.ok_or_else(|| StoreError::Format {
                    path: path.to_owned(),
                    reason: "the shards claim more than can be counted".into(),
                })?);
            }
            Ok(sums)
        };
        let (token_starts, document_starts) = (sums(|p| &p.tokens)?, sums(|p| &p.documents)?);
        Ok(Self { path: path.to_owned(), whole, token_starts, document_starts, shards, parts })
    }

    /// Opens a store that a tokenizer must have made.
    ///
    /// # Errors
    /// As [`open`](Self::open), and another tokenizer's store.
    pub fn open_of(path: &Path, tokenizer: &str) -> Result<Self, StoreError> {
        let store = Self::open(path)?;
        if store.tokenizer() != tokenizer {
            let (found, expected) = (store.tokenizer().to_owned(), tokenizer.to_owned());
            return Err(StoreError::Tokenizer { path: store.path, found, expected });
        }
        Ok(store)
    }

    /// Reads everything and compares checksums, the offsets' order and the ids.
    ///
    /// # Errors
    /// Any difference: it names the file.
    pub fn verify(&self) -> Result<(), StoreError> {
        self.shards.iter().try_for_each(Shard::verify)
    }

    /// What it holds, by its headers and offsets.
    pub fn inspect(&self) -> StoreSummary {
        let mut lengths: Vec<u64> = (0..self.document_count()).map(|d| self.document_len(d)).collect();
        let middle = lengths.len() / 2;
        let lengths = (!lengths.is_empty()).then(|| {
            let (low, median, high) = lengths.select_nth_unstable(middle);
            let shortest = low.iter().copied().min().unwrap_or(*median);
            [shortest, *median, high.iter().copied().max().unwrap_or(*median)]
        });
        let shards = self.shards.iter().map(|s| ShardSummary {
            path: s.path.clone(),
            documents: s.header.documents,
            tokens: s.header.tokens,
            source: s.header.info.source.clone(),
        });
        StoreSummary {
            name: self.name().to_owned(),
            tokenizer: self.tokenizer().to_owned(),
            vocabulary: self.vocabulary(),
            documents: self.document_count(),
            tokens: self.token_count(),
            text_bytes: self.parts.iter().map(|part| self.text_bytes_of(part)).sum(),
            lengths,
            shards: shards.collect(),
        }
    }

    /// Bytes of text of a part: of a whole shard as its header says.
    fn text_bytes_of(&self, part: &Part) -> u64 {
        let shard = &self.shards[part.shard];
        if part.documents == (0..shard.header.documents) {
            return shard.header.text_bytes;
        }
        part.documents.clone().map(|d| u64::from(shard.text_bytes(d))).sum()
    }

    /// Where its files lie.
    pub(super) fn whole(&self) -> &Path {
        &self.whole
    }

    /// Its files.
    pub(super) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// What of its files belongs to it.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The first shard: there is always one.
    fn first(&self) -> &Shard {
        &self.shards[0]
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.first().header.info.name
    }

    /// The fingerprint of the tokenizer that made it.
    pub fn tokenizer(&self) -> &str {
        &self.first().header.info.tokenizer
    }

    /// One more than the largest token id there may be.
    pub fn vocabulary(&self) -> u32 {
        self.first().header.info.vocabulary
    }

    /// Tokens in all.
    pub fn token_count(&self) -> u64 {
        self.token_starts[self.parts.len()]
    }

    /// Documents in all.
    pub fn document_count(&self) -> u64 {
        self.document_starts[self.parts.len()]
    }

    /// Changes whenever the content or the tokenizer does.
    pub fn fingerprint(&self) -> String {
        let mut hash = of_files(&self.shards);
        for part in self.parts.iter().filter(|p| p.documents != (0..self.shards[p.shard].header.documents)) {
            for number in [part.shard as u64, part.documents.start, part.documents.end] {
                hash.update(&number.to_le_bytes());
            }
        }
        format!("{:032x}", hash.digest128())
    }

    /// A digest of the content alone: the tokenizer, all token ids, where documents end, their prompts and bytes. Unlike
    /// [`fingerprint`](Self::fingerprint) it depends neither on how the store is cut into shards nor on its name and its
    /// notes on sources: stores of equal content are interchangeable. Reads everything.
    ///
    /// # Errors
    /// Damaged offsets.
    pub fn content_digest(&self) -> Result<String, StoreError> {
        let mut hash = Xxh3::new();
        hash.update(b"content 1 ");
        hash.update(self.tokenizer().as_bytes());
        for number in [u64::from(self.vocabulary()), self.token_count(), self.document_count()] {
            hash.update(&number.to_le_bytes());
        }
        let mut bytes = Vec::new();
        self.for_each_piece(0..self.token_count(), &mut |piece| match piece {
            Piece::Four(ids) => ids.iter().for_each(|id| hash.update(id)),
            Piece::Two(ids) => {
                for ids in ids.chunks(1 << 14) {
                    bytes.clear();
                    bytes.extend(ids.iter().flat_map(|b| u32::from(u16::from_le_bytes(*b)).to_le_bytes()));
                    hash.update(&bytes);
                }
            }
        })?;
        for document in 0..self.document_count() {
            let range = self.document_range(document).ok_or_else(|| StoreError::Format {
                path: self.path.clone(),
                reason: format!("the offsets of document {document} are damaged"),
            })?;
            hash.update(&range.end.to_le_bytes());
            hash.update(&self.text_bytes(document).to_le_bytes());
            for prompt in self.prompts(document) {
                hash.update(&prompt.start.to_le_bytes());
                hash.update(&prompt.end.to_le_bytes());
            }
        }
        Ok(format!("{:032x}", hash.digest128()))
    }

    /// The shard of a document and its number in that shard; `None` beyond the last.
    fn locate(&self, document: u64) -> Option<(&Shard, u64)> {
        if document >= self.document_count() {
            return None;
        }
        let index = self.document_starts.partition_point(|start| *start <= document) - 1;
        let part = &self.parts[index];
        Some((&self.shards[part.shard], part.documents.start + document - self.document_starts[index]))
    }

    /// Tokens of a document, its end token included. 0 beyond the last.
    pub fn document_len(&self, document: u64) -> u64 {
        self.document_range(document).map_or(0, |range| range.end - range.start)
    }

    /// How many of a document's first tokens are its prompt. 0 beyond the last.
    pub fn prompt_len(&self, document: u64) -> u32 {
        self.locate(document).map_or(0, |(shard, d)| shard.prompt_len(d))
    }

    /// The token ranges of a document's prompts, counted from its first token: that of the first turn, then those of
    /// later turns.
    pub fn prompts(&self, document: u64) -> impl Iterator<Item = Range<u32>> + '_ {
        let located = self.locate(document);
        let first = located.map(|(shard, d)| 0..shard.prompt_len(d)).filter(|r| !r.is_empty());
        first.into_iter().chain(located.into_iter().flat_map(|(shard, d)| shard.later_prompts(d)))
    }

    /// Bytes of the document's text in UTF-8. 0 beyond the last.
    pub fn text_bytes(&self, document: u64) -> u32 {
        self.locate(document).map_or(0, |(shard, d)| shard.text_bytes(d))
    }

    /// The hash of the document's content. `None` beyond the last.
    pub fn document_hash(&self, document: u64) -> Option<u64> {
        self.locate(document).map(|(shard, d)| shard.hash(d))
    }

    /// The token ranges, over the whole store, of the documents that a token range touches, in order; the first may
    /// begin before it, the last end after it.
    pub fn documents_in(&self, tokens: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let end = tokens.end.min(self.token_count());
        let mut document = (tokens.start < end).then(|| self.document_at(tokens.start));
        std::iter::from_fn(move || {
            let at = document?;
            let range = self.document_range(at)?;
            document = (range.end < end).then_some(at + 1);
            Some(range)
        })
        .filter(|range| !range.is_empty())
    }

    /// The document that a token is of. `None` beyond the last token.
    pub fn document_of(&self, token: u64) -> Option<u64> {
        (token < self.token_count()).then(|| self.document_at(token))
    }

    fn document_at(&self, token: u64) -> u64 {
        let index = self.token_starts.partition_point(|start| *start <= token) - 1;
        let part = &self.parts[index];
        let document = self.shards[part.shard].document_at(part.tokens.start + token - self.token_starts[index]);
        // Damaged offsets may name one before the part.
        self.document_starts[index] + document.saturating_sub(part.documents.start)
    }

    /// A document's token range over the whole store. `None` beyond the last, or where its offsets are damaged.
    pub fn document_range(&self, document: u64) -> Option<Range<u64>> {
        let (shard, d) = self.locate(document)?;
        let index = self.document_starts.partition_point(|start| *start <= document) - 1;
        let (part, range) = (&self.parts[index], shard.document(d)?);
        if range.start < part.tokens.start || range.end > part.tokens.end {
            return None;
        }
        let start = self.token_starts[index];
        Some(start + range.start - part.tokens.start..start + range.end - part.tokens.start)
    }

    /// Fills `out` with the tokens from `from` on.
    ///
    /// # Errors
    /// A range beyond the end.
    pub fn read(&self, from: u64, out: &mut [u32]) -> Result<(), StoreError> {
        self.fill(from, out, |id| u32::from(u16::from_le_bytes(id)), u32::from_le_bytes)
    }

    /// Fills `out` with the tokens from `from` on, as the signed ids that tensors hold. (A vocabulary is below 2³¹.)
    ///
    /// # Errors
    /// A range beyond the end.
    pub fn read_i32(&self, from: u64, out: &mut [i32]) -> Result<(), StoreError> {
        self.fill(from, out, |id| i32::from(u16::from_le_bytes(id)), i32::from_le_bytes)
    }

    fn fill<T>(
        &self,
        from: u64,
        out: &mut [T],
        of_two: impl Fn([u8; 2]) -> T,
        of_four: impl Fn([u8; 4]) -> T,
    ) -> Result<(), StoreError> {
        let mut filled = 0;
        self.pieces(from, out.len(), &mut |piece| {
            let part = &mut out[filled..filled + piece.len()];
            match piece {
                Piece::Two(ids) => part.iter_mut().zip(ids).for_each(|(o, b)| *o = of_two(*b)),
                Piece::Four(ids) => part.iter_mut().zip(ids).for_each(|(o, b)| *o = of_four(*b)),
            }
            filled += part.len();
        })
    }

    /// Says that tokens are read soon, so that they are in memory by then: a hint to the system, which reads the files' parts
    /// without being waited for.
    pub fn will_need(&self, tokens: Range<u64>) {
        let (mut at, to) = (tokens.start, tokens.end.min(self.token_count()));
        while at < to {
            let index = self.token_starts.partition_point(|start| *start <= at) - 1;
            let (part, start) = (&self.parts[index], self.token_starts[index]);
            let end = to.min(self.token_starts[index + 1]);
            self.shards[part.shard].will_need(part.tokens.start + at - start..part.tokens.start + end - start);
            at = end;
        }
    }

    /// Says that tokens are read here and there, as a mixture does: the system reads nothing else ahead. Not for what reads
    /// all of it.
    pub fn random_access(&self) {
        self.shards.iter().for_each(Shard::random_access);
    }

    /// Calls `each` with the raw ids of a range, shard by shard: for counting without a copy.
    ///
    /// # Errors
    /// A range beyond the end.
    pub fn for_each_piece(&self, tokens: Range<u64>, each: &mut dyn FnMut(Piece<'_>)) -> Result<(), StoreError> {
        let len = usize::try_from(tokens.end.saturating_sub(tokens.start)).unwrap_or(usize::MAX);
        self.pieces(tokens.start, len, each)
    }

    fn pieces(&self, from: u64, len: usize, each: &mut dyn FnMut(Piece<'_>)) -> Result<(), StoreError> {
        let to = from.saturating_add(len as u64);
        if to > self.token_count() {
            let path = self.path.clone();
            return Err(StoreError::Range { path, what: "tokens", from, to, len: self.token_count() });
        }
        let mut at = from;
        while at < to {
            let index = self.token_starts.partition_point(|start| *start <= at) - 1;
            let (part, start) = (&self.parts[index], self.token_starts[index]);
            let shard = &self.shards[part.shard];
            let end = to.min(self.token_starts[index + 1]);
            let range = (part.tokens.start + at - start) as usize..(part.tokens.start + end - start) as usize;
            each(match shard.width {
                TokenWidth::U16 => Piece::Two(&shard.ids16()[range]),
                TokenWidth::U32 => Piece::Four(&shard.ids32()[range]),
            });
            at = end;
        }
        Ok(())
    }

    /// A document's tokens, its end token included.
    ///
    /// # Errors
    /// A document beyond the last.
    pub fn document(&self, document: u64) -> Result<Vec<u32>, StoreError> {
        let Some(range) = self.document_range(document) else {
            let (path, len) = (self.path.clone(), self.document_count());
            if document < len {
                let reason = format!("the offsets of document {document} are damaged");
                return Err(StoreError::Format { path, reason });
            }
            return Err(StoreError::Range { path, what: "documents", from: document, to: document + 1, len });
        };
        let mut tokens = vec![0; (range.end - range.start) as usize];
        self.read(range.start, &mut tokens)?;
        Ok(tokens)
    }
}

/// A digest of shards' checksums and their tokenizer.
pub(super) fn fingerprint(shards: &[Shard]) -> String {
    format!("{:032x}", of_files(shards).digest128())
}

fn of_files(shards: &[Shard]) -> Xxh3 {
    let mut hash = Xxh3::new();
    for shard in shards {
        hash.update(shard.header.checksum.as_bytes());
    }
    hash.update(shards.first().map_or("", |shard| &shard.header.info.tokenizer).as_bytes());
    hash
}

/// Token ids as they lie in a file, little-endian.
#[derive(Debug, Clone, Copy)]
pub enum Piece<'a> {
    /// Of two bytes.
    Two(&'a [[u8; 2]]),
    /// Of four bytes.
    Four(&'a [[u8; 4]]),
}

impl Piece<'_> {
    /// How many ids.
    pub fn len(self) -> usize {
        match self {
            Self::Two(ids) => ids.len(),
            Self::Four(ids) => ids.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}
