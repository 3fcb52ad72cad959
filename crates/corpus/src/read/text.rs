//! Lines of text, plain or compressed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;

use super::files::{Flow, Records};
use super::{ReadError, TextUnit, io};
use crate::Document;

/// The longest line: more is damage, and would take the memory there is.
const MAX_LINE: u64 = 1 << 28;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By a file's name; and the name without the ending.
    pub(super) fn of_name(name: &str) -> (&str, Self) {
        match name.rsplit_once('.') {
            Some((stem, "gz")) => (stem, Self::Gzip),
            Some((stem, "zst")) => (stem, Self::Zstd),
            _ => (name, Self::None),
        }
    }

    pub(super) fn open(self, path: &Path) -> Result<Box<dyn BufRead>, ReadError> {
        let file = BufReader::with_capacity(1 << 16, File::open(path).map_err(io(path))?);
        let reader: Box<dyn Read> = match self {
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
            Self::Zstd => Box::new(zstd::Decoder::with_buffer(file).map_err(io(path))?),
            Self::None => return Ok(Box::new(file)),
        };
        Ok(Box::new(BufReader::with_capacity(1 << 16, reader)))
    }
}

/// An error of reading, as what it means: for compressed files, damage.
pub(super) fn damage(path: &Path, line: u64, error: std::io::Error) -> ReadError {
    let name = path.to_string_lossy().to_lowercase();
    if Compression::of_name(&name).1 == Compression::None {
        return io(path)(error);
    }
    let reason = format!("cannot be decompressed further ({error}): truncated or damaged");
    ReadError::Line { path: path.to_owned(), line, reason }
}

/// Calls `each(records, number, line)` for every line, without its end. Lines that are not UTF-8 are malformed.
pub(super) fn for_each_line(
    mut reader: Box<dyn BufRead>,
    records: &mut Records<'_>,
    mut each: impl FnMut(&mut Records<'_>, u64, &str) -> Flow,
) -> Flow {
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let n = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes);
        let n = n.map_err(|e| damage(records.path(), number, e))?;
        if n == 0 {
            break;
        }
        if n as u64 == MAX_LINE && !bytes.ends_with(b"\n") {
            let reason = format!("is longer than {MAX_LINE} bytes");
            return Err(ReadError::Line { path: records.path().to_owned(), line: number, reason });
        }
        let flow = match std::str::from_utf8(&bytes) {
            Ok(line) => {
                each(records, number, line.strip_suffix('\n').map_or(line, |l| l.strip_suffix('\r').unwrap_or(l)))?
            }
            Err(e) => records.malformed(number, format!("is not UTF-8: {e}"))?,
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

pub(super) fn read_text(mut reader: Box<dyn BufRead>, unit: TextUnit, records: &mut Records<'_>) -> Flow {
    match unit {
        TextUnit::Line => {
            for_each_line(reader, records, |records, _, line| records.document(Document::plain(line.trim())))
        }
        TextUnit::Paragraph => {
            let mut paragraph = String::new();
            let flow = for_each_line(reader, records, |records, _, line| {
                if !line.trim().is_empty() {
                    paragraph.push_str(line);
                    paragraph.push('\n');
                    return Ok(ControlFlow::Continue(()));
                }
                end_paragraph(&mut paragraph, records)
            })?;
            if flow.is_break() { Ok(flow) } else { end_paragraph(&mut paragraph, records) }
        }
        TextUnit::File => {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map_err(|e| damage(records.path(), 1, e))?;
            match String::from_utf8(bytes) {
                Ok(text) => records.document(Document::plain(text)),
                Err(e) => records.malformed(1, format!("is not UTF-8: {e}")),
            }
        }
    }
}

fn end_paragraph(paragraph: &mut String, records: &mut Records<'_>) -> Flow {
    let text = std::mem::take(paragraph);
    if text.is_empty() { Ok(ControlFlow::Continue(())) } else { records.document(Document::plain(text)) }
}
