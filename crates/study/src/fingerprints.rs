//! What files hold, as far as it is known without reading them: digests of content, kept by path, size, times and inode.
//!
//! A file whose metadata are as they were is not read again. Files in the Hugging Face hub's cache are named by their
//! content and are never read for this.

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::files::{read_json, write_json};
use crate::{Error, StopSignal};

/// The file in a store.
const FILE: &str = "inputs.json";
const FORMAT: u32 = 1;

/// A file changed twice within the precision of its times looks as if it had changed once. It is read when it is older
/// than that: where the file system keeps parts of a second, or whole ones.
const FINE: Duration = Duration::from_millis(50);
const COARSE: Duration = Duration::from_secs(2);

/// Time between writes of what was found out.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// By which a file is taken to be unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    bytes: u64,
    /// Nanoseconds since 1970: of the content, and of the entry itself.
    modified: i64,
    changed: i64,
    /// The inode. (Not the device: on network file systems its number is another one on every node.)
    inode: u64,
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    #[serde(flatten)]
    identity: Identity,
    /// A digest of its bytes.
    content: String,
}

/// A tokenizer file, parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenizerFile {
    pub(crate) fingerprint: String,
    pub(crate) vocab_size: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    format: u32,
    files: BTreeMap<PathBuf, Known>,
    /// By the file's content.
    tokenizers: BTreeMap<String, TokenizerFile>,
}

/// The fingerprints that a store keeps.
#[derive(Debug)]
pub(crate) struct Fingerprints {
    path: PathBuf,
    record: Record,
    /// What was found out since it was read.
    fresh: HashMap<PathBuf, Known>,
    fresh_tokenizers: HashMap<String, TokenizerFile>,
    signal: StopSignal,
    written: Instant,
}

impl Fingerprints {
    /// Those that a store's folder keeps. A record that cannot be read counts as none.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(crate) fn read(root: &Path) -> Result<Self, Error> {
        let path = root.join(FILE);
        let record = Self::record(&path)?;
        let (fresh, fresh_tokenizers) = (HashMap::new(), HashMap::new());
        Ok(Self { path, record, fresh, fresh_tokenizers, signal: StopSignal::default(), written: Instant::now() })
    }

    /// The same, that stops reading at a signal.
    pub(crate) fn until(self, signal: &StopSignal) -> Self {
        Self { signal: signal.clone(), ..self }
    }

    fn record(path: &Path) -> Result<Record, Error> {
        let known = match read_json::<Record>(path) {
            Err(Error::Parse { .. }) => None,
            other => other?,
        };
        Ok(known.filter(|known| known.format == FORMAT).unwrap_or_default())
    }

    /// Digests of files' bytes, and their sizes; those that are not known are read, several at once.
    ///
    /// # Errors
    /// A file that cannot be read, a signal: what was read until then is kept.
    pub(crate) fn of(&mut self, paths: &[PathBuf]) -> Result<Vec<(String, u64)>, Error> {
        let mut answers = Vec::with_capacity(paths.len());
        // Kept now and then: a kill costs the last group.
        for group in paths.chunks(rayon::current_num_threads().max(1) * 4) {
            let looked = group.iter().map(|path| self.look(path)).collect::<Result<Vec<_>, Error>>()?;
            let signal = &self.signal;
            let found: Vec<Result<Found, Error>> = looked.into_par_iter().map(|look| look.find(signal)).collect();
            let mut failed = None;
            for found in found {
                match found {
                    Ok(Found { path, known, fresh }) => {
                        answers.push((known.content.clone(), known.identity.bytes));
                        if fresh {
                            self.fresh.insert(path, known);
                        }
                    }
                    Err(error) => drop(failed.get_or_insert(error)),
                }
            }
            if failed.is_some() || self.written.elapsed() > WRITE_EVERY {
                self.written = Instant::now();
                self.write()?;
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(answers)
    }

    /// What is known of a file.
    fn look(&self, given: &Path) -> Result<Look, Error> {
        let path = std::path::absolute(given).map_err(Error::io(given))?;
        let identity = Identity::of(given)?;
        let known = self.fresh.get(&path).or_else(|| self.record.files.get(&path));
        let known = known.filter(|known| known.identity == identity).cloned();
        Ok(Look { given: given.to_owned(), path, identity, known })
    }

    /// A tokenizer's fingerprint and vocabulary; parsed once for each content.
    ///
    /// # Errors
    /// A file that cannot be read, or is no tokenizer.
    pub(crate) fn tokenizer(&mut self, path: &Path) -> Result<TokenizerFile, Error> {
        // A file that is not there is the tokenizer's error.
        if path.is_file() {
            let (content, _) = self.of(&[path.to_owned()])?.swap_remove(0);
            let known = self.fresh_tokenizers.get(&content).or_else(|| self.record.tokenizers.get(&content));
            if let Some(known) = known {
                return Ok(known.clone());
            }
            let file = Self::parse(path)?;
            self.fresh_tokenizers.insert(content, file.clone());
            return Ok(file);
        }
        Self::parse(path)
    }

    fn parse(path: &Path) -> Result<TokenizerFile, Error> {
        let tokenizer = corpus::Tokenizer::from_file(path)?;
        Ok(TokenizerFile { fingerprint: tokenizer.fingerprint().to_owned(), vocab_size: tokenizer.vocab_size() })
    }

    /// Adds what was found out to what others wrote meanwhile.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn write(&mut self) -> Result<(), Error> {
        if self.fresh.is_empty() && self.fresh_tokenizers.is_empty() {
            return Ok(());
        }
        self.record = Self::record(&self.path)?;
        self.record.format = FORMAT;
        self.record.files.extend(self.fresh.drain());
        self.record.tokenizers.extend(self.fresh_tokenizers.drain());
        // What is gone is forgotten.
        self.record.files.retain(|path, _| path.exists());
        write_json(&self.path, &self.record)
    }
}

impl Identity {
    fn of(path: &Path) -> Result<Self, Error> {
        let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
        Ok(Self::from(&metadata))
    }
}

#[cfg(unix)]
impl From<&Metadata> for Identity {
    fn from(m: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let nanoseconds = |seconds: i64, more: i64| seconds.saturating_mul(1_000_000_000).saturating_add(more);
        Self {
            bytes: m.len(),
            modified: nanoseconds(m.mtime(), m.mtime_nsec()),
            changed: nanoseconds(m.ctime(), m.ctime_nsec()),
            inode: m.ino(),
        }
    }
}

#[cfg(not(unix))]
impl From<&Metadata> for Identity {
    fn from(m: &Metadata) -> Self {
        let modified = m.modified().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let modified = modified.map_or(-1, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
        Self { bytes: m.len(), modified, changed: modified, inode: 0 }
    }
}

/// A file that was looked at.
struct Look {
    /// As it is called in messages.
    given: PathBuf,
    path: PathBuf,
    identity: Identity,
    known: Option<Known>,
}

struct Found {
    path: PathBuf,
    known: Known,
    /// Whether it was read just now, and its identity stands for what was read.
    fresh: bool,
}

impl Look {
    fn find(self, signal: &StopSignal) -> Result<Found, Error> {
        let Self { given, path, identity, known } = self;
        if let Some(known) = known {
            return Ok(Found { path, known, fresh: false });
        }
        if let Some(content) = hub_blob(&path) {
            return Ok(Found { path, known: Known { identity, content }, fresh: false });
        }
        let settled = wait_until_settled(&identity);
        let content = digest_of(&given, signal)?;
        let after = Identity::of(&given)?;
        let fresh = settled && identity == after;
        Ok(Found { path, known: Known { identity: after, content }, fresh })
    }
}

/// As [`corpus::fingerprint_file`], until a signal comes.
fn digest_of(path: &Path, signal: &StopSignal) -> Result<String, Error> {
    let mut file = std::fs::File::open(path).map_err(Error::io(path))?;
    let (mut hash, mut buffer) = (xxhash_rust::xxh3::Xxh3::new(), vec![0u8; 1 << 20]);
    loop {
        signal.check()?;
        match file.read(&mut buffer).map_err(Error::io(path))? {
            0 => return Ok(format!("{:032x}", hash.digest128())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Waits, a moment at most, until a change would show in a file's times; `false` where they lie in the future.
fn wait_until_settled(identity: &Identity) -> bool {
    let now = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    };
    let last = identity.modified.max(identity.changed);
    let precision = if identity.modified % 1_000_000_000 == 0 { COARSE } else { FINE };
    let until = last.saturating_add(i64::try_from(precision.as_nanos()).unwrap_or(i64::MAX));
    let left = until - now();
    if left > 0 && last <= now() {
        std::thread::sleep(Duration::from_nanos(u64::try_from(left).unwrap_or(0)));
    }
    now() >= until
}

/// The name of a blob of the hub's cache that a path leads to: a digest of its content.
fn hub_blob(path: &Path) -> Option<String> {
    let blob = path.canonicalize().ok()?;
    let name = blob.file_name()?.to_str()?;
    let digest = matches!(name.len(), 40 | 64) && name.bytes().all(|b| b.is_ascii_hexdigit());
    (digest && blob.parent()?.file_name()? == "blobs").then(|| format!("hub-{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(dir: &Path) -> Fingerprints {
        Fingerprints::read(dir).unwrap()
    }

    fn fresh(prints: &Fingerprints) -> usize {
        prints.fresh.len()
    }

    #[test]
    fn what_did_not_change_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| dir.path().join(name));
        paths.iter().for_each(|path| std::fs::write(path, "text").unwrap());
        let mut prints = new(dir.path());
        let first = prints.of(&paths).unwrap();
        assert_eq!((first[0].clone(), first[0].1, fresh(&prints)), (first[1].clone(), 4, 2));
        prints.write().unwrap();
        let mut prints = new(dir.path());
        assert_eq!(prints.of(&paths).unwrap(), first);
        assert_eq!(fresh(&prints), 0);
        // The same size, at once: another time.
        std::fs::write(&paths[0], "TEXT").unwrap();
        let second = prints.of(&paths).unwrap();
        assert!(second[0] != first[0] && second[1] == first[1] && fresh(&prints) == 1);
        // The same size and the time of before: another inode, another time of its entry.
        let time = std::fs::metadata(&paths[1]).unwrap().modified().unwrap();
        std::fs::write(dir.path().join("c"), "Text").unwrap();
        std::fs::File::options().write(true).open(dir.path().join("c")).unwrap().set_modified(time).unwrap();
        std::fs::rename(dir.path().join("c"), &paths[1]).unwrap();
        assert_ne!(prints.of(&paths).unwrap()[1], first[1]);
        // What is gone is forgotten; a damaged record is none.
        std::fs::remove_file(&paths[1]).unwrap();
        prints.write().unwrap();
        assert_eq!(new(dir.path()).record.files.len(), 1);
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(new(dir.path()).record.files.is_empty());
    }

    #[test]
    fn digests_are_those_of_corpus_and_a_signal_stops_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, vec![7u8; 3_000_000]).unwrap();
        let expected = corpus::fingerprint_file(&path).unwrap();
        let signal = StopSignal::default();
        let mut prints = new(dir.path()).until(&signal);
        assert_eq!(prints.of(std::slice::from_ref(&path)).unwrap()[0].0, expected);
        signal.raise(2);
        std::fs::write(&path, "more").unwrap();
        assert!(matches!(prints.of(&[path]), Err(Error::Stopped { signal: 2 })));
        // What was read before is kept.
        assert_eq!(new(dir.path()).record.files.len(), 1);
    }

    #[test]
    fn a_file_from_the_future_is_read_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "text").unwrap();
        let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(tomorrow).unwrap();
        let mut prints = new(dir.path());
        prints.of(&[path]).unwrap();
        assert_eq!(fresh(&prints), 0);
    }

    #[cfg(unix)]
    #[test]
    fn blobs_of_the_hub_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let digest = "0123456789abcdef".repeat(4);
        let (blob, link) = (dir.path().join("blobs").join(&digest), dir.path().join("data.jsonl"));
        std::fs::create_dir(dir.path().join("blobs")).unwrap();
        std::fs::write(&blob, "text").unwrap();
        std::os::unix::fs::symlink(&blob, &link).unwrap();
        let mut prints = new(dir.path());
        assert_eq!(prints.of(&[link]).unwrap(), [(format!("hub-{digest}"), 4)]);
        assert_eq!(fresh(&prints), 0);
    }
}
