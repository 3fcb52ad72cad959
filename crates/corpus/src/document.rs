//! A document, and which documents are held out.

use xxhash_rust::xxh3::Xxh3;

/// A text with an optional prompt in front, and further turns where it is a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// The part that fine-tuning may leave out of the loss. Empty for plain text.
    pub prompt: String,
    /// The rest, up to the next turn's prompt.
    pub text: String,
    /// What follows in a conversation.
    pub later: Vec<Turn>,
}

/// A further prompt and what answers it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Turn {
    /// The prompt.
    pub prompt: String,
    /// The answer.
    pub text: String,
}

impl Document {
    /// Plain text.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A prompt and its answer.
    pub fn answered(prompt: impl Into<String>, text: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), text: text.into(), later: Vec::new() }
    }

    /// Prompts and answers in turn.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&str, bool)> {
        let first = [(self.prompt.as_str(), true), (self.text.as_str(), false)];
        let later = self.later.iter().flat_map(|t| [(t.prompt.as_str(), true), (t.text.as_str(), false)]);
        first.into_iter().chain(later)
    }

    /// The whole text.
    pub fn whole(&self) -> String {
        self.parts().map(|(part, _)| part).collect()
    }

    /// Bytes of the whole text.
    pub fn len(&self) -> usize {
        self.parts().map(|(part, _)| part.len()).sum()
    }

    /// Whether nothing but white space is in what is not a prompt.
    pub fn is_blank(&self) -> bool {
        self.parts().all(|(part, is_prompt)| is_prompt || part.trim().is_empty())
    }

    /// Whether it holds nothing at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A hash of its whole text with white space folded: documents that differ in their white space alone (a byte-order mark
    /// is some), or in where their prompt ends, are the same document.
    pub fn hash(&self) -> u64 {
        let (mut hash, mut any, mut space) = (Xxh3::new(), false, false);
        for (part, _) in self.parts() {
            space |= part.starts_with(is_space);
            for (i, word) in part.split(is_space).filter(|word| !word.is_empty()).enumerate() {
                // Words of neighbouring parts without space between them are one word.
                if any && (i > 0 || space) {
                    hash.update(b" ");
                }
                hash.update(word.as_bytes());
                (any, space) = (true, false);
            }
            space |= part.ends_with(is_space);
        }
        hash.digest()
    }
}

/// White space, that of no width too, and the mark that some programs put at a file's beginning.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{200b}' | '\u{feff}')
}

/// The part of 1000 equal ones that a content's hash lies in, from 0 on: which documents are held out is decided by it, so that
/// adding files moves no document from one side to the other.
pub fn permille_of(hash: u64) -> u16 {
    // The low bits are used elsewhere (orders); the split takes the high ones.
    ((hash >> 32) % 1000) as u16
}
