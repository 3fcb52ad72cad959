//! Append-only JSON lines that can be gone on with after a kill.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::io;
use crate::Error;

/// The whole lines of a file that is not there, or that a kill may have left in the middle of a line: none, or those before.
///
/// # Errors
/// A file that cannot be read, a line that is no record.
pub(crate) fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let text = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(io(path))?,
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let line = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|e| Error::Log {
            path: path.to_owned(),
            line: number + 1,
            reason: e.to_string(),
        })
    };
    whole.lines().enumerate().map(line).collect()
}

/// The step of a line, where it is whole.
fn step_of(line: &str) -> Option<u64> {
    let record = line.strip_suffix('\n')?;
    serde_json::from_str::<serde_json::Value>(record).ok()?.get("step")?.as_u64()
}

/// Steps and bytes of the lines that are whole and have steps that `keeps`, up to the first that is not.
fn kept(path: &Path, keeps: &dyn Fn(u64) -> bool) -> Result<(Option<u64>, u64), Error> {
    let file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((None, 0)),
        file => file.map_err(io(path))?,
    };
    let mut reader = BufReader::new(file);
    let (mut last, mut bytes, mut line) = (None, 0, Vec::new());
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line).map_err(io(path))?;
        match std::str::from_utf8(&line).ok().and_then(step_of) {
            Some(step) if keeps(step) => (last, bytes) = (Some(step), bytes + count as u64),
            _ => return Ok((last, bytes)),
        }
    }
}

/// Whether a log holds every step up to one that a run may go on from. One that is not there holds nothing that could be lost.
pub(crate) fn reaches(path: &Path, step: u64) -> Result<bool, Error> {
    if !path.exists() || step == 0 {
        return Ok(true);
    }
    Ok(kept(path, &|at| at < step)?.0 == Some(step - 1))
}

/// An append-only file of records.
pub(crate) struct Log {
    file: File,
    path: PathBuf,
    /// Records that a full disk did not take: they are written before anything that comes later.
    pending: Vec<u8>,
}

impl Log {
    /// Opens a file to go on after the records whose steps are to be kept; later ones, of an attempt that was killed, are cut off.
    pub(crate) fn open(path: &Path, keeps: &dyn Fn(u64) -> bool) -> Result<Self, Error> {
        let (_, keep) = kept(path, keeps)?;
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(io(path))?;
        file.set_len(keep).map_err(io(path))?;
        Ok(Self { file, path: path.to_owned(), pending: Vec::new() })
    }

    pub(crate) fn write(&mut self, record: &impl Serialize) -> Result<(), Error> {
        let mut line = serde_json::to_vec(record).map_err(|e| io(&self.path)(e.into()))?;
        line.push(b'\n');
        self.pending.extend(line);
        self.flush()
    }

    /// Writes what is pending.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        while !self.pending.is_empty() {
            match self.file.write(&self.pending) {
                Ok(0) => return Err(io(&self.path)(std::io::ErrorKind::WriteZero.into())),
                Ok(written) => drop(self.pending.drain(..written)),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(io(&self.path)(e)),
            }
        }
        Ok(())
    }

    /// The file, to be brought to the disk by whoever makes something that relies on it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}
