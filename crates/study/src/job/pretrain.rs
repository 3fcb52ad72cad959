//! Pretraining, midtraining included, from state to state.
//!
//! A training state's address is its trajectory — everything that determines the weights and the optimiser after some
//! steps — and the number of steps. So it does not matter how the way there was cut, which other arms there are, or what
//! is evaluated; arms share every state before the first step in which they differ.
//!
//! 1. The job looks for the nearest state on its trajectory that the store holds in full, and goes on from there.
//! 2. On its way it leaves full states at multiples of `keep_every`: forks that come later begin at them.
//! 3. Where another run passed the same step, its ledger must say the same of the data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use data_mixer::{LedgerHead, MixPlan, MixSpec, MixedBatches, Pairing, Sequences, SourceSize};
use fused_ops::TrainingBackend;
use gptneox_model::{GptNeoX, GptNeoXConfig};
use schedule::{LrSpec, Phase, Shares, Step, Timeline, WeightCurve};
use serde::{Deserialize, Serialize};
use serde_json::json;
use trainer::{StepRecord, TrainSpec, Trainer, verify_checkpoint};

use super::tokens::Content;
use super::{Context, Input, Job, Kind};
use crate::Error;
use crate::address::{Address, digest};
use crate::engine::{Stretch, train};
use crate::rates::Rates;
use crate::store::{Lock, Status, Store};

/// A state with its optimiser: what training goes on from.
pub(crate) const FULL_STATE: &str = "state.safetensors";
/// What `gc` leaves of a state that only evaluations and fine-tunes need.
pub(crate) const WEIGHTS: &str = "weights.safetensors";
/// Files of a run's folder.
const LOG: &str = "log.jsonl";
const LEDGER: &str = "ledger";

/// What states of one run have in common from the first step on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The version of the program's numbers.
    pub numerics: u32,
    /// The backend.
    pub backend: String,
    /// The class of matrix kernels; `None` where the study takes any.
    pub kernels: Option<String>,
    /// The model.
    pub model: GptNeoXConfig,
    /// Seed of its first weights.
    pub init_seed: u64,
    /// Seed of the order of its data.
    pub data_seed: u64,
    /// Sequences of a step.
    pub batch: u64,
    /// Tokens of a sequence.
    pub time: usize,
    /// Whether attention stops at the beginning of a document.
    pub document_mask: bool,
    /// The general side at the first step.
    pub general: Shares,
    /// The recipe; its learning rates and what changes no result are not part of addresses.
    pub recipe: TrainSpec,
}

/// A phase that has begun, and where it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// The phase.
    pub phase: Phase,
    /// The step after its last. Ramps depend on it.
    pub end: Step,
}

/// Trains up to a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pretrain {
    /// What messages call it.
    pub label: String,
    /// What holds from the first step on.
    pub setup: Setup,
    /// Steps done.
    pub step: Step,
    /// The phases that have begun before that step.
    pub phases: Vec<Begun>,
    /// The training text of every source that is named by then.
    pub sources: BTreeMap<String, Content>,
    /// A digest of the learning rates applied.
    pub rates: String,
    /// The curve that they come from.
    pub lr: LrSpec,
    /// Steps between full states that are kept on the way.
    pub keep_every: Option<u64>,
    /// The state that the plan lets it go on from. (It goes on from the nearest there is.)
    pub after: Option<Address>,
}

/// A training state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pretrained {
    /// What was seen since the first step.
    pub ledger: LedgerHead,
    /// Steps left out because their loss or gradient was not finite.
    pub skipped: u64,
    /// The state that it was trained from, whose log holds the steps before; `None` from the first step on.
    pub from: Option<Address>,
}

impl Setup {
    /// What is in addresses of it.
    fn identity(&self) -> serde_json::Value {
        let TrainSpec { optimizer, clip, micro_tokens, precision, .. } = &self.recipe;
        json!({
            "numerics": self.numerics,
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
        })
    }

    /// The beginning of the names of all its states.
    fn lineage(&self) -> String {
        digest(&self.identity())[..16].to_owned()
    }
}

impl Pretrain {
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

    fn curve(&self) -> Result<Rates, Error> {
        Rates::new(&self.label, self.lr.clone())
    }

    /// The names of states in the store that may be on the same trajectory, with their steps.
    fn relatives(&self, store: &Store) -> Vec<(Step, Address)> {
        let lineage = self.setup.lineage();
        let of = |name: String| {
            name.strip_prefix(&lineage)?.strip_prefix('-')?;
            let address = Address::named(Self::NAME, &name);
            Some((Step(step_of(&address)?), address))
        };
        let mut out: Vec<_> = store.names(Self::NAME).into_iter().filter_map(of).collect();
        out.sort_unstable();
        out
    }

    /// The nearest state before this one that can be gone on from.
    fn origin(&self, store: &Store, rates: &Rates) -> Option<(Step, Address, PathBuf)> {
        let before = self.relatives(store).into_iter().rev().filter(|(step, _)| *step < self.step);
        before
            .filter(|(step, address)| self.at(*step, rates).address() == *address)
            .map(|(step, address)| {
                let path = store.folder(&address).join(FULL_STATE);
                (step, address, path)
            })
            .find(|(.., path)| path.exists() && verify_checkpoint(path).is_ok())
    }

    /// The batches: of the phases that have begun, each to its end.
    fn batches(&self, store: &Store) -> Result<MixedBatches, Error> {
        let failed = |source| Error::Schedule { what: self.label.clone(), source };
        let phases = self.phases.iter().map(|b| b.phase.clone()).collect();
        let end = self.phases.last().map_or(self.step, |last| last.end);
        let timeline = Timeline::new(end, self.setup.general.clone(), phases).map_err(failed)?;
        let names: Vec<String> =
            timeline.general_sources().into_iter().chain(timeline.specialised_sources()).map(str::to_owned).collect();
        let sequences = names
            .iter()
            .map(|name| {
                let content = self.sources.get(name).ok_or_else(|| Error::field("source", name, "is missing"))?;
                let sequences = Sequences::new(content.open(store)?, self.setup.time)?;
                Ok(sequences.with_document_mask(self.setup.document_mask))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let plan = MixPlan::prefix(MixSpec {
            seed: self.setup.data_seed,
            batch: self.setup.batch,
            time: self.setup.time as u64,
            timeline,
            sources: names.iter().zip(&sequences).map(|(name, s)| SourceSize::new(name, s.len())).collect(),
            pairing: Pairing::Displace,
            max_epochs: 1.0,
        })
        .map_err(|source| Error::Mixture { arm: self.label.clone(), source })?;
        Ok(MixedBatches::new(plan, sequences)?)
    }

    /// What another run that passed this step has seen by it.
    fn witness(&self, store: &Store) -> Result<Option<(LedgerHead, Address)>, Error> {
        for (step, address) in self.relatives(store) {
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

    fn check_witness(&self, store: &Store, found: LedgerHead) -> Result<(), Error> {
        match self.witness(store)? {
            Some((expected, by)) if expected != found => {
                Err(Error::OtherData { label: self.label.clone(), step: self.step.0, found, expected, by })
            }
            _ => Ok(()),
        }
    }

    /// The steps at which full states are left on the way from a step.
    fn kept(&self, from: u64) -> impl Iterator<Item = u64> + use<> {
        let until = self.step.0;
        let every = self.keep_every.filter(|every| *every > 0);
        let first = every.map_or(until, |every| (from / every + 1).saturating_mul(every));
        (first..until).step_by(every.unwrap_or(1) as usize)
    }

    /// How many of them the plan foresees.
    pub(crate) fn kept_states(&self) -> u64 {
        let from = self.after.as_ref().and_then(step_of).unwrap_or(0);
        match self.keep_every {
            Some(every) if every > 0 => (self.step.0.saturating_sub(1) / every).saturating_sub(from / every),
            _ => 0,
        }
    }

    /// Those that the store holds.
    pub(crate) fn kept_on_the_way(&self, store: &Store) -> Result<Vec<Address>, Error> {
        let Some(every) = self.keep_every else { return Ok(Vec::new()) };
        let rates = self.curve()?;
        let kept = self.relatives(store).into_iter().filter(|(step, _)| *step < self.step && step.0 % every == 0);
        Ok(kept.filter(|(step, address)| self.at(*step, &rates).address() == *address).map(|(_, a)| a).collect())
    }

    /// Stores the state of an earlier step that training has just reached, with the log up to it.
    fn leave<AB: TrainingBackend>(
        &self,
        trainer: &Trainer<AB>,
        rates: &Rates,
        from: Option<&Address>,
        cx: &mut Context<'_, AB>,
    ) -> Result<(), Error> {
        let job = self.at(Step(trainer.steps_done()), rates);
        let job = Self { label: format!("{} (kept)", self.label), ..job };
        let address = job.address();
        // What another process is at, or has done, need not be left.
        if matches!(cx.store.status::<Self>(&address)?, Status::Done { .. }) {
            return Ok(());
        }
        let Some(lock) = Lock::take(&cx.store.folder(&address))? else { return Ok(()) };
        cx.store.begin(&lock, &address, &job.clone().into())?;
        trainer.save(&lock.folder().join(FULL_STATE))?;
        for file in [LOG, LEDGER] {
            let to = lock.folder().join(file);
            std::fs::copy(cx.folder.join(file), &to).map_err(Error::io(&to))?;
        }
        let result = Pretrained { ledger: trainer.ledger(), skipped: trainer.steps_skipped(), from: from.cloned() };
        cx.store.finish(&lock, &result, cx.machine)
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

impl Kind for Pretrain {
    const NAME: &'static str = "pretrain";
    type Output = Pretrained;

    fn address(&self) -> Address {
        let phase = |b: &Begun| {
            // What comes after a constant phase changes nothing in it.
            let ramp = matches!(b.phase.weight, WeightCurve::Ramp { .. });
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

    fn label(&self) -> String {
        self.label.clone()
    }

    fn inputs(&self) -> Vec<Input> {
        let text = self.sources.values().map(|content| Input::files(&content.made_by));
        text.chain(self.after.iter().map(Input::state)).collect()
    }

    fn cost(&self) -> u64 {
        let from = self.after.as_ref().and_then(step_of).unwrap_or(0);
        let per_step = self.setup.batch.saturating_mul(self.setup.time as u64);
        self.step.0.saturating_sub(from).saturating_mul(per_step)
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let rates = self.curve()?;
        let batches = self.batches(cx.store)?;
        let recipe = TrainSpec { lr: self.lr.clone(), ..self.setup.recipe.clone() };
        let model = GptNeoX::<AB>::init(&self.setup.model, self.setup.init_seed, cx.device)?;
        let mut trainer = Trainer::new(model, recipe, cx.device)?;
        let origin = self.origin(cx.store, &rates);
        let begin = origin.as_ref().map_or(0, |(step, ..)| step.0);
        if let Some((.., path)) = &origin {
            trainer = trainer.fork(path)?;
        }
        // A checkpoint of an earlier attempt, if it is ahead.
        let own = trainer::checkpoints(cx.folder).into_iter();
        let own =
            own.filter(|(step, path)| (begin + 1..=self.step.0).contains(step) && verify_checkpoint(path).is_ok());
        let resumed = own.map(|(step, _)| step).next();
        let from = match resumed {
            Some(_) => read_origin(cx.folder)?,
            None => {
                start_afresh(cx.folder)?;
                let from = origin.map(|(_, address, _)| address);
                write_origin(cx.folder, from.as_ref())?;
                from
            }
        };
        let stops = self.kept(resumed.unwrap_or(begin)).chain([self.step.0]);
        for until in stops {
            let stretch = Stretch {
                label: &self.label,
                begin,
                until: self.step.0,
                stop: until,
                tokens: (self.step.0 - begin) * self.setup.batch * self.setup.time as u64,
            };
            trainer = train(trainer, &batches, &stretch, cx)?;
            if until < self.step.0 {
                self.leave(&trainer, &rates, from.as_ref(), cx)?;
            }
        }
        self.check_witness(cx.store, trainer.ledger())?;
        trainer.save(&cx.folder.join(FULL_STATE))?;
        // It says less than a full state.
        remove(&cx.folder.join(WEIGHTS))?;
        Ok(Pretrained { ledger: trainer.ledger(), skipped: trainer.steps_skipped(), from })
    }
}

/// Where the run in this folder began: read again when it is resumed.
const ORIGIN: &str = "origin.json";

fn write_origin(folder: &Path, from: Option<&Address>) -> Result<(), Error> {
    crate::files::write_json(&folder.join(ORIGIN), &from)
}

fn read_origin(folder: &Path) -> Result<Option<Address>, Error> {
    Ok(crate::files::read_json::<Option<Address>>(&folder.join(ORIGIN))?.flatten())
}

/// Log, ledger and state of an attempt that is not gone on with.
fn start_afresh(folder: &Path) -> Result<(), Error> {
    for file in [LOG, LEDGER, FULL_STATE] {
        remove(&folder.join(file))?;
    }
    trainer::checkpoints(folder).iter().try_for_each(|(_, path)| remove(path))
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}

/// Where the weights of a finished state lie.
pub(crate) fn weights(store: &Store, state: &Address) -> PathBuf {
    let folder = store.folder(state);
    let stripped = folder.join(WEIGHTS);
    if stripped.exists() { stripped } else { folder.join(FULL_STATE) }
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
    while let Some(address) = at {
        let path = store.folder(&address).join(LOG);
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
    }
    if records.len() as u64 != until - from {
        let path = store.folder(state).join(LOG);
        let reason = format!("holds {} of the steps {from} to {until}", records.len());
        return Err(Error::Parse { path, reason });
    }
    Ok(records.into_values().collect())
}
