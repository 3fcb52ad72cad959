//! The token store: documents as offsets into one array of token ids, memory-mapped.
//!
//! Layout (little-endian): 8 bytes magic, u64 length of the JSON header, the header, zeros up to a multiple of 64;
//! then u64 offsets [D+1], u32 prompt lengths [D], u32 text bytes [D], token ids [N] as u16 or u32.

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use xxhash_rust::xxh3::Xxh3;

const MAGIC: &[u8; 8] = b"MTTOKEN1";
const ALIGN: usize = 64;
const MAX_HEADER: u64 = 1 << 20;

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file that cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file that is no store, or a damaged one.
    #[error("{path}: {reason}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A read beyond the end.
    #[error("{path}: {what} {from}..{to} of {len}", path = path.display())]
    Range {
        /// The file.
        path: PathBuf,
        /// Tokens or documents.
        what: &'static str,
        /// First.
        from: u64,
        /// One past the last.
        to: u64,
        /// How many there are.
        len: u64,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Header {
    name: String,
    tokenizer: String,
    documents: u64,
    tokens: u64,
    /// 2 or 4.
    token_bytes: u8,
    /// xxh3 of everything after the header.
    checksum: String,
}

/// A store, opened for reading. Cheap to open whatever its size.
#[derive(Debug)]
pub struct TokenStore {
    path: PathBuf,
    map: Mmap,
    header: Header,
    offsets: usize,
    prompts: usize,
    text_bytes: usize,
    tokens: usize,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}

impl TokenStore {
    /// Opens a store and checks its header and size, not its checksum.
    ///
    /// # Errors
    /// A file that is missing, no store, or shorter or longer than its header says.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let format = |reason: String| StoreError::Format { path: path.to_owned(), reason };
        let mut file = File::open(path).map_err(io(path))?;
        let size = file.metadata().map_err(io(path))?.len();
        let mut start = [0u8; 16];
        file.read_exact(&mut start).map_err(|_| format("is no token store: shorter than 16 bytes".into()))?;
        if &start[..8] != MAGIC {
            return Err(format("is no token store of this version: it does not begin with MTTOKEN1".into()));
        }
        let header_len = u64::from_le_bytes(start[8..].try_into().expect("eight bytes"));
        if header_len > MAX_HEADER || header_len + 16 > size {
            return Err(format(format!("its header claims {header_len} bytes of a file of {size}")));
        }
        let mut json = vec![0u8; header_len as usize];
        file.read_exact(&mut json).map_err(io(path))?;
        let header: Header = serde_json::from_slice(&json).map_err(|e| format(format!("broken header: {e}")))?;
        if !matches!(header.token_bytes, 2 | 4) {
            return Err(format(format!("token_bytes = {} must be 2 or 4", header.token_bytes)));
        }
        let offsets = (16 + json.len()).next_multiple_of(ALIGN);
        let sizes = || {
            let documents = usize::try_from(header.documents).ok()?;
            let prompts = offsets.checked_add(documents.checked_add(1)?.checked_mul(8)?)?;
            let text_bytes = prompts.checked_add(documents.checked_mul(4)?)?;
            let tokens = text_bytes.checked_add(documents.checked_mul(4)?)?;
            let ids = usize::try_from(header.tokens).ok()?.checked_mul(usize::from(header.token_bytes))?;
            Some((prompts, text_bytes, tokens, tokens.checked_add(ids)?))
        };
        let (prompts, text_bytes, tokens, end) =
            sizes().ok_or_else(|| format("its header claims more than can be addressed".into()))?;
        if end as u64 != size {
            return Err(format(format!("is {size} bytes long, its header says {end}: truncated or overwritten")));
        }
        // SAFETY: the map is read-only and the file was renamed into place when complete; one that another process
        // shortens while it is mapped is outside what any reader can support.
        let map = unsafe { Mmap::map(&file) }.map_err(io(path))?;
        let store = Self { path: path.to_owned(), map, header, offsets, prompts, text_bytes, tokens };
        if store.offset(0) != 0 || store.offset(store.document_count()) != store.token_count() {
            return Err(format("its document offsets do not span its tokens".into()));
        }
        Ok(store)
    }

    /// Reads everything and compares the checksum and the offsets' order.
    ///
    /// # Errors
    /// Any difference.
    pub fn verify(&self) -> Result<(), StoreError> {
        let format = |reason: &str| StoreError::Format { path: self.path.clone(), reason: reason.to_owned() };
        let mut hash = Xxh3::new();
        hash.update(&self.map[self.offsets..]);
        if format!("{:032x}", hash.digest128()) != self.header.checksum {
            return Err(format("checksum differs: its content was damaged"));
        }
        if (0..self.document_count()).any(|i| self.offset(i) > self.offset(i + 1)) {
            return Err(format("document offsets are not in order"));
        }
        Ok(())
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.map[at..at + 8].try_into().expect("eight bytes"))
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.map[at..at + 4].try_into().expect("four bytes"))
    }

    fn offset(&self, document: u64) -> u64 {
        self.u64_at(self.offsets + document as usize * 8)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.header.name
    }

    /// The fingerprint of the tokenizer that made it.
    pub fn tokenizer(&self) -> &str {
        &self.header.tokenizer
    }

    /// Tokens in all.
    pub fn token_count(&self) -> u64 {
        self.header.tokens
    }

    /// Documents in all.
    pub fn document_count(&self) -> u64 {
        self.header.documents
    }

    /// Changes whenever the content or the tokenizer does.
    pub fn fingerprint(&self) -> String {
        let mut hash = Xxh3::new();
        hash.update(self.header.checksum.as_bytes());
        hash.update(self.header.tokenizer.as_bytes());
        format!("{:032x}", hash.digest128())
    }

    /// Tokens of a document, its end token included. 0 beyond the last.
    pub fn document_len(&self, document: u64) -> u64 {
        if document >= self.document_count() {
            return 0;
        }
        self.offset(document + 1).saturating_sub(self.offset(document))
    }

    /// How many of a document's tokens are its prompt. 0 beyond the last.
    pub fn prompt_len(&self, document: u64) -> u32 {
        if document >= self.document_count() {
            return 0;
        }
        self.u32_at(self.prompts + document as usize * 4)
    }

    /// Bytes of the document's text in UTF-8. 0 beyond the last.
    pub fn text_bytes(&self, document: u64) -> u32 {
        if document >= self.document_count() {
            return 0;
        }
        self.u32_at(self.text_bytes + document as usize * 4)
    }

    /// Fills `out` with the tokens from `from` on.
    ///
    /// # Errors
    /// A range beyond the end.
    pub fn read(&self, from: u64, out: &mut [u32]) -> Result<(), StoreError> {
        let to = from.saturating_add(out.len() as u64);
        if to > self.token_count() {
            let path = self.path.clone();
            return Err(StoreError::Range { path, what: "tokens", from, to, len: self.token_count() });
        }
        let width = usize::from(self.header.token_bytes);
        let at = self.tokens + from as usize * width;
        let bytes = &self.map[at..at + out.len() * width];
        if width == 2 {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *o = u32::from(u16::from_le_bytes([b[0], b[1]]));
            }
        } else {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *o = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        Ok(())
    }

    /// A document's tokens, its end token included.
    ///
    /// # Errors
    /// A document beyond the last.
    pub fn document(&self, document: u64) -> Result<Vec<u32>, StoreError> {
        if document >= self.document_count() {
            let len = self.document_count();
            let path = self.path.clone();
            return Err(StoreError::Range { path, what: "documents", from: document, to: document + 1, len });
        }
        let mut tokens = vec![0; self.document_len(document) as usize];
        self.read(self.offset(document), &mut tokens)?;
        Ok(tokens)
    }
}

/// Writes a store: document by document, then renamed into place by [`finish`](Self::finish). Dropped before that it
/// leaves nothing behind.
#[derive(Debug)]
pub struct StoreWriter {
    path: PathBuf,
    name: String,
    tokenizer: String,
    ids: BufWriter<NamedTempFile>,
    offsets: Vec<u64>,
    prompts: Vec<u32>,
    text_bytes: Vec<u32>,
    largest: u32,
}

impl StoreWriter {
    /// Begins a store that will lie at `path`.
    ///
    /// # Errors
    /// A directory that cannot be written.
    pub fn create(path: &Path, name: &str, tokenizer: &str) -> Result<Self, StoreError> {
        let dir = parent(path);
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        Ok(Self {
            path: path.to_owned(),
            name: name.to_owned(),
            tokenizer: tokenizer.to_owned(),
            ids: BufWriter::new(NamedTempFile::new_in(dir).map_err(io(dir))?),
            offsets: vec![0],
            prompts: Vec::new(),
            text_bytes: Vec::new(),
            largest: 0,
        })
    }

    /// Appends a document: its tokens (end token included), how many of them are the prompt, and its text's bytes.
    ///
    /// # Errors
    /// A token id of 2³¹ or more, or a disk that is full.
    pub fn push(&mut self, tokens: &[u32], prompt: u32, text_bytes: u32) -> Result<(), StoreError> {
        if let Some(id) = tokens.iter().find(|t| **t > i32::MAX as u32) {
            let reason = format!("token id {id} is not below 2147483648");
            return Err(StoreError::Format { path: self.path.clone(), reason });
        }
        self.largest = tokens.iter().copied().fold(self.largest, u32::max);
        for t in tokens {
            self.ids.write_all(&t.to_le_bytes()).map_err(io(&self.path))?;
        }
        let end = self.offsets[self.offsets.len() - 1] + tokens.len() as u64;
        self.offsets.push(end);
        self.prompts.push(prompt);
        self.text_bytes.push(text_bytes);
        Ok(())
    }

    /// Writes the store: complete, synced, then renamed.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn finish(self) -> Result<(), StoreError> {
        let Self { path, name, tokenizer, ids, offsets, prompts, text_bytes, largest } = self;
        let mut ids = ids.into_inner().map_err(|e| io(&path)(e.into_error()))?;
        ids.seek(SeekFrom::Start(0)).map_err(io(&path))?;
        let token_bytes = if largest <= u32::from(u16::MAX) { 2 } else { 4 };
        let mut header = Header {
            name,
            tokenizer,
            documents: prompts.len() as u64,
            tokens: offsets[offsets.len() - 1],
            token_bytes,
            checksum: "0".repeat(32),
        };
        let file = NamedTempFile::new_in(parent(&path)).map_err(io(&path))?;
        let mut out = Hashing { file: BufWriter::new(file), hash: Xxh3::new() };
        // The checksum has a fixed width: the header is written again, in place, once it is known.
        let placeholder = encode_header(&header);
        out.file.write_all(&placeholder).map_err(io(&path))?;
        out.write_payload(&offsets, &prompts, &text_bytes, &mut ids, token_bytes).map_err(io(&path))?;
        header.checksum = format!("{:032x}", out.hash.digest128());
        let mut file = out.file.into_inner().map_err(|e| io(&path)(e.into_error()))?;
        file.seek(SeekFrom::Start(0)).map_err(io(&path))?;
        file.write_all(&encode_header(&header)).map_err(io(&path))?;
        file.as_file().sync_all().map_err(io(&path))?;
        file.persist(&path).map_err(|e| io(&path)(e.error))?;
        Ok(())
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn encode_header(header: &Header) -> Vec<u8> {
    let json = serde_json::to_vec(header).expect("a struct of strings and numbers is JSON");
    let mut bytes = MAGIC.to_vec();
    bytes.extend((json.len() as u64).to_le_bytes());
    bytes.extend(json);
    bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
    bytes
}

struct Hashing {
    file: BufWriter<NamedTempFile>,
    hash: Xxh3,
}

impl Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes)
    }

    fn write_payload(
        &mut self,
        offsets: &[u64],
        prompts: &[u32],
        text_bytes: &[u32],
        ids: &mut NamedTempFile,
        token_bytes: u8,
    ) -> std::io::Result<()> {
        for v in offsets {
            self.write(&v.to_le_bytes())?;
        }
        for v in prompts.iter().chain(text_bytes) {
            self.write(&v.to_le_bytes())?;
        }
        let mut buffer = vec![0u8; 1 << 16];
        loop {
            let n = read_full(ids, &mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            if token_bytes == 4 {
                self.write(&buffer[..n])?;
            } else {
                let narrow: Vec<u8> = buffer[..n].chunks_exact(4).flat_map(|b| [b[0], b[1]]).collect();
                self.write(&narrow)?;
            }
        }
    }
}

/// Fills the buffer as far as the file goes.
fn read_full(file: &mut NamedTempFile, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}
