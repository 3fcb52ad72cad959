//! A set of files that are read alike.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{HubPath, OnMalformed, ReadError, ReadReport, Template, json, parquet, table, text};
use crate::Document;

/// Files by pattern, and how their records become documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFiles {
    /// Patterns (`*`, `?`, `**`, `[…]`) or folders, relative to the data directory; or files of a data set on the
    /// Hugging Face hub, `hf://OWNER/NAME[@REVISION]/PATTERN`.
    pub files: Vec<String>,
    /// By the file's name where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Whether a .csv or .tsv file's first line holds column names. Where absent: .csv has, .tsv has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
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
    /// A JSON object a line.
    Jsonl,
    /// One array of JSON objects, or objects one after the other.
    Json,
    /// Columns separated by commas, quoted where needed (RFC 4180).
    Csv,
    /// Columns separated by tabs; `\n` and `\t` written out stand for the characters.
    Tsv,
    /// Apache Parquet.
    Parquet,
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
const KNOWN: [(&str, Format); 6] = [
    ("txt", Format::Txt),
    ("jsonl", Format::Jsonl),
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
            unit: TextUnit::Line,
            template: None,
            malformed: OnMalformed::Fail,
            only: Default::default(),
            except: Default::default(),
        }
    }

    /// The readable files under a folder, in the layouts that are known.
    pub fn folder(folder: &str) -> Self {
        Self::matching([folder])
    }

    /// The files that match, sorted, each once.
    ///
    /// # Errors
    /// No match at all, a broken pattern, or a data set that is neither cached nor can be fetched.
    pub fn paths(&self, base: &Path) -> Result<Vec<PathBuf>, ReadError> {
        let mut out = Vec::new();
        for pattern in &self.files {
            match pattern.strip_prefix("hf://") {
                Some(rest) => out.extend(HubPath::parse(rest)?.resolve()?),
                None => out.extend(local(base, pattern)?),
            }
        }
        out.sort();
        out.dedup();
        if out.is_empty() {
            let full: Vec<String> = self.files.iter().map(|f| base.join(f).display().to_string()).collect();
            return Err(ReadError::NoFiles { pattern: full.join(" or ") });
        }
        Ok(out)
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
        let mut records = Records::new(self, path, each);
        // Stopped or at its end: what was met is reported.
        let _: ControlFlow<()> = match format {
            Format::Txt => text::read_text(compression.open(path)?, self.unit, &mut records)?,
            Format::Jsonl => json::read_lines(compression.open(path)?, &mut records)?,
            Format::Json => json::read_values(compression.open(path)?, &mut records)?,
            Format::Csv => table::read_csv(compression.open(path)?, self.header.unwrap_or(true), &mut records)?,
            Format::Tsv => table::read_tsv(compression.open(path)?, self.header.unwrap_or(false), &mut records)?,
            Format::Parquet => parquet::read_rows(path, &mut records)?,
        };
        Ok(records.report)
    }
}

/// The files of a pattern, or those in a folder whose format is known.
fn local(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, ReadError> {
    let folder = base.join(pattern);
    if folder.is_dir() {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(super::io(&folder))? {
            let path = entry.map_err(super::io(&folder))?.path();
            if path.is_file() && format_of(&path, None).is_ok() {
                found.push(path);
            }
        }
        return Ok(found);
    }
    let full = Path::new(&glob::Pattern::escape(&base.to_string_lossy())).join(pattern);
    let full = full.to_string_lossy().into_owned();
    let broken = |e: glob::PatternError| ReadError::Pattern { pattern: full.clone(), reason: e.to_string() };
    let mut found = Vec::new();
    for entry in glob::glob(&full).map_err(broken)? {
        let path = entry.map_err(|e| {
            let path = e.path().to_owned();
            ReadError::Io { path, source: e.into() }
        })?;
        if path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

/// A file's format by its name, unless given, and how it is compressed.
fn format_of(path: &Path, format: Option<Format>) -> Result<(Format, text::Compression), ReadError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let (stem, compression) = text::Compression::of_name(&name);
    let known = stem.rsplit_once('.').and_then(|(_, kind)| KNOWN.iter().find(|(k, _)| *k == kind));
    let format = format.or(known.map(|(_, format)| *format));
    let format = format.ok_or_else(|| ReadError::UnknownFormat { path: path.to_owned() })?;
    if format == Format::Parquet && compression != text::Compression::None {
        return Err(ReadError::UnknownFormat { path: path.to_owned() });
    }
    Ok((format, compression))
}

/// Turns records into documents: filters, template, policy.
pub(super) struct Records<'a> {
    path: &'a Path,
    files: &'a SourceFiles,
    template: Option<Template>,
    each: &'a mut dyn FnMut(Document) -> ControlFlow<()>,
    pub(super) report: ReadReport,
}

/// A step of a reading: go on, stop as asked, or an error.
pub(super) type Flow = Result<ControlFlow<()>, ReadError>;

impl<'a> Records<'a> {
    fn new(files: &'a SourceFiles, path: &'a Path, each: &'a mut dyn FnMut(Document) -> ControlFlow<()>) -> Self {
        Self { path, files, template: files.template.clone(), each, report: ReadReport::default() }
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// A document, as it is.
    pub(super) fn document(&mut self, document: Document) -> Flow {
        if document.is_blank() {
            self.report.blank += 1;
            return Ok(ControlFlow::Continue(()));
        }
        self.report.documents += 1;
        Ok((self.each)(document))
    }

    /// A record, by its fields.
    pub(super) fn record(&mut self, line: u64, record: &Value) -> Flow {
        match self.apply(record) {
            Ok(Some(document)) => self.document(document),
            Ok(None) => Ok(ControlFlow::Continue(())),
            Err(reason) => self.malformed(line, reason),
        }
    }

    /// A record that is not what it should be.
    pub(super) fn malformed(&mut self, line: u64, reason: String) -> Flow {
        let error = ReadError::Line { path: self.path.to_owned(), line, reason };
        if self.files.malformed == OnMalformed::Fail {
            return Err(error);
        }
        self.report.skipped += 1;
        self.report.first_skipped.get_or_insert_with(|| error.to_string());
        Ok(ControlFlow::Continue(()))
    }

    /// `None` for a record that the filters leave out.
    fn apply(&mut self, record: &Value) -> Result<Option<Document>, String> {
        for (field, values) in &self.files.only {
            if !values.contains(&template_value(field, record)?) {
                return Ok(None);
            }
        }
        for (field, values) in &self.files.except {
            if values.contains(&template_value(field, record)?) {
                return Ok(None);
            }
        }
        let template = match &self.template {
            Some(template) => template,
            None => {
                let known = Template::for_record(record).ok_or_else(|| unknown_layout(record))?;
                self.template.insert(known)
            }
        };
        template.apply(record).map(Some)
    }
}

/// A field's text, by the same paths as in templates.
fn template_value(field: &str, record: &Value) -> Result<String, String> {
    super::template::value_of(field, record)
}

fn unknown_layout(record: &Value) -> String {
    match record {
        Value::Object(fields) => {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            format!("no template given and no known layout has the fields {}", names.join(", "))
        }
        Value::Array(columns) => format!("no template given and no known layout has {} columns", columns.len()),
        _ => "a record must be an object".to_owned(),
    }
}
