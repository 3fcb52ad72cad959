//! The folder of a building: shared by the processes that write into it, tidied up by whoever is alone.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;

use super::TokenizeError;
use super::shard::input_of;
use crate::store::io;

/// The folder's lock.
const LOCK: &str = ".lock";
/// What the locks of inputs begin with.
pub(super) const CLAIM: &str = ".claim-";

/// The folder that processes write into. Whoever is alone in it tidies up.
pub(super) struct Folder {
    lock: File,
}

impl Folder {
    /// Removes what a kill left behind, where no other process is at work.
    pub(super) fn enter(dir: &Path) -> Result<Self, TokenizeError> {
        let path = dir.join(LOCK);
        let lock = File::create(&path).map_err(io(&path))?;
        if lock.try_lock().is_ok() {
            for entry in fs::read_dir(dir).map_err(io(dir))?.flatten() {
                let name = entry.file_name();
                if name.to_string_lossy().starts_with(".tmp") || name.to_string_lossy().starts_with(CLAIM) {
                    fs::remove_file(entry.path()).map_err(io(&entry.path()))?;
                }
            }
            lock.unlock().map_err(io(&path))?;
        }
        lock.lock_shared().map_err(io(&path))?;
        Ok(Self { lock })
    }

    /// Removes shards that are none of the store's, where no other process is at work. Gives how many.
    pub(super) fn leave(self, dir: &Path, shards: &[String]) -> Result<usize, TokenizeError> {
        self.lock.unlock().map_err(io(dir))?;
        let mut removed = 0;
        if self.lock.try_lock().is_ok() {
            let listed: HashSet<&str> = shards.iter().map(String::as_str).collect();
            for entry in fs::read_dir(dir).map_err(io(dir))?.flatten() {
                let name = entry.file_name();
                let other = name.to_str().is_some_and(|name| input_of(name).is_some() && !listed.contains(name));
                if other {
                    fs::remove_file(entry.path()).map_err(io(&entry.path()))?;
                    removed += 1;
                }
            }
            // Another process may wait at it: what is left then is an empty file.
            let _ = fs::remove_file(dir.join(LOCK));
        }
        Ok(removed)
    }
}
