//! Which checkpoint a run goes on from.

use std::path::{Path, PathBuf};

use crate::Error;
use crate::checkpoint::{checkpoints, verify_checkpoint};
use crate::log::{STEPS, reaches};

/// What a folder offers to go on from.
#[derive(Debug, Default)]
pub struct Resumable {
    /// Step and file of the newest checkpoint that is whole and that the log reaches.
    pub newest: Option<(u64, PathBuf)>,
    /// Newer ones, and why they were passed over.
    pub passed_over: Vec<PassedOver>,
}

/// A checkpoint that is not gone on from.
#[derive(Debug)]
pub struct PassedOver {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    pub reason: Error,
}

impl Resumable {
    /// Removes those that were passed over, once the run goes on without them: it makes its own checkpoints of these steps.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn remove_passed_over(&self) -> Result<(), Error> {
        self.passed_over.iter().try_for_each(|PassedOver { path, .. }| {
            std::fs::remove_file(path).map_err(|source| Error::Io { path: path.clone(), source })
        })
    }
}

/// The newest checkpoint of a run's folder that is whole, lies after a step, and that the log beside it reaches.
///
/// # Errors
/// A log that cannot be read or holds a damaged line; checkpoints that are whole, of which none is reached by the log: going on would leave
/// a hole in it.
pub fn resumable(dir: &Path, after: u64, until: u64) -> Result<Resumable, Error> {
    let log = dir.join(STEPS);
    let mut found = Resumable::default();
    let mut beyond_the_log = None;
    for (step, path) in checkpoints(dir).into_iter().filter(|(step, _)| *step > after && *step <= until) {
        if let Err(reason) = verify_checkpoint(&path) {
            found.passed_over.push(PassedOver { path, reason });
        } else if reaches(&log, step)? {
            found.newest = Some((step, path));
            return Ok(found);
        } else {
            let reason = format!("ends before step {step}, the one that {} was written at", path.display());
            beyond_the_log.get_or_insert(step);
            found.passed_over.push(PassedOver { path, reason: Error::Log { path: log.clone(), line: 0, reason } });
        }
    }
    match beyond_the_log {
        None => Ok(found),
        Some(step) => {
            let reason = format!(
                "ends before step {step}, up to which there is a checkpoint: move it away to go on with a log that begins there"
            );
            Err(Error::Log { path: log, line: 0, reason })
        }
    }
}
