//! From files, or a generated corpus, to documents; from documents to memory-mapped token stores.
//!
//! Without features this crate is the [`TokenStore`] alone: what mixers and metrics read. `read` adds readers,
//! `tokenize` tokenizers and BPE training, `generate` the generated corpus.
//!
//! ```
//! use corpus::{StoreWriter, TokenStore};
//!
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("notes.tokens");
//! let mut writer = StoreWriter::create(&path, "notes", "no tokenizer")?;
//! writer.push(&[5, 6, 7, 0], 1, 11)?; // a document of 11 bytes whose first token is the prompt
//! writer.push(&[8, 0], 0, 4)?;
//! writer.finish()?;
//!
//! let store = TokenStore::open(&path)?;
//! store.verify()?;
//! assert_eq!((store.document_count(), store.token_count()), (2, 6));
//! assert_eq!(store.document(1)?, [8, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod store;

pub use store::{StoreError, StoreWriter, TokenStore};

#[cfg(any(feature = "read", feature = "tokenize", feature = "generate"))]
mod document;
#[cfg(any(feature = "read", feature = "tokenize", feature = "generate"))]
pub use document::{Document, is_held_out};

#[cfg(feature = "generate")]
mod generate;
#[cfg(feature = "generate")]
pub use generate::{Domain, Generator};

#[cfg(feature = "read")]
mod read;
#[cfg(feature = "read")]
pub use read::{Format, ReadError, SourceFiles, Template, fingerprint_file};

#[cfg(feature = "tokenize")]
mod tokenize;
#[cfg(feature = "tokenize")]
pub use tokenize::{END_OF_TEXT, TokenizeError, Tokenizer, train_bpe};
