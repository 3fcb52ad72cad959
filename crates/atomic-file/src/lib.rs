//! Files, and folders, that are complete or not there.
//!
//! A file is written beside its place under a temporary name, its bytes are brought to the disk, then it gets its name:
//! whoever opens it finds the old content or the new one, whole, also after a power cut. All crates of this workspace
//! write through here.
//!
//! ```
//! use std::io::Write as _;
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("ledger");
//! atomic_file::write(&path, b"all at once")?;
//!
//! let mut file = atomic_file::AtomicFile::create(&path)?;
//! file.write_all(b"piece ")?;
//! assert_eq!(std::fs::read(&path)?, b"all at once");
//! file.write_all(b"by piece")?;
//! file.commit()?;
//! assert_eq!(std::fs::read(&path)?, b"piece by piece");
//! # Ok::<_, std::io::Error>(())
//! ```

mod folder;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

pub use folder::AtomicFolder;

/// A file that gets its name once it is complete. Dropped before [`commit`](Self::commit), it leaves nothing behind.
#[derive(Debug)]
pub struct AtomicFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl AtomicFile {
    /// Begins a file that is to be at `path`, in a folder that exists. It may be read by whom the umask lets read. What a link points
    /// to is replaced, not the link.
    ///
    /// # Errors
    /// A folder that is not there or cannot be written; a path that is a device, a pipe, or a link to nothing.
    pub fn create(path: &Path) -> io::Result<Self> {
        let refused = |reason| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        let path = &match std::fs::canonicalize(path) {
            Ok(path) if path.is_file() || path.is_dir() => path,
            Ok(_) => return refused("is a device or a pipe, which cannot be replaced by a file"),
            Err(_) if std::fs::symlink_metadata(path).is_ok() => return refused("is a link to nothing"),
            Err(_) => path.to_owned(),
        };
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // The system takes away what the umask says; temporary files would else be private.
            let _ = builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        Ok(Self { file: builder.tempfile_in(folder(path))?, path: path.to_owned() })
    }

    /// The file while it is written.
    pub fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// Its temporary name, for libraries that write to a path.
    pub fn temporary_path(&self) -> &Path {
        self.file.path()
    }

    /// Brings it to the disk and gives it its name, in the place of an older file. Gives it back, to be written on at its end.
    ///
    /// # Errors
    /// A full disk, a folder that is gone. Then an older file of the name is as it was, unless only the folder could not be
    /// brought to the disk.
    pub fn commit(self) -> io::Result<File> {
        // A library that wrote to the path may have replaced the file that is open here.
        let file = File::options().read(true).append(true).open(self.file.path())?;
        file.sync_all()?;
        self.file.persist(&self.path).map_err(|e| e.error)?;
        sync_folder(folder(&self.path))?;
        Ok(file)
    }
}

/// Writes a file whole, in a folder that exists.
///
/// # Errors
/// As [`AtomicFile::create`] and [`AtomicFile::commit`].
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.commit().map(drop)
}

/// The folder that a file lies in.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Without it a name may be gone after a power cut though the bytes are there.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for AtomicFile {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn what_is_dropped_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        drop(file);
        assert_eq!((names(dir.path()), std::fs::read(&path).unwrap()), (vec!["a".to_owned()], b"old".to_vec()));
    }

    #[test]
    fn a_library_may_replace_the_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = AtomicFile::create(&path).unwrap();
        std::fs::remove_file(file.temporary_path()).unwrap();
        std::fs::write(file.temporary_path(), b"by path").unwrap();
        // What is given back is the file of the name, to be written on at its end.
        file.commit().unwrap().write_all(b", and on").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"by path, and on");
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_devices_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        write(&file, b"old").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        std::fs::remove_file(&file).unwrap();
        assert!(write(&link, b"new").unwrap_err().to_string().contains("a link to nothing"));
        assert!(write(Path::new("/dev/null"), b"").unwrap_err().to_string().contains("is a device or a pipe"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write(&dir.path().join("none/a"), b"").is_err());
    }

    /// The umask belongs to the whole process: a child of this test has another one.
    #[cfg(unix)]
    #[test]
    fn the_umask_decides_who_may_read() {
        use std::os::unix::fs::PermissionsExt as _;
        if let Some(path) = std::env::var_os("ATOMIC_FILE_TEST") {
            return write(Path::new(&path), b"").unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        for (umask, mode) in [("022", 0o644), ("077", 0o600), ("002", 0o664)] {
            let path = dir.path().join(umask);
            let this = std::env::current_exe().unwrap();
            let script = format!("umask {umask}; exec \"$0\" the_umask_decides_who_may_read");
            let mut child = std::process::Command::new("sh");
            child.args(["-c", &script]).arg(this).env("ATOMIC_FILE_TEST", &path);
            assert!(child.output().unwrap().status.success());
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "umask {umask}");
        }
    }
}
