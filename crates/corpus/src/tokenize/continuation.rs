//! A text and how it goes on, as ids.

use super::{TokenizeError, Tokenizer};

impl Tokenizer {
    /// The ids of a context and of what follows it, as lm-evaluation-harness encodes them.
    ///
    /// 1. White space at the end of the context moves to the continuation: tokens begin with it.
    /// 2. Both are encoded together; the continuation's ids are what follows as many as the context alone has.
    /// 3. A context without ids is the end of the document before.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_continuation(
        &self,
        context: &str,
        continuation: &str,
    ) -> Result<(Vec<u32>, Vec<u32>), TokenizeError> {
        // Python's white space holds four separators that Unicode's does not.
        let is_space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
        let kept = context.trim_end_matches(is_space);
        let whole = self.encode(&format!("{context}{continuation}"))?;
        let alone = if kept.is_empty() { 0 } else { self.encode(kept)?.len() };
        if alone == 0 {
            return Ok((vec![self.end_of_text()], whole));
        }
        let mut before = whole;
        let after = before.split_off(alone.min(before.len()));
        Ok((before, after))
    }
}
