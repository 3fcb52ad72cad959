//! Logs of runs: what was seen and done at each step, whatever folders the steps lie in.

use std::collections::BTreeMap;
use std::path::Path;

use data_mixer::LedgerHead;
use trainer::StepRecord;

use super::{LOG, Pretrain};
use crate::Error;
use crate::address::Address;
use crate::job::{Job, Kind as _};
use crate::store::Store;

impl Pretrain {
    /// What another run that passed this step has seen by it.
    fn witness(&self, store: &Store) -> Result<Option<(LedgerHead, Address)>, Error> {
        for (step, address) in self.relatives(store)? {
            if step <= self.step {
                continue;
            }
            let Ok(Job::Pretrain(later)) = store.job(&address) else { continue };
            let log = store.folder(&address).join(LOG);
            // A result that came without its files says nothing of single steps.
            if !log.exists() {
                continue;
            }
            let Ok(curve) = later.curve() else { continue };
            if later.at(self.step, &curve).address() != self.address() {
                continue;
            }
            let records = read_log(&log)?;
            if let Some(record) = records.iter().find(|r| r.step + 1 == self.step.0) {
                return Ok(Some((record.ledger, address)));
            }
        }
        Ok(None)
    }

    pub(super) fn check_witness(&self, store: &Store, found: LedgerHead) -> Result<(), Error> {
        match self.witness(store)? {
            Some((expected, by)) if expected != found => {
                Err(Error::OtherData { label: self.label.clone(), step: self.step.0, found, expected, by })
            }
            _ => Ok(()),
        }
    }
}

/// The records of a fine-tune's steps.
///
/// # Errors
/// A log that is missing or damaged.
pub(crate) fn log_of(store: &Store, finetune: &Address) -> Result<Vec<StepRecord>, Error> {
    read_log(&store.folder(finetune).join(LOG))
}

fn read_log(path: &Path) -> Result<Vec<StepRecord>, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let parse = |e: serde_json::Error| Error::Parse { path: path.to_owned(), reason: e.to_string() };
    text.lines().map(|line| serde_json::from_str(line).map_err(parse)).collect()
}

/// The records of the steps of a trajectory from a step on, whatever folders they lie in.
///
/// # Errors
/// A log that is missing, damaged or has a gap.
pub(crate) fn records(store: &Store, state: &Address, from: u64, until: u64) -> Result<Vec<StepRecord>, Error> {
    let mut records = BTreeMap::new();
    let mut at = Some(state.clone());
    // Who goes on from `at`.
    let mut by = state.clone();
    while let Some(address) = at {
        let path = store.folder(&address).join(LOG);
        // A state that is gone for good cannot be made again; the one that was trained from it can, from elsewhere.
        if !path.exists() && store.job(&address).is_err() {
            let reason = format!("goes on from {address}, which is gone");
            return Err(Error::Parse { path: store.folder(&by).join(LOG), reason });
        }
        let first = records.keys().next().copied().unwrap_or(until);
        let found = read_log(&path)?;
        let earlier = found.into_iter().filter(|r| (from..first).contains(&r.step));
        records.extend(earlier.map(|r| (r.step, r)).collect::<Vec<_>>());
        let next = records.keys().next().copied().unwrap_or(until);
        if next == from {
            break;
        }
        at = store.result::<Pretrain>(&address)?.and_then(|state| state.from);
        if at.is_none() {
            let reason = format!("begins at step {next}, not {from}: the steps between are nowhere");
            return Err(Error::Parse { path, reason });
        }
        by = address;
    }
    if records.len() as u64 != until - from {
        let path = store.folder(state).join(LOG);
        let reason = format!("holds {} of the steps {from} to {until}", records.len());
        return Err(Error::Parse { path, reason });
    }
    Ok(records.into_values().collect())
}
