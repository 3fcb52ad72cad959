//! Parquet files, row by row.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use parquet::file::reader::{FileReader as _, SerializedFileReader};

use super::files::{Flow, Records};
use super::{ReadError, io};

/// Rows as records by their columns' names; nested ones as lists and groups of fields.
pub(super) fn read_rows(path: &Path, records: &mut Records<'_>) -> Flow {
    let broken = |line: u64, e: &dyn std::fmt::Display| ReadError::Line {
        path: path.to_owned(),
        line,
        reason: format!("is no readable Parquet file: {e}"),
    };
    let file = File::open(path).map_err(io(path))?;
    let reader = SerializedFileReader::new(file).map_err(|e| broken(0, &e))?;
    let rows = reader.get_row_iter(None).map_err(|e| broken(0, &e))?;
    for (number, row) in (1..).zip(rows) {
        let flow = records.record(number, &row.map_err(|e| broken(number, &e))?.to_json_value())?;
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}
