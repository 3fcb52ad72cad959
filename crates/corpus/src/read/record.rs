//! A record's fields as their file has them: numbers keep the digits that are written, bytes that are no text stay bytes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// Lists and groups in one another, at most.
const MAX_DEPTH: usize = 128;

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Text(String),
    /// A number or a truth value, as it is written.
    Plain(String),
    /// Bytes that are not UTF-8.
    Bytes(Vec<u8>),
    List(Vec<Self>),
    /// A group of fields, in their order.
    Fields(Vec<(String, Self)>),
}

impl Value {
    /// Of a JSON text.
    pub(super) fn parse(json: &str) -> Result<Self, String> {
        // As the library says it, with line and column where the text goes on over lines.
        let raw: &RawValue = serde_json::from_str(json).map_err(|e| format!("malformed JSON: {e}"))?;
        Self::of_json(raw)
    }

    /// Of a JSON value.
    pub(super) fn of_json(raw: &RawValue) -> Result<Self, String> {
        Self::nested(raw, 0)
    }

    fn nested(raw: &RawValue, depth: usize) -> Result<Self, String> {
        if depth > MAX_DEPTH {
            return Err(format!("lists and groups are nested more than {MAX_DEPTH} deep"));
        }
        let json = raw.get();
        let malformed = |e: serde_json::Error| format!("malformed JSON: {e}");
        Ok(match json.as_bytes().first() {
            Some(b'"') => Self::Text(serde_json::from_str(json).map_err(malformed)?),
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(json).map_err(malformed)?;
                Self::List(items.into_iter().map(|item| Self::nested(item, depth + 1)).collect::<Result<_, _>>()?)
            }
            Some(b'{') => {
                let Pairs(pairs) =
                    Pairs::deserialize(&mut serde_json::Deserializer::from_str(json)).map_err(malformed)?;
                let mut fields: Vec<(String, Self)> = Vec::with_capacity(pairs.len());
                let mut known = HashSet::new();
                for (name, value) in pairs {
                    if !known.insert(name.clone()) {
                        return Err(format!("the field {name:?} stands in it twice"));
                    }
                    fields.push((name, Self::nested(value, depth + 1)?));
                }
                Self::Fields(fields)
            }
            Some(b'n') => Self::Null,
            _ => Self::Plain(json.to_owned()),
        })
    }

    /// A field of a group.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Fields(fields) => fields.iter().find(|(known, _)| known == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Whether there is nothing in it: no value, white space alone, or a list or group of such.
    pub(super) fn is_blank(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.trim().is_empty(),
            Self::Plain(_) => false,
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::List(items) => items.iter().all(Self::is_blank),
            Self::Fields(fields) => fields.iter().all(|(_, value)| value.is_blank()),
        }
    }

    /// Its text; a list's items, one a line.
    pub(super) fn text(&self) -> Result<Cow<'_, str>, String> {
        Ok(match self {
            Self::Text(text) | Self::Plain(text) => Cow::Borrowed(text),
            Self::Null => Cow::Borrowed(""),
            Self::List(items) => {
                let lines = items.iter().map(Self::text).collect::<Result<Vec<_>, _>>()?;
                Cow::Owned(lines.join("\n"))
            }
            Self::Bytes(bytes) => {
                return Err(format!("a column of bytes that are no text: {} of them are not UTF-8", bytes.len()));
            }
            Self::Fields(_) => {
                let reason = "a field that is a group of fields; name one inside it, as {outer.inner}";
                return Err(reason.to_owned());
            }
        })
    }

    /// As JSON, in one line.
    pub(super) fn json(&self) -> String {
        let quoted = |text: &str| serde_json::to_string(text).expect("a text is JSON");
        match self {
            Self::Null => "null".to_owned(),
            Self::Text(text) => quoted(text),
            Self::Plain(text) => text.clone(),
            Self::Bytes(bytes) => quoted(&String::from_utf8_lossy(bytes)),
            Self::List(items) => format!("[{}]", items.iter().map(Self::json).collect::<Vec<_>>().join(",")),
            Self::Fields(fields) => {
                let fields = fields.iter().map(|(name, value)| format!("{}:{}", quoted(name), value.json()));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl From<&serde_json::Value> for Value {
    fn from(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::String(text) => Self::Text(text.clone()),
            serde_json::Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            serde_json::Value::Object(fields) => {
                Self::Fields(fields.iter().map(|(name, value)| (name.clone(), Self::from(value))).collect())
            }
            plain => Self::Plain(plain.to_string()),
        }
    }
}

/// An object's fields in their order, each as often as it stands there.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        let value =
            Value::parse(r#"{"id":12345678901234567890123,"price":1.10,"e":1E3,"ok":true,"l":[-0,null]}"#).unwrap();
        for (field, text) in
            [("id", "12345678901234567890123"), ("price", "1.10"), ("e", "1E3"), ("ok", "true"), ("l", "-0\n")]
        {
            assert_eq!(value.get(field).unwrap().text().unwrap(), text);
        }
    }

    #[test]
    fn what_would_be_lost_is_refused() {
        assert!(Value::parse(r#"{"text":"a","text":"b"}"#).unwrap_err().contains("\"text\" stands in it twice"));
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(Value::parse(&deep).unwrap_err().contains("nested more than 128 deep"));
        let deeper = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert!(Value::parse(&deeper).is_err());
        assert!(Value::parse(r#"{"a":1} x"#).unwrap_err().contains("malformed JSON"));
    }

    #[test]
    fn json_comes_back() {
        let json = r#"{"name":"rain","arguments":{"town":"Bergen","n":[1,2.50,null]}}"#;
        assert_eq!(Value::parse(json).unwrap().json(), json);
    }
}
