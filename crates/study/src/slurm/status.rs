//! What runs, waits, is done or failed, of a study on a store: from the store alone, and from the queue where there is one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::campaign::{Campaign, Outcome};
use super::queue;
use crate::address::Address;
use crate::job::Job;
use crate::store::{Lock, Root, Store};
use crate::{Error, Question, Study};

/// What is known of a kind's jobs.
#[derive(Default)]
struct Counts {
    done: usize,
    running: usize,
    waiting: usize,
    failed: usize,
}

/// Tells how far a study's question is.
///
/// # Errors
/// A store that cannot be read.
pub fn status(question: &dyn Question, study: &Study, store: &Store) -> Result<String, Error> {
    let campaign = Campaign::of(store, study, question);
    let state = campaign.state()?;
    let name = Root::name(study.spec(), question.name());
    let mut addresses: Vec<Address> =
        Root::named(store, &name)?.map_or_else(Vec::new, |root| root.jobs.into_keys().collect());
    if let Some(state) = &state {
        let tasks = campaign.tasks(state.round)?;
        addresses.extend(tasks.iter().flat_map(|task| &task.jobs).map(Job::address));
    }
    addresses.sort_unstable();
    addresses.dedup();
    let mut out = format!("{name}\n");
    if addresses.is_empty() && state.is_none() {
        let root = store.root();
        let why = if root.is_dir() { "its data may be being prepared" } else { "there is no such folder" };
        let _ = writeln!(out, "nothing is known of it in {}; {why}", root.display());
    } else {
        describe(store, &addresses, &mut out)?;
    }
    for job in at_work(store)?.iter().filter(|job| addresses.binary_search(&job.address()).is_err()) {
        let _ = writeln!(out, "also running in this store: {} ({})", job.label(), job.address());
    }
    if let Some(state) = state {
        let _ = writeln!(out, "slurm: round {}, in {}", state.round, campaign.folder.display());
        match &state.outcome {
            Some(Outcome::Answered) => out += "slurm: the question is answered\n",
            Some(Outcome::Failed(reason)) => {
                let _ = writeln!(out, "slurm: failed: {reason}");
            }
            None => describe_queue(&state.ids, &mut out),
        }
    }
    Ok(out)
}

/// The jobs that anybody works on now.
fn at_work(store: &Store) -> Result<Vec<Job>, Error> {
    let mut jobs = Vec::new();
    for kind in Job::FOLDERS {
        for name in store.names(kind)? {
            let Ok(address) = Address::parse(&format!("{kind}/{name}")) else { continue };
            if Lock::is_held(&store.folder(&address))? {
                jobs.extend(store.job(&address));
            }
        }
    }
    Ok(jobs)
}

fn describe_queue(ids: &[String], out: &mut String) {
    match queue::queued(ids) {
        Ok(jobs) if jobs.is_empty() => {
            *out += "slurm: nothing of it is in the queue; the same command submits what is left\n";
        }
        Ok(jobs) => jobs.iter().for_each(|job| {
            let _ = writeln!(out, "slurm: job {} {} {}", job.id, job.state, job.reason);
        }),
        Err(error) => {
            let _ = writeln!(out, "slurm: the queue cannot be asked here: {error}");
        }
    }
}

fn describe(store: &Store, addresses: &[Address], out: &mut String) -> Result<(), Error> {
    let mut kinds: BTreeMap<&str, Counts> = BTreeMap::new();
    let (mut running, mut failed) = (Vec::new(), Vec::new());
    for address in addresses {
        let counts = kinds.entry(address.kind()).or_default();
        let label = || store.job(address).map_or_else(|_| address.to_string(), |job| job.label());
        let folder = store.folder(address);
        if store.is_done(address) {
            counts.done += 1;
        } else if Lock::is_held(&folder)? {
            counts.running += 1;
            running.push(format!("{} ({address})", label()));
        } else if let Some(failure) = store.failure(address)? {
            counts.failed += 1;
            failed.push(failure.to_string());
        } else {
            counts.waiting += 1;
        }
    }
    let _ = writeln!(out, "{:<12}{:>7}{:>9}{:>9}{:>8}", "", "done", "running", "waiting", "failed");
    for (kind, c) in &kinds {
        let _ = writeln!(out, "{kind:<12}{:>7}{:>9}{:>9}{:>8}", c.done, c.running, c.waiting, c.failed);
    }
    running.iter().for_each(|line| {
        let _ = writeln!(out, "running: {line}");
    });
    failed.iter().for_each(|line| {
        let _ = writeln!(out, "failed: {line}");
    });
    Ok(())
}
