//! Which jobs a round runs, and what is one task.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::address::Address;
use crate::job::{Input, Job, Reads};
use crate::store::{Failure, Files, Status, Store};

/// Jobs that run one after the other in one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) jobs: Vec<Job>,
    /// Tasks of the same round that it waits for.
    pub(super) after: BTreeSet<usize>,
}

/// Why jobs have no result: those that the store says fail, those that were given up, and what depends on either.
pub(super) fn failures(
    jobs: &[Job],
    store: &Store,
    given_up: &BTreeMap<Address, Failure>,
) -> Result<BTreeMap<Address, Failure>, Error> {
    let mut failures = given_up.clone();
    // Inputs stand before those who read them.
    for job in jobs {
        let address = job.address();
        if failures.contains_key(&address) {
            continue;
        }
        match job.status(store)? {
            Status::Failed(failure) => drop(failures.insert(address, failure)),
            Status::Done { .. } => {}
            Status::Absent | Status::Broken => {
                let lost = job.inputs().into_iter().find_map(|input| stands_in_the_way(&input, &failures));
                if let Some((root, cause)) = lost {
                    let reason = if cause.root.is_some() { cause.reason.clone() } else { cause.to_string() };
                    let failure = Failure { label: job.label(), reason, certain: cause.certain, root: Some(root) };
                    failures.insert(address, failure);
                }
            }
        }
    }
    Ok(failures)
}

/// The failure that keeps a job from its input.
fn stands_in_the_way(input: &Input, failures: &BTreeMap<Address, Failure>) -> Option<(Address, Failure)> {
    let cause = failures.get(&input.address)?;
    let tolerated = input.what == Reads::Outcome && cause.certain;
    (!tolerated).then(|| (cause.root.clone().unwrap_or_else(|| input.address.clone()), cause.clone()))
}

/// The jobs that are to be run now, inputs first: those without a result, and those whose freed files they need.
pub(super) fn open(jobs: &[Job], store: &Store, failures: &BTreeMap<Address, Failure>) -> Result<Vec<Job>, Error> {
    let by_address: HashMap<Address, &Job> = jobs.iter().map(|job| (job.address(), job)).collect();
    let mut search = Search { store, failures, jobs: by_address, seen: BTreeSet::new(), found: Vec::new() };
    for job in jobs {
        search.visit(job, &job.address(), false)?;
    }
    Ok(search.found)
}

struct Search<'a> {
    store: &'a Store,
    failures: &'a BTreeMap<Address, Failure>,
    jobs: HashMap<Address, &'a Job>,
    seen: BTreeSet<Address>,
    found: Vec<Job>,
}

impl Search<'_> {
    /// `again`: its freed files are needed.
    fn visit(&mut self, job: &Job, address: &Address, again: bool) -> Result<(), Error> {
        if self.failures.contains_key(address) || self.seen.contains(address) {
            return Ok(());
        }
        match job.status(self.store)? {
            Status::Done { files: Files::Whole } | Status::Failed(_) => return Ok(()),
            Status::Done { files: Files::Released } if !again => return Ok(()),
            _ => {}
        }
        self.seen.insert(address.clone());
        for input in job.inputs() {
            if input.is_there(self.store)? {
                continue;
            }
            let stored = match self.jobs.get(&input.address) {
                Some(_) => None,
                None => self.store.job(&input.address).ok(),
            };
            let described = || job.describes().into_iter().find(|job| job.address() == input.address);
            if let Some(needed) = self.jobs.get(&input.address).copied().cloned().or(stored).or_else(described) {
                self.visit(&needed, &input.address, true)?;
            }
        }
        self.found.push(job.clone());
        Ok(())
    }
}

/// Puts jobs, inputs first, into tasks: what trains nothing and waits for one task alone is done by that task, which has
/// the model at hand.
pub(super) fn bundle(jobs: Vec<Job>) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut task_of: HashMap<Address, usize> = HashMap::new();
    for job in jobs {
        let after: BTreeSet<usize> = job.inputs().iter().filter_map(|i| task_of.get(&i.address).copied()).collect();
        let trains = matches!(job, Job::Pretrain(_) | Job::Finetune(_) | Job::TokenisePart(_) | Job::Tokenise(_));
        let only = after.iter().copied().next().filter(|_| after.len() == 1 && !trains);
        let place = only.unwrap_or(tasks.len());
        task_of.insert(job.address(), place);
        match tasks.get_mut(place) {
            Some(task) => task.jobs.push(job),
            None => tasks.push(Task { jobs: vec![job], after }),
        }
    }
    tasks
}

/// Tasks that wait for the same others, in arrays of at most so many.
pub(super) fn arrays(tasks: &[Task], most: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<(&BTreeSet<usize>, Vec<usize>)> = Vec::new();
    for (i, task) in tasks.iter().enumerate() {
        match groups.iter_mut().find(|(after, members)| *after == &task.after && members.len() < most) {
            Some((_, members)) => members.push(i),
            None => groups.push((&task.after, vec![i])),
        }
    }
    groups.into_iter().map(|(_, members)| members).collect()
}
