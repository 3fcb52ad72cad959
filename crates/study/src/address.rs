//! Where a job's folder lies in the store: a digest of everything that determines its result, and of nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
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

/// xxh3 of a value's JSON with every object's keys in order, 32 hexadecimal digits. (In what order `serde_json` keeps them
/// depends on a feature that any other crate of a program may turn on.)
pub(crate) fn digest(value: &impl Serialize) -> String {
    const PLAIN: &str = "inputs of a job are plain data with string keys";
    let value = sorted(serde_json::to_value(value).expect(PLAIN));
    format!("{:032x}", xxh3_128(&serde_json::to_vec(&value).expect(PLAIN)))
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let fields: BTreeMap<String, Value> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_fields_does_not_matter() {
        let of = |text: &str| digest(&serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(of(r#"{"a": [{"x": 1, "y": 2.5}], "b": null}"#), of(r#"{"b": null, "a": [{"y": 2.5, "x": 1}]}"#));
        assert_ne!(of(r#"{"a": [1, 2]}"#), of(r#"{"a": [2, 1]}"#));
    }

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
