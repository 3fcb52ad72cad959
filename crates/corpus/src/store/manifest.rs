//! A store of several files: the list that makes a folder of shards one store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::reader::Part;
use super::selection::{Selection, all};
use super::shard::Shard;
use super::{StoreError, io};

const FILE: &str = "store.json";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// 1: shards; 2: a selection. (A program that knows nothing of these must not take all documents for the store's.)
    format: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shards: Vec<Listed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selection: Option<Selection>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Listed {
    file: String,
    documents: u64,
    tokens: u64,
    checksum: String,
}

impl Listed {
    fn of(shard: &Shard, file: &str) -> Self {
        let header = &shard.header;
        let (documents, tokens) = (header.documents, header.tokens);
        Self { file: file.to_owned(), documents, tokens, checksum: header.checksum.clone() }
    }
}

/// Makes a folder's files one store, in the order given: writes the list that says so, last and atomically.
///
/// # Errors
/// A file that cannot be read or is no store, files of different names or tokenizers, a list that cannot be written.
pub fn finish_store(dir: &Path, files: &[String]) -> Result<(), StoreError> {
    let shards = files.iter().map(|file| Shard::open(&dir.join(file))).collect::<Result<Vec<_>, _>>()?;
    check_alike(&shards)?;
    let shards = shards.iter().zip(files).map(|(shard, file)| Listed::of(shard, file)).collect();
    write(dir, &Manifest { format: 1, shards, selection: None })
}

/// The files of a folder's store.
#[cfg(feature = "tokenize")]
pub(crate) fn shards_of(dir: &Path) -> Result<Vec<String>, StoreError> {
    Ok(read(dir)?.shards.into_iter().map(|listed| listed.file).collect())
}

/// Makes a folder a selection.
pub(super) fn write_selection(dir: &Path, selection: Selection) -> Result<(), StoreError> {
    write(dir, &Manifest { format: 2, shards: Vec::new(), selection: Some(selection) })
}

fn write(dir: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    let path = dir.join(FILE);
    let mut text = serde_json::to_vec_pretty(manifest).expect("strings and numbers are JSON");
    text.push(b'\n');
    atomic_file::write(&path, &text).map_err(io(&path))
}

/// What a store consists of.
pub(super) struct Opened {
    /// Where its shards lie.
    pub(super) whole: PathBuf,
    pub(super) shards: Vec<Shard>,
    /// What of them belongs to it.
    pub(super) parts: Vec<Part>,
}

/// Opens a store: a file, a folder of shards, or a selection of such a store.
pub(super) fn open(path: &Path) -> Result<Opened, StoreError> {
    if !path.is_dir() {
        return Ok(whole(path, vec![Shard::open(path)?]));
    }
    match read(path)? {
        Manifest { format: 1, shards, selection: None } => Ok(whole(path, listed(path, &shards)?)),
        Manifest { format: 2, selection: Some(selection), .. } => {
            let at = selection.whole(path);
            let shards = match at.is_dir() {
                false => vec![Shard::open(&at)?],
                true => match read(&at)? {
                    Manifest { format: 1, shards, selection: None } => listed(&at, &shards)?,
                    _ => {
                        let reason = format!("is a selection of {}, which is no whole store", at.display());
                        return Err(StoreError::Format { path: path.join(FILE), reason });
                    }
                },
            };
            let parts = selection.parts(path, &shards)?;
            Ok(Opened { whole: at, shards, parts })
        }
        Manifest { format, .. } => {
            let reason = format!("format = {format} must be 1, with shards, or 2, with a selection");
            Err(StoreError::Format { path: path.join(FILE), reason })
        }
    }
}

fn whole(path: &Path, shards: Vec<Shard>) -> Opened {
    let parts = shards.iter().enumerate().map(|(place, shard)| all(place, shard)).collect();
    Opened { whole: path.to_owned(), shards, parts }
}

fn read(dir: &Path) -> Result<Manifest, StoreError> {
    let list = dir.join(FILE);
    let format = |path: PathBuf, reason: String| StoreError::Format { path, reason };
    let text = std::fs::read(&list).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            format(dir.to_owned(), format!("holds no {FILE}: no store, or one whose making was not finished"))
        }
        _ => io(&list)(e),
    })?;
    serde_json::from_slice(&text).map_err(|e| format(list.clone(), format!("is no list of shards: {e}")))
}

/// The shards of a list.
fn listed(dir: &Path, shards: &[Listed]) -> Result<Vec<Shard>, StoreError> {
    let list = dir.join(FILE);
    let format = |path: PathBuf, reason: String| StoreError::Format { path, reason };
    let shards = shards
        .iter()
        .map(|listed| {
            // Names alone: a list from elsewhere must not reach outside its folder.
            if Path::new(&listed.file).components().count() != 1 || listed.file.starts_with('.') {
                return Err(format(list.clone(), format!("{:?} is no file name", listed.file)));
            }
            let shard = Shard::open(&dir.join(&listed.file))?;
            if Listed::of(&shard, &listed.file) != *listed {
                let reason =
                    format!("is another file than {FILE} lists: {} tokens, {}", listed.tokens, listed.checksum);
                return Err(format(shard.path, reason));
            }
            Ok(shard)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if shards.is_empty() {
        return Err(format(list, "lists no shards".into()));
    }
    check_alike(&shards)?;
    Ok(shards)
}

fn check_alike(shards: &[Shard]) -> Result<(), StoreError> {
    let Some(first) = shards.first() else { return Ok(()) };
    for shard in shards {
        let (info, other) = (&shard.header.info, &first.header.info);
        if info.tokenizer != other.tokenizer {
            let (found, expected) = (info.tokenizer.clone(), other.tokenizer.clone());
            return Err(StoreError::Tokenizer { path: shard.path.clone(), found, expected });
        }
        if (&info.name, info.vocabulary) != (&other.name, other.vocabulary) {
            let reason = format!("belongs to {} ({}), not {}", info.name, info.vocabulary, other.name);
            return Err(StoreError::Format { path: shard.path.clone(), reason });
        }
    }
    Ok(())
}
