//! Texts as token ids; long ones piece by piece, so that memory stays bounded.
//!
//! The library that encodes takes a hundred bytes and more for each of a text. So a long text is cut where that changes no
//! token:
//!
//! 1. Near the end of a piece, places between words, or where kinds of letters change, are tried.
//! 2. A place is right if the text around it gives the same ids in one and cut in two.
//! 3. The pieces' ids, one after the other, are the text's.

use rayon::prelude::*;
use tokenizers::Tokenizer as HfTokenizer;

use super::TokenizeError;

/// Bytes of a piece, about.
const PIECE: usize = 256 << 10;
/// Bytes on each side of a cut that must give the same ids.
const AROUND: usize = 128;
/// Places that are tried for a cut, of each kind.
const TRIES: usize = 64;
/// The longest stretch in which no place is found; it takes some gigabytes.
const LONGEST: usize = 16 << 20;

/// The ids of a text, without any special token added.
pub(super) fn encode(inner: &HfTokenizer, text: &str) -> Result<Vec<u32>, TokenizeError> {
    if text.len() <= 2 * PIECE {
        return at_once(inner, text);
    }
    let pieces = pieces(inner, text, PIECE, LONGEST)?;
    let ids: Vec<Vec<u32>> = pieces.par_iter().map(|piece| at_once(inner, piece)).collect::<Result<_, _>>()?;
    Ok(ids.concat())
}

fn at_once(inner: &HfTokenizer, text: &str) -> Result<Vec<u32>, TokenizeError> {
    let encoding = inner.encode_fast(text, false).map_err(|e| TokenizeError::Tokenizer(e.to_string()))?;
    Ok(encoding.get_ids().to_vec())
}

/// A text as pieces that give the same ids as the whole.
fn pieces<'a>(
    inner: &HfTokenizer,
    mut text: &'a str,
    piece: usize,
    longest: usize,
) -> Result<Vec<&'a str>, TokenizeError> {
    let mut pieces = Vec::new();
    while text.len() > 2 * piece {
        let mut size = piece;
        let end = loop {
            if let Some(end) = cut(inner, text, size)? {
                break end;
            }
            if size >= text.len() {
                break text.len();
            }
            if size >= longest {
                return Err(TokenizeError::Uncut { bytes: size, limit: longest });
            }
            size = (2 * size).min(longest);
        };
        let (before, after) = text.split_at(end);
        pieces.push(before);
        text = after;
    }
    if text.len() > longest {
        return Err(TokenizeError::Uncut { bytes: text.len(), limit: longest });
    }
    pieces.push(text);
    Ok(pieces)
}

/// A place to cut in the second half of the first `size` bytes.
fn cut(inner: &HfTokenizer, text: &str, size: usize) -> Result<Option<usize>, TokenizeError> {
    let (from, to) = (text.floor_char_boundary(size / 2), text.floor_char_boundary(size.min(text.len())));
    for kind in [between_words as fn(char, char) -> bool, between_kinds] {
        let after = text[from..to].char_indices().map(|(i, c)| (from + i, c)).collect::<Vec<_>>();
        let places = after.windows(2).rev().filter(|pair| kind(pair[0].1, pair[1].1)).map(|pair| pair[1].0);
        for place in places.take(TRIES) {
            if changes_nothing(inner, text, place)? {
                return Ok(Some(place));
            }
        }
    }
    Ok(None)
}

/// Before a space that ends a word.
fn between_words(before: char, after: char) -> bool {
    !before.is_whitespace() && matches!(after, ' ' | '\n')
}

/// Where letters, digits, signs and white space follow one another.
fn between_kinds(before: char, after: char) -> bool {
    let kind = |c: char| (c.is_alphabetic(), c.is_numeric(), c.is_whitespace());
    kind(before) != kind(after)
}

fn changes_nothing(inner: &HfTokenizer, text: &str, place: usize) -> Result<bool, TokenizeError> {
    let from = text.floor_char_boundary(place.saturating_sub(AROUND));
    let to = text.ceil_char_boundary((place + AROUND).min(text.len()));
    let whole = at_once(inner, &text[from..to])?;
    let (left, right) = (at_once(inner, &text[from..place])?, at_once(inner, &text[place..to])?);
    Ok(whole.len() == left.len() + right.len() && whole.starts_with(&left) && whole.ends_with(&right))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tokenizer of Pythia where it is at hand, else one trained here.
    fn tokenizer() -> HfTokenizer {
        if let Some(shared) = std::env::var_os("MIDTRAIN_SHARED") {
            let path = std::path::Path::new(&shared).join("data/tokenizer/20B_tokenizer.json");
            return HfTokenizer::from_file(path).unwrap();
        }
        let words = "It's the quick brown fox's 1234 jumps; über den Zaun — 日本語 und mehr!\n\tcode = {a: [1, 2]};\n";
        super::super::train_bpe(std::iter::repeat_n(words.to_owned(), 20), 320).unwrap().inner
    }

    #[test]
    fn what_cannot_be_cut_has_a_limit() {
        let inner = tokenizer();
        let word = "a".repeat(5000);
        assert!(matches!(pieces(&inner, &word, 100, 1000), Err(TokenizeError::Uncut { limit: 1000, .. })));
        let text = format!("{} {}", "a".repeat(900), "b c ".repeat(300));
        let cut = pieces(&inner, &text, 100, 1000).unwrap();
        assert_eq!((cut.concat(), cut.len() > 5), (text.clone(), true));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Cut or whole, the ids are the same.
        #[test]
        fn pieces_give_the_ids_of_the_whole(
            words in prop::collection::vec(
                prop_oneof![
                    "[a-zA-Z']{1,9}", "[0-9]{1,5}", "[ \t\n]{1,6}", Just(" ".to_owned()), "[.,;:(){}=+-]{1,3}", "[à-öα-ω]{1,4}",
                    "[日本語漢字]{1,9}", "e\u{301}?", Just("\r\n".to_owned()), Just("<|endoftext|>".to_owned()), "\\PC{1,3}",
                ],
                200..900,
            ),
            piece in 60_usize..400,
        ) {
            thread_local!(static INNER: HfTokenizer = {
                let mut inner = tokenizer();
                inner.set_encode_special_tokens(true);
                inner
            });
            let text = words.concat();
            INNER.with(|inner| {
                let cut = pieces(inner, &text, piece, usize::MAX).unwrap();
                assert_eq!(cut.concat(), text);
                let ids: Vec<u32> = cut.iter().flat_map(|piece| at_once(inner, piece).unwrap()).collect();
                assert_eq!(ids, at_once(inner, &text).unwrap());
            });
        }
    }
}
