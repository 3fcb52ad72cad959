//! A store of several files: the list that makes a folder of shards one store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::shard::Shard;
use super::{StoreError, io};

const FILE: &str = "store.json";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    shards: Vec<Listed>,
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
    let path = dir.join(FILE);
    let shards = files.iter().map(|file| Shard::open(&dir.join(file))).collect::<Result<Vec<_>, _>>()?;
    check_alike(&shards)?;
    let listed = shards.iter().zip(files).map(|(shard, file)| Listed::of(shard, file)).collect();
    let manifest = Manifest { format: 1, shards: listed };
    let mut text = serde_json::to_vec_pretty(&manifest).expect("strings and numbers are JSON");
    text.push(b'\n');
    atomic_file::write(&path, &text).map_err(io(&path))
}

/// The shards of a store.
pub(super) fn open_shards(path: &Path) -> Result<Vec<Shard>, StoreError> {
    if !path.is_dir() {
        return Ok(vec![Shard::open(path)?]);
    }
    let list = path.join(FILE);
    let format = |path: PathBuf, reason: String| StoreError::Format { path, reason };
    let text = std::fs::read(&list).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            format(path.to_owned(), format!("holds no {FILE}: no store, or one whose making was not finished"))
        }
        _ => io(&list)(e),
    })?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|e| format(list.clone(), format!("is no list of shards: {e}")))?;
    if manifest.format != 1 {
        return Err(format(list, format!("format = {} must be 1", manifest.format)));
    }
    let shards = manifest
        .shards
        .iter()
        .map(|listed| {
            // Names alone: a list from elsewhere must not reach outside its folder.
            if Path::new(&listed.file).components().count() != 1 || listed.file.starts_with('.') {
                return Err(format(list.clone(), format!("{:?} is no file name", listed.file)));
            }
            let shard = Shard::open(&path.join(&listed.file))?;
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
