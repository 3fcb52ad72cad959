//! How one side of a mixture is divided among its sources.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Weight};

/// Sources and their shares of one side; the shares sum to exactly one. In the order of their names, so that a file's
/// order changes nothing.
///
/// In files: `"starcoder"`, or `{ starcoder = "0.9", math = "0.1" }`.
///
/// ```
/// use schedule::{Shares, Weight};
///
/// let code = Shares::one("starcoder")?;
/// let both = Shares::new([("starcoder", Weight::parse("0.9")?), ("math", Weight::parse("0.1")?)])?;
/// assert_eq!(both.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["math", "starcoder"]);
/// let error = Shares::new([("starcoder", Weight::parse("0.9")?)]).unwrap_err();
/// assert_eq!(error.to_string(), "shares of starcoder = 0.9 must sum to 1");
/// # Ok::<(), schedule::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shares(Vec<(String, Weight)>);

impl Shares {
    /// Several sources.
    ///
    /// # Errors
    /// Shares that do not sum to one, a source that is named twice or not at all, no sources.
    pub fn new<N: Into<String>>(shares: impl IntoIterator<Item = (N, Weight)>) -> Result<Self, Error> {
        let mut shares: Vec<(String, Weight)> = shares.into_iter().map(|(name, w)| (name.into(), w)).collect();
        shares.sort();
        let names = shares.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        if shares.iter().any(|(name, _)| name.is_empty()) {
            return Err(Error::field("sources", format!("{names:?}"), "hold one without a name"));
        }
        if let Some(pair) = shares.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::field("sources", &pair[0].0, "is named twice"));
        }
        let sum: u64 = shares.iter().map(|(_, w)| w.parts()).sum();
        if sum != Weight::PARTS {
            let sum = sum as f64 / Weight::PARTS as f64;
            return Err(Error::field(format!("shares of {names}"), sum, "must sum to 1"));
        }
        Ok(Self(shares))
    }

    /// One source alone.
    ///
    /// # Errors
    /// An empty name.
    pub fn one(name: &str) -> Result<Self, Error> {
        Self::new([(name, Weight::ONE)])
    }

    /// Sources in proportion to their sizes, such as their tokens.
    ///
    /// # Errors
    /// As [`new`](Self::new) and [`Weight::apportion`].
    pub fn proportional(sizes: &[(&str, u64)]) -> Result<Self, Error> {
        let weights = Weight::apportion(&sizes.iter().map(|(_, size)| *size).collect::<Vec<_>>())?;
        Self::new(sizes.iter().map(|(name, _)| *name).zip(weights))
    }

    /// The sources with their shares, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Weight)> {
        self.0.iter().map(|(name, weight)| (name.as_str(), *weight))
    }

    /// How many sources there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: there is always one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [(name, _)] = self.0.as_slice() {
            return f.write_str(name);
        }
        let parts: Vec<String> = self.0.iter().map(|(name, weight)| format!("{weight} {name}")).collect();
        f.write_str(&parts.join(" + "))
    }
}

impl Serialize for Shares {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [(name, _)] => s.serialize_str(name),
            all => s.collect_map(all.iter().map(|(name, weight)| (name, weight))),
        }
    }
}

impl<'de> Deserialize<'de> for Shares {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a source's name, or a table of names and shares")]
        enum Form {
            One(String),
            Several(BTreeMap<String, Weight>),
        }
        match Form::deserialize(d)? {
            Form::One(name) => Self::one(&name),
            Form::Several(shares) => Self::new(shares),
        }
        .map_err(serde::de::Error::custom)
    }
}
