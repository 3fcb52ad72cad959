//! Writing a store file, document by document, in bounded memory.

use std::io::{BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use atomic_file::AtomicFile;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::header::Header;
use super::{StoreError, StoreInfo, TokenWidth, io, parent};

/// A document as it is stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreDocument<'a> {
    /// Token ids, the end token included.
    pub tokens: &'a [u32],
    /// How many of the first are its prompt.
    pub prompt: u32,
    /// The prompts of later turns: ranges of tokens, in order.
    pub later_prompts: &'a [std::ops::Range<u32>],
    /// Bytes of its text in UTF-8.
    pub text_bytes: u32,
    /// The hash of its content; that of its tokens where there is none.
    pub hash: Option<u64>,
}

/// Writes a store file: document by document, then renamed into place by [`finish`](Self::finish). Dropped before that
/// it leaves nothing behind. Token ids go to the disk at once; 24 bytes a document wait in memory.
pub struct StoreWriter {
    path: PathBuf,
    header: Header,
    width: TokenWidth,
    /// Bytes kept for the header: its numbers grow until the end.
    room: usize,
    out: BufWriter<AtomicFile>,
    hash: Xxh3,
    offsets: Vec<u64>,
    hashes: Vec<u64>,
    prompts: Vec<u32>,
    text_bytes: Vec<u32>,
    total_bytes: u64,
    later: Vec<(u64, std::ops::Range<u32>)>,
}

impl StoreWriter {
    /// Begins a store file that will lie at `path`.
    ///
    /// # Errors
    /// A directory that cannot be written, a vocabulary of more than 2³¹.
    pub fn create(path: &Path, info: StoreInfo) -> Result<Self, StoreError> {
        if info.vocabulary > 1 << 31 {
            let reason = format!("vocabulary = {} must not exceed 2147483648", info.vocabulary);
            return Err(StoreError::Format { path: path.to_owned(), reason });
        }
        let dir = parent(path);
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        let width = TokenWidth::for_vocabulary(info.vocabulary);
        let header = Header {
            info,
            documents: u64::MAX,
            tokens: u64::MAX,
            later_prompts: u64::MAX,
            text_bytes: u64::MAX,
            token_bytes: width.bytes() as u8,
            checksum: "0".repeat(32),
        };
        // Written again, in place, once its numbers are known: none is longer than these.
        let placeholder = header.encode(0);
        let mut out = BufWriter::with_capacity(1 << 18, AtomicFile::create(path).map_err(io(dir))?);
        out.write_all(&placeholder).map_err(io(path))?;
        Ok(Self {
            path: path.to_owned(),
            header,
            width,
            room: placeholder.len(),
            out,
            hash: Xxh3::new(),
            offsets: vec![0],
            hashes: Vec::new(),
            prompts: Vec::new(),
            text_bytes: Vec::new(),
            total_bytes: 0,
            later: Vec::new(),
        })
    }

    /// Appends a document.
    ///
    /// # Errors
    /// A token id outside the vocabulary, prompts out of order or beyond the document, or a disk that is full.
    pub fn push(&mut self, document: StoreDocument<'_>) -> Result<(), StoreError> {
        let StoreDocument { tokens, prompt, later_prompts, text_bytes, hash } = document;
        let format = |reason: String| StoreError::Format { path: self.path.clone(), reason };
        let vocabulary = self.header.info.vocabulary;
        if let Some(id) = tokens.iter().find(|t| **t >= vocabulary) {
            return Err(format(format!("token id {id} is not below its vocabulary of {vocabulary}")));
        }
        let mut end = prompt;
        for range in later_prompts {
            if range.start < end || range.end < range.start {
                return Err(format(format!("prompt {range:?} begins before {end}, the end of the one before")));
            }
            end = range.end;
        }
        if u64::from(end) > tokens.len() as u64 {
            return Err(format(format!("a prompt ends at {end} of a document of {} tokens", tokens.len())));
        }
        let bytes: Vec<u8> = match self.width {
            TokenWidth::U16 => tokens.iter().flat_map(|t| (*t as u16).to_le_bytes()).collect(),
            TokenWidth::U32 => tokens.iter().flat_map(|t| t.to_le_bytes()).collect(),
        };
        self.write(&bytes)?;
        let document = self.prompts.len() as u64;
        self.later.extend(later_prompts.iter().map(|range| (document, range.clone())));
        self.offsets.push(self.offsets[self.offsets.len() - 1] + tokens.len() as u64);
        self.hashes.push(hash.unwrap_or_else(|| xxh3_64(&bytes)));
        self.prompts.push(prompt);
        self.text_bytes.push(text_bytes);
        self.total_bytes += u64::from(text_bytes);
        Ok(())
    }

    /// Documents so far.
    pub fn document_count(&self) -> u64 {
        self.prompts.len() as u64
    }

    /// Bytes of text so far.
    pub fn text_bytes(&self) -> u64 {
        self.total_bytes
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hash.update(bytes);
        self.out.write_all(bytes).map_err(io(&self.path))
    }

    fn write_u64s(&mut self, values: impl Iterator<Item = u64>) -> Result<(), StoreError> {
        let bytes: Vec<u8> = values.flat_map(u64::to_le_bytes).collect();
        self.write(&bytes)
    }

    fn write_u32s(&mut self, values: impl Iterator<Item = u32>) -> Result<(), StoreError> {
        let bytes: Vec<u8> = values.flat_map(u32::to_le_bytes).collect();
        self.write(&bytes)
    }

    /// Adds a note on the store's source. It must fit the room that the header was given.
    ///
    /// # Errors
    /// A note that is too long.
    pub fn note(&mut self, key: &str, value: impl ToString) -> Result<(), StoreError> {
        self.header.info.source.insert(key.to_owned(), value.to_string());
        if self.header.encode(0).len() > self.room {
            let reason = format!("note {key} does not fit the header: give it a placeholder at the beginning");
            return Err(StoreError::Format { path: self.path.clone(), reason });
        }
        Ok(())
    }

    /// Writes the store: complete, synced, then renamed.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn finish(mut self) -> Result<(), StoreError> {
        let tokens = self.offsets[self.offsets.len() - 1];
        let ids = tokens as usize * self.width.bytes();
        self.write(&[0; 8][..ids.next_multiple_of(8) - ids])?;
        let (offsets, hashes) = (std::mem::take(&mut self.offsets), std::mem::take(&mut self.hashes));
        self.write_u64s(offsets.into_iter().chain(hashes))?;
        let (prompts, text_bytes) = (std::mem::take(&mut self.prompts), std::mem::take(&mut self.text_bytes));
        self.write_u32s(prompts.iter().copied().chain(text_bytes.iter().copied()))?;
        let later = std::mem::take(&mut self.later);
        self.write_u64s(later.iter().map(|(document, _)| *document))?;
        let ends = later.iter().map(|(_, range)| range.end);
        self.write_u32s(later.iter().map(|(_, range)| range.start).chain(ends))?;
        let Self { path, mut header, room, out, hash, total_bytes, .. } = self;
        header.documents = prompts.len() as u64;
        header.tokens = tokens;
        header.later_prompts = later.len() as u64;
        header.text_bytes = total_bytes;
        header.checksum = header.checksum_over(hash.digest128(), room);
        let mut file = out.into_inner().map_err(|e| io(&path)(e.into_error()))?;
        file.seek(SeekFrom::Start(0)).map_err(io(&path))?;
        file.write_all(&header.encode(room)).map_err(io(&path))?;
        file.commit().map(drop).map_err(io(&path))
    }
}
