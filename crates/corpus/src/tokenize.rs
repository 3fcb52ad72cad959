//! Tokenizers: from a Hugging Face `tokenizer.json`, or a byte-level BPE trained here; documents into a store.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as HfTokenizer};

use crate::{Document, StoreError, StoreWriter};

/// The token that ends a document.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Documents that are tokenised at once: bounds memory, keeps every core busy.
const CHUNK: usize = 1024;

/// What can go wrong with a tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizeError {
    /// A tokenizer file that cannot be read or parsed.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A text that the tokenizer refuses, or a training that failed.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A store that cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A tokenizer with an end-of-text token.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: HfTokenizer,
    end_of_text: u32,
    fingerprint: String,
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
        Ok(Self { inner, end_of_text, fingerprint })
    }

    /// Changes whenever the tokenizer does.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// One more than the largest token id.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1)
    }

    /// The id of `<|endoftext|>`.
    pub fn end_of_text(&self) -> u32 {
        self.end_of_text
    }

    /// The ids of a text, without any special token added.
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        let encoding = self.inner.encode_fast(text, false).map_err(|e| TokenizeError::Tokenizer(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids.
    ///
    /// # Errors
    /// Ids that the tokenizer does not have.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenizeError> {
        self.inner.decode(ids, skip_special).map_err(|e| TokenizeError::Tokenizer(e.to_string()))
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
        use std::io::Write as _;
        let error = |reason: String| TokenizeError::File { path: path.to_owned(), reason };
        let json = self.inner.to_string(false).map_err(|e| error(e.to_string()))?;
        let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir).map_err(|e| error(e.to_string()))?;
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(|e| error(e.to_string()))?;
        file.write_all(json.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(|e| error(e.to_string()))?;
        file.persist(path).map_err(|e| error(e.to_string()))?;
        Ok(())
    }

    /// Tokenises documents, in parallel and in order, into a store: prompt and text apart, then the end token.
    ///
    /// # Errors
    /// A text that the tokenizer refuses, a disk that is full. Nothing is left behind then.
    pub fn write_store(
        &self,
        path: &Path,
        name: &str,
        documents: impl Iterator<Item = Document>,
    ) -> Result<(), TokenizeError> {
        let mut writer = StoreWriter::create(path, name, &self.fingerprint)?;
        let mut documents = documents.peekable();
        while documents.peek().is_some() {
            let chunk: Vec<Document> = documents.by_ref().take(CHUNK).collect();
            let encoded = chunk
                .par_iter()
                .map(|d| {
                    let mut ids = self.encode(&d.prompt)?;
                    let prompt = ids.len() as u32;
                    ids.extend(self.encode(&d.text)?);
                    ids.push(self.end_of_text);
                    Ok((ids, prompt, (d.prompt.len() + d.text.len()) as u32))
                })
                .collect::<Result<Vec<_>, TokenizeError>>()?;
            for (ids, prompt, bytes) in encoded {
                writer.push(&ids, prompt, bytes)?;
            }
        }
        Ok(writer.finish()?)
    }
}

/// Trains a byte-level BPE of `vocab_size` tokens, `<|endoftext|>` first.
///
/// # Errors
/// A size that has no room for the 256 bytes and the end token, or texts that do not yield as many tokens.
pub fn train_bpe(texts: impl Iterator<Item = String> + Send, vocab_size: usize) -> Result<Tokenizer, TokenizeError> {
    let error = |e: tokenizers::Error| TokenizeError::Tokenizer(e.to_string());
    if vocab_size < 257 {
        return Err(TokenizeError::Tokenizer(format!(
            "vocabulary = {vocab_size} must be at least 257: the bytes and {END_OF_TEXT}"
        )));
    }
    let mut tokenizer = HfTokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
    let mut trainer = TrainerWrapper::from(
        BpeTrainerBuilder::new()
            .show_progress(false)
            .vocab_size(vocab_size)
            .min_frequency(2)
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build(),
    );
    tokenizer.train(&mut trainer, texts).map_err(error)?;
    Tokenizer::new(tokenizer)
}
