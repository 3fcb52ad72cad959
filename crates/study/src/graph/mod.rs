//! The jobs that questions need, and who waits for whom.
//!
//! Methods add a job with everything that it depends on, and give it back; its result is asked for by the same job. Jobs
//! are told apart by address, so that what several questions or arms need is there once.

mod analyses;
mod evaluations;
mod finetunes;
mod paths;
mod states;

use std::collections::{BTreeMap, BTreeSet};

use crate::address::Address;
use crate::data::Data;
use crate::job::{Evaluate, Finetune, Job, Kind, Plane, Pretrain, Probe, Select, Walk, step_of};
use crate::rates::Rates;
use crate::spec::Kernels;
use crate::store::{Failure, Payload, Store};
use crate::study::SizeId;
use crate::{ArmId, Error, Machine, SetId, Study};

pub(crate) use analyses::{BASE_TUNED, MIDTRAINED_TUNED};
pub use finetunes::{Cell, Rate};

struct Node<'a> {
    job: Job,
    payload: Payload,
    /// Pretraining's learning rates at the size that it is of.
    rates: &'a Rates,
}

/// A study's jobs.
pub struct Graph<'a> {
    /// With all its sizes.
    whole: &'a Study,
    /// At the size that is asked of.
    study: &'a Study,
    size: SizeId,
    data: &'a Data,
    store: &'a Store,
    machine: &'a Machine,
    failures: &'a BTreeMap<Address, Failure>,
    /// By address; `order` has inputs before those who read them.
    nodes: BTreeMap<Address, Node<'a>>,
    order: Vec<Address>,
    /// The choice of a rate by the arm it is tried on and the set: asked for by every fine-tune.
    selects: BTreeMap<(SizeId, ArmId, SetId), Select>,
    known: Known,
}

/// What is taken for the rate of a fine-tune.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// What was chosen.
    Chosen,
    /// For the cost of what is left: what was chosen, and where nothing was yet, the grid's first.
    ChosenOrFirst,
    /// For a plan that says the same before and after it is carried out: the grid's first.
    First,
}

impl<'a> Graph<'a> {
    /// An empty one. `failures`: jobs that are known to have failed.
    pub(crate) fn new(
        study: &'a Study,
        data: &'a Data,
        store: &'a Store,
        machine: &'a Machine,
        failures: &'a BTreeMap<Address, Failure>,
    ) -> Self {
        Self {
            whole: study,
            study,
            size: SizeId::FIRST,
            data,
            store,
            machine,
            failures,
            nodes: BTreeMap::new(),
            order: Vec::new(),
            selects: BTreeMap::new(),
            known: Known::Chosen,
        }
    }

    /// The same, for the cost of what is left: rates that are not chosen yet are taken to be the grid's first.
    pub(crate) fn guessing(self) -> Self {
        Self { known: Known::ChosenOrFirst, ..self }
    }

    /// The same, for a plan whatever the store holds: all rates are taken to be the grid's first.
    pub(crate) fn planning(self) -> Self {
        Self { known: Known::First, ..self }
    }

    /// The study, at the size that is asked of.
    pub fn study(&self) -> &'a Study {
        self.study
    }

    /// Asks something of another size of the study: its jobs lie beside those of the first.
    ///
    /// # Errors
    /// Those of what is asked.
    pub fn at<T>(&mut self, size: SizeId, ask: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let (whole, before) = (self.whole, (self.study, self.size));
        (self.study, self.size) = (&whole[size], size);
        let asked = ask(self);
        (self.study, self.size) = before;
        asked
    }

    /// Its data.
    pub fn data(&self) -> &'a Data {
        self.data
    }

    /// Adds a job; of the same job asked for twice, the higher claim on its files counts.
    pub(crate) fn add(&mut self, job: impl Into<Job>, payload: Payload) {
        let job = job.into();
        let address = job.address();
        match self.nodes.get_mut(&address) {
            Some(node) => node.payload = node.payload.max(payload),
            None => {
                self.order.push(address.clone());
                self.nodes.insert(address, Node { job, payload, rates: self.study.rates() });
            }
        }
    }

    /// All jobs, inputs first. States are linked: each goes on from the nearest earlier one on its way.
    pub(crate) fn jobs(&mut self) -> Vec<Job> {
        self.link();
        self.order.iter().map(|address| self.nodes[address].job.clone()).collect()
    }

    /// Why something on the page is missing, each failed job once: a diverged candidate of a sweep is none of it.
    pub(crate) fn failures_that_matter(&self) -> Vec<Failure> {
        let read: BTreeSet<Address> =
            self.nodes.values().flat_map(|node| node.job.inputs()).map(|input| input.address).collect();
        let mut roots = BTreeMap::new();
        for (address, failure) in self.failures.iter().filter(|(a, _)| !read.contains(a)) {
            let root = failure.root.as_ref().unwrap_or(address);
            let cause = self.failures.get(root).unwrap_or(failure);
            roots.insert(cause.label.clone(), cause.clone());
        }
        roots.into_values().collect()
    }

    /// What is to be kept of each job.
    pub(crate) fn payloads(&self) -> impl Iterator<Item = (&Address, Payload)> {
        self.nodes.iter().map(|(address, node)| (address, node.payload))
    }

    fn link(&mut self) {
        let states: Vec<(Address, Pretrain, &Rates)> = self
            .nodes
            .iter()
            .filter_map(|(address, node)| match &node.job {
                Job::Pretrain(state) => Some((address.clone(), state.clone(), node.rates)),
                _ => None,
            })
            .collect();
        // By name: one run's states lie together, in the order of their steps.
        for (i, (address, state, rates)) in states.iter().enumerate() {
            let lineage = address.name().split('-').next();
            let related = states[..i].iter().rev().take_while(|(a, ..)| a.name().split('-').next() == lineage);
            let mut related = related.filter(|(_, earlier, _)| state.passes(earlier, rates));
            if let (Some((earlier, ..)), Some(node)) = (related.next(), self.nodes.get_mut(address))
                && let Job::Pretrain(state) = &mut node.job
            {
                state.after = Some(earlier.clone());
                if let Some(node) = self.nodes.get_mut(earlier) {
                    node.payload = Payload::Full;
                }
            }
        }
        let states = |address: &Address| match address.kind() {
            Pretrain::NAME => (false, step_of(address).unwrap_or(0)),
            _ => (true, 0),
        };
        // Earlier states first, then everything else as it was asked for.
        self.order.sort_by_key(states);
    }

    /// A job's result, or why there is none.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub(crate) fn outcome<K: Kind>(&self, job: &K) -> Result<Result<K::Output, Failure>, Error> {
        let address = job.address();
        if let Some(failure) = self.failures.get(&address) {
            return Ok(Err(failure.clone()));
        }
        self.store.result::<K>(&address)?.map(Ok).ok_or(Error::NoJob { address })
    }

    /// The jobs that made the data, as far as the store knows them.
    pub(crate) fn data_jobs(&self) -> impl Iterator<Item = Job> + '_ {
        self.data.jobs.iter().filter_map(|address| self.store.job(address).ok())
    }

    /// What computed a job; `None` of one that failed.
    pub(crate) fn computed_by(&self, address: &Address) -> Result<Option<Machine>, Error> {
        if self.failures.contains_key(address) { Ok(None) } else { self.store.computed_by(address) }
    }

    /// What computed the jobs of this graph, where it was not one class of machine.
    pub(crate) fn machines(&self) -> Result<Vec<String>, Error> {
        let computed = [Pretrain::NAME, Finetune::NAME, Evaluate::NAME, Probe::NAME, Walk::NAME, Plane::NAME];
        let mut kernels = BTreeSet::new();
        for address in self.order.iter().filter(|a| computed.contains(&a.kind())) {
            kernels.extend(self.store.computed_by(address)?.map(|machine| machine.kernels));
        }
        Ok(kernels.into_iter().collect())
    }

    fn kernels(&self) -> Option<String> {
        match self.study.spec().kernels {
            Kernels::Same => Some(self.machine.kernels.clone()),
            Kernels::Any => None,
        }
    }
}
