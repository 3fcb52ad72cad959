//! The token store: documents as offsets into one array of token ids, memory-mapped.
//!
//! Layout (little-endian): 8 bytes magic, u64 length of the JSON header, the header, zeros up to a multiple of 64;
//! then u64 offsets [D+1], u32 prompt lengths [D], u32 text bytes [D], token ids [N] as u16 or u32.

mod reader;
mod writer;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use reader::TokenStore;
pub use writer::StoreWriter;

const MAGIC: &[u8; 8] = b"MTTOKEN1";
const ALIGN: usize = 64;

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file that cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file that is no store, or a damaged one.
    #[error("{path}: {reason}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A read beyond the end.
    #[error("{path}: {what} {from}..{to} of {len}", path = path.display())]
    Range {
        /// The file.
        path: PathBuf,
        /// Tokens or documents.
        what: &'static str,
        /// First.
        from: u64,
        /// One past the last.
        to: u64,
        /// How many there are.
        len: u64,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) tokenizer: String,
    pub(super) documents: u64,
    pub(super) tokens: u64,
    /// 2 or 4.
    pub(super) token_bytes: u8,
    /// xxh3 of everything after the header.
    pub(super) checksum: String,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}
