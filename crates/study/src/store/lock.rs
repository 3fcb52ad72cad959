//! One process at a job: a lock on a file in its folder, held while the job is worked on. The system releases it when the
//! process ends, however it ends, so that a dead process blocks nobody.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::Error;

/// The file that is locked. It stays: what counts is who holds it.
pub(crate) const LOCK: &str = "lock";

/// A folder may be removed just when it is to be locked; not this often.
const TRIES: usize = 100;

/// Somebody who only looks whether a lock is held holds it for a moment: once more, this often.
const LOOKS: usize = 3;

/// A store in use: nothing is freed meanwhile. Dropping it ends the use.
#[derive(Debug)]
pub struct Use(#[allow(dead_code, reason = "held, not read")] File);

impl Use {
    /// Waits for a `gc` that is at work, then keeps others away.
    pub(super) fn begin(root: &Path) -> Result<Self, Error> {
        let (file, path) = Self::file(root)?;
        file.lock_shared().map_err(|source| Error::NoLocks { path, source })?;
        Ok(Self(file))
    }

    /// Nobody uses the store: `None` where somebody does.
    pub(super) fn alone(root: &Path) -> Result<Option<Self>, Error> {
        let (file, path) = Self::file(root)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(Error::NoLocks { path, source }),
        }
    }

    fn file(root: &Path) -> Result<(File, PathBuf), Error> {
        std::fs::create_dir_all(root).map_err(Error::io(root))?;
        let path = root.join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io(&path))?;
        Ok((file, path))
    }
}

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    folder: PathBuf,
}

impl Lock {
    /// Takes the lock of a folder, which is made if it is not there; `None` while another process holds it.
    ///
    /// # Errors
    /// A folder that cannot be written, a file system without locks.
    pub(crate) fn take(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(LOCK);
        let mut looks = LOOKS;
        for _ in 0..TRIES {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
            let file = match File::options().create(true).truncate(false).write(true).open(&path) {
                Ok(file) => file,
                // The folder was removed just now, by `gc` in another process: once more.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    continue;
                }
                Err(e) => return Err(Error::io(&path)(e)),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if looks > 0 => {
                    looks -= 1;
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    continue;
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(Error::NoLocks { path, source }),
            }
            // Who held it may have removed the folder: then this is a lock on a file that nobody else will find.
            if same_file(&file, &path) {
                return Ok(Some(Self { _file: file, folder: folder.to_owned() }));
            }
        }
        let reason = "cannot be made: it, or its folder, is removed again and again, or is a broken link".to_owned();
        Err(Error::Parse { path, reason })
    }

    /// Whether somebody holds the lock of a folder. Nothing is made where there is none.
    ///
    /// # Errors
    /// A file that cannot be opened, a file system without locks.
    pub(crate) fn is_held(folder: &Path) -> Result<bool, Error> {
        let path = folder.join(LOCK);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io(&path)(e)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(source)) => Err(Error::NoLocks { path, source }),
        }
    }

    /// The folder it is of.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

#[cfg(unix)]
fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |m: std::fs::Metadata| (m.dev(), m.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(a), Ok(b)) => identity(a) == identity(b),
        _ => false,
    }
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn same_file(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let first = Lock::take(&folder).unwrap().unwrap();
        assert_eq!(first.folder(), folder);
        assert!(Lock::take(&folder).unwrap().is_none() && Lock::is_held(&folder).unwrap());
        drop(first);
        assert!(!Lock::is_held(&folder).unwrap() && !Lock::is_held(&dir.path().join("nowhere")).unwrap());
        assert!(!dir.path().join("nowhere").exists());
        assert!(Lock::take(&folder).unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_broken_link_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere/lock", dir.path().join(LOCK)).unwrap();
        assert!(Lock::take(dir.path()).unwrap_err().to_string().contains("broken link"));
    }

    #[test]
    fn a_removed_folder_is_locked_anew() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("job");
        let old = Lock::take(&folder).unwrap().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let new = Lock::take(&folder).unwrap().unwrap();
        assert!(Lock::take(&folder).unwrap().is_none());
        drop((old, new));
    }
}
