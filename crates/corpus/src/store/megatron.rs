//! Megatron's indexed data sets (`.bin` and `.idx`), as Megatron-LM, GPT-NeoX and NeMo write them; Pythia's own data are in
//! this form.
//!
//! The index (little-endian): 9 bytes `MMIDIDX\0\0`, u64 version 1, u8 type of ids, u64 number of sequences n, u64 number of
//! document borders m; then n sequence lengths as i32, n places in bytes as i64, m borders as i64: a document is the sequences
//! between two borders. (Megatron's term: what is a sequence there is a part of a document, such as a sentence.)

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::{StoreError, TokenArray, advice, io};

const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
const HEADER: usize = 9 + 8 + 1 + 8 + 8;

/// The types of ids that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ids {
    U8,
    U16,
    I16,
    I32,
    I64,
}

impl Ids {
    fn of_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::U8,
            3 => Self::I16,
            4 => Self::I32,
            5 => Self::I64,
            8 => Self::U16,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::I32 => 4,
            Self::I64 => 8,
        }
    }
}

/// An indexed data set of Megatron, memory-mapped.
///
/// Its files name neither tokenizer nor vocabulary: who opens it says them. It can be mixed like any
/// [`TokenArray`](crate::TokenArray). Megatron's files hold end tokens where their writer was told to append them: nothing is
/// added here.
#[derive(Debug)]
pub struct MegatronStore {
    path: PathBuf,
    name: String,
    tokenizer: String,
    vocabulary: u32,
    ids: Ids,
    sequences: usize,
    borders: usize,
    index: Mmap,
    /// `None` where there is no token: an empty file cannot be mapped.
    tokens: Option<Mmap>,
}

impl MegatronStore {
    /// Opens `PREFIX.idx` and `PREFIX.bin`, by either's name or by the prefix. Checks sizes and the index's ends;
    /// [`verify`](Self::verify) reads all of it.
    ///
    /// # Errors
    /// A file that is missing, no such index, of a type that holds no ids, or that does not fit the other.
    pub fn open(path: &Path, tokenizer: &str, vocabulary: u32) -> Result<Self, StoreError> {
        let prefix = match path.extension().and_then(|e| e.to_str()) {
            Some("idx" | "bin") => path.with_extension(""),
            _ => path.to_owned(),
        };
        let with = |ending: &str| {
            let mut name = prefix.clone().into_os_string();
            name.push(ending);
            PathBuf::from(name)
        };
        let (at, bin) = (with(".idx"), with(".bin"));
        let format = |path: &Path, reason: String| StoreError::Format { path: path.to_owned(), reason };
        if vocabulary == 0 || vocabulary > 1 << 31 {
            return Err(format(&at, format!("vocabulary = {vocabulary} must be from 1 to 2147483648")));
        }
        let index = map(&at)?.ok_or_else(|| format(&at, "is empty".into()))?;
        if !index.starts_with(MAGIC) || index.len() < HEADER {
            return Err(format(&at, "is no index of Megatron: it does not begin with MMIDIDX".into()));
        }
        let number = |from: usize| u64::from_le_bytes(index[from..from + 8].try_into().expect("eight bytes"));
        let (version, code, sequences, borders) = (number(9), index[17], number(18), number(26));
        if version != 1 {
            return Err(format(&at, format!("version = {version} must be 1")));
        }
        let ids = Ids::of_code(code).ok_or_else(|| {
            let known = "1 (u8), 3 (i16), 4 (i32), 5 (i64) or 8 (u16)";
            format(&at, format!("type of ids = {code} must be {known}"))
        })?;
        // None where it claims more than can be counted.
        let size = |bytes: u64| {
            sequences.checked_mul(12 + bytes)?.checked_add(borders.checked_mul(8)?)?.checked_add(HEADER as u64)
        };
        let held = Some(index.len() as u64);
        if size(0) != held && size(1) == held {
            let reason = "has modes of sequences, as data sets of several modalities do; only text is read";
            return Err(format(&at, reason.into()));
        }
        if size(0) != held {
            let said = size(0).map_or_else(|| "more than can be counted".to_owned(), |size| size.to_string());
            let reason = format!("is {} bytes long, its header says {said}: truncated or overwritten", index.len());
            return Err(format(&at, reason));
        }
        let tokens = map(&bin)?;
        let name = prefix.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let store = Self {
            path: at.clone(),
            name,
            tokenizer: tokenizer.to_owned(),
            vocabulary,
            ids,
            sequences: sequences as usize,
            borders: borders as usize,
            index,
            tokens,
        };
        let held = store.tokens.as_ref().map_or(0, |map| map.len());
        let end = store
            .sequences
            .checked_sub(1)
            .map_or(0, |last| store.place(last).saturating_add(store.length(last).saturating_mul(ids.bytes() as i64)));
        if end != held as i64 {
            return Err(format(
                &bin,
                format!("is {held} bytes long, its index says {end}: truncated, or of another index"),
            ));
        }
        let whole = store.borders > 0 && store.border(0) == 0 && store.border(store.borders - 1) == sequences as i64;
        if !whole {
            return Err(format(&at, "its document borders do not span its sequences".into()));
        }
        Ok(store)
    }

    /// Reads everything: lengths, places and borders in order, ids below the vocabulary.
    ///
    /// # Errors
    /// Any that is not.
    pub fn verify(&self) -> Result<(), StoreError> {
        let format = |reason: String| StoreError::Format { path: self.path.clone(), reason };
        let mut place = 0;
        for i in 0..self.sequences {
            let (length, found) = (self.length(i), self.place(i));
            if length < 0 || found != place {
                return Err(format(format!(
                    "sequence {i} of {length} tokens lies at {found}, not {place}: not one after the other"
                )));
            }
            place += length * self.ids.bytes() as i64;
        }
        if let Some(i) = (1..self.borders).find(|i| self.border(*i) < self.border(i - 1)) {
            return Err(format(format!("document border {i} comes before the one before it")));
        }
        let mut ids = vec![0; 1 << 16];
        let mut from = 0;
        while from < self.token_count() {
            let n = ((self.token_count() - from) as usize).min(ids.len());
            self.read_i32(from, &mut ids[..n])?;
            from += n as u64;
        }
        Ok(())
    }

    /// One more than the largest token id there may be.
    pub fn vocabulary(&self) -> u32 {
        self.vocabulary
    }

    /// Sequences, in Megatron's sense, in all.
    pub fn sequence_count(&self) -> u64 {
        self.sequences as u64
    }

    /// A document's sequences. `None` beyond the last.
    pub fn sequences_of(&self, document: u64) -> Option<Range<u64>> {
        let document =
            usize::try_from(document).ok().filter(|d| d.checked_add(1).is_some_and(|next| next < self.borders))?;
        let within = |border: i64| border.clamp(0, self.sequences as i64) as u64;
        Some(within(self.border(document))..within(self.border(document + 1)))
    }

    /// A sequence's tokens.
    ///
    /// # Errors
    /// A sequence beyond the last, an id outside the vocabulary.
    pub fn sequence(&self, sequence: u64) -> Result<Vec<u32>, StoreError> {
        if sequence >= self.sequence_count() {
            let (path, len) = (self.path.clone(), self.sequence_count());
            return Err(StoreError::Range { path, what: "sequences", from: sequence, to: sequence + 1, len });
        }
        let from = self.token_at(sequence);
        self.ids(from..from + self.length(sequence as usize).max(0) as u64)
    }

    /// A document's tokens.
    ///
    /// # Errors
    /// A document beyond the last, an id outside the vocabulary.
    pub fn document(&self, document: u64) -> Result<Vec<u32>, StoreError> {
        match self.document_range(document) {
            Some(range) => self.ids(range),
            None => {
                let (path, len) = (self.path.clone(), self.document_count());
                Err(StoreError::Range { path, what: "documents", from: document, to: document + 1, len })
            }
        }
    }

    fn ids(&self, tokens: Range<u64>) -> Result<Vec<u32>, StoreError> {
        // Before there is room for them: a damaged length may claim any number.
        self.check(&tokens)?;
        let mut ids = vec![0; tokens.end.saturating_sub(tokens.start) as usize];
        self.read_i32(tokens.start, &mut ids)?;
        Ok(ids.into_iter().map(|id| id as u32).collect())
    }

    fn check(&self, tokens: &Range<u64>) -> Result<(), StoreError> {
        if tokens.end <= self.token_count() {
            return Ok(());
        }
        let (path, len) = (self.path.clone(), self.token_count());
        Err(StoreError::Range { path, what: "tokens", from: tokens.start, to: tokens.end, len })
    }

    fn array<const N: usize>(&self, from: usize, index: usize) -> [u8; N] {
        let from = from + index * N;
        self.index[from..from + N].try_into().expect("as many bytes")
    }

    fn length(&self, sequence: usize) -> i64 {
        i64::from(i32::from_le_bytes(self.array(HEADER, sequence)))
    }

    fn place(&self, sequence: usize) -> i64 {
        i64::from_le_bytes(self.array(HEADER + 4 * self.sequences, sequence))
    }

    fn border(&self, document: usize) -> i64 {
        i64::from_le_bytes(self.array(HEADER + 12 * self.sequences, document))
    }

    /// The first token of a sequence; where the last one ends, for their number.
    fn token_at(&self, sequence: u64) -> u64 {
        let sequence = sequence as usize;
        if sequence >= self.sequences {
            return self.token_count();
        }
        (self.place(sequence).max(0) as u64 / self.ids.bytes() as u64).min(self.token_count())
    }
}

fn map(path: &Path) -> Result<Option<Mmap>, StoreError> {
    let file = File::open(path).map_err(io(path))?;
    if file.metadata().map_err(io(path))?.len() == 0 {
        return Ok(None);
    }
    // SAFETY: the map is read-only; a file that another process shortens meanwhile is outside what any reader can support.
    unsafe { Mmap::map(&file) }.map(Some).map_err(io(path))
}

impl TokenArray for MegatronStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn tokenizer(&self) -> &str {
        &self.tokenizer
    }

    fn token_count(&self) -> u64 {
        (self.tokens.as_ref().map_or(0, |map| map.len()) / self.ids.bytes()) as u64
    }

    fn document_count(&self) -> u64 {
        self.borders.saturating_sub(1) as u64
    }

    fn document_range(&self, document: u64) -> Option<Range<u64>> {
        let sequences = self.sequences_of(document)?;
        let range = self.token_at(sequences.start)..self.token_at(sequences.end);
        (range.start <= range.end).then_some(range)
    }

    fn document_of(&self, token: u64) -> Option<u64> {
        if token >= self.token_count() {
            return None;
        }
        // The last document that begins at the token or before.
        let (mut low, mut high) = (0, self.document_count());
        while low < high {
            let middle = low + (high - low) / 2;
            let begins = self.token_at(self.border(middle as usize).max(0) as u64);
            if begins <= token { low = middle + 1 } else { high = middle }
        }
        low.checked_sub(1)
    }

    fn read_i32(&self, from: u64, out: &mut [i32]) -> Result<(), StoreError> {
        let to = from.saturating_add(out.len() as u64);
        self.check(&(from..to))?;
        let Some(map) = &self.tokens else { return Ok(()) };
        let bytes = &map[from as usize * self.ids.bytes()..to as usize * self.ids.bytes()];
        // One bit too many in an id of eight bytes makes it none of four: -1.
        let of_i64 = |b: [u8; 8]| i32::try_from(i64::from_le_bytes(b)).unwrap_or(-1);
        match self.ids {
            Ids::U8 => out.iter_mut().zip(bytes).for_each(|(id, b)| *id = i32::from(*b)),
            Ids::U16 => convert(bytes, out, |b| i32::from(u16::from_le_bytes(b))),
            Ids::I16 => convert(bytes, out, |b| i32::from(i16::from_le_bytes(b))),
            Ids::I32 => convert(bytes, out, i32::from_le_bytes),
            Ids::I64 => convert(bytes, out, of_i64),
        }
        // A negative number is a large one without its sign: one comparison.
        let largest = out.iter().map(|id| *id as u32).max().unwrap_or(0);
        if largest >= self.vocabulary && !out.is_empty() {
            let at = out.iter().position(|id| *id as u32 == largest).unwrap_or(0) as u64;
            let reason = format!(
                "token {} has the id {}, not below the vocabulary of {}",
                from + at,
                out[at as usize],
                self.vocabulary
            );
            return Err(StoreError::Format { path: self.path.clone(), reason });
        }
        Ok(())
    }

    fn will_need(&self, tokens: Range<u64>) {
        if let Some(map) = &self.tokens {
            let end = tokens.end.min(self.token_count()) as usize;
            advice::will_need(map, tokens.start as usize * self.ids.bytes()..end * self.ids.bytes());
        }
    }

    fn random_access(&self) {
        if let Some(map) = &self.tokens {
            advice::random(map);
        }
    }
}

fn convert<const N: usize>(bytes: &[u8], out: &mut [i32], id: impl Fn([u8; N]) -> i32) {
    out.iter_mut().zip(bytes.as_chunks::<N>().0).for_each(|(out, bytes)| *out = id(*bytes));
}
