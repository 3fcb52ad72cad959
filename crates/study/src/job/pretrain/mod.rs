//! Pretraining, midtraining included, from state to state.
//!
//! A training state's address is its trajectory — everything that determines the weights and the optimiser after some
//! steps — and the number of steps. So it does not matter how the way there was cut, which other arms there are, or what
//! is evaluated; arms share every state before the first step in which they differ.
//!
//! 1. The job looks for the nearest state on its trajectory that the store holds in full, and goes on from there.
//! 2. On its way it leaves full states at multiples of `keep_every`: forks that come later begin at them.
//! 3. Where another run passed the same step, its ledger must say the same of the data.

mod log;
mod trajectory;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use data_mixer::{LedgerHead, MixPlan, MixSpec, MixedBatches, Pairing, SourceSize};
use fused_ops::TrainingBackend;
use gptneox_model::{GptNeoX, GptNeoXConfig};
use schedule::{LrSpec, Phase, Shares, Step, Timeline};
use serde::{Deserialize, Serialize};
use trainer::{EvalSpec, PassedOver, TrainSpec, Trainer, resumable};

use super::tokens::Content;
use super::training::{Stretch, train};
use super::{Context, Cost, EvaluateOn, Input, Kind, Model};
use crate::Error;
use crate::address::Address;
use crate::rates::Rates;
use crate::store::{Lock, Status, Store};

pub(crate) use log::{log_of, records};
pub(crate) use trajectory::step_of;

/// A state with its optimiser: what training goes on from.
pub(crate) const FULL_STATE: &str = "state.safetensors";
/// What `gc` leaves of a state that only evaluations and fine-tunes need.
pub(crate) const WEIGHTS: &str = "weights.safetensors";
/// Files of a run's folder.
const LOG: &str = "log.jsonl";
const LEDGER: &str = "ledger";
const EVALS: &str = "evals.jsonl";

/// What states of one run have in common from the first step on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The version of what the program computes.
    pub(crate) version: u32,
    /// The backend.
    pub(crate) backend: String,
    /// The class of matrix kernels; `None` where the study takes any.
    pub(crate) kernels: Option<String>,
    /// The model.
    pub(crate) model: GptNeoXConfig,
    /// Seed of its first weights; 0 where it begins at a checkpoint.
    pub(crate) init_seed: u64,
    /// The checkpoint that it begins at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<BaseState>,
    /// Seed of the order of its data.
    pub(crate) data_seed: u64,
    /// Sequences of a step.
    pub(crate) batch: u64,
    /// Tokens of a sequence.
    pub(crate) time: usize,
    /// Whether attention stops at the beginning of a document.
    pub(crate) document_mask: bool,
    /// Whether each source's documents are in a random order.
    #[serde(default)]
    pub(crate) shuffle_documents: bool,
    /// The general side at the first step.
    pub(crate) general: Shares,
    /// What specialised slots do to general draws.
    #[serde(default)]
    pub(crate) pairing: Pairing,
    /// The recipe; its learning rates and what changes no result are not part of addresses.
    pub(crate) recipe: TrainSpec,
}

/// A checkpoint that training begins at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BaseState {
    /// A digest of its model and weights.
    pub(crate) digest: String,
    /// The job that read it.
    pub(crate) made_by: Address,
}

/// A phase that has begun, and where it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Begun {
    /// The phase.
    pub(crate) phase: Phase,
    /// The step after its last. Ramps depend on it.
    pub(crate) end: Step,
}

/// Trains up to a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pretrain {
    /// What messages call it.
    pub label: String,
    /// What holds from the first step on.
    pub(crate) setup: Setup,
    /// Steps done.
    pub step: Step,
    /// The phases that have begun before that step.
    pub(crate) phases: Vec<Begun>,
    /// The training text of every source that is named by then.
    pub(crate) sources: BTreeMap<String, Content>,
    /// A digest of the learning rates applied.
    pub(crate) rates: String,
    /// The curve that they come from.
    pub(crate) lr: LrSpec,
    /// Steps between full states that are kept on the way.
    pub(crate) keep_every: Option<u64>,
    /// The state that the plan lets it go on from. (It goes on from the nearest there is.)
    pub(crate) after: Option<Address>,
    /// What is evaluated on the way: no result depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) along: Option<DuringTraining>,
}

/// Held-out sets that a run is evaluated on while it trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DuringTraining {
    /// Steps between evaluations.
    pub(crate) every: u64,
    /// The sets, by name.
    pub(crate) on: Vec<(String, EvaluateOn)>,
}

impl DuringTraining {
    fn sets(&self, store: &Store) -> Result<Vec<EvalSpec>, Error> {
        let set = |(name, on): &(String, EvaluateOn)| {
            let (batches, bytes) = on.batches(store)?;
            Ok(EvalSpec { name: name.clone(), batches, bytes, every: self.every })
        };
        self.on.iter().map(set).collect()
    }
}

/// A training state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pretrained {
    /// What was seen since the first step.
    pub(crate) ledger: LedgerHead,
    /// Steps left out because their loss or gradient was not finite.
    pub(crate) skipped: u64,
    /// The state that it was trained from, whose log holds the steps before; `None` from the first step on.
    pub(crate) from: Option<Address>,
}

impl Pretrain {
    /// The recipe, with its learning rates.
    pub(crate) fn recipe(&self) -> TrainSpec {
        TrainSpec { lr: self.lr.clone(), ..self.setup.recipe.clone() }
    }

    /// The batches: of the phases that have begun, each to its end.
    pub(crate) fn batches(&self, store: &Store) -> Result<MixedBatches, Error> {
        let failed = |source| Error::Schedule { what: self.label.clone(), source };
        let phases = self.phases.iter().map(|b| b.phase.clone()).collect();
        let end = self.phases.last().map_or(self.step, |last| last.end);
        let timeline = Timeline::new(end, self.setup.general.clone(), phases).map_err(failed)?;
        let names: Vec<String> = timeline.sources().into_iter().map(str::to_owned).collect();
        let sequences = names
            .iter()
            .map(|name| {
                let content = self.sources.get(name).ok_or_else(|| Error::field("source", name, "is missing"))?;
                let shuffled = self.setup.shuffle_documents.then_some(self.setup.data_seed);
                let sequences = content.sequences_of(store, name, self.setup.time, shuffled)?;
                Ok(sequences.with_document_mask(self.setup.document_mask))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let plan = MixPlan::prefix(MixSpec {
            seed: self.setup.data_seed,
            batch: self.setup.batch,
            time: self.setup.time as u64,
            timeline,
            sources: names.iter().zip(&sequences).map(|(name, s)| SourceSize::new(name, s.len())).collect(),
            pairing: self.setup.pairing,
            max_epochs: 1.0,
        })
        .map_err(|source| Error::Mixture { arm: self.label.clone(), source })?;
        Ok(MixedBatches::new(plan, sequences)?)
    }

    /// The steps at which full states are left on the way from a step.
    fn kept(&self, from: u64) -> impl Iterator<Item = u64> + use<> {
        let until = self.step.0;
        let every = self.keep_every.filter(|every| *every > 0);
        let first = every.map_or(until, |every| (from / every + 1).saturating_mul(every));
        (first..until).step_by(every.unwrap_or(1) as usize)
    }

    /// Tokens that the plan foresees to train on.
    pub(crate) fn tokens_planned(&self) -> u64 {
        let from = self.after.as_ref().and_then(step_of).unwrap_or(0);
        let per_step = self.setup.batch.saturating_mul(self.setup.time as u64);
        self.step.0.saturating_sub(from).saturating_mul(per_step)
    }

    /// How many of them the plan foresees.
    pub(crate) fn kept_states(&self) -> u64 {
        let from = self.after.as_ref().and_then(step_of).unwrap_or(0);
        match self.keep_every {
            Some(every) if every > 0 => (self.step.0.saturating_sub(1) / every).saturating_sub(from / every),
            _ => 0,
        }
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
        for file in [LOG, LEDGER, EVALS] {
            let (own, to) = (cx.folder.join(file), lock.folder().join(file));
            if file != EVALS || own.exists() {
                std::fs::copy(&own, &to).map_err(Error::io(&to))?;
            }
        }
        let result = Pretrained { ledger: trainer.ledger(), skipped: trainer.steps_skipped(), from: from.cloned() };
        cx.store.finish(&lock, &address, &result, cx.machine)
    }
}

impl Kind for Pretrain {
    const NAME: &'static str = "pretrain";
    const VERSION: u32 = 7;
    type Output = Pretrained;

    fn address(&self) -> Address {
        self.state_address()
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn inputs(&self) -> Vec<Input> {
        let text = self.sources.values().flat_map(Content::inputs);
        let base = self.setup.base.iter().map(|base| Input::files(&base.made_by));
        let along = self.along.iter().flat_map(|along| along.on.iter().flat_map(|(_, on)| on.inputs()));
        let text = text.chain(along);
        text.chain(self.after.iter().map(Input::state)).chain(base).collect()
    }

    fn cost(&self) -> Cost {
        let (setup, recipe) = (&self.setup, &self.setup.recipe);
        Cost::training(&setup.model, recipe, setup.time, self.tokens_planned() as f64)
    }

    fn kernels(&self) -> Option<&str> {
        self.setup.kernels.as_deref()
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let rates = self.curve()?;
        let batches = self.batches(cx.store)?;
        let recipe = self.recipe();
        let origin = self.origin(cx.store, &rates)?;
        let begin = origin.as_ref().map_or(0, |(step, ..)| step.0);
        // A checkpoint of an earlier attempt, if it is ahead. It may be another study's, whose rates go on differently.
        let found = resumable(cx.folder, begin, self.step.0)?;
        for PassedOver { reason, .. } in &found.passed_over {
            cx.report.note(&format!("{}: passed over a checkpoint: {reason}", self.label));
        }
        let mut trainer: Trainer<AB> = match (&found.newest, &origin) {
            (Some((step, path)), _) => {
                cx.report.note(&format!("{}: restored the checkpoint of step {step}", self.label));
                Trainer::fork(path, recipe, cx.device)?
            }
            (None, Some((.., path))) => Trainer::fork(path, recipe, cx.device)?,
            (None, None) => {
                let model = match &self.setup.base {
                    Some(base) => Model::Base(base.clone()).load(cx.store, cx.device)?,
                    None => GptNeoX::init(&self.setup.model, self.setup.init_seed, cx.device)?,
                };
                Trainer::new(model, recipe, cx.device)?
            }
        };
        found.remove_passed_over()?;
        let resumed = found.newest.map(|(step, _)| step);
        let seen = match &origin {
            Some((_, address, _)) => cx.store.result::<Self>(address)?.map(|state| state.ledger),
            None => Some(LedgerHead::default()),
        };
        let began = seen.map(|head| (begin, head));
        let from = match resumed {
            Some(_) => read_origin(cx.folder)?,
            None => {
                start_afresh(cx.folder)?;
                let from = origin.map(|(_, address, _)| address);
                write_origin(cx.folder, from.as_ref())?;
                from
            }
        };
        // Progress is of what was planned: from the state that the plan goes on from.
        let planned = self.after.as_ref().and_then(step_of).unwrap_or(0).min(self.step.0);
        let start = resumed.unwrap_or(begin);
        if start > planned {
            cx.report.resumed((start - planned) as f64 / (self.step.0 - planned) as f64);
        }
        let evals = self.along.as_ref().map_or_else(|| Ok(Vec::new()), |along| along.sets(cx.store))?;
        let stops = self.kept(resumed.unwrap_or(begin)).chain([self.step.0]);
        for until in stops {
            let stretch = Stretch {
                label: &self.label,
                begin,
                began,
                until: self.step.0,
                from: trainer.steps_done(),
                stop: until,
                evals: &evals,
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
    for file in [LOG, LEDGER, EVALS, FULL_STATE] {
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
