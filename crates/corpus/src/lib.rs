//! From files, or a generated corpus, to documents; from documents to memory-mapped token stores.
//!
//! Without features this crate is the [`TokenStore`] alone: what mixers and metrics read. `read` adds readers, `hub`
//! fetching from the Hugging Face hub, `tokenize` tokenizers, BPE training and making stores, `overlap` the search for
//! contamination, `generate` the generated corpus.
//!
//! ```
//! use corpus::{StoreDocument, StoreInfo, StoreWriter, TokenStore};
//!
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("notes.tokens");
//! let mut writer = StoreWriter::create(&path, StoreInfo::new("notes", "no tokenizer", 100))?;
//! // A document of 11 bytes whose first token is the prompt; then one of plain text.
//! writer.push(StoreDocument { tokens: &[5, 6, 7, 0], prompt: 1, text_bytes: 11, ..Default::default() })?;
//! writer.push(StoreDocument { tokens: &[8, 0], text_bytes: 4, ..Default::default() })?;
//! writer.finish()?;
//!
//! let store = TokenStore::open(&path)?;
//! store.verify()?;
//! assert_eq!((store.document_count(), store.token_count()), (2, 6));
//! assert_eq!(store.document(1)?, [8, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod store;

pub use store::{
    MegatronStore, Piece, ShardSummary, StoreDocument, StoreError, StoreInfo, StoreSummary, StoreWriter, TokenArray,
    TokenStore, TokenWidth, finish_store,
};

#[cfg(feature = "overlap")]
mod overlap;
#[cfg(feature = "overlap")]
pub use overlap::{Contamination, NgramIndex, Overlap};

#[cfg(any(feature = "read", feature = "generate"))]
mod document;
#[cfg(any(feature = "read", feature = "generate"))]
pub use document::{Document, Turn, permille_of};

#[cfg(feature = "generate")]
mod generate;
#[cfg(feature = "generate")]
pub use generate::{Domain, Generator};

#[cfg(feature = "read")]
mod read;
#[cfg(feature = "read")]
pub use read::{
    Escapes, Format, FoundFiles, HubModel, HubPath, NotReadReason, OnMalformed, PassedOver, ReadError, ReadReport,
    SourceFiles, Template, TextUnit, ToolCalls, fingerprint_file,
};

#[cfg(feature = "tokenize")]
mod tokenize;
#[cfg(feature = "tokenize")]
pub use tokenize::{
    BuildProgress, BuildReport, Divided, Division, END_OF_TEXT, EncodedDocument, SpecialTokens, StoreBuilder,
    TextInput, TokenizeError, Tokenizer, train_bpe,
};

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
