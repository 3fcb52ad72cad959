//! The units, as types: steps, tokens, weights.

use std::fmt;

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

/// A share from 0 to 1, exact: a whole number of billionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Weight(u32);

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Weight {
    /// The denominator: one is this many parts.
    pub const PARTS: u64 = 1_000_000_000;
    /// None.
    pub const ZERO: Self = Self(0);
    /// All.
    pub const ONE: Self = Self(Self::PARTS as u32);

    /// From billionths.
    ///
    /// # Errors
    /// More than [`PARTS`](Self::PARTS).
    pub fn from_parts(parts: u64) -> Result<Self, Error> {
        match u32::try_from(parts) {
            Ok(p) if parts <= Self::PARTS => Ok(Self(p)),
            _ => Err(Error::Weight { given: format!("{parts}e-9") }),
        }
    }

    /// The same in constants: `None` above [`PARTS`](Self::PARTS).
    pub const fn from_parts_const(parts: u32) -> Option<Self> {
        if parts as u64 <= Self::PARTS { Some(Self(parts)) } else { None }
    }

    /// From a decimal number, exactly.
    ///
    /// # Errors
    /// Anything but 0 to 1 with at most nine decimals.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let error = || Error::Weight { given: text.to_owned() };
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || (whole.is_empty() && decimals.is_empty()) || decimals.len() > 9 {
            return Err(error());
        }
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| error())? };
        let parts: u64 = format!("{decimals:0<9}").parse().map_err(|_| error())?;
        let parts = whole.checked_mul(Self::PARTS).and_then(|w| w.checked_add(parts)).ok_or_else(error)?;
        Self::from_parts(parts).map_err(|_| error())
    }

    /// In billionths.
    pub fn parts(self) -> u64 {
        u64::from(self.0)
    }

    /// The nearest float: for printing and estimates, never for draws.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / Self::PARTS as f64
    }
}

impl fmt::Display for Weight {
    /// The shortest decimal, for example `0.2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.parts() / Self::PARTS, self.parts() % Self::PARTS);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{rest:09}").trim_end_matches('0'))
    }
}

/// Numbers and strings are both read; strings are written, because a float could lose digits.
impl Serialize for Weight {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Weight;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal number from 0 to 1")
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Weight, E> {
                Weight::parse(v).map_err(E::custom)
            }
            fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Weight, E> {
                // The shortest decimal that reads back as `v` is what the author wrote.
                Weight::parse(&format!("{v}")).map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Weight, E> {
                Weight::parse(&v.to_string()).map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Weight, E> {
                Weight::parse(&v.to_string()).map_err(E::custom)
            }
        }
        d.deserialize_any(Visitor)
    }
}
