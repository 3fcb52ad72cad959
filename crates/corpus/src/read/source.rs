//! A set of files that are read alike.

use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::records::Records;
use super::stream::Compression;
use super::{OnMalformed, ReadError, ReadReport, Template, json, parquet, table, text};
use crate::Document;

/// Files by pattern, and how their records become documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFiles {
    /// Patterns (`*`, `?`, `**`, `[…]`), files or folders, relative to the data directory; or files of a data set on the
    /// Hugging Face hub, `hf://OWNER/NAME[@REVISION]/PATTERN`. What there is by a pattern's very name is meant by it. A
    /// folder is read with those below it; names that begin with a dot are passed over.
    pub files: Vec<String>,
    /// By the file's name where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Whether a .csv or .tsv file's first line holds column names. Where absent: .csv has, .tsv has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    /// What a backslash means in a .tsv file.
    #[serde(default, skip_serializing_if = "is_text")]
    pub escapes: Escapes,
    /// What is a document in a .txt file.
    #[serde(default, skip_serializing_if = "is_line")]
    pub unit: TextUnit,
    /// How a record becomes a document; chosen by each file's first record where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// What happens to malformed records: `"fail"` or `"skip"` (they are counted).
    #[serde(default, skip_serializing_if = "is_fail")]
    pub malformed: OnMalformed,
    /// Only records with these values of these fields.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub only: std::collections::BTreeMap<String, Vec<String>>,
    /// No records with these values of these fields.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub except: std::collections::BTreeMap<String, Vec<String>>,
}

fn is_fail(policy: &OnMalformed) -> bool {
    *policy == OnMalformed::Fail
}

fn is_text(escapes: &Escapes) -> bool {
    *escapes == Escapes::Text
}

fn is_line(unit: &TextUnit) -> bool {
    *unit == TextUnit::Line
}

/// A file's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// Plain text.
    Txt,
    /// A JSON object a line (.jsonl, .ndjson).
    #[serde(alias = "ndjson")]
    Jsonl,
    /// One array of JSON objects, or objects one after the other.
    Json,
    /// Columns separated by commas, quoted where needed (RFC 4180).
    Csv,
    /// Columns separated by tabs, without quotes.
    Tsv,
    /// Apache Parquet.
    Parquet,
}

/// What a backslash means in a .tsv file: programs disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Escapes {
    /// Itself: text is text (`\nabla`, `C:\new`). Rows with `\n` written out are counted.
    #[default]
    Text,
    /// `\n`, `\t`, `\r` and `\\` stand for the characters, as in FLAN's files and in those of data bases.
    Backslash,
}

/// What is a document in plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextUnit {
    /// A line that is not blank.
    #[default]
    Line,
    /// Lines up to a blank one.
    Paragraph,
    /// The file.
    File,
}

/// Endings of the names of files that are read.
const KNOWN: [(&str, Format); 7] = [
    ("txt", Format::Txt),
    ("jsonl", Format::Jsonl),
    ("ndjson", Format::Jsonl),
    ("json", Format::Json),
    ("csv", Format::Csv),
    ("tsv", Format::Tsv),
    ("parquet", Format::Parquet),
];

impl SourceFiles {
    /// Files by pattern, the rest by their names and first records.
    pub fn matching(files: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            files: files.into_iter().map(Into::into).collect(),
            format: None,
            header: None,
            escapes: Escapes::Text,
            unit: TextUnit::Line,
            template: None,
            malformed: OnMalformed::Fail,
            only: Default::default(),
            except: Default::default(),
        }
    }

    /// The readable files in a folder and those below, in the layouts that are known.
    pub fn folder(folder: &str) -> Self {
        Self::matching([folder])
    }

    /// The format that a file is read in; `None` where neither its name nor the set says it.
    #[cfg(feature = "tokenize")]
    pub(crate) fn format_of(&self, path: &Path) -> Option<Format> {
        format_of(path, self.format).ok().map(|(format, _)| format)
    }

    /// Calls `each` with every document of a file that is not blank, in order, until it says to stop.
    ///
    /// # Errors
    /// A file that cannot be read to its end; unless skipped, a line that is malformed or a field that does not exist.
    pub fn read(
        &self,
        path: &Path,
        each: &mut dyn FnMut(Document) -> ControlFlow<()>,
    ) -> Result<ReadReport, ReadError> {
        let (format, compression) = format_of(path, self.format)?;
        if format == Format::Txt && (self.template.is_some() || !self.only.is_empty() || !self.except.is_empty()) {
            let reason = format!("{} is plain text, which has no fields for templates and filters", path.display());
            return Err(ReadError::Template { template: "of the set".to_owned(), reason });
        }
        let mut records = Records::new(self, path, each);
        let rows = &mut records;
        // Stopped or at its end: what was met is reported.
        let _: ControlFlow<()> = match format {
            Format::Txt => text::read_text(compression.open(path)?, self.unit, rows)?,
            Format::Jsonl => json::read_lines(compression.open(path)?, rows)?,
            Format::Json => json::read_values(compression.open(path)?, rows)?,
            Format::Csv => table::read_csv(compression.open(path)?, self.header.unwrap_or(true), rows)?,
            Format::Tsv => table::read_tsv(compression.open(path)?, self.header.unwrap_or(false), self.escapes, rows)?,
            Format::Parquet => parquet::read_rows(path, rows)?,
        };
        Ok(records.report())
    }
}

/// A file's format by its name, unless given, and how it is compressed.
pub(super) fn format_of(path: &Path, format: Option<Format>) -> Result<(Format, Compression), ReadError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let (stem, compression) = Compression::of_name(&name);
    let known = stem.rsplit_once('.').and_then(|(_, kind)| KNOWN.iter().find(|(k, _)| *k == kind));
    let format = format.or(known.map(|(_, format)| *format));
    let format = format.ok_or_else(|| ReadError::UnknownFormat { path: path.to_owned() })?;
    if format == Format::Parquet && compression != Compression::None {
        return Err(ReadError::UnknownFormat { path: path.to_owned() });
    }
    Ok((format, compression))
}
