//! A store of several files: the list that makes a folder of shards one store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::reader::Part;
use super::selection::{Selected, whole};
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
    /// Which of its documents belong to the store, where not all do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selected: Option<Selected>,
}

impl Listed {
    fn of(shard: &Shard, file: &str) -> Self {
        let header = &shard.header;
        let (documents, tokens) = (header.documents, header.tokens);
        Self { file: file.to_owned(), documents, tokens, checksum: header.checksum.clone(), selected: None }
    }
}

/// Makes a folder's files one store, in the order given: writes the list that says so, last and atomically.
///
/// # Errors
/// A file that cannot be read or is no store, files of different names or tokenizers, a list that cannot be written.
pub fn finish_store(dir: &Path, files: &[String]) -> Result<(), StoreError> {
    let shards = files.iter().map(|file| Shard::open(&dir.join(file))).collect::<Result<Vec<_>, _>>()?;
    check_alike(&shards)?;
    write(dir, shards.iter().zip(files).map(|(shard, file)| Listed::of(shard, file)).collect())
}

/// The same, with some documents alone of files.
pub(super) fn finish_selected(dir: &Path, files: &[(String, Option<Selected>)]) -> Result<(), StoreError> {
    let listed = files.iter().map(|(file, selected)| {
        let shard = Shard::open(&dir.join(file))?;
        Ok(Listed { selected: selected.clone(), ..Listed::of(&shard, file) })
    });
    write(dir, listed.collect::<Result<_, StoreError>>()?)
}

fn write(dir: &Path, shards: Vec<Listed>) -> Result<(), StoreError> {
    let path = dir.join(FILE);
    // A program that knows nothing of selections must not take all documents for the store's.
    let format = if shards.iter().any(|listed| listed.selected.is_some()) { 2 } else { 1 };
    let mut text = serde_json::to_vec_pretty(&Manifest { format, shards }).expect("strings and numbers are JSON");
    text.push(b'\n');
    atomic_file::write(&path, &text).map_err(io(&path))
}

/// The shards of a store, and what of them belongs to it.
pub(super) fn open_parts(path: &Path) -> Result<(Vec<Shard>, Vec<Part>), StoreError> {
    if !path.is_dir() {
        let shard = Shard::open(path)?;
        let parts = vec![whole(0, &shard)];
        return Ok((vec![shard], parts));
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
    if !(1..=2).contains(&manifest.format) {
        return Err(format(list, format!("format = {} must be 1 or 2", manifest.format)));
    }
    let (mut shards, mut parts) = (Vec::new(), Vec::new());
    for listed in &manifest.shards {
        check_name(&list, &listed.file)?;
        let shard = Shard::open(&path.join(&listed.file))?;
        if (Listed { selected: listed.selected.clone(), ..Listed::of(&shard, &listed.file) }) != *listed {
            let reason = format!("is another file than {FILE} lists: {} tokens, {}", listed.tokens, listed.checksum);
            return Err(format(shard.path, reason));
        }
        match &listed.selected {
            None => parts.push(whole(shards.len(), &shard)),
            Some(selected) => {
                check_name(&list, &selected.file)?;
                parts.extend(selected.parts(&path.join(&selected.file), shards.len(), &shard)?);
            }
        }
        shards.push(shard);
    }
    if shards.is_empty() {
        return Err(format(list, "lists no shards".into()));
    }
    check_alike(&shards)?;
    Ok((shards, parts))
}

/// Names alone: a list from elsewhere must not reach outside its folder.
fn check_name(list: &Path, file: &str) -> Result<(), StoreError> {
    if Path::new(file).components().count() != 1 || file.starts_with('.') {
        return Err(StoreError::Format { path: list.to_owned(), reason: format!("{file:?} is no file name") });
    }
    Ok(())
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
