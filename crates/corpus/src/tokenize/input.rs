//! A part of a corpus that is read in one go.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use xxhash_rust::xxh3::xxh3_64;

use crate::{Document, ReadError, ReadReport, SourceFiles};

type Read<'a> = dyn Fn(&mut dyn FnMut(Document) -> ControlFlow<()>) -> Result<ReadReport, ReadError> + Send + Sync + 'a;

/// A part of a corpus that is read in one go, such as a file.
pub struct TextInput<'a> {
    /// What messages call it.
    pub(super) label: String,
    /// Changes whenever its documents may.
    pub(super) fingerprint: String,
    read: Box<Read<'a>>,
}

/// What tells whether a file was written to; `None` where it cannot be asked.
fn state(path: &Path) -> Option<(u64, SystemTime)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

impl<'a> TextInput<'a> {
    /// A file of a set. Its fingerprint is the digest of its bytes.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn file(files: SourceFiles, path: PathBuf) -> Result<Self, ReadError> {
        let content = crate::fingerprint_file(&path)?;
        Ok(Self::file_of(files, path, &content))
    }

    /// A file of a set whose content is known by a fingerprint, so that it need not be read now.
    pub fn file_of(files: SourceFiles, path: PathBuf, content: &str) -> Self {
        // How it is read: not by which pattern it was found, and so not which others were.
        let how = SourceFiles { files: Vec::new(), ..files.clone() };
        // The same bytes under another ending are other documents.
        let how = serde_json::to_string(&(how, files.format_of(&path))).expect("a spec of plain data is JSON");
        let fingerprint = format!("{content}-{:016x}", xxh3_64(how.as_bytes()));
        let label = path.display().to_string();
        let known = state(&path);
        let read = Box::new(move |each: &mut dyn FnMut(Document) -> ControlFlow<()>| {
            let read = files.read(&path, each);
            // Whatever was read then, it is not what the fingerprint is of.
            match state(&path) {
                Some(now) if Some(now) != known => Err(ReadError::Changed { path: path.clone() }),
                _ => read,
            }
        });
        Self { label, fingerprint, read }
    }

    /// Documents that can be made again and again, the same ones each time.
    pub fn documents<I>(label: &str, fingerprint: &str, documents: impl Fn() -> I + Send + Sync + 'a) -> Self
    where
        I: Iterator<Item = Document>,
    {
        let read = move |each: &mut dyn FnMut(Document) -> ControlFlow<()>| {
            let mut report = ReadReport::default();
            for document in documents() {
                report.documents += 1;
                if each(document).is_break() {
                    break;
                }
            }
            Ok(report)
        };
        let (label, fingerprint) = (label.to_owned(), fingerprint.to_owned());
        Self { label, fingerprint, read: Box::new(read) }
    }

    /// What messages call it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Changes whenever its documents may.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Calls `each` with its documents in order, until it says to stop.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    pub fn read(&self, each: &mut dyn FnMut(Document) -> ControlFlow<()>) -> Result<ReadReport, ReadError> {
        (self.read)(each)
    }
}
