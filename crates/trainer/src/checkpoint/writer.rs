//! Writing a checkpoint while training goes on.
//!
//! What is written, and in which order, so that a checkpoint never says more than the log and the ledger beside it:
//!
//! 1. log and ledger are brought to the disk;
//! 2. the checkpoint is written beside its place, brought to the disk, and renamed;
//! 3. its folder is brought to the disk;
//! 4. checkpoints that are not to be kept are removed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use super::file::{Snapshot, checkpoints, file_name};
use crate::Error;

/// Which checkpoints stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention {
    /// The last ones, one at least.
    pub(crate) last: usize,
    /// Those of steps that this divides.
    pub(crate) every: Option<u64>,
}

impl Retention {
    /// Removes what does not stay, now that there is a checkpoint of this step. What cannot be removed now is removed after the next
    /// one. (Those of later steps are not this run's: they count for nothing.)
    fn prune(self, dir: &Path, newest: u64) {
        let stays = |step: u64| self.every.is_some_and(|every| every > 0 && step.is_multiple_of(every));
        let known = checkpoints(dir).into_iter().filter(|(step, _)| *step <= newest);
        for (step, old) in known.skip(self.last.max(1)) {
            if !stays(step) {
                let _ = std::fs::remove_file(old);
            }
        }
    }
}

/// A checkpoint that is to be written.
pub(crate) struct Write {
    pub(crate) snapshot: Snapshot,
    /// The run's folder.
    pub(crate) dir: PathBuf,
    /// Log and ledger.
    pub(crate) first: Vec<(PathBuf, File)>,
    pub(crate) retention: Retention,
}

impl Write {
    fn run(self) -> Result<(), Error> {
        let _span = tracing::info_span!("checkpoint", step = self.snapshot.step()).entered();
        for (path, file) in self.first {
            file.sync_data().map_err(|source| Error::Io { path, source })?;
        }
        self.snapshot.write(&self.dir.join(file_name(self.snapshot.step())))?;
        self.retention.prune(&self.dir, self.snapshot.step());
        Ok(())
    }
}

/// Writes checkpoints, one at a time, here or on a thread of its own.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    busy: Option<JoinHandle<Result<(), Error>>>,
}

impl Writer {
    /// Whether one is being written. An error of one that was is reported here.
    pub(crate) fn is_busy(&mut self) -> Result<bool, Error> {
        match self.busy.take_if(|thread| thread.is_finished()) {
            Some(done) => joined(done).map(|()| false),
            None => Ok(self.busy.is_some()),
        }
    }

    /// Waits for the one that is being written, if there is one.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        self.busy.take().map_or(Ok(()), joined)
    }

    /// Writes one in the background, after the one before.
    pub(crate) fn start(&mut self, write: Write) -> Result<(), Error> {
        self.finish()?;
        self.busy = Some(std::thread::spawn(move || write.run()));
        Ok(())
    }

    /// Writes one now. An error of the one before is nothing that is lost, if this one is there.
    pub(crate) fn write(&mut self, write: Write) -> Result<(), Error> {
        if let Err(before) = self.finish() {
            tracing::warn!(%before, "the checkpoint before could not be written");
        }
        write.run()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Whoever leaves early has an error of its own to tell.
        let _ = self.finish();
    }
}

fn joined(thread: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
