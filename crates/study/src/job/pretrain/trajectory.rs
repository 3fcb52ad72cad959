//! What identifies a training state, and which stored states lie on the way to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use data_mixer::Pairing;
use schedule::{Shares, Step, WeightCurve};
use serde_json::json;
use trainer::{TrainSpec, verify_checkpoint};

use super::{Begun, FULL_STATE, Pretrain, Setup};
use crate::Error;
use crate::address::{Address, digest};
use crate::job::{Content, Kind as _};
use crate::rates::Rates;
use crate::store::Store;

impl Setup {
    /// What is in addresses of it.
    fn identity(&self) -> serde_json::Value {
        let TrainSpec { optimizer, clip, micro_tokens, precision, .. } = &self.recipe;
        let mut identity = json!({
            "version": self.version,
            "backend": self.backend,
            "kernels": self.kernels,
            "model": self.model,
            "init_seed": self.init_seed,
            "data_seed": self.data_seed,
            "batch": self.batch,
            "time": self.time,
            "document_mask": self.document_mask,
            "general": self.general,
            "optimizer": optimizer,
            "clip": clip,
            "micro_tokens": micro_tokens,
            "precision": precision,
        });
        if let Some(base) = &self.base {
            identity["base"] = json!(base.digest);
        }
        if self.shuffle_documents {
            identity["shuffle_documents"] = json!(true);
        }
        if self.pairing != Pairing::Displace {
            identity["pairing"] = json!(self.pairing);
        }
        identity
    }

    /// The beginning of the names of all its states.
    fn lineage(&self) -> String {
        digest(&self.identity())[..16].to_owned()
    }
}

impl Pretrain {
    /// Its trajectory and its step.
    pub(super) fn state_address(&self) -> Address {
        let phase = |b: &Begun| {
            // What comes after a constant phase changes nothing in it.
            let ramp = !matches!(b.phase.weight, WeightCurve::Constant(_));
            json!({ "phase": b.phase, "end": ramp.then_some(b.end) })
        };
        let identity = json!({
            "rates": self.rates,
            "phases": self.phases.iter().map(phase).collect::<Vec<_>>(),
            "sources": self.sources.iter().map(|(name, c)| (name, &c.digest)).collect::<BTreeMap<_, _>>(),
        });
        let name = format!("{}-{:07}-{}", self.setup.lineage(), self.step.0, &digest(&identity)[..24]);
        Address::named(Self::NAME, &name)
    }

    /// The state of its trajectory at an earlier step.
    pub(crate) fn at(&self, step: Step, rates: &Rates) -> Self {
        let phases: Vec<Begun> = self.phases.iter().filter(|b| b.phase.start < step).cloned().collect();
        let named = named(&self.setup.general, &phases);
        Self {
            step,
            sources: self.sources.iter().filter(|(name, _)| named.contains(*name)).map(own).collect(),
            phases,
            rates: rates.digest(step),
            after: None,
            ..self.clone()
        }
    }

    /// Whether another job's state lies on this one's way.
    pub(crate) fn passes(&self, earlier: &Self, rates: &Rates) -> bool {
        earlier.step < self.step
            && earlier.setup == self.setup
            && earlier.phases.len() <= self.phases.len()
            && self.at(earlier.step, rates).address() == earlier.address()
    }

    pub(super) fn curve(&self) -> Result<Rates, Error> {
        Rates::new(&self.label, self.lr.clone())
    }

    /// The names of states in the store that may be on the same trajectory, with their steps.
    pub(super) fn relatives(&self, store: &Store) -> Result<Vec<(Step, Address)>, Error> {
        let lineage = self.setup.lineage();
        let of = |name: String| {
            name.strip_prefix(&lineage)?.strip_prefix('-')?;
            let address = Address::named(Self::NAME, &name);
            Some((Step(step_of(&address)?), address))
        };
        let mut out: Vec<_> = store.names(Self::NAME)?.into_iter().filter_map(of).collect();
        out.sort_unstable();
        Ok(out)
    }

    /// The nearest state before this one that can be gone on from.
    ///
    /// # Errors
    /// One that is damaged: it is to be made again, not passed over.
    pub(super) fn origin(&self, store: &Store, rates: &Rates) -> Result<Option<(Step, Address, PathBuf)>, Error> {
        for (step, address) in self.relatives(store)?.into_iter().rev().filter(|(step, _)| *step < self.step) {
            let path = store.folder(&address).join(FULL_STATE);
            // One without a result is not finished: nobody could say from where it came.
            if self.at(step, rates).address() == address && store.is_done(&address) && path.exists() {
                verify_checkpoint(&path)?;
                return Ok(Some((step, address, path)));
            }
        }
        Ok(None)
    }

    /// Those that the store holds.
    pub(crate) fn kept_on_the_way(&self, store: &Store) -> Result<Vec<Address>, Error> {
        let Some(every) = self.keep_every else { return Ok(Vec::new()) };
        let rates = self.curve()?;
        let kept = self.relatives(store)?.into_iter().filter(|(step, _)| *step < self.step && step.0 % every == 0);
        Ok(kept.filter(|(step, address)| self.at(*step, &rates).address() == *address).map(|(_, a)| a).collect())
    }
}

/// The step in a state's address.
pub(crate) fn step_of(state: &Address) -> Option<u64> {
    state.name().split('-').nth(1)?.parse().ok()
}

/// The sources that a general side and phases name.
fn named(general: &Shares, phases: &[Begun]) -> BTreeSet<String> {
    let sides = phases.iter().flat_map(|b| b.phase.specialised.iter().chain(&b.phase.general));
    std::iter::once(general).chain(sides).flat_map(Shares::iter).map(|(name, _)| name.to_owned()).collect()
}

fn own<'a>((name, content): (&'a String, &'a Content)) -> (String, Content) {
    (name.clone(), content.clone())
}
