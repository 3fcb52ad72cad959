//! Parquet files, row by row.

use std::cell::Cell;
use std::fs::File;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::Path;
use std::sync::Once;

use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};

use super::record::Value;
use super::records::{Flow, Records};
use super::{ReadError, io};

/// Rows as records by their columns' names; nested ones as lists and groups of fields.
pub(super) fn read_rows(path: &Path, records: &mut Records<'_>) -> Flow {
    let broken = |line: u64, reason: String| {
        let reason = format!("is no readable Parquet file: {reason}");
        ReadError::Line { path: path.to_owned(), line, reason }
    };
    let file = File::open(path).map_err(io(path))?;
    let size = file.metadata().map_err(io(path))?.len();
    let mut rows = contained(|| rows(file, size)).map_err(|reason| broken(0, reason))?;
    for number in 1.. {
        let next = contained(|| match rows.next() {
            Some(Ok(row)) => Ok(Some(fields(&row))),
            Some(Err(e)) => Err(e.to_string()),
            None => Ok(None),
        });
        let Some(record) = next.map_err(|reason| broken(number, reason))? else { break };
        let flow = records.record(number, &record)?;
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn rows(file: File, size: u64) -> Result<RowIter<'static>, String> {
    let reader = SerializedFileReader::new(file).map_err(|e| e.to_string())?;
    check_places(reader.metadata(), size)?;
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
    if let Some((_, name)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        return Err(format!("two columns are called {name:?}"));
    }
    RowIter::from_file_into(Box::new(reader)).project(None).map_err(|e| e.to_string())
}

fn fields(row: &Row) -> Value {
    Value::Fields(row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect())
}

/// Bytes are text where they are UTF-8, whatever type the column has been given: many writers give none.
fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Str(text) => Value::Text(text.clone()),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Bytes(bytes.data().to_vec()),
        },
        Field::Group(row) => fields(row),
        Field::ListInternal(list) => Value::List(list.elements().iter().map(value).collect()),
        Field::MapInternal(map) => Value::Fields(
            map.entries()
                .iter()
                .map(|(key, of)| (value(key).text().unwrap_or_default().into_owned(), value(of)))
                .collect(),
        ),
        Field::Decimal(_) => match field.to_json_value() {
            serde_json::Value::String(digits) => Value::Plain(digits),
            other => Value::from(&other),
        },
        // As many digits as tell them apart; a NaN has no other name.
        Field::Float(number) => Value::Plain(format!("{number:?}")),
        Field::Double(number) => Value::Plain(format!("{number:?}")),
        // Whole numbers, truth values, dates and times: as the crate writes them.
        other => Value::from(&other.to_json_value()),
    }
}

/// Columns must lie in the file: the parquet crate takes it for granted.
fn check_places(metadata: &ParquetMetaData, size: u64) -> Result<(), String> {
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let end = start.checked_add(column.compressed_size());
        let inside = |at: i64| u64::try_from(at).is_ok_and(|at| at <= size);
        if !(inside(start) && column.compressed_size() >= 0 && end.is_some_and(inside)) {
            return Err(format!("column {} does not lie in the file", column.column_path()));
        }
    }
    Ok(())
}

thread_local! {
    /// Whether a panic of this thread is an error of a file, and to be told as that alone.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Panics that become errors print nothing; all others what they printed before.
fn quiet_while_contained() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !CONTAINED.get() {
                before(panic);
            }
        }));
    });
}

/// The parquet crate panics on some damaged files (found by fuzzing): here that is an error of the file.
fn contained<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    quiet_while_contained();
    CONTAINED.set(true);
    // What was being read is given up with the error.
    let read = catch_unwind(AssertUnwindSafe(read));
    CONTAINED.set(false);
    read.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("its content is damaged ({})", message.unwrap_or("no reason given")))
    })
}
