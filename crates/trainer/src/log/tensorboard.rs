//! Scalars in TensorBoard's event files.
//!
//! A file is a sequence of records; a record is, all little-endian:
//!
//! 1. the length of the event, 8 bytes, and its masked CRC-32C, 4 bytes;
//! 2. the event, and its masked CRC-32C, 4 bytes.
//!
//! An event is a Protocol Buffers message, `tensorflow.Event`: wall_time (1, double), step (2, varint), and either file_version (3,
//! string) or summary (5, message) with its values (1), each a tag (1, string) and a simple_value (2, float).

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::sink::Sink;
use super::{EvalRecord, LogLine, io, now};
use crate::Error;

/// How TensorBoard knows its files.
const PREFIX: &str = "events.out.tfevents.";
/// How ours end: others in the folder are left alone.
const SUFFIX: &str = ".midtrain";

/// An event file that is written scalar by scalar.
pub(super) struct Events {
    file: Sink,
    path: PathBuf,
}

impl Events {
    /// A new file in a folder, that grows or is written whole. It takes the place of those of earlier attempts, whose steps it holds.
    pub(super) fn create(dir: &Path, growing: bool) -> Result<Self, Error> {
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        let begun = now().unwrap_or(0.0);
        let path = dir.join(format!("{PREFIX}{:010}.{}{SUFFIX}", begun as u64, std::process::id()));
        if growing {
            remove_earlier(dir, &path)?;
        }
        let sink = if growing { Sink::growing(&path) } else { Sink::whole(&path) };
        let mut events = Self { file: sink.map_err(io(&path))?, path };
        let mut version = Message::default();
        version.double(1, begun).bytes(3, b"brain.Event:2");
        events.record(&version.0)?;
        Ok(events)
    }

    /// Gives a file that was written whole its name.
    pub(super) fn finish(self) -> Result<(), Error> {
        self.file.finish().map_err(io(&self.path))?;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        remove_earlier(dir, &self.path)
    }

    pub(super) fn step(&mut self, line: &LogLine) -> Result<(), Error> {
        let r = &line.record;
        let mut scalars = vec![
            ("train/loss".to_owned(), r.loss),
            ("train/learning_rate".to_owned(), r.lr),
            ("train/grad_norm".to_owned(), r.grad_norm),
            ("train/update_norm".to_owned(), r.update_norm),
        ];
        scalars.extend(line.tokens_per_second.map(|speed| ("speed/tokens_per_second".to_owned(), speed)));
        scalars.extend(line.mfu.map(|mfu| ("speed/mfu".to_owned(), mfu)));
        for source in r.sources.iter().filter(|source| source.targets > 0) {
            let name = source.name.clone().unwrap_or_else(|| source.source.to_string());
            scalars.push((format!("source/{name}"), source.nats / source.targets as f64));
        }
        // TensorBoard's step is the number of updates by then.
        self.scalars(r.step + 1, line.time, &scalars)
    }

    pub(super) fn eval(&mut self, record: &EvalRecord) -> Result<(), Error> {
        let mut scalars = vec![(format!("eval/{}/loss", record.set), record.loss)];
        scalars.extend(record.bits_per_byte.map(|bits| (format!("eval/{}/bits_per_byte", record.set), bits)));
        self.scalars(record.step, record.time, &scalars)
    }

    fn scalars(&mut self, step: u64, time: Option<f64>, scalars: &[(String, f64)]) -> Result<(), Error> {
        let mut summary = Message::default();
        for (tag, value) in scalars {
            let mut scalar = Message::default();
            scalar.bytes(1, tag.as_bytes()).float(2, *value as f32);
            summary.bytes(1, &scalar.0);
        }
        let mut event = Message::default();
        event.double(1, time.unwrap_or(0.0)).number(2, step).bytes(5, &summary.0);
        self.record(&event.0)
    }

    fn record(&mut self, event: &[u8]) -> Result<(), Error> {
        let length = (event.len() as u64).to_le_bytes();
        let record = [&length[..], &masked(&length), event, &masked(event)].concat();
        self.file.write_all(&record).map_err(io(&self.path))
    }
}

/// Removes the files of earlier attempts.
fn remove_earlier(dir: &Path, but: &Path) -> Result<(), Error> {
    for entry in std::fs::read_dir(dir).map_err(io(dir))? {
        let path = entry.map_err(io(dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) && path != but {
            std::fs::remove_file(&path).map_err(io(&path))?;
        }
    }
    Ok(())
}

/// A checksum as the format stores it: rotated and shifted, so that checksums of data that hold checksums stay good.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// A Protocol Buffers message.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) -> &mut Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn double(&mut self, field: u64, value: f64) -> &mut Self {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that TensorFlow's own record writer gives.
    #[test]
    fn checksums_are_masked() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(u32::from_le_bytes(masked(b"123456789")), 0xc78a_b0e5);
    }

    #[test]
    fn messages_are_protocol_buffers() {
        let mut message = Message::default();
        message.number(2, 300).float(2, 1.0).bytes(1, b"ab").double(1, 0.5);
        assert_eq!(message.0[..3], [0x10, 0xac, 0x02]);
        assert_eq!(message.0[3..8], [0x15, 0, 0, 0x80, 0x3f]);
        assert_eq!(message.0[8..12], [0x0a, 2, b'a', b'b']);
        assert_eq!(message.0[12], 0x09);
    }
}
