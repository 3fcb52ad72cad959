//! Some documents of a store as a store of their own: its files are linked, not copied.
//!
//! The list of such a store names, for each file of which not all documents belong to it, a file of ranges
//! (little-endian): 8 bytes magic, u64 number of ranges, u64 first and u64 end of each, u64 xxh3 of all before.

use std::fs;
use std::ops::Range;
use std::path::Path;

use atomic_file::AtomicFile;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::manifest::finish_selected;
use super::reader::{Part, TokenStore};
use super::shard::Shard;
use super::{StoreError, io};

const MAGIC: &[u8; 8] = b"MTSELECT";

/// A file of ranges, as the store's list names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selected {
    pub(super) file: String,
    documents: u64,
    tokens: u64,
}

/// All of a shard.
pub(super) fn whole(place: usize, shard: &Shard) -> Part {
    Part { shard: place, documents: 0..shard.header.documents, tokens: 0..shard.header.tokens }
}

impl Selected {
    /// The parts that the file of ranges names.
    pub(super) fn parts(&self, path: &Path, place: usize, shard: &Shard) -> Result<Vec<Part>, StoreError> {
        let format = |reason: &str| StoreError::Format { path: path.to_owned(), reason: reason.to_owned() };
        let ranges =
            decode(&fs::read(path).map_err(io(path))?).ok_or_else(|| format("is damaged: no list of ranges"))?;
        let mut parts = Vec::with_capacity(ranges.len());
        let (mut documents, mut tokens, mut last) = (0, 0, 0);
        for range in ranges {
            if range.start < last || range.start >= range.end || range.end > shard.header.documents {
                return Err(format("names documents out of order, or that its shard does not hold"));
            }
            last = range.end;
            let span = shard.offset(range.start)..shard.offset(range.end);
            if span.start > span.end || span.end > shard.header.tokens {
                return Err(format("names documents whose offsets are damaged"));
            }
            documents += range.end - range.start;
            tokens += span.end - span.start;
            parts.push(Part { shard: place, documents: range, tokens: span });
        }
        if (documents, tokens) != (self.documents, self.tokens) {
            return Err(format("is another file than the store's list names"));
        }
        Ok(parts)
    }
}

fn encode(ranges: &[Range<u64>]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend((ranges.len() as u64).to_le_bytes());
    bytes.extend(ranges.iter().flat_map(|r| [r.start, r.end]).flat_map(u64::to_le_bytes));
    bytes.extend(xxh3_64(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Vec<Range<u64>>> {
    let (content, checksum) = bytes.split_last_chunk::<8>()?;
    if xxh3_64(content) != u64::from_le_bytes(*checksum) {
        return None;
    }
    let (numbers, rest) = content.strip_prefix(MAGIC)?.as_chunks::<8>();
    let (count, numbers) = numbers.split_first()?;
    let (pairs, odd) = numbers.as_chunks::<2>();
    let whole = rest.is_empty() && odd.is_empty() && u64::from_le_bytes(*count) == pairs.len() as u64;
    let range = |[start, end]: &[[u8; 8]; 2]| u64::from_le_bytes(*start)..u64::from_le_bytes(*end);
    whole.then(|| pairs.iter().map(range).collect())
}

impl TokenStore {
    /// Makes some of its documents, in ascending order, a store of their own in a folder. Its files are linked where the
    /// file system can, else copied; those of which nothing is taken are left out.
    ///
    /// # Errors
    /// Documents out of order or beyond the last, the store's own folder, one that cannot be written.
    pub fn select(&self, documents: impl IntoIterator<Item = u64>, dir: &Path) -> Result<Self, StoreError> {
        let taken = self.ranges_by_shard(documents)?;
        fs::create_dir_all(dir).map_err(io(dir))?;
        let own = if self.path().is_dir() { self.path() } else { super::parent(self.path()) };
        if own.canonicalize().map_err(io(own))? == dir.canonicalize().map_err(io(dir))? {
            let reason = "is the folder of the store that is selected from".to_owned();
            return Err(StoreError::Format { path: dir.to_owned(), reason });
        }
        let mut files = Vec::new();
        for (place, ranges) in taken.iter().enumerate() {
            // One file at least: it names the tokenizer.
            if ranges.is_empty() && !(place + 1 == taken.len() && files.is_empty()) {
                continue;
            }
            let shard = &self.shards()[place];
            let file = shard.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            link(&shard.path, &dir.join(&file))?;
            let all = ranges.len() == 1 && ranges[0] == (0..shard.header.documents);
            let selected = if all { None } else { Some(write_ranges(dir, &file, shard, ranges)?) };
            files.push((file, selected));
        }
        finish_selected(dir, &files)?;
        Self::open(dir)
    }

    /// The ranges of documents of each of its files.
    fn ranges_by_shard(&self, documents: impl IntoIterator<Item = u64>) -> Result<Vec<Vec<Range<u64>>>, StoreError> {
        let mut taken: Vec<Vec<Range<u64>>> = vec![Vec::new(); self.shards().len()];
        let (mut place, mut before, mut last) = (0, 0, None);
        for document in documents {
            if last.is_some_and(|last| document <= last) || document >= self.document_count() {
                let (path, len) = (self.path().to_owned(), self.document_count());
                return Err(StoreError::Range { path, what: "documents", from: document, to: document + 1, len });
            }
            last = Some(document);
            let len = |part: &Part| part.documents.end - part.documents.start;
            while document - before >= len(&self.parts()[place]) {
                before += len(&self.parts()[place]);
                place += 1;
            }
            let part = &self.parts()[place];
            let number = part.documents.start + document - before;
            let ranges = &mut taken[part.shard];
            match ranges.last_mut() {
                Some(range) if range.end == number => range.end += 1,
                _ => ranges.push(number..number + 1),
            }
        }
        Ok(taken)
    }
}

fn write_ranges(dir: &Path, file: &str, shard: &Shard, ranges: &[Range<u64>]) -> Result<Selected, StoreError> {
    let name = format!("{}.select", file.trim_end_matches(".tokens"));
    let path = dir.join(&name);
    atomic_file::write(&path, &encode(ranges)).map_err(io(&path))?;
    Ok(Selected {
        file: name,
        documents: ranges.iter().map(|r| r.end - r.start).sum(),
        tokens: ranges.iter().map(|r| shard.offset(r.end) - shard.offset(r.start)).sum(),
    })
}

/// A file under another name, in the place of what is there: linked where the file system can, else copied.
pub(crate) fn link(from: &Path, to: &Path) -> Result<(), StoreError> {
    match fs::remove_file(to) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(to)(e)),
        _ => {}
    }
    if fs::hard_link(from, to).is_err() {
        let mut copy = AtomicFile::create(to).map_err(io(to))?;
        let mut original = fs::File::open(from).map_err(io(from))?;
        std::io::copy(&mut original, &mut copy).map_err(io(to))?;
        copy.commit().map_err(io(to))?;
    }
    Ok(())
}
