//! Rows of token ids from a safetensors file, as transformers' models take them.

use std::ops::Range;
use std::path::Path;

use data_mixer::{HUGGING_FACE_IGNORE, IGNORE};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::next_tokens;
use crate::Error;

/// What a file may hold.
const KNOWN: [&str; 3] = ["input_ids", "attention_mask", "labels"];

/// Ids and labels of other inputs, in the fixtures that this project is compared with.
const OUTPUTS: [&str; 2] = ["labels_masked", ".input_ids"];

/// Rows of ids, which of them are read, and what is predicted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// T, ids of a row.
    pub time: usize,
    /// `[rows, T]`.
    pub ids: Vec<i32>,
    /// The places of each row that are no padding.
    read: Vec<Range<usize>>,
    /// `[rows, T]`.
    targets: Vec<i32>,
}

/// One of them.
pub(super) struct Row<'a> {
    pub(super) ids: &'a [i32],
    pub(super) read: Range<usize>,
    pub(super) targets: &'a [i32],
}

impl Rows {
    /// From a safetensors file that holds `input_ids` `[rows, T]`, and may hold `attention_mask` and `labels` of the same shape.
    ///
    /// # Errors
    /// A file that cannot be read, another shape or type, ids that the vocabulary does not have, a mask with holes, a tensor that
    /// would be ignored.
    pub fn read(path: &Path, vocabulary: usize) -> Result<Self, Error> {
        let file = std::fs::File::open(path).map_err(Error::io(path))?;
        // SAFETY: the map is read-only; an input that another process rewrites meanwhile is beyond any reader.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        let tensors = SafeTensors::deserialize(&map).map_err(|e| Error::content(path, e))?;
        let found = |name: &str| tensors.names().contains(&name);
        if !found("input_ids") {
            return Err(Error::content(path, "has no tensor input_ids"));
        }
        for (name, view) in tensors.tensors() {
            // What was computed from ids often lies beside them, in floating point.
            let is_input = !matches!(view.dtype(), Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16);
            let beside = OUTPUTS.iter().any(|output| name.ends_with(output));
            if (is_input && !beside || name == "inputs_embeds") && !KNOWN.contains(&name.as_str()) {
                let reason = format!("holds {name}, which would be ignored; what is read: {}", KNOWN.join(", "));
                return Err(Error::content(path, reason));
            }
        }
        let (rows, time, ids) = whole(path, &tensors, "input_ids")?;
        if rows == 0 || time < 2 {
            return Err(Error::content(path, format!("input_ids [{rows}, {time}] needs a row, and two tokens in it")));
        }
        if let Some(id) = ids.iter().find(|id| **id < 0 || **id >= vocabulary as i64) {
            return Err(Error::content(path, format!("id {id} is outside the model's vocabulary of {vocabulary}")));
        }
        let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
        let beside = |name: &str| -> Result<Option<Vec<i64>>, Error> {
            if !found(name) {
                return Ok(None);
            }
            let (own_rows, own_time, values) = whole(path, &tensors, name)?;
            if (own_rows, own_time) == (rows, time) {
                return Ok(Some(values));
            }
            Err(Error::content(path, format!("{name} [{own_rows}, {own_time}] must be as input_ids [{rows}, {time}]")))
        };
        let read = match beside("attention_mask")? {
            None => vec![0..time; rows],
            Some(mask) => {
                mask.chunks_exact(time).enumerate().map(|(i, row)| kept(path, i, row)).collect::<Result<_, _>>()?
            }
        };
        let mut targets = match beside("labels")? {
            None => next_tokens(&ids, time),
            Some(labels) => {
                let outside = |label: &&i64| **label != HF_IGNORE && (**label < 0 || **label >= vocabulary as i64);
                if let Some(label) = labels.iter().find(outside) {
                    let reason =
                        format!("label {label} is outside the model's vocabulary of {vocabulary}, and not {HF_IGNORE}");
                    return Err(Error::content(path, reason));
                }
                let labels: Vec<i32> =
                    labels.into_iter().map(|l| if l == HF_IGNORE { IGNORE } else { l as i32 }).collect();
                next_tokens(&labels, time)
            }
        };
        // Labels are meant as they are given, as transformers takes them; of the ids themselves padding is none.
        let given = found("labels");
        for (number, (row, read)) in targets.chunks_exact_mut(time).zip(&read).enumerate() {
            for (place, target) in row.iter_mut().enumerate().filter(|(_, target)| **target != IGNORE) {
                let from = read.contains(&place);
                if given && !from {
                    let reason = format!(
                        "labels asks for a token after place {place} of row {number}, which attention_mask leaves out"
                    );
                    return Err(Error::content(path, reason));
                }
                let asked = given || from && read.contains(&(place + 1));
                if !asked {
                    *target = IGNORE;
                }
            }
        }
        Ok(Self { time, ids, read, targets })
    }

    /// B.
    pub fn count(&self) -> usize {
        self.read.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        let rows = self.ids.chunks_exact(self.time).zip(self.targets.chunks_exact(self.time));
        rows.zip(&self.read).map(|((ids, targets), read)| Row { ids, read: read.clone(), targets })
    }
}

/// The label of a position that is not predicted.
const HF_IGNORE: i64 = HUGGING_FACE_IGNORE as i64;

/// The places that a row of a mask leaves, which must be neighbours: attention is to one stretch of a row.
fn kept(path: &Path, row: usize, mask: &[i64]) -> Result<Range<usize>, Error> {
    if let Some(value) = mask.iter().find(|value| !(0..=1).contains(*value)) {
        return Err(Error::content(path, format!("attention_mask holds {value} in row {row}; must be 0 or 1")));
    }
    let first = mask.iter().position(|value| *value == 1);
    let last = mask.iter().rposition(|value| *value == 1);
    let (Some(first), Some(last)) = (first, last) else {
        return Err(Error::content(path, format!("attention_mask leaves no token of row {row}")));
    };
    match mask[first..=last].iter().position(|value| *value == 0) {
        Some(hole) => {
            let reason = format!(
                "attention_mask has a hole at place {} of row {row}: only padding at its ends is supported",
                first + hole
            );
            Err(Error::content(path, reason))
        }
        None => Ok(first..last + 1),
    }
}

/// Rows, columns and values of a tensor of whole numbers.
fn whole(path: &Path, tensors: &SafeTensors<'_>, name: &str) -> Result<(usize, usize, Vec<i64>), Error> {
    let view = tensors.tensor(name).map_err(|e| Error::content(path, e))?;
    let &[rows, time] = view.shape() else {
        return Err(Error::content(path, format!("{name} has shape {:?}, not [rows, tokens]", view.shape())));
    };
    let data = view.data();
    let values: Vec<i64> = match view.dtype() {
        Dtype::I64 => data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        Dtype::I32 => data.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
        Dtype::U32 => data.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b).into()).collect(),
        Dtype::U16 => data.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b).into()).collect(),
        Dtype::U8 | Dtype::BOOL => data.iter().map(|b| i64::from(*b)).collect(),
        other => return Err(Error::content(path, format!("{name} has type {other:?}, not I64, I32, U32, U16 or U8"))),
    };
    Ok((rows, time, values))
}
