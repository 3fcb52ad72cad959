//! A file that is written as a run goes, or whole at once.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use atomic_file::AtomicFile;

/// Where lines and records go.
pub(super) enum Sink {
    /// To be read while it grows.
    Growing(File),
    /// Complete or not there.
    Whole(AtomicFile),
}

impl Sink {
    pub(super) fn growing(path: &Path) -> io::Result<Self> {
        File::create(path).map(Self::Growing)
    }

    pub(super) fn whole(path: &Path) -> io::Result<Self> {
        AtomicFile::create(path).map(Self::Whole)
    }

    /// Gives a whole file its name.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Growing(_) => Ok(()),
            Self::Whole(file) => file.commit().map(drop),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Growing(file) => file.write(bytes),
            Self::Whole(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Growing(file) => file.flush(),
            Self::Whole(file) => file.flush(),
        }
    }
}
