//! A file's bytes, decompressed, without a byte-order mark; and its lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;

use flate2::bufread::GzDecoder;

use super::records::{Flow, MAX_DOCUMENT, Records};
use super::{ReadError, io};

/// How much is read at once.
const BUFFER: usize = 1 << 16;
/// The largest window that the format has: files made with `--long=31`.
const MAX_ZSTD_WINDOW_LOG: u32 = 31;
/// The byte-order mark in UTF-8.
const MARK: &[u8] = "\u{feff}".as_bytes();

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By a file's name in lower case; and the name without the ending.
    pub(super) fn of_name(name: &str) -> (&str, Self) {
        match name.rsplit_once('.') {
            Some((stem, "gz" | "gzip")) => (stem, Self::Gzip),
            Some((stem, "zst" | "zstd")) => (stem, Self::Zstd),
            _ => (name, Self::None),
        }
    }

    /// The ending that such a file has.
    fn ending(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// A file's text.
    ///
    /// # Errors
    /// A file that cannot be opened, one in another encoding, a compressed one whose name does not say so.
    pub(super) fn open(self, path: &Path) -> Result<Box<dyn BufRead>, ReadError> {
        let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(io(path))?);
        let start = file.fill_buf().map_err(io(path))?;
        if self != Self::None && !start.is_empty() && compressed(start) != Some(self.ending()) {
            let reason = format!("is no compressed file, though its name ends as one ({})", self.ending());
            return Err(ReadError::Line { path: path.to_owned(), line: 1, reason });
        }
        let reader: Box<dyn Read> = match self {
            Self::Gzip => Box::new(Members { decoder: Some(GzDecoder::new(file)) }),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(file).map_err(io(path))?;
                decoder.window_log_max(MAX_ZSTD_WINDOW_LOG).map_err(io(path))?;
                Box::new(decoder)
            }
            Self::None => {
                if let Some(ending) = compressed(start) {
                    let reason = format!("is a compressed file; its name must end in {ending}");
                    return Err(ReadError::Line { path: path.to_owned(), line: 1, reason });
                }
                return as_utf8(Box::new(file), path);
            }
        };
        as_utf8(Box::new(BufReader::with_capacity(BUFFER, reader)), path)
    }
}

/// The ending that a compressed file should have.
fn compressed(start: &[u8]) -> Option<&'static str> {
    match start {
        [0x1f, 0x8b, 0x08, ..] => Some(".gz"),
        // A frame, or one that is to be skipped.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(".zst"),
        _ => None,
    }
}

/// Passes over a byte-order mark; refuses text in UTF-16 and UTF-32 by name.
fn as_utf8(mut reader: Box<dyn BufRead>, path: &Path) -> Result<Box<dyn BufRead>, ReadError> {
    let mut start = Vec::new();
    // Not by a look into the buffer: a decompressor may give less than a mark at once.
    reader.by_ref().take(4).read_to_end(&mut start).map_err(|e| damage(path, 1, e))?;
    if let Some(encoding) = foreign(&start) {
        let reason = format!("is {encoding}; convert it to UTF-8 (iconv -f {encoding} -t UTF-8)");
        return Err(ReadError::Line { path: path.to_owned(), line: 1, reason });
    }
    if start.starts_with(MARK) {
        start.drain(..MARK.len());
    }
    Ok(Box::new(io::Cursor::new(start).chain(reader)))
}

/// The encoding of a text that is not UTF-8: by its mark, or by the zeros beside its first letters.
fn foreign(start: &[u8]) -> Option<&'static str> {
    match start {
        [0xff, 0xfe, 0, 0, ..] => Some("UTF-32LE"),
        [0, 0, 0xfe, 0xff, ..] => Some("UTF-32BE"),
        [0xff, 0xfe, ..] => Some("UTF-16LE"),
        [0xfe, 0xff, ..] => Some("UTF-16BE"),
        [a, 0, 0, 0, ..] if *a != 0 => Some("UTF-32LE"),
        [0, 0, 0, d, ..] if *d != 0 => Some("UTF-32BE"),
        [a, 0, c, 0, ..] if *a != 0 && *c != 0 => Some("UTF-16LE"),
        [0, b, 0, d, ..] if *b != 0 && *d != 0 => Some("UTF-16BE"),
        _ => None,
    }
}

/// Gzip members one after the other. Zeros after the last, which fill up a tape's block, are passed over, as by gzip itself.
struct Members<R: BufRead> {
    /// `None` after the last.
    decoder: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let n = decoder.read(out)?;
            if n > 0 || out.is_empty() {
                return Ok(n);
            }
            let Some(mut rest) = self.decoder.take().map(GzDecoder::into_inner) else { break };
            let mut padded = false;
            loop {
                let buffer = rest.fill_buf()?;
                let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
                let (all, ended) = (zeros == buffer.len(), buffer.is_empty());
                padded |= zeros > 0;
                rest.consume(zeros);
                if ended {
                    return Ok(0);
                }
                if !all {
                    break;
                }
            }
            if padded {
                let reason = "other bytes follow the zeros after its end";
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            self.decoder = Some(GzDecoder::new(rest));
        }
        Ok(0)
    }
}

/// An error of reading, as what it means: for compressed files, damage.
pub(super) fn damage(path: &Path, line: u64, error: io::Error) -> ReadError {
    let name = path.to_string_lossy().to_lowercase();
    if Compression::of_name(&name).1 == Compression::None {
        return super::io(path)(error);
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
    let limit = MAX_DOCUMENT as u64;
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let n = reader.by_ref().take(limit + 1).read_until(b'\n', &mut bytes);
        let n = n.map_err(|e| damage(records.path(), number, e))?;
        if n == 0 {
            break;
        }
        if n as u64 > limit && !bytes.ends_with(b"\n") {
            let reason = format!("is longer than {limit} bytes");
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
