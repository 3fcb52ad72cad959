//! Rows of columns: comma- and tab-separated.

use std::io::BufRead;
use std::ops::ControlFlow;

use super::Escapes;
use super::ReadError;
use super::quotes::{QuoteFault, Quotes};
use super::record::Value;
use super::records::{Flow, Records};
use super::stream::{damage, for_each_line};

/// A row as a record: fields by the header's names, or a list of columns.
fn row(names: Option<&[String]>, columns: impl Iterator<Item = String>) -> Value {
    let values = columns.map(Value::Text);
    match names {
        Some(names) => Value::Fields(names.iter().cloned().zip(values).collect()),
        None => Value::List(values.collect()),
    }
}

/// Column names: each once.
fn header(records: &Records<'_>, line: u64, names: Vec<String>) -> Result<Vec<String>, ReadError> {
    match names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        Some((_, name)) => {
            Err(at_line(records, line, format!("the column name {name:?} stands in the first line twice")))
        }
        None => Ok(names),
    }
}

/// RFC 4180, by the csv crate: quoted columns may hold commas and line breaks. Where quotes are broken nothing after them can be
/// trusted: that is an error whatever the policy.
pub(super) fn read_csv(reader: Box<dyn BufRead>, with_header: bool, records: &mut Records<'_>) -> Flow {
    let mut csv = csv::ReaderBuilder::new().has_headers(false).from_reader(Quotes::new(reader));
    let mut names: Option<Vec<String>> = None;
    let mut bytes = csv::ByteRecord::new();
    let mut line = 0;
    loop {
        match csv.read_byte_record(&mut bytes) {
            Ok(true) => line = bytes.position().map_or(line + 1, csv::Position::line),
            Ok(false) => return Ok(ControlFlow::Continue(())),
            Err(e) => {
                let at = e.position().map_or(line + 1, csv::Position::line);
                let reason = e.to_string();
                let flow = match e.into_kind() {
                    csv::ErrorKind::Io(e) => return Err(broken(records, at, e)),
                    csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                        records.malformed(at, format!("{len} columns, the first line has {expected_len}"))?
                    }
                    _ => records.malformed(at, reason)?,
                };
                if flow.is_break() {
                    return Ok(flow);
                }
                continue;
            }
        }
        let is_header = with_header && names.is_none();
        let flow = match csv::StringRecord::from_byte_record(bytes.clone()) {
            Ok(columns) if is_header => {
                names = Some(header(records, line, columns.iter().map(str::to_owned).collect())?);
                ControlFlow::Continue(())
            }
            Ok(columns) => records.record(line, &row(names.as_deref(), columns.iter().map(str::to_owned)))?,
            // Without names no row can be read.
            Err(e) if is_header => return Err(at_line(records, line, format!("is not UTF-8: {e}"))),
            Err(e) => records.malformed(line, format!("is not UTF-8: {e}"))?,
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
}

fn at_line(records: &Records<'_>, line: u64, reason: String) -> ReadError {
    ReadError::Line { path: records.path().to_owned(), line, reason }
}

/// An error of reading: of the file, or of its quotes.
fn broken(records: &Records<'_>, line: u64, error: std::io::Error) -> ReadError {
    match error.get_ref().and_then(|e| e.downcast_ref::<QuoteFault>()) {
        Some(fault) => at_line(records, fault.line, fault.to_string()),
        None => damage(records.path(), line, error),
    }
}

/// Columns between tabs: no quotes.
pub(super) fn read_tsv(
    reader: Box<dyn BufRead>,
    with_header: bool,
    escapes: Escapes,
    records: &mut Records<'_>,
) -> Flow {
    let mut names: Option<Vec<String>> = None;
    let mut width = None;
    for_each_line(reader, records, |records, number, line| {
        // Without names no row can be read.
        if with_header && names.is_none() && number > 1 {
            return Err(at_line(
                records,
                1,
                "its first line, which is to hold the columns' names, is not UTF-8".to_owned(),
            ));
        }
        let columns: Vec<String> = match escapes {
            Escapes::Backslash => line.split('\t').map(unescape).collect(),
            Escapes::Text => line.split('\t').map(str::to_owned).collect(),
        };
        let width = *width.get_or_insert(columns.len());
        if columns.len() != width {
            return records.malformed(number, format!("{} columns, the first line has {width}", columns.len()));
        }
        if with_header && names.is_none() {
            names = Some(header(records, number, columns)?);
            return Ok(ControlFlow::Continue(()));
        }
        if escapes == Escapes::Text && line.contains("\\n") {
            records
                .notes
                .add("rows with \\n written out, read as they are (escapes = \"backslash\" reads line breaks)");
        }
        records.record(number, &row(names.as_deref(), columns.into_iter()))
    })
}

/// `\n`, `\t`, `\r` and `\\` written out become the characters.
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
            Some('r') => out.push('\r'),
            Some('\\') | None => out.push('\\'),
            Some(other) => out.extend(['\\', other]),
        }
    }
    out
}
