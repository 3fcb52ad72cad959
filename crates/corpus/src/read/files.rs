//! A set of files that are read alike.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ReadError, Template, io};
use crate::Document;

/// Files by pattern, and how their records become documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFiles {
    /// Patterns (`*`, `?`, `**`, `[…]`) relative to the data directory.
    pub files: Vec<String>,
    /// `txt`, `jsonl`, `json` or `tsv`; by the file's name where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// A .tsv file's first line holds column names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub header: bool,
    /// How a record becomes a document; chosen by each file's first record where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
}

/// A file's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A document a line that is not blank.
    Txt,
    /// A JSON object a line.
    Jsonl,
    /// One array of JSON objects, or one object.
    Json,
    /// Columns separated by tabs; `\n` and `\t` written out stand for the characters.
    Tsv,
}

impl SourceFiles {
    /// The readable files under a folder, in the layouts that are known.
    pub fn folder(folder: &str) -> Self {
        let kinds = ["txt", "jsonl", "json", "tsv"];
        let files = kinds.iter().flat_map(|k| ["", ".gz", ".zst"].map(|z| format!("{folder}/*.{k}{z}"))).collect();
        Self { files, format: None, header: false, template: None }
    }

    /// The files that match, sorted, each once.
    ///
    /// # Errors
    /// No match at all, or a broken pattern.
    pub fn paths(&self, base: &Path) -> Result<Vec<PathBuf>, ReadError> {
        let mut out = Vec::new();
        for pattern in &self.files {
            let full = Path::new(&glob::Pattern::escape(&base.to_string_lossy())).join(pattern);
            let full = full.to_string_lossy().into_owned();
            let template = |reason: String| ReadError::Template { template: full.clone(), reason };
            for entry in glob::glob(&full).map_err(|e| template(e.to_string()))? {
                let path = entry.map_err(|e| {
                    let path = e.path().to_owned();
                    ReadError::Io { path, source: e.into() }
                })?;
                if path.is_file() {
                    out.push(path);
                }
            }
        }
        out.sort();
        out.dedup();
        if out.is_empty() {
            let full: Vec<String> = self.files.iter().map(|f| base.join(f).display().to_string()).collect();
            let pattern = match full.as_slice() {
                [first, .., last] if full.len() > 3 => format!("any of {} patterns from {first} to {last}", full.len()),
                _ => full.join(" or "),
            };
            return Err(ReadError::NoFiles { pattern });
        }
        Ok(out)
    }

    /// Calls `each` with every document of a file that is not blank, in order.
    ///
    /// # Errors
    /// A file that cannot be read to its end, a line that is malformed, a field that does not exist.
    pub fn read(&self, path: &Path, each: &mut dyn FnMut(Document)) -> Result<(), ReadError> {
        let (format, reader) = open(path, self.format)?;
        let mut records = Records { path, template: self.template.clone(), each };
        match format {
            Format::Txt => lines(path, reader, |_, line| {
                let document = Document::plain(line.trim());
                if !document.text.is_empty() {
                    (records.each)(document);
                }
                Ok(())
            }),
            Format::Jsonl => lines(path, reader, |number, line| {
                if line.trim().is_empty() {
                    return Ok(());
                }
                let record = serde_json::from_str(line).map_err(|e| malformed(path, number, &e))?;
                records.push(number, &record)
            }),
            Format::Tsv => {
                let mut names: Option<Vec<String>> = None;
                let mut width = None;
                lines(path, reader, |number, line| {
                    let columns: Vec<String> = line.split('\t').map(unescape).collect();
                    let width = *width.get_or_insert(columns.len());
                    if columns.len() != width {
                        let reason = format!("{} columns, the first line has {width}", columns.len());
                        return Err(ReadError::Line { path: path.to_owned(), line: number, reason });
                    }
                    if self.header && names.is_none() {
                        names = Some(columns);
                        return Ok(());
                    }
                    let record = match &names {
                        Some(names) => names.iter().cloned().zip(columns.into_iter().map(Value::String)).collect(),
                        None => Value::Array(columns.into_iter().map(Value::String).collect()),
                    };
                    records.push(number, &record)
                })
            }
            Format::Json => {
                let value: Value = serde_json::from_reader(reader).map_err(|e| malformed(path, e.line() as u64, &e))?;
                let items = match value {
                    Value::Array(items) => items,
                    other => vec![other],
                };
                items.iter().enumerate().try_for_each(|(i, record)| records.push(i as u64 + 1, record))
            }
        }
    }
}

/// `\n`, `\t` and `\\` written out become the characters.
fn unescape(column: &str) -> String {
    let mut out = String::with_capacity(column.len());
    let mut rest = column.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('\\') | None => out.push('\\'),
            Some(other) => out.extend(['\\', other]),
        }
    }
    out
}

struct Records<'a> {
    path: &'a Path,
    template: Option<Template>,
    each: &'a mut dyn FnMut(Document),
}

impl Records<'_> {
    fn push(&mut self, line: u64, record: &Value) -> Result<(), ReadError> {
        let error = |reason: String| ReadError::Line { path: self.path.to_owned(), line, reason };
        let template = match &self.template {
            Some(template) => template,
            None => {
                let known = Template::for_record(record).ok_or_else(|| error(unknown_layout(record)))?;
                self.template.insert(known)
            }
        };
        let document = template.apply(record).map_err(error)?;
        if !document.text.trim().is_empty() {
            (self.each)(document);
        }
        Ok(())
    }
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

fn malformed(path: &Path, line: u64, error: &serde_json::Error) -> ReadError {
    if let Some(kind) = error.io_error_kind() {
        return ReadError::Io { path: path.to_owned(), source: std::io::Error::new(kind, error.to_string()) };
    }
    ReadError::Line { path: path.to_owned(), line, reason: format!("malformed JSON: {error}") }
}

fn open(path: &Path, format: Option<Format>) -> Result<(Format, Box<dyn BufRead>), ReadError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let (stem, compression) = match name.rsplit_once('.') {
        Some((stem, kind @ ("gz" | "zst"))) => (stem.to_owned(), Some(kind.to_owned())),
        _ => (name.clone(), None),
    };
    let format = format.or(match stem.rsplit_once('.').map(|(_, kind)| kind) {
        Some("txt") => Some(Format::Txt),
        Some("jsonl") => Some(Format::Jsonl),
        Some("json") => Some(Format::Json),
        Some("tsv") => Some(Format::Tsv),
        _ => None,
    });
    let format = format.ok_or_else(|| ReadError::UnknownFormat { path: path.to_owned() })?;
    let file = BufReader::new(File::open(path).map_err(io(path))?);
    let reader: Box<dyn Read> = match compression.as_deref() {
        Some("gz") => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Some(_) => Box::new(zstd::Decoder::with_buffer(file).map_err(io(path))?),
        None => Box::new(file),
    };
    Ok((format, Box::new(BufReader::with_capacity(1 << 16, reader))))
}

/// Calls `each(number, line)` for every line, without its end.
fn lines(
    path: &Path,
    mut reader: Box<dyn BufRead>,
    mut each: impl FnMut(u64, &str) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let reason = |reason: String| ReadError::Line { path: path.to_owned(), line: number, reason };
        let n = reader.read_until(b'\n', &mut bytes).map_err(|e| {
            let compressed = path.extension().is_some_and(|x| x == "gz" || x == "zst");
            if compressed {
                reason(format!("cannot be decompressed further ({e}): truncated or damaged"))
            } else {
                io(path)(e)
            }
        })?;
        if n == 0 {
            break;
        }
        let line = std::str::from_utf8(&bytes).map_err(|e| reason(format!("is not UTF-8: {e}")))?;
        each(number, line.strip_suffix('\n').map_or(line, |l| l.strip_suffix('\r').unwrap_or(l)))?;
    }
    Ok(())
}
