//! Freeing what no study needs.
//!
//! Every study that is run on a store leaves a record of what its question needed. [`gc`] keeps that, for all studies or
//! for those that are named; of what they need it frees the files that only the way there took: the models of rates that
//! lost a sweep, and the optimisers of last states.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{DONE, Done, FAILED, JOB, Lock, Store, Use, files_in, records_of};
use crate::address::{Address, digest};
use crate::data::Data;
use crate::files::{read_json, write_json};
use crate::graph::Graph;
use crate::job::{FULL_STATE, Job, Kind as _, MODEL, Pretrain, Pretrained, WEIGHTS};
use crate::spec::StudySpec;
use crate::{Error, Study};

/// The folder of studies' records.
const STUDIES: &str = "studies";

/// Folders of kinds that a version before this one had.
const OLD_FOLDERS: [&str; 2] = ["overlap", "path"];

/// Characters of a model's and of a question's name in a record's.
const MOST_OF_A_NAME: usize = 40;

/// What is kept of a job's files; its result always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Payload {
    /// Nothing more.
    Result,
    /// A state's weights.
    Weights,
    /// All of it.
    Full,
}

/// What a question asked of a study needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Root {
    pub(crate) question: String,
    pub(crate) spec: StudySpec,
    pub(crate) data: Data,
    pub(crate) jobs: BTreeMap<Address, Payload>,
}

impl Root {
    /// Records what a question needs.
    pub(crate) fn write(
        store: &Store,
        study: &Study,
        question: &str,
        data: &Data,
        graph: &Graph<'_>,
    ) -> Result<(), Error> {
        let mut jobs: BTreeMap<Address, Payload> = data.jobs.iter().map(|a| (a.clone(), Payload::Full)).collect();
        jobs.extend(graph.payloads().map(|(address, payload)| (address.clone(), payload)));
        let root = Self { question: question.to_owned(), spec: study.spec().clone(), data: data.clone(), jobs };
        write_json(&store.root.join(STUDIES).join(root.file()), &root)
    }

    fn file(&self) -> String {
        format!("{}.json", Self::name(&self.spec, &self.question))
    }

    pub(crate) fn name(spec: &StudySpec, question: &str) -> String {
        // As the name of a file, whatever it came from.
        let plain = |text: &str| -> String {
            text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(MOST_OF_A_NAME).collect()
        };
        format!("{}-{}-{}", plain(&spec.model_name), plain(question), &digest(spec)[..12])
    }

    /// The record of a name.
    pub(crate) fn named(store: &Store, name: &str) -> Result<Option<Self>, Error> {
        read_json(&store.root.join(STUDIES).join(format!("{name}.json")))
    }

    /// The records of a store, with their names.
    pub(crate) fn all(store: &Store) -> Result<Vec<(String, Self)>, Error> {
        let mut roots = Vec::new();
        for file in store.names(STUDIES)? {
            let Some(name) = file.strip_suffix(".json") else { continue };
            if let Some(root) = read_json(&store.root.join(STUDIES).join(&file))? {
                roots.push((name.to_owned(), root));
            }
        }
        Ok(roots)
    }

    /// The data of the latest run of the same study.
    pub(crate) fn data_of(store: &Store, spec: &StudySpec) -> Result<Option<Data>, Error> {
        let written = |name: &str| {
            let path = store.root.join(STUDIES).join(format!("{name}.json"));
            std::fs::metadata(path).and_then(|m| m.modified()).ok()
        };
        let same = Self::all(store)?.into_iter().filter(|(_, root)| root.spec == *spec);
        Ok(same.max_by_key(|(name, _)| written(name)).map(|(_, root)| root.data))
    }

    /// Puts a record that came with a bundle into a store.
    pub(super) fn put(&self, store: &Store) -> Result<(), Error> {
        write_json(&store.root.join(STUDIES).join(self.file()), self)
    }
}

/// Whose needs count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// Every study's that was run on the store.
    Every,
    /// Those of studies whose record has one of these names, or begins with one; the other records are removed.
    Named(Vec<String>),
}

impl Keep {
    /// Checks before a study is run that what is to be kept is a study of the store, or the one about to be run.
    ///
    /// # Errors
    /// A name that neither has: it lists those there are.
    pub fn check(&self, store: &Store, study: &Study, question: &str) -> Result<(), Error> {
        let roots = Root::all(store)?;
        let own = Root::name(study.spec(), question);
        self.check_among(roots.iter().map(|(name, _)| name.as_str()).chain([own.as_str()]))
    }

    pub(super) fn check_among<'a>(&self, known: impl Iterator<Item = &'a str> + Clone) -> Result<(), Error> {
        let Self::Named(names) = self else { return Ok(()) };
        let unknown = |name: &&String| !known.clone().any(|k| k.starts_with(name.as_str()));
        match names.iter().find(unknown) {
            Some(name) => {
                let known = known.clone().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
                Err(Error::field("study", name, format!("is not in the store; there are: {known}")))
            }
            None => Ok(()),
        }
    }

    pub(super) fn is_kept(&self, study: &str) -> bool {
        match self {
            Self::Every => true,
            Self::Named(names) => names.iter().any(|name| study.starts_with(name.as_str())),
        }
    }
}

/// Something that was, or would be, freed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freed {
    /// The job.
    pub address: Address,
    /// What of it.
    pub what: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// What [`gc`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GcReport {
    /// What was freed.
    pub freed: Vec<Freed>,
    /// Names of the studies whose needs were kept.
    pub studies: Vec<String>,
    /// Jobs that another process works on: left alone.
    pub busy: Vec<Address>,
}

impl std::fmt::Display for GcReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "kept what these need: {}", self.studies.join(", "))?;
        for freed in &self.freed {
            writeln!(f, "{:>12} bytes  {} ({})", freed.bytes, freed.address, freed.what)?;
        }
        for address in &self.busy {
            writeln!(f, "left alone, another process works on it: {address}")?;
        }
        let total: u64 = self.freed.iter().map(|freed| freed.bytes).sum();
        writeln!(f, "{total} bytes in {} places", self.freed.len())
    }
}

/// Frees what no study needs. With `dry_run` nothing is changed, the report says what would be.
///
/// # Errors
/// A name that no study has, a store that another process uses ([`Store::using`]), one that cannot be read or written.
pub fn gc(store: &Store, keep: &Keep, dry_run: bool) -> Result<GcReport, Error> {
    // What a process at work is about to need is in no record yet.
    let alone = Use::alone(&store.root)?;
    if alone.is_none() && !dry_run {
        return Err(Error::InUse { path: store.root.clone() });
    }
    let roots = Root::all(store)?;
    if roots.is_empty() {
        let reason = "holds no study's record: what is needed is unknown, nothing is freed".to_owned();
        return Err(Error::Parse { path: store.root.join(STUDIES), reason });
    }
    keep.check_among(roots.iter().map(|(name, _)| name.as_str()))?;
    let mut needs: BTreeMap<Address, Payload> = BTreeMap::new();
    let mut report = GcReport::default();
    for (name, root) in &roots {
        if keep.is_kept(name) {
            report.studies.push(name.clone());
            for (address, payload) in &root.jobs {
                let need = needs.entry(address.clone()).or_insert(*payload);
                *need = (*need).max(*payload);
            }
        } else if !dry_run {
            let path = store.root.join(STUDIES).join(format!("{name}.json"));
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    keep_states_on_the_way(store, &mut needs)?;
    // Only what is known to be a job's: a store may lie in a folder that holds other things.
    for kind in Job::FOLDERS.iter().chain(&OLD_FOLDERS) {
        for name in store.names(kind)? {
            let address = Address::named(kind, &name);
            if Address::parse(&address.to_string()).is_err() || !is_job(&store.folder(&address)) {
                continue;
            }
            let Some(lock) = Lock::take(&store.folder(&address))? else {
                report.busy.push(address);
                continue;
            };
            let freed = match needs.get(&address) {
                None => Some(("all", remove_all(&lock, dry_run)?)),
                Some(Payload::Full) => None,
                Some(Payload::Weights) => strip(store, &address, &lock, dry_run)?.map(|b| ("optimiser", b)),
                Some(Payload::Result) => release(store, &address, &lock, dry_run)?.map(|b| ("model", b)),
            };
            if let Some((what, bytes)) = freed {
                report.freed.push(Freed { address, what, bytes });
            }
        }
    }
    Ok(report)
}

/// Whether a folder is a job's, and not something else that lies in a folder of the store's.
fn is_job(folder: &Path) -> bool {
    // `inputs.json`: of a version before this one.
    [JOB, DONE, FAILED, "inputs.json"].iter().any(|record| folder.join(record).is_file())
}

/// Kept states of needed runs, which no job asks for, and the states whose logs a needed one goes on from.
fn keep_states_on_the_way(store: &Store, needs: &mut BTreeMap<Address, Payload>) -> Result<(), Error> {
    let needed: Vec<Pretrain> = needs
        .keys()
        .filter(|a| a.kind() == Pretrain::NAME)
        .filter_map(|address| match store.job(address) {
            Ok(Job::Pretrain(job)) => Some(job),
            _ => None,
        })
        .collect();
    for job in &needed {
        for address in job.kept_on_the_way(store)? {
            needs.entry(address).or_insert(Payload::Full);
        }
        let mut from = store.result::<Pretrain>(&job.address())?.and_then(|state: Pretrained| state.from);
        while let Some(address) = from {
            from = store.result::<Pretrain>(&address)?.and_then(|state| state.from);
            needs.entry(address).or_insert(Payload::Result);
        }
    }
    Ok(())
}

fn bytes_of(folder: &Path) -> Result<u64, Error> {
    Ok(files_in(folder)?.values().sum())
}

fn remove_all(lock: &Lock, dry_run: bool) -> Result<u64, Error> {
    let bytes = bytes_of(lock.folder())?;
    if !dry_run {
        std::fs::remove_dir_all(lock.folder()).map_err(Error::io(lock.folder()))?;
    }
    Ok(bytes)
}

/// Leaves a last state's weights alone.
fn strip(store: &Store, address: &Address, lock: &Lock, dry_run: bool) -> Result<Option<u64>, Error> {
    let (full, weights) = (lock.folder().join(FULL_STATE), lock.folder().join(WEIGHTS));
    let Ok(before) = std::fs::metadata(&full) else { return Ok(None) };
    if dry_run {
        // Weights and two moments.
        return Ok(Some(before.len() * 2 / 3));
    }
    trainer::keep_weights(&full, &weights)?;
    let after = std::fs::metadata(&weights).map_err(Error::io(&weights))?.len();
    record_release(store, address, lock, &|name| name == FULL_STATE)?;
    std::fs::remove_file(&full).map_err(Error::io(&full))?;
    Ok(Some(before.len().saturating_sub(after)))
}

/// Frees a model that only its losses are needed of; and of a state everything but its log.
fn release(store: &Store, address: &Address, lock: &Lock, dry_run: bool) -> Result<Option<u64>, Error> {
    let prefix = format!("{MODEL}/");
    let heavy = |name: &str| name.starts_with(&prefix) || name == FULL_STATE || name == WEIGHTS;
    let files = files_in(lock.folder())?;
    let bytes: u64 = files.iter().filter(|(name, _)| heavy(name)).map(|(_, bytes)| bytes).sum();
    if bytes == 0 {
        return Ok(None);
    }
    if !dry_run {
        record_release(store, address, lock, &heavy)?;
        for name in files.keys().filter(|name| heavy(name)) {
            let path = lock.folder().join(name);
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(Some(bytes))
}

/// Says in a result's record that files were freed on purpose.
fn record_release(store: &Store, address: &Address, lock: &Lock, freed: &dyn Fn(&str) -> bool) -> Result<(), Error> {
    let Some(mut done) = store.done::<serde_json::Value>(address)? else { return Ok(()) };
    done.files = records_of(lock.folder())?.into_iter().filter(|(name, _)| !freed(name)).collect();
    let gone = files_in(lock.folder())?.into_keys().filter(|name| freed(name));
    done.released.extend(gone);
    done.released.sort_unstable();
    done.released.dedup();
    write_json(&lock.folder().join(DONE), &Done { format: done.format, ..done })
}
