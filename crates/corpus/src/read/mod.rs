//! Readers: .txt, .jsonl, .json, .csv, .tsv (plain, .gz or .zst) and .parquet, into documents by a field template.
//! Memory is bounded by a record, whatever the file's size.

mod conversation;
mod find;
mod hub;
mod json;
mod layout;
mod notes;
mod parquet;
mod quotes;
mod record;
mod records;
mod source;
mod stream;
mod table;
mod template;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use conversation::ToolCalls;
pub use find::{FoundFiles, NotReadReason, PassedOver};
pub use hub::{HubModel, HubPath};
pub use source::{Escapes, Format, SourceFiles, TextUnit};
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
    /// A file that was written to after it was looked at.
    #[error("{path}: was changed while it was read: what was read of it is given up; try again once it is whole", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
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
        "{path}: unknown format; known: .txt, .jsonl, .ndjson, .json, .csv, .tsv, each plain or as .gz or .zst, and .parquet",
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
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReadReport {
    /// Documents given.
    pub documents: u64,
    /// Records without text (but for a prompt).
    pub blank: u64,
    /// Where the first of them is.
    pub first_blank: Option<String>,
    /// Records that the filters left out.
    pub filtered: u64,
    /// Malformed records left out.
    pub skipped: u64,
    /// What was wrong with the first of them.
    pub first_skipped: Option<String>,
    /// What was left out within records, and how often.
    pub notes: BTreeMap<String, u64>,
}

impl ReadReport {
    /// Adds what was met elsewhere.
    pub fn add(&mut self, other: Self) {
        self.documents += other.documents;
        self.blank += other.blank;
        self.filtered += other.filtered;
        self.skipped += other.skipped;
        self.first_blank = self.first_blank.take().or(other.first_blank);
        self.first_skipped = self.first_skipped.take().or(other.first_skipped);
        for (note, times) in other.notes {
            *self.notes.entry(note).or_default() += times;
        }
    }

    /// What was left out, one line each; nothing where nothing was.
    pub fn left_out(&self) -> Vec<String> {
        let first =
            |first: &Option<String>| first.as_ref().map_or_else(String::new, |first| format!(", the first: {first}"));
        let mut lines = Vec::new();
        if self.blank > 0 {
            lines.push(format!("{} records without text{}", self.blank, first(&self.first_blank)));
        }
        if self.skipped > 0 {
            lines.push(format!("{} malformed records{}", self.skipped, first(&self.first_skipped)));
        }
        if self.filtered > 0 {
            lines.push(format!("{} records that the filters leave out", self.filtered));
        }
        lines.extend(self.notes.iter().map(|(note, times)| format!("{times} {note}")));
        lines
    }
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
