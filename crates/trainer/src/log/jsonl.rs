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

/// What of a log is kept.
#[derive(Default)]
struct Kept {
    /// The last step.
    last: Option<u64>,
    bytes: u64,
    /// A line that is no record of the next step, with whole ones after it, from 1.
    damaged: Option<usize>,
}

/// The lines that are whole and have steps that `keeps`, up to the first that is not. Of a log of `steps` each follows the one before.
fn kept(path: &Path, steps: bool, keeps: &dyn Fn(u64) -> bool) -> Result<Kept, Error> {
    let file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Kept::default()),
        file => file.map_err(io(path))?,
    };
    let mut reader = BufReader::new(file);
    let (mut kept, mut line, mut number, mut broken) = (Kept::default(), Vec::new(), 0, None);
    loop {
        line.clear();
        number += 1;
        let count = reader.read_until(b'\n', &mut line).map_err(io(path))?;
        match (std::str::from_utf8(&line).ok().and_then(step_of), broken) {
            // A line that was removed, or is there twice.
            (Some(step), None) if steps && kept.last.is_some_and(|last| step != last + 1) => {
                return Ok(Kept { damaged: Some(number), ..kept });
            }
            (Some(step), None) if keeps(step) => {
                kept.last = Some(step);
                kept.bytes += count as u64;
            }
            (Some(_), None) => return Ok(kept),
            // One that a kill left at the end has nothing after it.
            (Some(_), Some(line)) => return Ok(Kept { damaged: Some(line), ..kept }),
            (None, _) if count == 0 => return Ok(kept),
            (None, _) => broken = broken.or(Some(number)),
        }
    }
}

/// Whether a log holds every step up to one that a run may go on from. One that is not there holds nothing that could be lost.
///
/// # Errors
/// A file that cannot be read; a line before that step that is no record, with others after it.
pub(crate) fn reaches(path: &Path, step: u64) -> Result<bool, Error> {
    if !path.exists() || step == 0 {
        return Ok(true);
    }
    let kept = kept(path, true, &|at| at < step)?;
    match kept.damaged {
        Some(line) => {
            let reason =
                "is no record of the next step, and others follow it: mend it, or move the log away to go on with another".to_owned();
            Err(Error::Log { path: path.to_owned(), line, reason })
        }
        None => Ok(kept.last == Some(step - 1)),
    }
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
        let keep = kept(path, false, keeps)?.bytes;
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
