//! Where a job's folder lies in the store: a digest of everything that determines its result, and of nothing else.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::Error;

/// A job's address: its kind and a digest, `finetune/3f2a…`. Also the path of its folder below the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(String);

impl Address {
    /// Of a kind's name and version, and what identifies the job.
    pub(crate) fn of(kind: &str, version: u32, identity: &impl Serialize) -> Self {
        Self(format!("{kind}/{}", digest(&(version, identity))))
    }

    /// Of a kind's name and a folder's name.
    pub(crate) fn named(kind: &str, name: &str) -> Self {
        Self(format!("{kind}/{name}"))
    }

    /// From its text.
    ///
    /// # Errors
    /// A text that is no kind, slash, name; in particular one that would leave the store.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        match text.split_once('/') {
            Some((kind, name)) if plain(kind) && plain(name) => Ok(Self(text.to_owned())),
            _ => Err(Error::field("address", text, "must be KIND/NAME in small letters, digits and '-'")),
        }
    }

    /// The kind's name, such as `finetune`.
    pub fn kind(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The folder's name.
    pub fn name(&self) -> &str {
        self.0.split('/').nth(1).unwrap_or_default()
    }

    /// Its folder in a store.
    pub fn folder(&self, store: &Path) -> PathBuf {
        store.join(&self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Address {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0
    }
}

/// xxh3 of a value's JSON, 32 hexadecimal digits.
pub(crate) fn digest(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("inputs of a job are plain data with string keys");
    format!("{:032x}", xxh3_128(&json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_in_the_store() {
        for bad in ["", "a", "a/", "/b", "a/../b", "../a", "a/b/c", "a/B", "a/.b", "a\\b/c"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        let address = Address::parse("pretrain/00-12-ff").unwrap();
        assert_eq!((address.kind(), address.name()), ("pretrain", "00-12-ff"));
        assert_eq!(address.folder(Path::new("s")), Path::new("s/pretrain/00-12-ff"));
    }
}
