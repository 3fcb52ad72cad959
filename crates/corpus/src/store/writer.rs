//! Writing a store, document by document, in bounded memory.

use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use xxhash_rust::xxh3::Xxh3;

use super::{ALIGN, Header, MAGIC, StoreError, io};

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
