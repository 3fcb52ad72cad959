//! The token store: documents as ranges of one array of token ids, memory-mapped.
//!
//! A store is one file, or a folder of such files (shards) with a `store.json` that lists them in order. Documents,
//! and sequences across them, are numbered over all shards. A selection is a folder whose `store.json` names another store.
//!
//! A file (little-endian): 8 bytes magic, u64 length of the JSON header, the header padded with spaces to a multiple of
//! 64 bytes; then token ids [N] as u16 or u32, zeros up to a multiple of 8; u64 offsets [D+1], u64 hashes [D], u32
//! prompt lengths [D], u32 text bytes [D]; the prompts of later turns as u64 document [P], u32 from [P], u32 to [P].

mod advice;
mod array;
mod header;
mod manifest;
mod megatron;
mod reader;
mod selection;
mod shard;
mod writer;

use std::path::{Path, PathBuf};

pub use array::TokenArray;
pub use header::{StoreInfo, TokenWidth};
pub use manifest::finish_store;
#[cfg(feature = "tokenize")]
pub(crate) use manifest::shards_of;
pub use megatron::MegatronStore;
pub use reader::{Piece, ShardSummary, StoreSummary, TokenStore};
pub use writer::{StoreDocument, StoreWriter};

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
        /// Why it is invalid.
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
    /// A store that another tokenizer made than the one expected.
    #[error("{path}: was made by the tokenizer {found}, not {expected}: tokenise its texts again", path = path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The fingerprint in the store.
        found: String,
        /// The fingerprint expected.
        expected: String,
    },
}

pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}

/// The folder that a file lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
