//! The units, as types: steps, tokens, stretches of either.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// An optimiser step, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Step(pub u64);

/// A number of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tokens(pub u64);

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Tokens {
    /// As people write them: `12.6B`, `800M`, `4096`. Rounded: for reading.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            n if n >= 1_000_000_000 => (n as f64 / 1e9, "B"),
            n if n >= 1_000_000 => (n as f64 / 1e6, "M"),
            n => return n.fmt(f),
        };
        let decimals = if value >= 100.0 { 1 } else { 2 };
        write!(f, "{value:.decimals$}{unit}")
    }
}

/// A stretch of training, from its beginning: in steps, or in tokens where a paper or a budget speaks of tokens.
///
/// In files a whole number is steps; text ends in its unit: `"6000 steps"`, `"12.6B tokens"`, `"800M tokens"`.
///
/// ```
/// use schedule::{Span, Step, Tokens};
///
/// let start: Span = "12.6B tokens".parse()?;
/// // The first step that begins at 12.6 B tokens or later.
/// assert_eq!(start.in_steps(Tokens(1024 * 2048))?, Step(6009));
/// # Ok::<(), schedule::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Span {
    /// So many optimiser steps.
    Steps(Step),
    /// So many tokens of the global batch.
    Tokens(Tokens),
}

impl Span {
    /// In steps of so many tokens each: the first step that begins at this point or later.
    ///
    /// # Errors
    /// Tokens where a step has none.
    pub fn in_steps(self, tokens_per_step: Tokens) -> Result<Step, Error> {
        match self {
            Self::Steps(step) => Ok(step),
            Self::Tokens(_) if tokens_per_step.0 == 0 => {
                Err(Error::field("tokens per step", 0, format!("must be at least 1 to turn {self} into steps")))
            }
            Self::Tokens(tokens) => Ok(Step(tokens.0.div_ceil(tokens_per_step.0))),
        }
    }

    /// The steps, if it is given in steps.
    ///
    /// # Errors
    /// A span in tokens: `field` is what it is for.
    pub(crate) fn steps(self, field: &str) -> Result<u64, Error> {
        match self {
            Self::Steps(step) => Ok(step.0),
            Self::Tokens(_) => Err(Error::field(field, self, "is in tokens: turn it into steps first (in_steps)")),
        }
    }
}

impl From<Step> for Span {
    fn from(step: Step) -> Self {
        Self::Steps(step)
    }
}

/// A plain number is steps.
impl From<u64> for Span {
    fn from(steps: u64) -> Self {
        Self::Steps(Step(steps))
    }
}

impl From<Tokens> for Span {
    fn from(tokens: Tokens) -> Self {
        Self::Tokens(tokens)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(step) => write!(f, "{step} steps"),
            Self::Tokens(tokens) => write!(f, "{} tokens", tokens.0),
        }
    }
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || {
            let limit =
                "must be a number of steps (6000, \"6000 steps\") or of tokens (\"12.6B tokens\", \"800M tokens\")";
            Error::field("span", text, limit)
        };
        let text = text.trim();
        if let Some(number) = text.strip_suffix("tokens") {
            return Ok(Self::Tokens(Tokens(scaled(number.trim()).ok_or_else(error)?)));
        }
        let number = text.strip_suffix("steps").unwrap_or(text).trim();
        Ok(Self::Steps(Step(scaled(number).ok_or_else(error)?)))
    }
}

/// A whole or decimal number with an optional K, M, B or T that makes it whole; `_` groups digits.
fn scaled(text: &str) -> Option<u64> {
    let (number, exponent) = match text.char_indices().last()? {
        (at, 'K' | 'k') => (&text[..at], 3),
        (at, 'M') => (&text[..at], 6),
        (at, 'B') => (&text[..at], 9),
        (at, 'T') => (&text[..at], 12),
        _ => (text, 0),
    };
    let number = number.trim().replace('_', "");
    let (whole, decimals) = number.split_once('.').unwrap_or((&number, ""));
    let decimals = decimals.trim_end_matches('0');
    let digits = whole.bytes().chain(decimals.bytes()).all(|b| b.is_ascii_digit());
    if !digits || whole.is_empty() || decimals.len() > exponent {
        return None;
    }
    let zeros = "0".repeat(exponent - decimals.len());
    format!("{whole}{decimals}{zeros}").parse().ok()
}

/// Steps are written as a number, tokens as text with their unit.
impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Steps(step) => s.serialize_u64(step.0),
            Self::Tokens(_) => s.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of steps, or text such as \"12.6B tokens\"")
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Span, E> {
                v.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Span, E> {
                Ok(v.into())
            }
            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Span, E> {
                u64::try_from(v).map(Span::from).map_err(|_| E::custom(format!("{v} steps: must not be negative")))
            }
        }
        d.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_exactly() {
        for (text, expected) in [
            ("6000", Span::from(6000)),
            ("6_100 steps", Span::from(6100)),
            ("12.6B tokens", Tokens(12_600_000_000).into()),
            ("12.600B tokens", Tokens(12_600_000_000).into()),
            ("800M tokens", Tokens(800_000_000).into()),
            ("2097152 tokens", Tokens(2_097_152).into()),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span, expected, "{text}");
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
        for bad in ["", "-1", "1.5", "12.6", "1e9 tokens", "B tokens", "99999999999T tokens", "6 stops", "０ steps"] {
            assert!(bad.parse::<Span>().unwrap_err().to_string().contains("span = "), "{bad}");
        }
    }

    #[test]
    fn tokens_become_the_next_whole_step() {
        let steps = |tokens| Span::from(Tokens(tokens)).in_steps(Tokens(10)).unwrap().0;
        assert_eq!([steps(0), steps(1), steps(10), steps(11)], [0, 1, 1, 2]);
        assert!(Span::from(Tokens(5)).in_steps(Tokens(0)).is_err());
        assert_eq!(Span::from(7).in_steps(Tokens(0)).unwrap(), Step(7));
    }
}
