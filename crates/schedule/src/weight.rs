//! Shares as whole billionths: what decides a draw is integer arithmetic alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A share from 0 to 1, exact: a whole number of billionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Weight(u32);

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

    /// From whole percent, also in constants: `None` above 100.
    pub const fn from_percent(percent: u32) -> Option<Self> {
        if percent <= 100 { Some(Self(percent * (Self::PARTS as u32 / 100))) } else { None }
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

    /// Shares in proportion to sizes that sum to exactly one: each within a billionth of its proportion, what is left
    /// over to the largest remainders (Hamilton's method; ties to the earlier).
    ///
    /// ```
    /// use schedule::Weight;
    /// let thirds = Weight::apportion(&[1, 1, 1])?;
    /// assert_eq!(thirds.iter().map(|w| w.parts()).sum::<u64>(), Weight::PARTS);
    /// # Ok::<(), schedule::Error>(())
    /// ```
    ///
    /// # Errors
    /// No sizes, or nothing but zeros.
    pub fn apportion(sizes: &[u64]) -> Result<Vec<Self>, Error> {
        let total: u128 = sizes.iter().map(|s| u128::from(*s)).sum();
        if total == 0 {
            return Err(Error::field("sizes", format!("{sizes:?}"), "must hold one that is not zero"));
        }
        let exact = |size: &u64| u128::from(*size) * u128::from(Self::PARTS);
        // Each quotient is at most PARTS, since no size exceeds the total.
        let mut parts: Vec<u64> = sizes.iter().map(|s| (exact(s) / total) as u64).collect();
        let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
        by_remainder.sort_by_key(|i| std::cmp::Reverse(exact(&sizes[*i]) % total));
        let left = Self::PARTS - parts.iter().sum::<u64>();
        for i in by_remainder.into_iter().take(left as usize) {
            parts[i] += 1;
        }
        parts.into_iter().map(Self::from_parts).collect()
    }

    /// In billionths.
    pub fn parts(self) -> u64 {
        u64::from(self.0)
    }

    /// What is left of one.
    #[must_use]
    pub fn complement(self) -> Self {
        Self(Self::ONE.0 - self.0)
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
        d.deserialize_any(WeightVisitor)
    }
}

pub(crate) struct WeightVisitor;

impl serde::de::Visitor<'_> for WeightVisitor {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_exact_decimals() {
        for (text, parts) in [("0.2", 200_000_000), ("1", 1_000_000_000), ("0.000000001", 1), (".5", 500_000_000)] {
            assert_eq!(Weight::parse(text).unwrap().parts(), parts);
        }
        for bad in ["1.1", "-0.1", "0.0000000001", "", ".", "NaN", "2e-1", "99999999999999999999"] {
            assert!(Weight::parse(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
        assert_eq!(Weight::parse("0.20").unwrap().to_string(), "0.2");
    }

    #[test]
    fn apportioning_nothing_is_refused() {
        assert!(Weight::apportion(&[]).is_err());
        assert!(Weight::apportion(&[0, 0]).is_err());
    }
}
