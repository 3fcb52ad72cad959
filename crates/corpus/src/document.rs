//! A document, and which documents are held out.

use xxhash_rust::xxh3::xxh3_64;

/// A text with an optional prompt in front.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// The part that fine-tuning may leave out of the loss. Empty for plain text.
    pub prompt: String,
    /// The rest.
    pub text: String,
}

impl Document {
    /// Plain text.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { prompt: String::new(), text: text.into() }
    }

    /// A hash of its content.
    pub fn hash(&self) -> u64 {
        let mut bytes = Vec::with_capacity(self.prompt.len() + self.text.len() + 1);
        bytes.extend_from_slice(self.prompt.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(self.text.as_bytes());
        xxh3_64(&bytes)
    }
}

/// Whether a document belongs to the held-out set: decided by its content's hash alone, so that adding files moves
/// no document from one side to the other. `permille` of all documents are held out.
pub fn is_held_out(document: &Document, permille: u16) -> bool {
    // The low bits are used elsewhere (orders); the split takes the high ones.
    (document.hash() >> 32) % 1000 < u64::from(permille)
}
