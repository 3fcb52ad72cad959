//! The folder that studies share: one folder a job, named by its address.
//!
//! ```text
//! KIND/NAME/job.json      what was asked: everything that the job needs to be run by its address alone
//! KIND/NAME/done.json     the result, the files that belong to it, and what computed it
//! KIND/NAME/failed.json   or why there is none
//! KIND/NAME/lock          held while the job is worked on
//! studies/NAME.json       what a study's question needed: what `gc` keeps
//! ```

mod bundle;
mod gc;
mod lock;
mod verify;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::address::{Address, digest};
use crate::files::{read_json, write, write_json};
use crate::fingerprints::Fingerprints;
use crate::job::{Job, Kind};
use crate::{Error, Machine};

pub use bundle::{BundleReport, export, import};
pub use gc::{Freed, GcReport, Keep, gc};
pub(crate) use gc::{Payload, Root};
pub(crate) use lock::Lock;
pub use lock::Use;
pub use verify::{Verified, verify};

/// The version of the records in a store.
const FORMAT: u32 = 1;
const JOB: &str = "job.json";
const DONE: &str = "done.json";
const FAILED: &str = "failed.json";

/// A store of results.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    /// Folders whose checksums this process has compared.
    verified: Arc<Mutex<HashSet<PathBuf>>>,
}

/// A result and what belongs to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Done<R> {
    pub(crate) format: u32,
    pub(crate) result: R,
    /// Digest of the address and the result: a record that was changed, or lies in another job's folder, is none.
    pub(crate) xxh3: String,
    /// Files of the job's folder.
    pub(crate) files: BTreeMap<String, FileRecord>,
    /// Files that were freed or never came along: made again when a job needs them, not before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) released: Vec<String>,
    pub(crate) computed_by: Machine,
}

/// A file that belongs to a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRecord {
    pub(crate) bytes: u64,
    pub(crate) xxh3: String,
}

/// Why a job has no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What the job is called.
    pub label: String,
    /// What happened.
    pub reason: String,
    /// Whether the same happens whenever it is run: then it is not tried again.
    pub certain: bool,
    /// The job that failed, where this one only depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Address>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.label, self.reason)
    }
}

/// What a store holds of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    /// Nothing.
    Absent,
    /// A record that cannot be read, or is another job's.
    Broken,
    /// Its result; and whether all its files are there.
    Done { files: Files },
    /// Why it has none.
    Failed(Failure),
}

/// The files of a finished job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Files {
    /// All there.
    Whole,
    /// Some were freed on purpose.
    Released,
    /// One is missing or has another size, though nobody freed it.
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
struct JobRecord<J> {
    format: u32,
    address: Address,
    job: J,
}

impl Store {
    /// In a folder, which is made when something is written.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), verified: Arc::default() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A job's folder.
    pub fn folder(&self, address: &Address) -> PathBuf {
        address.folder(&self.root)
    }

    /// The job of an address, as it was asked for: it can be run again from this alone.
    ///
    /// # Errors
    /// No such job, a record that cannot be read.
    pub(crate) fn job(&self, address: &Address) -> Result<Job, Error> {
        let path = self.folder(address).join(JOB);
        let record: JobRecord<Job> = read_json(&path)?.ok_or_else(|| Error::NoJob { address: address.clone() })?;
        if record.format != FORMAT || record.address != *address {
            let reason = format!("is format {} of {}, not {FORMAT} of {address}", record.format, record.address);
            return Err(Error::Parse { path, reason });
        }
        Ok(record.job)
    }

    /// A finished job's result; `None` where there is none.
    ///
    /// # Errors
    /// A file that cannot be read. (One that is damaged counts as none.)
    pub(crate) fn result<K: Kind>(&self, address: &Address) -> Result<Option<K::Output>, Error> {
        Ok(self.whole::<K>(address)?.map(|done| done.result))
    }

    /// A result's record, if it is this job's and unchanged.
    fn whole<K: Kind>(&self, address: &Address) -> Result<Option<Done<K::Output>>, Error> {
        let done = self.done::<K::Output>(address)?;
        Ok(done.filter(|done| done.xxh3 == digest(&(address, &done.result))))
    }

    fn done<R: DeserializeOwned>(&self, address: &Address) -> Result<Option<Done<R>>, Error> {
        match read_json::<Done<R>>(&self.folder(address).join(DONE)) {
            Ok(done) => Ok(done.filter(|done| done.format == FORMAT)),
            Err(Error::Parse { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Whether a job has a result.
    pub(crate) fn is_done(&self, address: &Address) -> bool {
        self.folder(address).join(DONE).exists()
    }

    /// What computed a finished job.
    pub(crate) fn computed_by(&self, address: &Address) -> Result<Option<Machine>, Error> {
        Ok(self.done::<serde::de::IgnoredAny>(address)?.map(|done| done.computed_by))
    }

    /// What is there of a job of a kind.
    pub(crate) fn status<K: Kind>(&self, address: &Address) -> Result<Status, Error> {
        if let Some(done) = self.whole::<K>(address)? {
            return Ok(Status::Done { files: self.files(address, &done) });
        }
        if self.is_done(address) {
            return Ok(Status::Broken);
        }
        Ok(match self.failure(address)? {
            Some(failure) if self.still_holds(&failure)? => Status::Failed(failure),
            _ => Status::Absent,
        })
    }

    /// Why a job had no result when it was last tried.
    pub(crate) fn failure(&self, address: &Address) -> Result<Option<Failure>, Error> {
        match read_json::<Failure>(&self.folder(address).join(FAILED)) {
            Err(Error::Parse { .. }) => Ok(None),
            other => other,
        }
    }

    /// A failure that follows from another job's holds as long as that one's.
    fn still_holds(&self, failure: &Failure) -> Result<bool, Error> {
        match &failure.root {
            None => Ok(failure.certain),
            Some(root) => {
                let path = self.folder(root).join(FAILED);
                Ok(matches!(read_json::<Failure>(&path), Ok(Some(Failure { certain: true, .. }))))
            }
        }
    }

    fn files<R>(&self, address: &Address, done: &Done<R>) -> Files {
        let folder = self.folder(address);
        for (name, file) in &done.files {
            if std::fs::metadata(folder.join(name)).map_or(true, |m| m.len() != file.bytes) {
                return Files::Damaged(name.clone());
            }
        }
        if done.released.is_empty() { Files::Whole } else { Files::Released }
    }

    /// Records what a job is.
    pub(crate) fn begin(&self, lock: &Lock, address: &Address, job: &Job) -> Result<(), Error> {
        let record = JobRecord { format: FORMAT, address: address.clone(), job };
        write_json(&lock.folder().join(JOB), &record)
    }

    /// Records what a job is where its record says another thing that is in no address, such as where files lie.
    pub(crate) fn update(&self, job: &Job) -> Result<(), Error> {
        let address = job.address();
        if self.job(&address).is_ok_and(|known| known == *job) {
            return Ok(());
        }
        match Lock::take(&self.folder(&address))? {
            Some(lock) => self.begin(&lock, &address, job),
            // Who works on it has just recorded it.
            None => Ok(()),
        }
    }

    /// Records a result, once it is certain that it can be read again; leftovers of the work are removed.
    pub(crate) fn finish<R: Serialize + DeserializeOwned>(
        &self,
        lock: &Lock,
        address: &Address,
        result: &R,
        machine: &Machine,
    ) -> Result<(), Error> {
        let folder = lock.folder();
        let path = folder.join(DONE);
        let done = Done {
            format: FORMAT,
            xxh3: digest(&(address, result)),
            result,
            files: records_of(folder)?,
            released: Vec::new(),
            computed_by: machine.clone(),
        };
        let mut text = serde_json::to_vec(&done).map_err(|e| Error::io(&path)(e.into()))?;
        // JSON writes what is not finite as null: such a result must not get in.
        serde_json::from_slice::<Done<R>>(&text)
            .map_err(|e| Error::NotFinite { what: folder.display().to_string(), reason: e.to_string() })?;
        text.push(b'\n');
        write(&path, &text)?;
        remove(&folder.join(FAILED))?;
        remove_leftovers(folder)
    }

    /// Removes what a kill left between a result and the end of its job.
    pub(crate) fn tidy(&self, address: &Address) -> Result<(), Error> {
        let folder = self.folder(address);
        if !leftovers(&folder)?.is_empty()
            && let Some(lock) = Lock::take(&folder)?
            && folder.join(DONE).exists()
        {
            remove_leftovers(lock.folder())?;
        }
        Ok(())
    }

    /// Removes everything of a job but what it is.
    pub(crate) fn clear(&self, lock: &Lock) -> Result<(), Error> {
        for entry in std::fs::read_dir(lock.folder()).map_err(Error::io(lock.folder()))? {
            let entry = entry.map_err(Error::io(lock.folder()))?;
            let path = entry.path();
            if path.is_dir() {
                std::fs::remove_dir_all(&path).map_err(Error::io(&path))?;
            } else if ![lock::LOCK, JOB].iter().any(|name| entry.file_name() == *name) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Whether a finished job's files are all there.
    pub(crate) fn has_files(&self, address: &Address) -> Result<bool, Error> {
        let done = self.done::<serde::de::IgnoredAny>(address)?;
        Ok(done.is_some_and(|done| self.files(address, &done) == Files::Whole))
    }

    /// Compares the digests of those of a finished job's files below a folder of its own that are not known by path, size,
    /// times and inode to be as they were when they were last read.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub(crate) fn check_unread(&self, address: &Address, below: &str) -> Result<(), Error> {
        let folder = self.folder(address);
        let done = self.done::<serde::de::IgnoredAny>(address)?;
        let files = done.map(|done| done.files).unwrap_or_default();
        let files: Vec<_> = files.iter().filter(|(name, _)| name.starts_with(below)).collect();
        let paths: Vec<PathBuf> = files.iter().map(|(name, _)| folder.join(name)).collect();
        let mut known = Fingerprints::read(&self.root)?;
        let contents = known.of(&paths)?;
        known.write()?;
        for ((path, (content, _)), (_, record)) in paths.into_iter().zip(contents).zip(files) {
            if content != record.xxh3 {
                return Err(Error::Parse { path, reason: "its digest differs: it was damaged".to_owned() });
            }
        }
        Ok(())
    }

    /// All files of a job's folder that belong to its result.
    pub(crate) fn files_below(&self, folder: &Path) -> Result<Vec<PathBuf>, Error> {
        Ok(files_in(folder)?.into_keys().map(|name| folder.join(name)).collect())
    }

    /// Compares the digests of a finished job's files below a folder of its own, once in a process.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub(crate) fn verify(&self, address: &Address, below: &str) -> Result<(), Error> {
        let folder = self.folder(address);
        self.once(&folder.join(below), || {
            let done = self.done::<serde::de::IgnoredAny>(address)?;
            let files = done.map(|done| done.files).unwrap_or_default();
            for (name, file) in files.iter().filter(|(name, _)| name.starts_with(below)) {
                let path = folder.join(name);
                if record_of(&path)? != *file {
                    return Err(Error::Parse { path, reason: "its digest differs: it was damaged".to_owned() });
                }
            }
            Ok(())
        })
    }

    /// Runs a check of a path unless this process has done so already.
    pub(crate) fn once(&self, path: &Path, check: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let known = |set: &Mutex<HashSet<PathBuf>>| set.lock().unwrap_or_else(PoisonError::into_inner).contains(path);
        if !known(&self.verified) {
            check()?;
            self.verified.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        }
        Ok(())
    }

    /// Records why there is no result. Checkpoints of what fails whenever it is run are of no use.
    pub(crate) fn fail(&self, lock: &Lock, failure: &Failure) -> Result<(), Error> {
        write_json(&lock.folder().join(FAILED), failure)?;
        if failure.certain { remove_leftovers(lock.folder()) } else { Ok(()) }
    }

    /// Forgets a result that turned out to be damaged: the job is done again. Its checkpoints and files stay.
    pub(crate) fn forget(&self, address: &Address) -> Result<(), Error> {
        remove(&self.folder(address).join(DONE))
    }

    /// The job whose folder a path lies in.
    pub(crate) fn address_of(&self, path: &Path) -> Option<Address> {
        let absolute = std::path::absolute(&self.root).ok()?;
        let below = path.strip_prefix(&self.root).or_else(|_| path.strip_prefix(&absolute)).ok()?;
        let mut parts = below.components().map(|c| c.as_os_str().to_string_lossy());
        Address::parse(&format!("{}/{}", parts.next()?, parts.next()?)).ok()
    }

    /// The names of all jobs of a kind, in order.
    ///
    /// # Errors
    /// A folder that is there and cannot be listed: that must not look like an empty one.
    pub(crate) fn names(&self, kind: &str) -> Result<Vec<String>, Error> {
        let folder = self.root.join(kind);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(&folder)(e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(Error::io(&folder))?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Keeps [`gc`] away as long as the value lives.
    ///
    /// # Errors
    /// A folder that cannot be written, a file system without locks.
    pub fn using(&self) -> Result<Use, Error> {
        if let Some(_alone) = Use::alone(&self.root)? {
            self.remove_broken_writes()?;
        }
        Use::begin(&self.root)
    }

    /// Temporary files that kills left beside the records of the store. (Those of jobs go with their jobs.)
    fn remove_broken_writes(&self) -> Result<(), Error> {
        for folder in ["", "machines", "studies"].map(|folder| self.root.join(folder)) {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(".tmp") && entry.path().is_file() {
                    remove(&entry.path())?;
                }
            }
        }
        Ok(())
    }
}

/// What a job leaves only while it runs.
fn is_leftover(name: &str) -> bool {
    name.starts_with("step-") || name.starts_with(".tmp") || name.starts_with(".claim") || name == "origin.json"
}

/// The files that belong to a result, and their bytes.
fn files_in(folder: &Path) -> Result<BTreeMap<String, u64>, Error> {
    let mut out = BTreeMap::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((at, prefix)) = folders.pop() {
        for entry in std::fs::read_dir(&at).map_err(Error::io(&at))? {
            let entry = entry.map_err(Error::io(&at))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().map_err(Error::io(&at))?;
            let record = prefix.is_empty() && [JOB, DONE, FAILED, lock::LOCK].contains(&name.as_str());
            if is_leftover(&name) {
                continue;
            }
            if kind.is_dir() {
                folders.push((entry.path(), format!("{prefix}{name}/")));
            } else if !record && name != ".lock" {
                let bytes = entry.metadata().map_err(Error::io(&at))?.len();
                out.insert(format!("{prefix}{name}"), bytes);
            }
        }
    }
    Ok(out)
}

/// The files that belong to a result, with their digests.
fn records_of(folder: &Path) -> Result<BTreeMap<String, FileRecord>, Error> {
    let names = files_in(folder)?.into_keys();
    names.map(|name| Ok((name.clone(), record_of(&folder.join(name))?))).collect()
}

fn record_of(path: &Path) -> Result<FileRecord, Error> {
    use std::io::Read as _;
    let mut file = std::fs::File::open(path).map_err(Error::io(path))?;
    let (mut hash, mut bytes) = (xxhash_rust::xxh3::Xxh3::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer).map_err(Error::io(path))?;
        if n == 0 {
            return Ok(FileRecord { bytes, xxh3: format!("{:032x}", hash.digest128()) });
        }
        hash.update(&buffer[..n]);
        bytes += n as u64;
    }
}

/// Checkpoints of a finished job, and temporary files and folders that a kill left.
fn leftovers(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut out = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // Another process has just removed it.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(out),
        Err(e) => return Err(Error::io(folder)(e)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::io(folder))?;
        if is_leftover(&entry.file_name().to_string_lossy()) {
            out.push(entry.path());
        } else if entry.path().is_dir() {
            out.extend(leftovers(&entry.path())?);
        }
    }
    Ok(out)
}

fn remove_leftovers(folder: &Path) -> Result<(), Error> {
    leftovers(folder)?.iter().try_for_each(|path| match path.is_dir() {
        true => std::fs::remove_dir_all(path).map_err(Error::io(path)),
        false => remove(path),
    })
}

/// Removes a file that may not be there.
fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}
