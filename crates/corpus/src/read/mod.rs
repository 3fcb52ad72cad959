//! Readers: .txt, .jsonl, .json, .csv, .tsv (plain, .gz or .zst) and .parquet, into documents by a field template.
//! Memory is bounded by a record, whatever the file's size.

mod files;
mod hub;
mod json;
mod parquet;
mod table;
mod template;
mod text;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use files::{Format, SourceFiles, TextUnit};
pub use hub::{HubModel, HubPath};
pub use template::Template;

/// What can be wrong with input files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A file that cannot be read, or that ends too early.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A line that is not what its format says.
    #[error("{path}:{line}: {reason}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1; in .json arrays and .parquet files the record.
        line: u64,
        /// Why it is invalid.
        reason: String,
    },
    /// A template that cannot be parsed.
    #[error("template {template:?}: {reason}")]
    Template {
        /// As given.
        template: String,
        /// Why it is invalid.
        reason: String,
    },
    /// A pattern that cannot be parsed.
    #[error("pattern {pattern:?}: {reason}")]
    Pattern {
        /// As given.
        pattern: String,
        /// Why it is invalid.
        reason: String,
    },
    /// A file of a kind that is not read.
    #[error(
        "{path}: unknown format; known: .txt, .jsonl, .json, .csv, .tsv, each plain or as .gz or .zst, and .parquet",
        path = path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A pattern that matches nothing.
    #[error("no file matches {pattern}")]
    NoFiles {
        /// The pattern.
        pattern: String,
    },
    /// An unavailable data set of the Hugging Face hub.
    #[error("hf://{dataset}: {reason}")]
    Hub {
        /// The data set.
        dataset: String,
        /// Why.
        reason: String,
    },
}

pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ReadError {
    let path = path.to_owned();
    move |source| ReadError::Io { path, source }
}

/// What happens to a record that is malformed: not UTF-8, not JSON, without a field that the template names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMalformed {
    /// It ends the reading, with its file and line.
    #[default]
    Fail,
    /// It is left out and counted.
    Skip,
}

/// What a reading met.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadReport {
    /// Documents given.
    pub documents: u64,
    /// Records without text.
    pub blank: u64,
    /// Malformed records left out.
    pub skipped: u64,
    /// What was wrong with the first of them.
    pub first_skipped: Option<String>,
}

/// A digest of a file's bytes (xxh3, 128 bits, hexadecimal).
///
/// # Errors
/// A file that cannot be read.
pub fn fingerprint_file(path: &Path) -> Result<String, ReadError> {
    let mut file = std::fs::File::open(path).map_err(io(path))?;
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let n = std::io::Read::read(&mut file, &mut buffer).map_err(io(path))?;
        if n == 0 {
            return Ok(format!("{:032x}", hash.digest128()));
        }
        hash.update(&buffer[..n]);
    }
}
