//! Which files a set has: patterns, folders, names; and which were passed over.

use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::{Format, HubPath, ReadError, SourceFiles, io};

/// A `*` stays within a folder, `**` does not; neither means a name that begins with a dot.
pub(super) const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The files of a set, and what lies beside them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FoundFiles {
    /// The files, sorted by their paths, each once.
    pub files: Vec<PathBuf>,
    /// What was met and is not read, sorted by path.
    pub passed_over: Vec<PassedOver>,
}

/// Something that is not read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PassedOver {
    /// Where it is.
    pub path: PathBuf,
    /// Why.
    pub why: NotReadReason,
}

/// Why something is not read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum NotReadReason {
    /// Its name begins with a dot.
    Hidden,
    /// In a folder: its name's ending is none that is known.
    UnknownFormat,
    /// It is no regular file: a device, a socket.
    NoFile,
    /// A pattern that stays within folders met a folder.
    Folder,
    /// A link that leads back to a folder above it.
    Loop,
    /// Its name is not UTF-8, so no pattern can mean it.
    Name,
    /// It lies in the folder that is written.
    Output,
    /// The same file as another one of the set: named twice, or through a link.
    Same(PathBuf),
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.why {
            NotReadReason::Hidden => f.write_str("its name begins with a dot"),
            NotReadReason::UnknownFormat => f.write_str("no known format"),
            NotReadReason::NoFile => f.write_str("is no regular file"),
            NotReadReason::Folder => f.write_str("is a folder; ** reads what is in it"),
            NotReadReason::Loop => f.write_str("is a link to a folder above it"),
            NotReadReason::Output => f.write_str("lies in the folder that is written"),
            NotReadReason::Name => f.write_str("its name is not UTF-8"),
            NotReadReason::Same(other) => write!(f, "is the same file as {}", other.display()),
        }
    }
}

impl SourceFiles {
    /// The files that its patterns mean, and what was passed over.
    ///
    /// # Errors
    /// A pattern that matches nothing or is broken, a link that leads nowhere, a folder that cannot be read, a data set that
    /// is neither cached nor can be fetched.
    pub fn find(&self, base: &Path) -> Result<FoundFiles, ReadError> {
        if self.files.is_empty() {
            return Err(ReadError::NoFiles { pattern: "files = [], which names none".to_owned() });
        }
        let mut found = FoundFiles::default();
        let mut local = Vec::new();
        for pattern in &self.files {
            match pattern.strip_prefix("hf://") {
                Some(rest) => found.files.extend(HubPath::parse(rest)?.resolve()?),
                None => {
                    let mut search = Search { format: self.format, files: Vec::new(), passed_over: Vec::new() };
                    search.pattern(base, pattern)?;
                    if search.files.is_empty() {
                        return Err(none(base, pattern, &search.passed_over));
                    }
                    local.append(&mut search.files);
                    found.passed_over.append(&mut search.passed_over);
                }
            }
        }
        // By what they are, not by what they are called: of several names the first counts.
        let mut known = std::collections::HashMap::new();
        local.sort();
        for path in local {
            let file = path.canonicalize().map_err(io(&path))?;
            match known.get(&file) {
                Some(first) if *first == path => {}
                Some(first) => {
                    found.passed_over.push(PassedOver { path, why: NotReadReason::Same(PathBuf::clone(first)) })
                }
                None => {
                    known.insert(file, path.clone());
                    found.files.push(path);
                }
            }
        }
        found.files.sort();
        found.files.dedup();
        // Another pattern may read what is in a folder.
        let files = &found.files;
        found
            .passed_over
            .retain(|over| over.why != NotReadReason::Folder || !files.iter().any(|file| file.starts_with(&over.path)));
        found.passed_over.sort();
        found.passed_over.dedup();
        Ok(found)
    }

    /// The files alone, as [`find`](Self::find) finds them.
    ///
    /// # Errors
    /// The same.
    pub fn paths(&self, base: &Path) -> Result<Vec<PathBuf>, ReadError> {
        Ok(self.find(base)?.files)
    }
}

/// The error of a pattern that means no file.
fn none(base: &Path, pattern: &str, passed_over: &[PassedOver]) -> ReadError {
    let mut pattern = base.join(pattern).display().to_string();
    if let Some(first) = passed_over.first() {
        pattern += &format!(" ({} passed over, the first: {first})", passed_over.len());
    }
    ReadError::NoFiles { pattern }
}

struct Search {
    format: Option<Format>,
    files: Vec<PathBuf>,
    passed_over: Vec<PassedOver>,
}

impl Search {
    fn pass_over(&mut self, path: PathBuf, why: NotReadReason) {
        self.passed_over.push(PassedOver { path, why });
    }

    /// 1. What there is by this name, brackets and all, is meant.
    /// 2. Else it is a pattern, from its first part with a `*`, `?` or `[` on.
    fn pattern(&mut self, base: &Path, pattern: &str) -> Result<(), ReadError> {
        let path = base.join(pattern);
        match kind(&path)? {
            Some(Kind::File) => self.files.push(path),
            Some(Kind::Folder) => self.folder(&path, &mut Vec::new())?,
            Some(Kind::Other) => {
                return Err(ReadError::Pattern {
                    pattern: path.display().to_string(),
                    reason: "is no regular file".into(),
                });
            }
            None => self.matching(base, pattern)?,
        }
        Ok(())
    }

    /// Everything in a folder and those below that can be read by its name.
    fn folder(&mut self, dir: &Path, above: &mut Vec<PathBuf>) -> Result<(), ReadError> {
        let Some(entries) = self.entries(dir, above)? else { return Ok(()) };
        for path in entries {
            if hidden(&path) {
                self.pass_over(path, NotReadReason::Hidden);
                continue;
            }
            match kind(&path)? {
                Some(Kind::Folder) => self.folder(&path, above)?,
                Some(Kind::File) if super::source::format_of(&path, self.format).is_ok() => self.files.push(path),
                Some(Kind::File) => self.pass_over(path, NotReadReason::UnknownFormat),
                Some(Kind::Other) => self.pass_over(path, NotReadReason::NoFile),
                // Gone since.
                None => {}
            }
        }
        above.pop();
        Ok(())
    }

    fn matching(&mut self, base: &Path, given: &str) -> Result<(), ReadError> {
        let broken = |reason: String| ReadError::Pattern { pattern: given.to_owned(), reason };
        let mut parts: Vec<String> = Vec::new();
        // The base is a name, whatever letters it has.
        let mut dir = base.to_owned();
        for component in Path::new(given).components() {
            let text = component.as_os_str().to_string_lossy();
            let named = |dir: &Path| !text.contains(['*', '?']) && dir.join(component).exists();
            match component {
                // Brackets may be part of a folder's name.
                Component::Normal(_) if parts.is_empty() && named(&dir) => dir.push(component),
                Component::Normal(_) if !parts.is_empty() || text.contains(['*', '?', '[']) => {
                    parts.push(text.into_owned())
                }
                _ if parts.is_empty() => dir.push(component),
                _ => return Err(broken("has a .. after its first *, ? or [".to_owned())),
            }
        }
        // A name without any of these is that of a file that is not there.
        if parts.is_empty() {
            return Ok(());
        }
        let hidden_too = parts.iter().any(|part| part.starts_with('.'));
        let recursive = parts.iter().any(|part| part == "**");
        if parts.last().is_some_and(|part| part == "**") {
            parts.push("*".to_owned());
        }
        let pattern = Pattern::new(&parts.join("/")).map_err(|e| broken(e.to_string()))?;
        let depth = if recursive { usize::MAX } else { parts.len() };
        if !dir.as_os_str().is_empty() && !dir.is_dir() {
            return Ok(());
        }
        let walked = Walked { dir: &dir, pattern: &pattern, hidden_too };
        self.walk(&walked, Path::new(""), depth, &mut Vec::new())
    }

    /// Files below a folder whose path from the beginning of the pattern matches it.
    fn walk(
        &mut self,
        walked: &Walked<'_>,
        from: &Path,
        depth: usize,
        above: &mut Vec<PathBuf>,
    ) -> Result<(), ReadError> {
        let Walked { dir, pattern, hidden_too } = *walked;
        let here = dir.join(from);
        let Some(entries) = self.entries(&here, above)? else { return Ok(()) };
        for path in entries {
            let Some(name) = path.file_name() else { continue };
            let below = from.join(name);
            let matches = pattern.matches_path_with(&below, MATCHING);
            if name.to_str().is_none() {
                self.pass_over(path, NotReadReason::Name);
                continue;
            }
            // What no pattern means may lead nowhere.
            let kind = if matches { kind(&path)? } else { kind(&path).unwrap_or(None) };
            match kind {
                // What is in it is meant by no * of the pattern.
                Some(Kind::Folder) if depth > 1 && hidden(&path) && !hidden_too => {
                    self.pass_over(path, NotReadReason::Hidden)
                }
                Some(Kind::Folder) if depth > 1 => self.walk(walked, &below, depth - 1, above)?,
                Some(Kind::Folder) if matches => self.pass_over(path, NotReadReason::Folder),
                Some(Kind::File) if matches => self.files.push(path),
                Some(Kind::Other) if matches => self.pass_over(path, NotReadReason::NoFile),
                Some(Kind::File) if hidden(&path) && pattern.matches_path(&below) => {
                    self.pass_over(path, NotReadReason::Hidden)
                }
                _ => {}
            }
        }
        above.pop();
        Ok(())
    }

    /// A folder's entries, sorted; `None` for one that is among those above. Else it is among them now.
    fn entries(&mut self, dir: &Path, above: &mut Vec<PathBuf>) -> Result<Option<Vec<PathBuf>>, ReadError> {
        let here = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let own = here.canonicalize().map_err(io(here))?;
        // Itself, or what it lies in.
        if above.iter().any(|above| above.starts_with(&own)) {
            self.pass_over(dir.to_owned(), NotReadReason::Loop);
            return Ok(None);
        }
        above.push(own);
        let mut names = Vec::new();
        for entry in fs::read_dir(here).map_err(io(here))? {
            names.push(dir.join(entry.map_err(io(here))?.file_name()));
        }
        names.sort();
        Ok(Some(names))
    }
}

/// A pattern, and the folder that it begins in.
struct Walked<'a> {
    dir: &'a Path,
    pattern: &'a Pattern,
    /// Whether a part of it begins with a dot.
    hidden_too: bool,
}

enum Kind {
    File,
    Folder,
    Other,
}

/// What a path is, links followed; `None` where nothing is.
fn kind(path: &Path) -> Result<Option<Kind>, ReadError> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(Some(Kind::File)),
        Ok(meta) if meta.is_dir() => Ok(Some(Kind::Folder)),
        Ok(_) => Ok(Some(Kind::Other)),
        Err(e) => match fs::read_link(path) {
            Ok(target) => {
                let source = std::io::Error::new(e.kind(), format!("is a link to {}: {e}", target.display()));
                Err(ReadError::Io { path: path.to_owned(), source })
            }
            Err(_) if e.kind() == std::io::ErrorKind::NotFound || e.kind() == std::io::ErrorKind::NotADirectory => {
                Ok(None)
            }
            // A pattern is no name that a file could have.
            Err(_) if e.kind() == std::io::ErrorKind::InvalidFilename => Ok(None),
            Err(_) => Err(ReadError::Io { path: path.to_owned(), source: e }),
        },
    }
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}
