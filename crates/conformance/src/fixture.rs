//! Reading fixture files.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

pub(super) fn json(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

pub(super) fn number(value: &Value, field: &str) -> Result<f64, String> {
    match &value[field] {
        Value::Number(n) => n.as_f64().ok_or_else(|| format!("{field} is no number")),
        Value::String(s) if s == "NaN" => Ok(f64::NAN),
        _ => Err(format!("no number {field}")),
    }
}

pub(super) fn list<'a>(value: &'a Value, field: &str) -> Result<&'a Vec<Value>, String> {
    value[field].as_array().ok_or_else(|| format!("no list {field}"))
}

/// A list of numbers.
pub(super) fn values(value: &Value, field: &str) -> Result<Vec<f64>, String> {
    list(value, field)?.iter().map(|v| v.as_f64().ok_or_else(|| format!("{field} holds something else"))).collect()
}

/// An interval's ends.
pub(super) fn pair(value: &Value, field: &str) -> Result<(f64, f64), String> {
    match values(value, field)?.as_slice() {
        [low, high] => Ok((*low, *high)),
        other => Err(format!("{field} has {} ends", other.len())),
    }
}

pub(super) fn ids(value: &Value) -> Vec<i64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_i64).collect()
}

/// Shape and values of an F32 or F64 tensor, as f64.
pub(super) fn floats(file: &SafeTensors<'_>, name: &str) -> Result<(Vec<usize>, Vec<f64>), String> {
    let view = file.tensor(name).map_err(|e| format!("{name}: {e}"))?;
    let values = match view.dtype() {
        Dtype::F32 => {
            view.data().chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
        }
        Dtype::F64 => view
            .data()
            .chunks_exact(8)
            .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            .collect(),
        other => return Err(format!("{name} has type {other:?}")),
    };
    Ok((view.shape().to_vec(), values))
}

pub(super) fn f32s(file: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>, String> {
    Ok(floats(file, name)?.1.into_iter().map(|v| v as f32).collect())
}

/// Shape and values of an I64 tensor.
pub(super) fn i64s(file: &SafeTensors<'_>, name: &str) -> Result<(Vec<usize>, Vec<i64>), String> {
    let view = file.tensor(name).map_err(|e| format!("{name}: {e}"))?;
    if view.dtype() != Dtype::I64 {
        return Err(format!("{name} has type {:?}", view.dtype()));
    }
    let values = view
        .data()
        .chunks_exact(8)
        .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
        .collect();
    Ok((view.shape().to_vec(), values))
}
