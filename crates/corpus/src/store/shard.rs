//! One file of a store, memory-mapped.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use xxhash_rust::xxh3::Xxh3;

use super::header::{Header, Layout};
use super::{StoreError, TokenWidth, advice, io};

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    pub(super) width: TokenWidth,
    map: Mmap,
    layout: Layout,
}

impl Shard {
    /// Opens a file and checks its header and size, not its checksum.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let format = |reason: String| StoreError::Format { path: path.to_owned(), reason };
        let file = File::open(path).map_err(io(path))?;
        let size = file.metadata().map_err(io(path))?.len();
        let (header, header_bytes) = Header::decode(path, size, &file)?;
        let width = header.width().expect("decoding a header checks its width");
        let layout = header.layout(header_bytes);
        let layout = layout.ok_or_else(|| format("its header claims more than can be addressed".into()))?;
        if layout.end as u64 != size {
            let end = layout.end;
            return Err(format(format!("is {size} bytes long, its header says {end}: truncated or overwritten")));
        }
        // SAFETY: the map is read-only and the file was renamed into place when complete; one that another process
        // shortens while it is mapped is outside what any reader can support.
        let map = unsafe { Mmap::map(&file) }.map_err(io(path))?;
        let shard = Self { path: path.to_owned(), header, width, map, layout };
        if shard.offset(0) != 0 || shard.offset(shard.header.documents) != shard.header.tokens {
            return Err(format("its document offsets do not span its tokens".into()));
        }
        Ok(shard)
    }

    /// Reads everything and compares the checksum, the offsets' order and the ids.
    pub(super) fn verify(&self) -> Result<(), StoreError> {
        let format = |reason: String| StoreError::Format { path: self.path.clone(), reason };
        let mut hash = Xxh3::new();
        hash.update(&self.map[self.layout.tokens..]);
        let header = self.header.encode(self.layout.tokens);
        if self.header.checksum_over(hash.digest128(), self.layout.tokens) != self.header.checksum
            || header != self.map[..self.layout.tokens]
        {
            return Err(format("checksum differs: its content was damaged".into()));
        }
        if (0..self.header.documents).any(|i| self.offset(i) > self.offset(i + 1)) {
            return Err(format("document offsets are not in order".into()));
        }
        let vocabulary = self.header.info.vocabulary;
        let largest = match self.width {
            TokenWidth::U16 => self.ids16().iter().map(|b| u32::from(u16::from_le_bytes(*b))).max(),
            TokenWidth::U32 => self.ids32().iter().map(|b| u32::from_le_bytes(*b)).max(),
        };
        match largest {
            Some(id) if id >= vocabulary => {
                Err(format(format!("token id {id} is not below its vocabulary of {vocabulary}")))
            }
            _ => Ok(()),
        }
    }

    /// Its tokens are read here and there.
    pub(super) fn random_access(&self) {
        advice::random(&self.map);
    }

    /// Tokens of it are read soon.
    pub(super) fn will_need(&self, tokens: std::ops::Range<u64>) {
        let place = |token: u64| self.layout.tokens + token.min(self.header.tokens) as usize * self.width.bytes();
        advice::will_need(&self.map, place(tokens.start)..place(tokens.end));
    }

    fn array<const N: usize>(&self, at: usize, count: u64) -> &[[u8; N]] {
        self.map[at..at + count as usize * N].as_chunks().0
    }

    /// Token ids of two bytes.
    pub(super) fn ids16(&self) -> &[[u8; 2]] {
        self.array(self.layout.tokens, self.header.tokens)
    }

    /// Token ids of four bytes.
    pub(super) fn ids32(&self) -> &[[u8; 4]] {
        self.array(self.layout.tokens, self.header.tokens)
    }

    fn u64_at(&self, array: usize, index: u64) -> u64 {
        u64::from_le_bytes(self.array::<8>(array, index + 1)[index as usize])
    }

    fn u32_at(&self, array: usize, index: u64) -> u32 {
        u32::from_le_bytes(self.array::<4>(array, index + 1)[index as usize])
    }

    /// Where a document begins; where the last one ends, for the number of documents.
    pub(super) fn offset(&self, document: u64) -> u64 {
        self.u64_at(self.layout.offsets, document)
    }

    /// A document's token range; `None` where damaged offsets make it none.
    pub(super) fn document(&self, document: u64) -> Option<std::ops::Range<u64>> {
        let range = self.offset(document)..self.offset(document + 1);
        (range.start <= range.end && range.end <= self.header.tokens).then_some(range)
    }

    pub(super) fn hash(&self, document: u64) -> u64 {
        self.u64_at(self.layout.hashes, document)
    }

    pub(super) fn prompt_len(&self, document: u64) -> u32 {
        self.u32_at(self.layout.prompts, document)
    }

    pub(super) fn text_bytes(&self, document: u64) -> u32 {
        self.u32_at(self.layout.text_bytes, document)
    }

    /// The document that a token belongs to: the last that begins at it or before.
    pub(super) fn document_at(&self, token: u64) -> u64 {
        let offsets = self.array::<8>(self.layout.offsets, self.header.documents + 1);
        offsets.partition_point(|b| u64::from_le_bytes(*b) <= token).saturating_sub(1) as u64
    }

    /// Prompts of a document's turns after the first.
    pub(super) fn later_prompts(&self, document: u64) -> impl Iterator<Item = std::ops::Range<u32>> + '_ {
        let documents = self.array::<8>(self.layout.later_documents, self.header.later_prompts);
        let first = documents.partition_point(|b| u64::from_le_bytes(*b) < document);
        let own = documents[first..].iter().take_while(move |b| u64::from_le_bytes(**b) == document);
        (first as u64..)
            .zip(own)
            .map(|(i, _)| self.u32_at(self.layout.later_from, i)..self.u32_at(self.layout.later_to, i))
    }
}
