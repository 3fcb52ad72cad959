//! Tokenizers: from a Hugging Face `tokenizer.json`, or a byte-level BPE trained here.

mod build;
mod continuation;
mod divide;
mod encode;
mod folder;
mod input;
mod report;
mod run;
mod shard;
mod train;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokenizers::{AddedToken, Tokenizer as HfTokenizer};

use crate::{Document, ReadError, StoreError, StoreInfo};

pub use build::StoreBuilder;
pub use divide::{Divided, Division};
pub use input::TextInput;
pub use report::{BuildProgress, BuildReport};
pub use train::train_bpe;

/// The token that ends a document.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// What can go wrong with a tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizeError {
    /// A tokenizer file that cannot be read or parsed.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why it is invalid.
        reason: String,
    },
    /// A text that the tokenizer refuses, or a training that failed.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A store that cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TextInput that cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Stopped, as [`StoreBuilder::stop_when`] asked for: finished shards stay.
    #[error("stopped; the same command continues")]
    Stopped,
    /// A folder in which another process is making another store.
    #[error("{path}: another process is making another store here: of other files, or in another way", path = path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that holds a store of another name or tokenizer.
    #[error("{path}: holds a store {of}: delete it first, or choose another folder", path = path.display())]
    Other {
        /// The folder.
        path: PathBuf,
        /// Of what.
        of: String,
    },
    /// Inputs of which none holds a document.
    #[error("there is no document in the {} inputs", report.empty.len())]
    NoDocuments {
        /// What was met instead.
        report: Box<BuildReport>,
    },
    /// A text longer than can be counted.
    #[error("a document of {bytes} bytes: must not exceed {limit}")]
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// The most there may be.
        limit: u32,
    },
    /// A text in which there is no place to cut: it would take more memory than there may be.
    #[error("{bytes} bytes of text without a place to cut between words: must not exceed {limit}")]
    Uncut {
        /// The stretch's bytes.
        bytes: usize,
        /// The most there may be.
        limit: usize,
    },
    /// An input of which a text cannot be encoded.
    #[error("{input}: {source}")]
    Input {
        /// The input.
        input: String,
        /// Why not.
        source: Box<Self>,
    },
    /// A tokenizer that makes the end token of ordinary text.
    #[error("tokenizer: makes {END_OF_TEXT} of ordinary text, where it would end the document")]
    EndInText,
}

impl TokenizeError {
    /// The same, of an input.
    fn in_input(self, input: &str) -> Self {
        Self::Input { input: input.to_owned(), source: Box::new(self) }
    }
}

/// What special tokens that stand in a text are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpecialTokens {
    /// Text like any other: a document that writes about `<|endoftext|>` does not end there.
    #[default]
    Text,
    /// The special tokens, as Hugging Face's tokenizers read them: for texts that are meant to hold them.
    Control,
}

/// A tokenizer with an end-of-text token.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: HfTokenizer,
    end_of_text: u32,
    fingerprint: String,
    /// Found once: the library copies its whole vocabulary to tell.
    vocab_size: usize,
    special_tokens: SpecialTokens,
}

impl Tokenizer {
    /// From a `tokenizer.json`.
    ///
    /// # Errors
    /// A file that cannot be read, is no tokenizer, or has no `<|endoftext|>`.
    pub fn from_file(path: &Path) -> Result<Self, TokenizeError> {
        let error = |reason: String| TokenizeError::File { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|e| error(e.to_string()))?;
        let inner = HfTokenizer::from_bytes(&bytes).map_err(|e| error(format!("is no tokenizer file: {e}")))?;
        Self::new(inner).map_err(|e| error(e.to_string()))
    }

    fn new(mut inner: HfTokenizer) -> Result<Self, TokenizeError> {
        // Truncation and padding belong to batches, not to documents.
        inner.with_truncation(None).map_err(|e| TokenizeError::Tokenizer(e.to_string()))?;
        inner.with_padding(None);
        let missing = || TokenizeError::Tokenizer(format!("has no {END_OF_TEXT} token"));
        let end_of_text = inner.token_to_id(END_OF_TEXT).ok_or_else(missing)?;
        let json = inner.to_string(false).map_err(|e| TokenizeError::Tokenizer(e.to_string()))?;
        let fingerprint = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(json.as_bytes()));
        // A file may list it without saying that it is special.
        if inner.get_added_tokens_decoder().get(&end_of_text).is_some_and(|token| !token.special) {
            let special = AddedToken::from(END_OF_TEXT, true);
            inner.add_special_tokens([special]).map_err(|e| TokenizeError::Tokenizer(e.to_string()))?;
        }
        inner.set_encode_special_tokens(true);
        let vocab_size = inner.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1);
        Ok(Self { inner, end_of_text, fingerprint, vocab_size, special_tokens: SpecialTokens::Text })
    }

    /// The same, with special tokens in texts read so.
    #[must_use]
    pub fn with_special_tokens(mut self, special_tokens: SpecialTokens) -> Self {
        self.inner.set_encode_special_tokens(special_tokens == SpecialTokens::Text);
        Self { special_tokens, ..self }
    }

    /// What special tokens in texts are.
    pub fn special_tokens(&self) -> SpecialTokens {
        self.special_tokens
    }

    /// Changes whenever the tokenizer does.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// One more than the largest token id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of `<|endoftext|>`.
    pub fn end_of_text(&self) -> u32 {
        self.end_of_text
    }

    /// The ids of a text, without any special token added. A long text is encoded piece by piece, in bounded memory: the same
    /// ids.
    ///
    /// # Errors
    /// A text that the tokenizer refuses, one that cannot be cut, an end token in ordinary text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        let ids = encode::encode(&self.inner, text)?;
        match self.special_tokens {
            SpecialTokens::Text if ids.contains(&self.end_of_text) => Err(TokenizeError::EndInText),
            _ => Ok(ids),
        }
    }

    /// The text of ids.
    ///
    /// # Errors
    /// Ids that the tokenizer does not have.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenizeError> {
        self.inner.decode(ids, skip_special).map_err(|e| TokenizeError::Tokenizer(e.to_string()))
    }

    /// How a token is written; `None` where there is no such id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Decodes ids one by one, special tokens left out: each call gives the text that has become whole, if any.
    pub fn decode_stream(&self) -> impl FnMut(u32) -> Result<Option<String>, TokenizeError> {
        let mut stream = self.inner.decode_stream(true);
        move |id| stream.step(id).map_err(|e| TokenizeError::Tokenizer(e.to_string()))
    }

    /// Writes a `tokenizer.json`, atomically.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TokenizeError> {
        let error = |reason: String| TokenizeError::File { path: path.to_owned(), reason };
        let json = self.inner.to_string(false).map_err(|e| error(e.to_string()))?;
        let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir).map_err(|e| error(e.to_string()))?;
        atomic_file::write(path, json.as_bytes()).map_err(|e| error(e.to_string()))
    }

    /// The fingerprint and vocabulary, as a store of this name records them.
    pub fn store_info(&self, name: &str) -> StoreInfo {
        StoreInfo::new(name, &self.fingerprint, self.vocab_size() as u32)
    }

    /// A document's tokens: its prompts and answers apart, then the end token.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and a document of 4 GiB and more.
    pub fn encode_document(&self, document: &Document) -> Result<EncodedDocument, TokenizeError> {
        let bytes = document.len();
        let text_bytes = u32::try_from(bytes).map_err(|_| TokenizeError::TooLong { bytes, limit: u32::MAX })?;
        let mut encoded = EncodedDocument { text_bytes, ..EncodedDocument::default() };
        for (i, (part, is_prompt)) in document.parts().enumerate() {
            let from = encoded.tokens.len() as u32;
            if !part.is_empty() {
                encoded.tokens.extend(self.encode(part)?);
            }
            let to = encoded.tokens.len() as u32;
            match i {
                0 => encoded.prompt = to,
                _ if is_prompt && to > from => encoded.later_prompts.push(from..to),
                _ => {}
            }
        }
        encoded.tokens.push(self.end_of_text);
        Ok(encoded)
    }
}

/// A document as tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EncodedDocument {
    /// Token ids, the end token last.
    pub tokens: Vec<u32>,
    /// How many of the first are its prompt.
    pub prompt: u32,
    /// The prompts of later turns.
    pub later_prompts: Vec<std::ops::Range<u32>>,
    /// Bytes of its text.
    pub text_bytes: u32,
}
