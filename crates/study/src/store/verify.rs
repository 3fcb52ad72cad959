//! Comparing what a store holds with the checksums that were taken when it was made: on demand, because it reads
//! everything.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::{DONE, JOB, Lock, Status, Store, record_of};
use crate::address::Address;
use crate::data::Data;
use crate::graph::Graph;
use crate::question::Question;
use crate::{Error, Machine, Study};

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Jobs whose files were compared.
    pub jobs: usize,
    /// Files.
    pub files: usize,
    /// Bytes.
    pub bytes: u64,
    /// Files that are damaged or missing: their jobs are done again when something needs them.
    pub damaged: Vec<String>,
}

impl std::fmt::Display for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} files of {} jobs, {} bytes, {} damaged", self.files, self.jobs, self.bytes, self.damaged.len())?;
        self.damaged.iter().try_for_each(|file| write!(f, "\n  damaged: {file}"))
    }
}

/// Compares all files of the jobs that a question needs, its data included, with their checksums. Results whose files
/// are damaged are forgotten.
///
/// # Errors
/// A store that cannot be read or written.
pub fn verify(
    question: &dyn Question,
    study: &Study,
    data: &Data,
    store: &Store,
    machine: &Machine,
) -> Result<Verified, Error> {
    let nothing = std::collections::BTreeMap::new();
    let mut graph = Graph::new(study, data, store, machine, &nothing).guessing();
    question.needs(&mut graph)?;
    let jobs = graph.jobs();
    let mut verified = Verified::default();
    for job in &jobs {
        let address = job.address();
        match job.status(store)? {
            Status::Broken => verified.damaged.push(format!("{address}/{DONE}")),
            // What a job is: needed to make it again by its address.
            Status::Done { .. } if store.job(&address).is_err() => {
                verified.damaged.push(format!("{address}/{JOB}"));
                store.update(job)?;
            }
            _ => {}
        }
    }
    let needed = jobs.iter().map(|job| job.address()).chain(data.jobs.iter().cloned()).collect::<BTreeSet<_>>();
    for address in needed {
        if !store.is_done(&address) {
            continue;
        }
        let before = verified.damaged.len();
        compare(store, &address, &mut verified)?;
        if verified.damaged.len() > before
            && let Some(_lock) = Lock::take(&store.folder(&address))?
        {
            store.forget(&address)?;
        }
    }
    Ok(verified)
}

/// Compares a job's files with their records.
fn compare(store: &Store, address: &Address, verified: &mut Verified) -> Result<(), Error> {
    let folder = store.folder(address);
    let Some(done) = store.done::<serde::de::IgnoredAny>(address)? else { return Ok(()) };
    let sound = |(name, file): (&String, &super::FileRecord)| match record_of(&folder.join(name)) {
        Ok(found) => Ok((found != *file).then(|| format!("{address}/{name}"))),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(Some(format!("{address}/{name}")))
        }
        Err(other) => Err(other),
    };
    let found = done.files.par_iter().map(sound).collect::<Result<Vec<_>, Error>>()?;
    verified.jobs += 1;
    verified.files += done.files.len();
    verified.bytes += done.files.values().map(|file| file.bytes).sum::<u64>();
    verified.damaged.extend(found.into_iter().flatten());
    Ok(())
}
