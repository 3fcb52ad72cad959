//! A folder that takes the place of another one, whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::{folder as parent_of, sync_folder};

/// A folder that is filled under a temporary name beside its place, and then takes it. Dropped before
/// [`commit`](Self::commit), it leaves nothing behind.
///
/// ```
/// use atomic_file::AtomicFolder;
///
/// # let dir = tempfile::tempdir()?;
/// # let place = dir.path().join("model");
/// std::fs::create_dir(&place)?;
/// std::fs::write(place.join("weights"), "old")?;
/// std::fs::write(place.join("README"), "stays")?;
///
/// let folder = AtomicFolder::create(&place)?;
/// std::fs::write(folder.path().join("weights"), "new")?;
/// folder.commit(&|name| name == "weights")?;
/// assert_eq!(std::fs::read_to_string(place.join("weights"))?, "new");
/// assert_eq!(std::fs::read_to_string(place.join("README"))?, "stays");
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct AtomicFolder {
    place: PathBuf,
    /// Removed when it is dropped, whatever it then holds: the new files, or the old ones.
    temporary: PathBuf,
    /// It holds what is nowhere else.
    keep: bool,
}

impl AtomicFolder {
    /// Begins a folder that is to be at `place`, whose parents are made where they are missing. A folder that is there stays as it
    /// is until the new one is complete.
    ///
    /// # Errors
    /// A place that is a file, or where nothing can be written.
    pub fn create(place: &Path) -> io::Result<Self> {
        // What lies behind a link is replaced, not the link.
        let place = match fs::canonicalize(place) {
            Ok(place) => place,
            Err(e) if e.kind() == io::ErrorKind::NotFound => place.to_owned(),
            Err(e) => return Err(e),
        };
        if place.exists() && !place.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "is a file, not a folder"));
        }
        let refused = |reason| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        let Some(name) = place.file_name() else { return refused("cannot be replaced by another folder") };
        // Whoever stands in it would stand in the folder that was removed.
        if std::env::current_dir().and_then(fs::canonicalize).is_ok_and(|here| here == place) {
            return refused("is the current folder, which cannot be replaced by another one: write to a folder in it");
        }
        let parent = parent_of(&place);
        fs::create_dir_all(parent)?;
        if is_mount(&place, parent)? {
            return refused(
                "is where a disk is mounted, which cannot be replaced by another folder: write to a folder in it",
            );
        }
        let stem = format!(".tmp-{}-", name.to_string_lossy());
        remove_stale(parent, &stem);
        let name = format!("{stem}{}", std::process::id());
        let temporary = (0..u32::MAX)
            .map(|i| parent.join(format!("{name}-{i}")))
            .find_map(|path| match fs::create_dir(&path) {
                Ok(()) => Some(Ok(path)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => None,
                Err(e) => Some(Err(e)),
            })
            .unwrap_or_else(|| Err(io::ErrorKind::AlreadyExists.into()))?;
        Ok(Self { place, temporary, keep: false })
    }

    /// The folder while it is filled.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Brings it to the disk and puts it in its place.
    ///
    /// 1. The old folder's files are brought over, but for names that the new one has and those that `replaced` says the new content
    ///    stands for. (As links to the same content: nothing is copied.)
    /// 2. So are its own folders, by renaming; if one of them cannot be, all go back.
    /// 3. The two change places, at once where the system can do that, and the old one is removed.
    ///
    /// # Errors
    /// A full disk, folders that cannot be written. The old folder is then as it was.
    pub fn commit(mut self, replaced: &dyn Fn(&str) -> bool) -> io::Result<()> {
        let mut folders = Vec::new();
        if self.place.exists() {
            fs::set_permissions(&self.temporary, fs::metadata(&self.place)?.permissions())?;
            for entry in fs::read_dir(&self.place)? {
                let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
                let new = self.temporary.join(&name);
                if fs::symlink_metadata(&new).is_ok() || replaced(&name.to_string_lossy()) {
                    continue;
                }
                let kind = fs::symlink_metadata(&entry)?.file_type();
                if kind.is_symlink() {
                    link(&fs::read_link(&entry)?, &entry, &new)?;
                } else if kind.is_dir() {
                    folders.push(name);
                } else if fs::hard_link(&entry, &new).is_err() {
                    fs::copy(&entry, &new)?;
                }
            }
        }
        for entry in fs::read_dir(&self.temporary)? {
            let path = entry?.path();
            if path.is_file() {
                File::open(&path)?.sync_all()?;
            }
        }
        let mut moved = Vec::new();
        let swapped = folders
            .iter()
            .try_for_each(|name| {
                fs::rename(self.place.join(name), self.temporary.join(name))?;
                moved.push(name);
                Ok(())
            })
            .and_then(|()| sync_folder(&self.temporary))
            .and_then(|()| exchange(&self.temporary, &self.place));
        if let Err(error) = swapped {
            for name in moved {
                // What cannot go back is not to be removed with the rest.
                self.keep |= fs::rename(self.temporary.join(name), self.place.join(name)).is_err();
            }
            return Err(error);
        }
        sync_folder(parent_of(&self.place))
    }
}

impl Drop for AtomicFolder {
    fn drop(&mut self) {
        // What cannot be removed has a name that says what it is.
        if !self.keep {
            // It may be a folder in which nothing may be written.
            let _ = make_writable(&self.temporary);
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

/// The new folder at the place; the old one, where there was one, under the temporary name.
fn exchange(temporary: &Path, place: &Path) -> io::Result<()> {
    if !place.exists() {
        return fs::rename(temporary, place);
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if renameat_with(CWD, temporary, CWD, place, RenameFlags::EXCHANGE).is_ok() {
            return Ok(());
        }
    }
    // In two steps where the file system cannot do it in one.
    let mut aside = temporary.as_os_str().to_owned();
    aside.push("-old");
    fs::rename(place, &aside)?;
    if let Err(error) = fs::rename(temporary, place) {
        fs::rename(&aside, place)?;
        return Err(error);
    }
    fs::rename(&aside, temporary)
}

/// Removes what processes that are gone began for the same place. (On one machine: elsewhere a number says nothing.)
fn remove_stale(parent: &Path, stem: &str) {
    if !Path::new("/proc/self").exists() {
        return;
    }
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(stem).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(unix)]
fn make_writable(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn make_writable(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn is_mount(place: &Path, parent: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(place.exists() && fs::metadata(place)?.dev() != fs::metadata(parent)?.dev())
}

#[cfg(not(unix))]
fn is_mount(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(unix)]
fn link(to: &Path, _old: &Path, new: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, new)
}

#[cfg(not(unix))]
fn link(_to: &Path, old: &Path, new: &Path) -> io::Result<()> {
    fs::copy(old, new).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_dropped_leaves_the_old_folder_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("a");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("old"), "old").unwrap();
        let folder = AtomicFolder::create(&place).unwrap();
        fs::write(folder.path().join("new"), "new").unwrap();
        drop(folder);
        assert_eq!((names(dir.path()), names(&place)), (vec!["a".to_owned()], vec!["old".to_owned()]));
    }

    /// What a killed process left is removed by the next one, what a living one is at is not.
    #[cfg(target_os = "linux")]
    #[test]
    fn leftovers_of_the_dead_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("a");
        let dead = dir.path().join(".tmp-a-4194305-0");
        let alive = dir.path().join(format!(".tmp-a-{}-7", std::process::id()));
        for folder in [&dead, &alive] {
            fs::create_dir(folder).unwrap();
        }
        AtomicFolder::create(&place).unwrap().commit(&|_| false).unwrap();
        assert!(!dead.exists() && alive.exists());
    }

    #[cfg(unix)]
    #[test]
    fn files_links_and_folders_come_along() {
        let dir = tempfile::tempdir().unwrap();
        let (place, way) = (dir.path().join("a"), dir.path().join("way"));
        fs::create_dir_all(place.join("sub")).unwrap();
        fs::write(place.join("sub/deep"), "deep").unwrap();
        fs::write(place.join("kept"), "kept").unwrap();
        fs::write(place.join("shard-2"), "old").unwrap();
        std::os::unix::fs::symlink("kept", place.join("link")).unwrap();
        std::os::unix::fs::symlink(&place, &way).unwrap();
        // Through a link to the folder, which stays one.
        let folder = AtomicFolder::create(&way).unwrap();
        fs::write(folder.path().join("single"), "new").unwrap();
        folder.commit(&|name| name.starts_with("shard-")).unwrap();
        assert_eq!(names(&place), ["kept", "link", "single", "sub"]);
        assert_eq!(names(dir.path()), ["a", "way"]);
        assert_eq!(fs::read_to_string(place.join("link")).unwrap(), "kept");
        assert_eq!(fs::read_to_string(way.join("sub/deep")).unwrap(), "deep");
        assert!(fs::symlink_metadata(&way).unwrap().is_symlink());
    }

    #[test]
    fn places_that_cannot_be_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(AtomicFolder::create(&file).is_err());
        assert!(AtomicFolder::create(Path::new("/")).is_err());
        assert!(AtomicFolder::create(&file.join("below")).is_err());
        assert!(AtomicFolder::create(Path::new(".")).unwrap_err().to_string().contains("is the current folder"));
        let deep = AtomicFolder::create(&dir.path().join("new/deep")).unwrap();
        deep.commit(&|_| false).unwrap();
        assert!(dir.path().join("new/deep").is_dir());
    }
}
