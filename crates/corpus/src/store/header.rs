//! A store file's header: what it holds, where it came from, and its checksum.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StoreError;

pub(super) const MAGIC: &[u8; 8] = b"MTTOKEN2";
pub(super) const ALIGN: usize = 64;
/// A longer header is damage, not a store.
pub(super) const MAX_HEADER: u64 = 1 << 20;

/// What a store is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreInfo {
    /// Its name.
    pub name: String,
    /// The tokenizer's fingerprint.
    pub tokenizer: String,
    /// One more than the largest token id there may be.
    pub vocabulary: u32,
    /// Where its text came from: whatever helps to trace it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub source: BTreeMap<String, String>,
}

impl StoreInfo {
    /// Of a tokenizer's fingerprint and vocabulary.
    pub fn new(name: &str, tokenizer: &str, vocabulary: u32) -> Self {
        Self { name: name.to_owned(), tokenizer: tokenizer.to_owned(), vocabulary, source: BTreeMap::new() }
    }

    /// With a note on its source.
    #[must_use]
    pub fn with_source(mut self, key: &str, value: impl ToString) -> Self {
        self.source.insert(key.to_owned(), value.to_string());
        self
    }
}

/// Bytes of a token id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenWidth {
    /// For vocabularies of up to 65 536.
    U16,
    /// For larger ones.
    U32,
}

impl TokenWidth {
    /// The narrowest that holds a vocabulary.
    pub fn for_vocabulary(vocabulary: u32) -> Self {
        if vocabulary <= 1 << 16 { Self::U16 } else { Self::U32 }
    }

    /// 2 or 4.
    pub fn bytes(self) -> usize {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }

    pub(super) fn from_bytes(bytes: u8) -> Option<Self> {
        match bytes {
            2 => Some(Self::U16),
            4 => Some(Self::U32),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    #[serde(flatten)]
    pub(super) info: StoreInfo,
    pub(super) documents: u64,
    pub(super) tokens: u64,
    /// Prompts of turns after a document's first.
    pub(super) later_prompts: u64,
    pub(super) text_bytes: u64,
    /// 2 or 4.
    pub(super) token_bytes: u8,
    /// xxh3 of this header without its checksum and of the xxh3 of everything after it.
    pub(super) checksum: String,
}

/// Where a file's arrays begin, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) tokens: usize,
    pub(super) offsets: usize,
    pub(super) hashes: usize,
    pub(super) prompts: usize,
    pub(super) text_bytes: usize,
    pub(super) later_documents: usize,
    pub(super) later_from: usize,
    pub(super) later_to: usize,
    pub(super) end: usize,
}

impl Header {
    pub(super) fn width(&self) -> Option<TokenWidth> {
        TokenWidth::from_bytes(self.token_bytes)
    }

    /// `None` where the header claims more than can be addressed.
    pub(super) fn layout(&self, header_bytes: usize) -> Option<Layout> {
        let documents = usize::try_from(self.documents).ok()?;
        let later = usize::try_from(self.later_prompts).ok()?;
        let ids = usize::try_from(self.tokens).ok()?.checked_mul(usize::from(self.token_bytes))?;
        let after = |at: usize, count: usize, bytes: usize| at.checked_add(count.checked_mul(bytes)?);
        let tokens = header_bytes;
        let offsets = tokens.checked_add(ids)?.checked_next_multiple_of(8)?;
        let hashes = after(offsets, documents.checked_add(1)?, 8)?;
        let prompts = after(hashes, documents, 8)?;
        let text_bytes = after(prompts, documents, 4)?;
        let later_documents = after(text_bytes, documents, 4)?;
        let later_from = after(later_documents, later, 8)?;
        let later_to = after(later_from, later, 4)?;
        let end = after(later_to, later, 4)?;
        Some(Layout { tokens, offsets, hashes, prompts, text_bytes, later_documents, later_from, later_to, end })
    }

    /// The checksum of a file whose content has this digest and whose header takes `room` bytes.
    pub(super) fn checksum_over(&self, content: u128, room: usize) -> String {
        let bare = Self { checksum: "0".repeat(32), ..self.clone() };
        let mut bytes = bare.encode(room);
        bytes.extend(content.to_le_bytes());
        format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&bytes))
    }

    /// The header's bytes, at least `room` of them.
    pub(super) fn encode(&self, room: usize) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).expect("strings, numbers and a map of strings are JSON");
        let size = (16 + json.len()).max(room).next_multiple_of(ALIGN);
        json.resize(size - 16, b' ');
        let mut bytes = MAGIC.to_vec();
        bytes.extend((json.len() as u64).to_le_bytes());
        bytes.extend(json);
        bytes
    }

    /// The header at the beginning of a file of `size` bytes, and how long it is.
    pub(super) fn decode(path: &Path, size: u64, mut file: impl std::io::Read) -> Result<(Self, usize), StoreError> {
        let format = |reason: String| StoreError::Format { path: path.to_owned(), reason };
        let mut start = [0u8; 16];
        file.read_exact(&mut start).map_err(|_| format("is no token store: shorter than 16 bytes".into()))?;
        let (magic, length) = start.split_at(8);
        if magic != MAGIC {
            return Err(format("is no token store of this version: it does not begin with MTTOKEN2".into()));
        }
        let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
        if length > MAX_HEADER || length + 16 > size {
            return Err(format(format!("its header claims {length} bytes of a file of {size}")));
        }
        let mut json = vec![0u8; length as usize];
        file.read_exact(&mut json).map_err(super::io(path))?;
        let header: Self = serde_json::from_slice(&json).map_err(|e| format(format!("broken header: {e}")))?;
        if header.width().is_none() {
            return Err(format(format!("token_bytes = {} must be 2 or 4", header.token_bytes)));
        }
        Ok((header, 16 + json.len()))
    }
}
