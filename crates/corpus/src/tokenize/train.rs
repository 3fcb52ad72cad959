//! Training a byte-level BPE.

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as HfTokenizer};

use super::{END_OF_TEXT, TokenizeError, Tokenizer};

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
