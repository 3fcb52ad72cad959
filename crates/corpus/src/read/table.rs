//! Rows of columns: comma- and tab-separated.

use std::io::BufRead;
use std::ops::ControlFlow;

use serde_json::Value;

use super::files::{Flow, Records};
use super::text::{damage, for_each_line};

/// A row as a record: an object by the header's names, or an array of columns.
fn row(names: Option<&[String]>, columns: impl Iterator<Item = String>) -> Value {
    let values = columns.map(Value::String);
    match names {
        Some(names) => names.iter().cloned().zip(values).collect(),
        None => Value::Array(values.collect()),
    }
}

/// RFC 4180, by the csv crate: quoted columns may hold commas and line breaks.
pub(super) fn read_csv(reader: Box<dyn BufRead>, header: bool, records: &mut Records<'_>) -> Flow {
    let mut csv = csv::ReaderBuilder::new().has_headers(false).from_reader(reader);
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
                    csv::ErrorKind::Io(e) => return Err(damage(records.path(), at, e)),
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
        let flow = match csv::StringRecord::from_byte_record(bytes.clone()) {
            Ok(columns) if header && names.is_none() => {
                names = Some(columns.iter().map(str::to_owned).collect());
                ControlFlow::Continue(())
            }
            Ok(columns) => records.record(line, &row(names.as_deref(), columns.iter().map(str::to_owned)))?,
            Err(e) => records.malformed(line, format!("is not UTF-8: {e}"))?,
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
}

/// Columns between tabs, as FLAN's files have them: no quotes, `\n` and `\t` written out.
pub(super) fn read_tsv(reader: Box<dyn BufRead>, header: bool, records: &mut Records<'_>) -> Flow {
    let mut names: Option<Vec<String>> = None;
    let mut width = None;
    for_each_line(reader, records, |records, number, line| {
        let columns: Vec<String> = line.split('\t').map(unescape).collect();
        let width = *width.get_or_insert(columns.len());
        if columns.len() != width {
            return records.malformed(number, format!("{} columns, the first line has {width}", columns.len()));
        }
        if header && names.is_none() {
            names = Some(columns);
            return Ok(ControlFlow::Continue(()));
        }
        records.record(number, &row(names.as_deref(), columns.into_iter()))
    })
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
