//! Readers: .txt, .jsonl, .json, .tsv, plain or as .gz or .zst, into documents by a field template.

mod files;
mod template;

use std::path::{Path, PathBuf};

pub use files::{Format, SourceFiles};
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
        /// The line, from 1; in a .json array the element.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A template that cannot be parsed.
    #[error("template {template:?}: {reason}")]
    Template {
        /// As given.
        template: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of a kind that is not read.
    #[error("{path}: unknown format; known: .txt, .jsonl, .json, .tsv, each plain or as .gz or .zst", path = path.display())]
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
}

pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ReadError {
    let path = path.to_owned();
    move |source| ReadError::Io { path, source }
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
