//! The folder of a building: shared by the processes that write into it, tidied up by whoever is alone.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use super::TokenizeError;
use super::shard::input_of;
use crate::store::{io, shards_of};

/// The folder's lock. It stays: who removes a lock that others wait at lets two in.
const LOCK: &str = ".lock";
/// What the locks of inputs begin with.
pub(super) const CLAIM: &str = ".claim-";

/// The folder that processes write into. Whoever is alone in it tidies up.
pub(super) struct Folder {
    lock: File,
}

impl Folder {
    /// Removes what a kill left behind, where no other process is at work. `work`: what is to be made; another process may make
    /// the same at once, nothing else.
    pub(super) fn enter(dir: &Path, work: &str) -> Result<Self, TokenizeError> {
        let path = dir.join(LOCK);
        let mut lock =
            File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(io(&path))?;
        if lock.try_lock().is_ok() {
            for entry in fs::read_dir(dir).map_err(io(dir))?.flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if (name.starts_with(".tmp") || name.starts_with(CLAIM)) && entry.path().is_file() {
                    fs::remove_file(entry.path()).map_err(io(&entry.path()))?;
                }
            }
            lock.set_len(0).and_then(|()| lock.write_all(work.as_bytes())).map_err(io(&path))?;
            lock.unlock().map_err(io(&path))?;
        }
        lock.lock_shared().map_err(io(&path))?;
        if std::fs::read(&path).map_err(io(&path))? != work.as_bytes() {
            return Err(TokenizeError::Busy { path: dir.to_owned() });
        }
        Ok(Self { lock })
    }

    /// Removes shards that are none of the store's, where no other process is at work. Gives how many.
    pub(super) fn leave(self, dir: &Path) -> Result<usize, TokenizeError> {
        self.lock.unlock().map_err(io(dir))?;
        let mut removed = 0;
        if self.lock.try_lock().is_ok() {
            // Another process may have made another store of the folder meanwhile.
            let listed: HashSet<String> = shards_of(dir)?.into_iter().collect();
            for entry in fs::read_dir(dir).map_err(io(dir))?.flatten() {
                let name = entry.file_name();
                let other = name.to_str().is_some_and(|name| input_of(name).is_some() && !listed.contains(name));
                if other {
                    fs::remove_file(entry.path()).map_err(io(&entry.path()))?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}
