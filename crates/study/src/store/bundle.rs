//! Results without weights: a file that pages can be made from again, elsewhere and without training.
//!
//! A zstd-compressed text of JSON lines: a head, one line a job in the order of addresses, and a digest of all lines
//! before it. The same results give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use super::gc::{Keep, Root};
use super::{DONE, Done, FAILED, FORMAT, Failure, JOB, JobRecord, Lock, Status, Store, remove};
use crate::Error;
use crate::address::Address;
use crate::files::{read_json, write, write_json};
use crate::job::Job;

/// zstd's level: text of numbers, written once.
const LEVEL: i32 = 12;
/// A bundle that unpacks to more than this is none.
const MOST: u64 = 4 << 30;

#[derive(Serialize, Deserialize)]
struct Head {
    midtrain_results: u32,
    studies: Vec<Root>,
    jobs: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    address: Address,
    job: Job,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done: Option<Done<Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<Failure>,
}

#[derive(Serialize, Deserialize)]
struct Tail {
    xxh3: String,
}

/// What a bundle held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BundleReport {
    /// Studies.
    pub studies: usize,
    /// Results.
    pub results: usize,
    /// Of these, already in the store.
    pub known: usize,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes the results of all studies of a store, or of those whose record's name begins with one of `names`.
///
/// # Errors
/// A name that no study has, a store that cannot be read, a file that cannot be written.
pub fn export(store: &Store, names: &[String], to: &Path) -> Result<BundleReport, Error> {
    let all = Root::all(store)?;
    let keep = if names.is_empty() { Keep::Every } else { Keep::Named(names.to_vec()) };
    keep.check_among(all.iter().map(|(name, _)| name.as_str()))?;
    let studies: Vec<Root> = all.iter().filter(|(name, _)| keep.is_kept(name)).map(|(_, root)| root.clone()).collect();
    let addresses: BTreeSet<Address> = studies.iter().flat_map(|root| root.jobs.keys().cloned()).collect();
    let mut lines = Vec::new();
    for address in addresses {
        let folder = store.folder(&address);
        let Some(JobRecord::<Job> { job, .. }) = read_json(&folder.join(JOB))? else { continue };
        // What is not whole is left out, as if it were not there.
        let (done, failed) = match job.status(store)? {
            Status::Done { .. } => (read_json(&folder.join(DONE))?, None),
            Status::Failed(failure) => (None, Some(failure)),
            Status::Absent | Status::Broken => (None, None),
        };
        if done.is_some() || failed.is_some() {
            lines.push(Line { address, job, done, failed });
        }
    }
    let head = Head { midtrain_results: FORMAT, jobs: lines.len() as u64, studies };
    let failed = |e: serde_json::Error| Error::io(to)(e.into());
    let mut text = serde_json::to_vec(&head).map_err(failed)?;
    for line in &lines {
        text.push(b'\n');
        serde_json::to_writer(&mut text, line).map_err(failed)?;
    }
    text.push(b'\n');
    let tail = Tail { xxh3: format!("{:032x}", xxh3_128(&text)) };
    serde_json::to_writer(&mut text, &tail).map_err(failed)?;
    text.push(b'\n');
    let bytes = zstd::encode_all(text.as_slice(), LEVEL).map_err(Error::io(to))?;
    write(to, &bytes)?;
    Ok(BundleReport { studies: head.studies.len(), results: lines.len(), known: 0, bytes: bytes.len() as u64 })
}

/// Takes a bundle's results into a store; what the store has stays as it is. Files that belong to results do not come
/// along: they are made again when a job needs them.
///
/// # Errors
/// A file that cannot be read, is damaged or no bundle: then nothing is taken.
pub fn import(store: &Store, from: &Path) -> Result<BundleReport, Error> {
    let bytes = std::fs::read(from).map_err(|e| Error::Bundle { path: from.to_owned(), reason: e.to_string() })?;
    let (head, lines) = parse(from, &bytes)?;
    let mut report =
        BundleReport { studies: head.studies.len(), results: lines.len(), known: 0, bytes: bytes.len() as u64 };
    for line in lines {
        let folder = store.folder(&line.address);
        if matches!(line.job.status(store)?, Status::Done { .. } | Status::Failed(_)) {
            report.known += 1;
            continue;
        }
        // Another process is making it: its result will be the same.
        let Some(lock) = Lock::take(&folder)? else {
            report.known += 1;
            continue;
        };
        let record = JobRecord { format: FORMAT, address: line.address, job: line.job };
        write_json(&lock.folder().join(JOB), &record)?;
        if let Some(failed) = &line.failed {
            write_json(&lock.folder().join(FAILED), failed)?;
        }
        if let Some(mut done) = line.done {
            done.released.extend(std::mem::take(&mut done.files).into_keys());
            write_json(&lock.folder().join(DONE), &done)?;
            remove(&lock.folder().join(FAILED))?;
        }
    }
    head.studies.iter().try_for_each(|root| root.put(store))?;
    Ok(report)
}

/// Everything is read and checked before anything is taken.
fn parse(from: &Path, bytes: &[u8]) -> Result<(Head, Vec<Line>), Error> {
    let bad = |reason: String| Error::Bundle { path: from.to_owned(), reason };
    let mut text = Vec::new();
    zstd::Decoder::new(bytes)
        .and_then(|decoder| decoder.take(MOST).read_to_end(&mut text))
        .map_err(|e| bad(format!("is no bundle of results, or a damaged one: {e}")))?;
    let body = text.strip_suffix(b"\n").ok_or_else(|| bad("is cut off".into()))?;
    let end = body.iter().rposition(|b| *b == b'\n').ok_or_else(|| bad("is cut off".into()))? + 1;
    let tail: Tail = serde_json::from_slice(&body[end..]).map_err(|_| bad("is cut off".into()))?;
    if format!("{:032x}", xxh3_128(&text[..end])) != tail.xxh3 {
        return Err(bad("its digest differs: it was damaged or changed".into()));
    }
    let mut lines = text[..end - 1].split(|b| *b == b'\n');
    let first = lines.next().unwrap_or_default();
    let version: BTreeMap<String, Value> = serde_json::from_slice(first).map_err(|e| bad(format!("line 1: {e}")))?;
    match version.get("midtrain_results") {
        Some(v) if *v == FORMAT => {}
        Some(v) => return Err(bad(format!("midtrain_results = {v} is unknown; this program reads {FORMAT}"))),
        None => return Err(bad("is no bundle of results".into())),
    }
    let head: Head = serde_json::from_slice(first).map_err(|e| bad(format!("line 1: {e}")))?;
    let mut out = Vec::new();
    for (number, line) in lines.enumerate() {
        let number = number + 2;
        let line: Line = serde_json::from_slice(line).map_err(|e| bad(format!("line {number}: {e}")))?;
        // Results are found by address: one that does not fit its job would answer for another.
        let found = line.job.address();
        if found != line.address {
            return Err(bad(format!("line {number}: the job of {} has the address {found}", line.address)));
        }
        out.push(line);
    }
    if out.len() as u64 != head.jobs {
        return Err(bad(format!("holds {} jobs, its head says {}", out.len(), head.jobs)));
    }
    Ok((head, out))
}
