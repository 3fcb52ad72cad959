//! What of a role is held out: for choosing rates, and for what is reported.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Error;

/// What of a role is held out. Nothing of it is trained on, whatever file or role it stands in.
///
/// ```toml
/// [splits]
/// general = { test = { permille = 50, files = ["general/c4*"] } }
/// "sft/pycode" = { validation = 100, test = 200 }
/// "sft/gsm8k" = { validation = 500, test = ["gsm8k/test.jsonl"] }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Splits {
    /// What learning rates of fine-tuning are chosen on.
    #[serde(default, skip_serializing_if = "HoldOut::is_nothing")]
    pub validation: HoldOut,
    /// What is reported.
    #[serde(default, alias = "held_out", skip_serializing_if = "HoldOut::is_nothing")]
    pub test: HoldOut,
}

/// Documents that are held out: by their content, so that adding files moves none from one side to the other, or by the
/// files that they stand in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct HoldOut {
    /// How many.
    pub amount: Amount,
    /// Patterns of the files that they are taken from; all files where empty.
    pub files: Vec<String>,
}

/// How many documents are held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// None.
    #[default]
    Nothing,
    /// All.
    Whole,
    /// So many, those whose content's hashes are lowest in a fixed order.
    Documents(u64),
    /// Of 1000, so many, by their content's hash.
    Permille(u16),
}

/// As it stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "must be \"none\", \"all\", a number of documents, a list of patterns of files that are held out whole, \
                   or { permille = N } or { documents = N }, with or without files = [...]"
)]
enum Written {
    Word(Word),
    Documents(u64),
    Files(Vec<String>),
    Table(Table),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    None,
    All,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    permille: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    documents: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    files: Option<Vec<String>>,
}

impl TryFrom<Written> for HoldOut {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        Ok(match written {
            Written::Word(Word::None) => Self::default(),
            Written::Word(Word::All) => Self::everything(),
            Written::Documents(documents) => Self::documents(documents),
            Written::Files(files) if files.is_empty() => {
                return Err(
                    "a list of files that are held out whole must name one; \"none\" holds nothing out".to_owned()
                );
            }
            Written::Files(files) => Self { amount: Amount::Whole, files },
            Written::Table(Table { permille, documents, files }) => {
                let amount = match (permille, documents) {
                    (Some(permille), None) => Amount::Permille(permille),
                    (None, Some(documents)) => Amount::Documents(documents),
                    _ => return Err("must name permille or documents, one of both".to_owned()),
                };
                if files.as_ref().is_some_and(Vec::is_empty) {
                    return Err("files must name one, or be left out: then all are meant".to_owned());
                }
                Self { amount, files: files.unwrap_or_default() }
            }
        })
    }
}

impl From<HoldOut> for Written {
    fn from(HoldOut { amount, files }: HoldOut) -> Self {
        let table = |permille, documents, files: Vec<String>| {
            Self::Table(Table { permille, documents, files: Some(files).filter(|files| !files.is_empty()) })
        };
        match amount {
            Amount::Nothing => Self::Word(Word::None),
            Amount::Whole if files.is_empty() => Self::Word(Word::All),
            Amount::Whole => Self::Files(files),
            Amount::Documents(documents) if files.is_empty() => Self::Documents(documents),
            Amount::Documents(documents) => table(None, Some(documents), files),
            Amount::Permille(permille) => table(Some(permille), None, files),
        }
    }
}

impl HoldOut {
    /// So many documents.
    pub const fn documents(documents: u64) -> Self {
        Self { amount: Amount::Documents(documents), files: Vec::new() }
    }

    /// So many of 1000.
    pub const fn permille(permille: u16) -> Self {
        Self { amount: Amount::Permille(permille), files: Vec::new() }
    }

    /// Files as a whole.
    pub fn files(patterns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { amount: Amount::Whole, files: patterns.into_iter().map(Into::into).collect() }
    }

    /// Every document.
    pub const fn everything() -> Self {
        Self { amount: Amount::Whole, files: Vec::new() }
    }

    /// Whether nothing is held out.
    pub fn is_nothing(&self) -> bool {
        self.amount == Amount::Nothing
    }

    fn check(&self, field: &str) -> Result<(), Error> {
        match self.amount {
            Amount::Documents(0) => Err(Error::field(field, 0, "must be at least 1, or \"none\"")),
            Amount::Permille(permille) if !(1..=500).contains(&permille) => {
                Err(Error::field(format!("{field}.permille"), permille, "must be from 1 to 500"))
            }
            _ => Ok(()),
        }
    }
}

/// As in a file.
impl fmt::Display for HoldOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = &self.files;
        match self.amount {
            Amount::Nothing => f.write_str("none"),
            Amount::Whole if files.is_empty() => f.write_str("all"),
            Amount::Whole => write!(f, "{files:?}"),
            Amount::Documents(documents) if files.is_empty() => write!(f, "{documents}"),
            Amount::Documents(documents) => write!(f, "{{ documents = {documents}, files = {files:?} }}"),
            Amount::Permille(permille) if files.is_empty() => write!(f, "{{ permille = {permille} }}"),
            Amount::Permille(permille) => write!(f, "{{ permille = {permille}, files = {files:?} }}"),
        }
    }
}

impl Splits {
    /// A test split alone.
    pub fn test(test: HoldOut) -> Self {
        Self { test, ..Self::default() }
    }

    /// For fine-tuning: so many documents to choose rates on, so many to report.
    pub const fn documents(validation: u64, test: u64) -> Self {
        Self { validation: HoldOut::documents(validation), test: HoldOut::documents(test) }
    }

    /// Whether nothing is held out.
    pub fn is_nothing(&self) -> bool {
        self.validation.is_nothing() && self.test.is_nothing()
    }

    /// Its amounts are within their limits.
    pub(crate) fn check(&self, role: &str) -> Result<(), Error> {
        self.validation.check(&format!("splits.{role}.validation"))?;
        self.test.check(&format!("splits.{role}.test"))?;
        if let (Amount::Permille(a), Amount::Permille(b)) = (self.validation.amount, self.test.amount)
            && a + b > 500
        {
            let limit = "must not exceed 500: those of validation and test together";
            return Err(Error::field(format!("thousandths held out of {role}"), a + b, limit));
        }
        Ok(())
    }

    /// Of 1000 documents, how many are held out, where the splits say so; none where they name numbers or files.
    pub(crate) fn permille(&self) -> u16 {
        [&self.validation, &self.test]
            .into_iter()
            .map(|split| match split.amount {
                Amount::Permille(permille) if split.files.is_empty() => permille,
                _ => 0,
            })
            .sum()
    }
}
