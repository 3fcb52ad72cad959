//! Reading a store, without copying it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use xxhash_rust::xxh3::Xxh3;

use super::{ALIGN, Header, MAGIC, StoreError, io};

/// A longer header is damage, not a store.
const MAX_HEADER: u64 = 1 << 20;

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
