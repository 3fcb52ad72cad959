//! The jobs that questions need, and who waits for whom.
//!
//! Methods add a job with everything that it depends on, and give it back; its result is asked for by the same job. Jobs
//! are told apart by address, so that what several questions or arms need is there once.

use std::collections::{BTreeMap, BTreeSet};

use schedule::{Step, Weight};

use crate::address::Address;
use crate::data::Data;
use crate::job::{
    Begun, Candidate, Content, CountTokens, Evaluate, EvaluateOn, Finetune, HeldOutLoss, Job, Kind, Model, Pretrain,
    Probe, Select, Selected, Setup, Walk, step_of,
};
use crate::spec::{GENERAL, Kernels, LrChoice};
use crate::store::{Failure, Payload, Store};
use crate::study::MAX_STEPS;
use crate::{ArmId, Error, Machine, ProbeId, SetId, Study};

/// Groups of documents for the jackknife over representations.
pub(crate) const GROUPS: usize = 10;
/// A dimension of a hundred times the median variance is massive.
const MASSIVE: f64 = 100.0;

/// One of a study's fine-tunes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// The arm.
    pub arm: ArmId,
    /// The set.
    pub set: SetId,
    /// The pretraining seed.
    pub pretrain_seed: u64,
    /// The fine-tuning seed.
    pub sft_seed: u64,
}

/// The learning rate of an arm on a set.
#[derive(Debug, Clone, PartialEq)]
pub enum Rate {
    /// Chosen.
    Known(f64),
    /// To be chosen: the jobs for it are in the graph, the rate is known in a later round.
    Pending,
    /// Not to be had.
    Failed(Failure),
}

struct Node {
    job: Job,
    payload: Payload,
}

/// A study's jobs.
pub struct Graph<'a> {
    study: &'a Study,
    data: &'a Data,
    store: &'a Store,
    machine: &'a Machine,
    failures: &'a BTreeMap<Address, Failure>,
    /// By address; `order` has inputs before those who read them.
    nodes: BTreeMap<Address, Node>,
    order: Vec<Address>,
    /// The choice of a rate by the arm it is tried on and the set: asked for by every fine-tune.
    selects: BTreeMap<(ArmId, SetId), Select>,
    /// Rates that are not chosen yet are taken to be the grid's first: for a plan.
    guess: bool,
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
            study,
            data,
            store,
            machine,
            failures,
            nodes: BTreeMap::new(),
            order: Vec::new(),
            selects: BTreeMap::new(),
            guess: false,
        }
    }

    /// The same, for a plan: rates that are not chosen yet are taken to be the grid's first.
    pub(crate) fn guessing(self) -> Self {
        Self { guess: true, ..self }
    }

    /// The study.
    pub fn study(&self) -> &'a Study {
        self.study
    }

    /// Its data.
    pub fn data(&self) -> &'a Data {
        self.data
    }

    pub(crate) fn machine(&self) -> &'a Machine {
        self.machine
    }

    /// Adds a job; of the same job asked for twice, the higher claim on its files counts.
    pub(crate) fn add(&mut self, job: impl Into<Job>, payload: Payload) {
        let job = job.into();
        let address = job.address();
        match self.nodes.get_mut(&address) {
            Some(node) => node.payload = node.payload.max(payload),
            None => {
                self.order.push(address.clone());
                self.nodes.insert(address, Node { job, payload });
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
        let rates = self.study.rates();
        let states: Vec<(Address, Pretrain)> = self
            .nodes
            .iter()
            .filter_map(|(address, node)| match &node.job {
                Job::Pretrain(state) => Some((address.clone(), state.clone())),
                _ => None,
            })
            .collect();
        // By name: one run's states lie together, in the order of their steps.
        for (i, (address, state)) in states.iter().enumerate() {
            let lineage = address.name().split('-').next();
            let related = states[..i].iter().rev().take_while(|(a, _)| a.name().split('-').next() == lineage);
            let mut related = related.filter(|(_, earlier)| state.passes(earlier, rates));
            if let (Some((earlier, _)), Some(node)) = (related.next(), self.nodes.get_mut(address))
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

    /// What computed the jobs of this graph, where it was not one class of machine.
    pub(crate) fn machines(&self) -> Result<Vec<String>, Error> {
        let mut kernels = std::collections::BTreeSet::new();
        for address in self.order.iter().filter(|a| [Pretrain::NAME, Finetune::NAME].contains(&a.kind())) {
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

    /// The state of an arm after some steps, wherever they end: to evaluate along a run, to fork from it, to probe it.
    ///
    /// # Errors
    /// A step beyond the run.
    pub fn state(&mut self, arm: ArmId, seed: u64, step: Step) -> Result<Pretrain, Error> {
        let state = self.pretrain(arm, seed, step)?;
        // What other arms have in common with this one ends where a phase begins.
        for start in self.study[arm].timeline().phases().iter().map(|p| p.start).filter(|s| s.0 > 0 && *s < step) {
            let fork = self.pretrain(arm, seed, start)?;
            self.add(fork, Payload::Full);
        }
        self.add(state.clone(), Payload::Weights);
        Ok(state)
    }

    /// An arm's states after several numbers of steps.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub fn states(&mut self, arm: ArmId, seed: u64, steps: &[Step]) -> Result<Vec<Pretrain>, Error> {
        steps.iter().map(|step| self.state(arm, seed, *step)).collect()
    }

    /// An arm's last state.
    pub(crate) fn end(&mut self, arm: ArmId, seed: u64) -> Result<Pretrain, Error> {
        self.state(arm, seed, Step(self.study.spec().pretrain.steps))
    }

    /// The state of an arm at which its first phase begins; `None` for one without phases, or with one from step 0 on.
    pub(crate) fn fork(&mut self, arm: ArmId, seed: u64) -> Result<Option<Pretrain>, Error> {
        let start = self.study[arm].timeline().phases().first().map(|p| p.start);
        start.filter(|s| s.0 > 0).map(|start| self.state(arm, seed, start)).transpose()
    }

    fn pretrain(&self, arm: ArmId, seed: u64, step: Step) -> Result<Pretrain, Error> {
        let (study, spec) = (self.study, self.study.spec());
        if step.0 == 0 || step.0 > spec.pretrain.steps {
            let limit = format!("must be from 1 to {}, the steps of a run", spec.pretrain.steps);
            return Err(Error::field("step of a state", step, limit));
        }
        let timeline = study[arm].timeline();
        let phases = timeline.phases().iter().enumerate().filter(|(_, phase)| phase.start < step);
        let phases: Vec<Begun> =
            phases.map(|(i, phase)| Begun { phase: phase.clone(), end: timeline.phase_end(i) }).collect();
        let sources = timeline.general_sources().into_iter().chain(timeline.specialised_sources());
        let sources = sources.map(|name| (name.to_owned(), self.data.role(name).train.clone()));
        let whose = if phases.is_empty() { "general text" } else { study[arm].name() };
        let whole = Pretrain {
            label: format!("{whose}, seed {seed}"),
            setup: Setup {
                numerics: crate::address::NUMERICS,
                backend: self.machine.backend.clone(),
                kernels: self.kernels(),
                model: spec.model.clone(),
                init_seed: study.seed("first weights", seed),
                data_seed: study.seed("pretraining data", seed),
                batch: spec.pretrain.batch,
                time: spec.pretrain.time,
                document_mask: spec.pretrain.document_mask,
                general: timeline.general().clone(),
                recipe: study.pretrain_recipe(),
            },
            step,
            phases,
            sources: sources.collect(),
            rates: String::new(),
            lr: study.rates().spec().clone(),
            keep_every: spec.pretrain.keep_every,
            after: None,
        };
        // Only the sources that are named by then.
        Ok(whole.at(step, study.rates()))
    }

    /// Adds a state's loss on held-out general text.
    ///
    /// # Errors
    /// Too little held-out text.
    pub fn general_loss_of(&mut self, state: &Pretrain) -> Result<Evaluate, Error> {
        let of = format!("{} at step {}", state.label, state.step);
        self.general_loss(Model::Pretrained(state.address()), &of)
    }

    /// A loss that was asked for, or why there is none.
    ///
    /// # Errors
    /// A store that cannot be read, a job that was not asked for.
    pub fn loss(&self, job: &Evaluate) -> Result<Result<HeldOutLoss, Failure>, Error> {
        Ok(self.outcome(job)?.map(|evaluation| evaluation.total))
    }

    /// Adds a model's loss on held-out general text.
    pub(crate) fn general_loss(&mut self, model: Model, of: &str) -> Result<Evaluate, Error> {
        let spec = self.study.spec();
        let held_out = &self.data.role(GENERAL).held_out;
        let count = spec.eval.c4_sequences.min(held_out.sequences(spec.pretrain.time));
        if count == 0 {
            let limit = format!("tokens do not fill one sequence of {}", spec.pretrain.time);
            return Err(Error::field("held-out general text", held_out.tokens, limit));
        }
        let on = EvaluateOn::General {
            tokens: held_out.clone(),
            time: spec.pretrain.time,
            count,
            document_mask: spec.pretrain.document_mask,
        };
        let cost = count.saturating_mul(spec.pretrain.time as u64) / 3;
        Ok(self.evaluate(of, "general text", model, on, cost))
    }

    /// Adds the loss on a set's held-out examples.
    pub(crate) fn set_loss(&mut self, model: Model, set: SetId, of: &str) -> Evaluate {
        let spec = self.study.spec();
        let on = EvaluateOn::Examples {
            tokens: self.data.role(&self.study[set].role).held_out.clone(),
            count: spec.sft.held_out,
            rows: self.study.rows(set, 0),
        };
        let cost = self.data.held_out_rows(set).report.positions / 3;
        self.evaluate(of, &self.study[set].name, model, on, cost)
    }

    fn evaluate(&mut self, label: &str, what: &str, model: Model, on: EvaluateOn, cost: u64) -> Evaluate {
        let p = &self.study.spec().pretrain;
        let job = Evaluate {
            label: label.to_owned(),
            what: what.to_owned(),
            model,
            on,
            micro_tokens: p.micro_tokens,
            precision: p.precision,
            kernels: self.kernels(),
            cost,
        };
        self.add(job.clone(), Payload::Result);
        job
    }

    /// Adds a fine-tune with a rate; its model is kept.
    pub(crate) fn finetune_with(&mut self, cell: Cell, lr: f64) -> Result<Finetune, Error> {
        self.finetune_keeping(cell, lr, Payload::Full)
    }

    /// Adds a fine-tune with a rate; `payload`: what is to be kept of it.
    fn finetune_keeping(&mut self, cell: Cell, lr: f64, payload: Payload) -> Result<Finetune, Error> {
        let (study, spec) = (self.study, self.study.spec());
        let base = self.end(cell.arm, cell.pretrain_seed)?;
        let rows = self.data.train_rows(cell.set);
        if rows.steps > MAX_STEPS {
            let field = format!("fine-tuning steps on {}", study[cell.set].name);
            return Err(Error::field(field, rows.steps, format!("must not exceed {MAX_STEPS}")));
        }
        let seeds = match spec.pretrain_seeds {
            1 => format!("seed {}", cell.sft_seed),
            _ => format!("seeds {}.{}", cell.pretrain_seed, cell.sft_seed),
        };
        let job = Finetune {
            label: format!("{} on {}, lr {lr:e}, {seeds}", study[cell.arm].name(), study[cell.set].name),
            base: base.address(),
            recipe: study.finetune_recipe(lr, rows.steps),
            lr,
            tokens: self.data.role(&study[cell.set].role).train.clone(),
            examples: spec.sft.examples,
            rows: study.rows(cell.set, cell.sft_seed),
            steps: rows.steps,
            kernels: self.kernels(),
            tokenizer: self.data.tokenizer.clone(),
            cost: rows.report.positions.saturating_mul(spec.sft.epochs),
        };
        self.add(job.clone(), payload);
        Ok(job)
    }

    /// Adds a fine-tune of the study; `None` while its rate is not known.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn finetune(&mut self, cell: Cell) -> Result<Option<Finetune>, Error> {
        match self.rate(cell.arm, cell.set)? {
            Rate::Known(lr) => self.finetune_with(cell, lr).map(Some),
            Rate::Pending | Rate::Failed(_) => Ok(None),
        }
    }

    /// The learning rate of an arm on a set; adds what is needed to choose it.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn rate(&mut self, arm: ArmId, set: SetId) -> Result<Rate, Error> {
        let Some(select) = self.last_select(arm, set)? else {
            return Ok(Rate::Known(self.study.spec().sft.lr.grid()[0]));
        };
        if let Some(failure) = self.failures.get(&select.address()) {
            return Ok(Rate::Failed(failure.clone()));
        }
        Ok(match self.store.result::<Select>(&select.address())? {
            Some(selected) => Rate::Known(selected.rate),
            None if self.guess => Rate::Known(select.candidates[0].rate),
            None => Rate::Pending,
        })
    }

    /// The choice among all rates that were asked for so far; adds it and those before it. `None` where there is nothing
    /// to choose.
    pub(crate) fn last_select(&mut self, arm: ArmId, set: SetId) -> Result<Option<Select>, Error> {
        let on = self.tried_on(arm);
        if let Some(select) = self.selects.get(&(on, set)) {
            return Ok(Some(select.clone()));
        }
        let Some(mut select) = self.first_select(on, set)? else { return Ok(None) };
        while let Some(Selected { asks: Some(rate), .. }) = self.store.result::<Select>(&select.address())? {
            let grid: Vec<f64> = select.candidates.iter().map(|c| c.rate).chain([rate]).collect();
            select = self.select_of(on, set, &grid, select.extend.saturating_sub(1))?;
        }
        self.selects.insert((on, set), select.clone());
        Ok(Some(select))
    }

    /// The choice among the grid that is given.
    fn first_select(&mut self, on: ArmId, set: SetId) -> Result<Option<Select>, Error> {
        match &self.study.spec().sft.lr {
            LrChoice::Fixed { .. } => Ok(None),
            LrChoice::SweepBase { grid, extend } | LrChoice::SweepEach { grid, extend } => {
                self.select_of(on, set, grid, *extend).map(Some)
            }
        }
    }

    /// The arm whose checkpoints the rates of an arm are tried on.
    pub(crate) fn tried_on(&self, arm: ArmId) -> ArmId {
        match self.study.spec().sft.lr {
            LrChoice::SweepEach { .. } => arm,
            _ => self.study.control(),
        }
    }

    /// Rates tried on all pretraining seeds with the first fine-tuning seed.
    fn select_of(&mut self, arm: ArmId, set: SetId, grid: &[f64], extend: u32) -> Result<Select, Error> {
        let mut candidates = Vec::new();
        for rate in grid {
            let mut evaluations = Vec::new();
            for pretrain_seed in 0..self.study.spec().pretrain_seeds {
                let cell = Cell { arm, set, pretrain_seed, sft_seed: 0 };
                let tuned = self.finetune_keeping(cell, *rate, Payload::Result)?;
                let loss = self.set_loss(Model::Finetuned(tuned.address()), set, &tuned.label);
                evaluations.push(loss.address());
            }
            candidates.push(Candidate { rate: *rate, evaluations });
        }
        let (arm, set) = (self.study[arm].name(), &self.study[set].name);
        let select = Select { label: format!("learning rate of {set} (tried on {arm})"), candidates, extend };
        self.add(select.clone(), Payload::Result);
        Ok(select)
    }

    /// Adds the comparison of four states — the control, an arm, both fine-tuned on a set — on a probe; the first seeds.
    /// `None` while a rate is not known.
    pub(crate) fn probe(&mut self, arm: ArmId, set: SetId, probe: ProbeId) -> Result<Option<Probe>, Error> {
        use metrics_cka::Treatment;
        let (study, spec) = (self.study, self.study.spec());
        let control = study.control();
        let first = |arm| Cell { arm, set, pretrain_seed: 0, sft_seed: 0 };
        let (base, mid) = (self.end(control, 0)?, self.end(arm, 0)?);
        let (base_tuned, mid_tuned) = (self.finetune(first(control))?, self.finetune(first(arm))?);
        let (Some(base_tuned), Some(mid_tuned)) = (base_tuned, mid_tuned) else { return Ok(None) };
        let role = &study[probe].role;
        let stores = self.data.role(role);
        let job = Probe {
            label: format!("representations on {role}"),
            states: vec![
                ("base".to_owned(), Model::Pretrained(base.address())),
                ("midtrained".to_owned(), Model::Pretrained(mid.address())),
                ("base fine-tuned".to_owned(), Model::Finetuned(base_tuned.address())),
                ("midtrained fine-tuned".to_owned(), Model::Finetuned(mid_tuned.address())),
            ],
            // Nothing is trained on another role than the arms' and the sets'.
            tokens: if role == GENERAL { stores.held_out.clone() } else { stores.train.clone() },
            documents: spec.eval.probe_documents,
            seed: study.seed("documents of a probe", 0),
            longest: spec.pretrain.time.min(spec.model.max_positions),
            groups: GROUPS,
            treatments: vec![Treatment::Raw, Treatment::Standardised, Treatment::WithoutMassive { ratio: MASSIVE }],
            micro_tokens: spec.pretrain.micro_tokens,
            precision: spec.pretrain.precision,
            kernels: self.kernels(),
        };
        self.add(job.clone(), Payload::Result);
        Ok(Some(job))
    }

    /// Adds the walk along an arm's first fine-tune on a set. `None` while its rate is not known.
    pub(crate) fn walk(&mut self, arm: ArmId, set: SetId) -> Result<Option<Walk>, Error> {
        let spec = self.study.spec();
        let end = self.end(arm, 0)?;
        let fork = self.fork(arm, 0)?;
        let Some(tuned) = self.finetune(Cell { arm, set, pretrain_seed: 0, sft_seed: 0 })? else { return Ok(None) };
        let job = Walk {
            label: format!("path of {} on {}", self.study[arm].name(), self.study[set].name),
            base: end.address(),
            finetuned: tuned.address(),
            recipe: tuned.recipe,
            tokens: tuned.tokens,
            examples: tuned.examples,
            rows: tuned.rows,
            general: self.data.role(GENERAL).held_out.clone(),
            time: spec.pretrain.time,
            document_mask: spec.pretrain.document_mask,
            path_rows: spec.eval.path_rows,
            stride: spec.eval.path_stride,
            before: fork.map(|fork| (fork.address(), fork.step.0, end.step.0)),
            kernels: self.kernels(),
        };
        self.add(job.clone(), Payload::Result);
        Ok(Some(job))
    }

    /// Adds the counts of a role's training text.
    pub(crate) fn counts(&mut self, role: &str) -> CountTokens {
        let tokens: Content = self.data.role(role).train.clone();
        let job = CountTokens { name: role.to_owned(), tokens, vocabulary: self.study.spec().model.vocab_size };
        self.add(job.clone(), Payload::Result);
        job
    }
}

/// What an arm's batches consist of once its mix is at full weight: roles and shares.
pub(crate) fn mixture(study: &Study, arm: ArmId) -> Vec<(String, f64)> {
    let Some(phase) = study[arm].spec().phases.last() else { return vec![(GENERAL.to_owned(), 1.0)] };
    let weight = phase.weight.peak();
    let side = |shares: &Option<schedule::Shares>, whole: f64| {
        let shares = shares.iter().flat_map(|s| s.iter());
        shares.map(|(role, share): (&str, Weight)| (role.to_owned(), whole * share.as_f64())).collect::<Vec<_>>()
    };
    let mut general = side(&phase.general, 1.0 - weight.as_f64());
    if general.is_empty() {
        general.push((GENERAL.to_owned(), 1.0 - weight.as_f64()));
    }
    general.extend(side(&phase.specialised, weight.as_f64()));
    general
}
