//! Some documents of a store as a store of their own. Nothing is copied: its folder names the other store's, and holds a
//! list of the documents that are taken of it.
//!
//! The list (little-endian): 8 bytes magic, u64 number of ranges, u64 first document and u64 end of each, u64 xxh3 of all
//! before.

use std::fs;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::manifest::write_selection;
use super::reader::{Part, TokenStore, fingerprint};
use super::shard::Shard;
use super::{StoreError, io};

const MAGIC: &[u8; 8] = b"MTSELECT";
/// The list's name.
const FILE: &str = "documents.select";

/// What a store's `store.json` says of a selection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    /// The store that it is of, from its own folder.
    whole: PathBuf,
    /// That store's fingerprint.
    fingerprint: String,
    documents: u64,
    tokens: u64,
}

/// All of a shard.
pub(super) fn all(place: usize, shard: &Shard) -> Part {
    Part { shard: place, documents: 0..shard.header.documents, tokens: 0..shard.header.tokens }
}

impl Selection {
    /// Where the whole store lies, seen from the selection's folder: by the folder's path as it is given, so that messages
    /// name the whole's own place, or by where a link to the folder leads.
    pub(super) fn whole(&self, dir: &Path) -> PathBuf {
        let given = seen_from(dir, &self.whole);
        match dir.canonicalize() {
            Ok(dir) if !given.exists() => seen_from(&dir, &self.whole),
            _ => given,
        }
    }

    /// The parts of the whole store's shards that are taken.
    pub(super) fn parts(&self, dir: &Path, shards: &[Shard]) -> Result<Vec<Part>, StoreError> {
        let path = dir.join(FILE);
        let format = |reason: &str| StoreError::Format { path: path.clone(), reason: reason.to_owned() };
        if fingerprint(shards) != self.fingerprint {
            let whole = self.whole(dir);
            return Err(format(&format!(
                "is a list of documents of another store than {}: make it again, by the same command",
                whole.display()
            )));
        }
        let ranges = decode(&fs::read(&path).map_err(io(&path))?);
        let ranges = ranges.ok_or_else(|| format("is damaged: no list of documents"))?;
        let mut parts = Vec::with_capacity(ranges.len());
        let (mut place, mut before, mut last) = (0, 0, 0);
        for Range { mut start, end } in ranges {
            if start < last || start >= end {
                return Err(format("names documents out of order"));
            }
            last = end;
            while start < end {
                let shard = shards.get(place).ok_or_else(|| format("names documents that the store does not hold"))?;
                let until = before + shard.header.documents;
                if start >= until {
                    (place, before) = (place + 1, until);
                    continue;
                }
                let documents = start - before..end.min(until) - before;
                let tokens = shard.offset(documents.start)..shard.offset(documents.end);
                if tokens.start > tokens.end || tokens.end > shard.header.tokens {
                    return Err(StoreError::Format {
                        path: shard.path.clone(),
                        reason: "its document offsets are damaged".to_owned(),
                    });
                }
                start = before + documents.end;
                parts.push(Part { shard: place, documents, tokens });
            }
        }
        let sums = parts.iter().fold((0, 0), |(documents, tokens), part| {
            (documents + part.documents.end - part.documents.start, tokens + part.tokens.end - part.tokens.start)
        });
        if sums != (self.documents, self.tokens) {
            return Err(format("is another list than its store.json names"));
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
    /// Makes some of its documents, in ascending order, a store of their own in a folder. Nothing is copied: the folder
    /// names this store's, which must stay where it is, seen from there.
    ///
    /// # Errors
    /// Documents out of order or beyond the last, the store's own folder, one that cannot be written.
    pub fn select(&self, documents: impl IntoIterator<Item = u64>, dir: &Path) -> Result<Self, StoreError> {
        let ranges = self.ranges(documents)?;
        fs::create_dir_all(dir).map_err(io(dir))?;
        let absolute = |path: &Path| path.canonicalize().map_err(io(path));
        let (whole, own) = (absolute(self.whole())?, absolute(dir)?);
        if own == whole || own == absolute(self.path())? {
            let reason = "is the folder of the store that is selected from".to_owned();
            return Err(StoreError::Format { path: dir.to_owned(), reason });
        }
        let path = dir.join(FILE);
        atomic_file::write(&path, &encode(&ranges)).map_err(io(&path))?;
        let mut selection = Selection {
            whole: relative(&own, &whole),
            fingerprint: fingerprint(self.shards()),
            documents: ranges.iter().map(|r| r.end - r.start).sum(),
            tokens: 0,
        };
        selection.tokens = tokens_of(self.shards(), &ranges);
        write_selection(dir, selection)?;
        Self::open(dir)
    }

    /// Ranges of the whole store's documents.
    fn ranges(&self, documents: impl IntoIterator<Item = u64>) -> Result<Vec<Range<u64>>, StoreError> {
        let mut first = vec![0];
        self.shards().iter().for_each(|shard| first.push(first[first.len() - 1] + shard.header.documents));
        let mut ranges: Vec<Range<u64>> = Vec::new();
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
            let number = first[part.shard] + part.documents.start + document - before;
            match ranges.last_mut() {
                Some(range) if range.end == number => range.end += 1,
                _ => ranges.push(number..number + 1),
            }
        }
        Ok(ranges)
    }
}

/// Tokens of ranges of documents, which may reach over several shards.
fn tokens_of(shards: &[Shard], ranges: &[Range<u64>]) -> u64 {
    let (mut tokens, mut place, mut before) = (0, 0, 0);
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            let shard = &shards[place];
            let until = before + shard.header.documents;
            if start >= until {
                (place, before) = (place + 1, until);
                continue;
            }
            let end = range.end.min(until);
            tokens += shard.offset(end - before).saturating_sub(shard.offset(start - before));
            start = end;
        }
    }
    tokens
}

/// A way followed from a folder, without the steps back.
fn seen_from(dir: &Path, way: &Path) -> PathBuf {
    let mut path = dir.to_owned();
    for part in way.components() {
        match part {
            Component::ParentDir if path.file_name().is_some() => drop(path.pop()),
            part => path.push(part),
        }
    }
    path
}

/// The way from a folder to another place; both absolute.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}
