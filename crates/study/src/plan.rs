//! What a study would do and cost, before anything runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use data_mixer::{MixPlan, Preflight};
use fused_ops::Place;
use schedule::{Phase, Span};

use crate::cost::{Expected, expected};
use crate::data::{Data, SetRows};
use crate::graph::Graph;
use crate::job::{Job, Kind as _};
use crate::progress::duration;
use crate::question::Question;
use crate::spec::{ArmSpec, DataSpec};
use crate::store::{Status, Store};
use crate::{ArmId, Engine, Error, Machine, StopSignal, Study, datasheet, recipe};

/// An arm, and what it takes from each source.
#[derive(Debug, Clone)]
pub struct PlannedArm {
    /// The arm.
    pub arm: ArmId,
    /// What it takes of each source, or why that is impossible.
    pub preflight: Result<Preflight, String>,
}

impl PlannedArm {
    /// The step at which something is first mixed in, if the learning rate is still rising then.
    pub(crate) fn starts_in_warmup(&self, warmup: u64) -> Option<u64> {
        let phases = &self.preflight.as_ref().ok()?.phases;
        let start = phases.iter().find(|p| p.mixed).map(|p| p.from.0)?;
        (start < warmup).then_some(start)
    }
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The arms, in the study's order.
    pub arms: Vec<PlannedArm>,
    tally: Tally,
    /// What the store lacks.
    left: Vec<Job>,
    /// Jobs that are known to be needed, and those that the store has.
    jobs: u64,
    done: u64,
    /// Whether the fine-tuning sets are known, and with them what fine-tuning costs.
    prepared: bool,
    /// What trains.
    place: Place,
    /// The data in words; nothing of stated ones.
    data: String,
    /// The fine-tuning sets' rows, in the study's order.
    rows: Vec<SetRows>,
}

/// The jobs of a plan, counted.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Tally {
    /// Jobs of pretraining, and the tokens they train on.
    stretches: u64,
    pretrain_tokens: u64,
    /// Full states left on the way.
    kept: u64,
    /// Fine-tunes, those of sweeps included.
    finetunes: u64,
    evaluations: u64,
    others: u64,
    /// Operations of all that run models, and of pretraining alone.
    operations: f64,
    pretraining: f64,
    /// Bytes of the states at the ends of stretches, of those kept on the way, and of fine-tuned models.
    states: f64,
    states_kept: f64,
    models: f64,
}

impl Plan {
    /// Of a question asked of a study on prepared data. An arm with an impossible mixture is an error where models are
    /// trained, else marked.
    ///
    /// # Errors
    /// The arm, its source, need, have and what would fit; a store that cannot be read.
    pub fn build(
        question: &dyn Question,
        study: &Study,
        data: &Data,
        store: &Store,
        machine: &Machine,
    ) -> Result<Self, Error> {
        let plan = Self::marked(study, data)?;
        if question.trains() {
            for planned in plan.arms.iter().filter(|planned| planned.preflight.is_err()) {
                mixes_of(study, planned.arm, &data.sequences(study.spec().pretrain.time))?;
            }
        }
        plan.counting(question, study, data, store, machine)
    }

    /// On stated token counts: impossible arms are marked, with the reason.
    ///
    /// # Errors
    /// A study with other data.
    pub fn stated(question: &dyn Question, study: &Study) -> Result<Self, Error> {
        let data = Data::stated(study)?;
        // A store that holds nothing, on no machine in particular.
        let (store, machine) = (Store::new("stated".as_ref()), Machine::unknown());
        Self::marked(study, &data)?.counting(question, study, &data, &store, &machine)
    }

    /// What the arms take; refusals marked, with the reason.
    pub(crate) fn marked(study: &Study, data: &Data) -> Result<Self, Error> {
        let sequences = data.sequences(study.spec().pretrain.time);
        let planned = |arm| {
            let preflight = match mixes_of(study, arm, &sequences) {
                Ok(mix) => Ok(mix.preflight()),
                Err(Error::Mixture { source, .. }) => Err(source.to_string()),
                Err(other) => return Err(other),
            };
            Ok(PlannedArm { arm, preflight })
        };
        let arms = study.arms().map(planned).collect::<Result<_, Error>>()?;
        let prepared = !matches!(study.spec().data, DataSpec::Stated { .. });
        let described = if prepared { datasheet::describe(study, data) } else { String::new() };
        Ok(Self {
            arms,
            tally: Tally::default(),
            left: Vec::new(),
            jobs: 0,
            done: 0,
            prepared,
            place: Place::Cpu,
            data: described,
            rows: study.sets().map(|set| data.rows(set).clone()).collect(),
        })
    }

    fn counting(
        mut self,
        question: &dyn Question,
        study: &Study,
        data: &Data,
        store: &Store,
        machine: &Machine,
    ) -> Result<Self, Error> {
        self.place = machine.place();
        let nothing = BTreeMap::new();
        let graph = || Graph::new(study, data, store, machine, &nothing);
        let mut planned = graph().planning();
        question.needs(&mut planned)?;
        self.tally = Tally::of(&planned.jobs());
        let mut left = graph().guessing();
        question.needs(&mut left)?;
        let jobs = left.jobs();
        self.jobs = jobs.len() as u64;
        for job in jobs {
            if !matches!(job.status(store)?, Status::Done { .. } | Status::Failed(_)) {
                self.left.push(job);
            }
        }
        self.done = self.jobs - self.left.len() as u64;
        Ok(self)
    }

    /// Whether the store holds all of it.
    pub fn is_done(&self) -> bool {
        self.done == self.jobs
    }

    /// What the study costs and takes, as text: the same before and after it is run.
    pub fn describe(&self, study: &Study) -> String {
        let mut out = String::new();
        self.describe_model(study, &mut out);
        out += &self.data;
        self.describe_arms(study, &mut out);
        self.describe_cost(study, &mut out);
        out
    }

    /// The data and the fine-tuning sets in words.
    pub fn describe_data(&self, study: &Study) -> String {
        format!("{}{}\n", self.data, recipe::finetuning(study, &self.rows))
    }

    /// What is expected of what the store lacks; `None` where it has everything.
    ///
    /// # Errors
    /// A precision that the backend does not have, a store that cannot be written.
    pub fn expected(
        &self,
        study: &Study,
        store: &Store,
        engine: &mut dyn Engine,
        signal: &StopSignal,
    ) -> Result<Option<Expected>, Error> {
        if self.left.is_empty() {
            return Ok(None);
        }
        expected(&self.left, study, store, engine, signal).map(Some)
    }

    /// The same as [`describe`](Self::describe), and how things stand now.
    pub fn describe_now(&self, study: &Study, expected: Option<Expected>) -> String {
        let mut out = self.describe(study);
        if let Some(Expected { seconds, jobs, at_once }) = expected {
            let time = duration(seconds);
            let _ = writeln!(
                out,
                "time: about {time} for the {jobs} jobs that the store lacks, {at_once} at once, as measured on this machine"
            );
        }
        if self.done > 0 {
            let _ = writeln!(out, "in the store: {} of {} jobs", self.done, self.jobs);
        }
        out
    }

    fn describe_model(&self, study: &Study, out: &mut String) {
        for s in study.sizes().map(|size| study[size].spec()) {
            let count = s.model.parameter_count();
            let _ = writeln!(
                out,
                "model {}: {} parameters ({} without embeddings), vocabulary {}",
                s.model_name, count.total, count.without_embeddings, s.model.vocab_size
            );
        }
        let s = study.spec();
        let _ = writeln!(
            out,
            "pretraining: {} steps x {} sequences x {} tokens = {} tokens an arm",
            s.pretrain.steps,
            s.pretrain.batch,
            s.pretrain.time,
            s.pretrain.steps.saturating_mul(study.tokens_per_step())
        );
        if let Some(base) = &s.base {
            let seen = "what it has seen of the evaluated text is not known";
            let _ = writeln!(out, "every arm begins at the checkpoint {base}: {seen}");
        }
        let recipes: Vec<(&str, String)> = study
            .sizes()
            .map(|size| (study[size].spec().model_name.as_str(), recipe::pretraining(&study[size])))
            .collect();
        for (i, (model, recipe)) in recipes.iter().enumerate() {
            match recipes.iter().all(|(_, other)| other == recipe) {
                true if i > 0 => {}
                true => drop(writeln!(out, "{recipe}")),
                false => drop(writeln!(out, "{model}: {recipe}")),
            }
        }
        let _ = writeln!(
            out,
            "seeds: {} pretraining x {} fine-tuning, study seed {}\n",
            s.pretrain_seeds, s.sft_seeds, s.study_seed
        );
        out.push_str(&recipe::finetuning(study, &self.rows));
        out.push('\n');
    }

    fn describe_arms(&self, study: &Study, out: &mut String) {
        for planned in &self.arms {
            let arm = study[planned.arm].spec();
            let preflight = match &planned.preflight {
                Ok(preflight) => preflight,
                Err(reason) => {
                    let _ = writeln!(out, "arm {:<18} REFUSED: {reason}", arm.name);
                    continue;
                }
            };
            let _ = writeln!(out, "arm {:<18} {}", arm.name, mixes(arm));
            for used in &preflight.sources {
                let b = &used.budget;
                let _ = writeln!(
                    out,
                    "    {:<16} {:>8} of {:>8} tokens drawn, {} reserved = {:.3} epochs{}",
                    b.source,
                    preflight.tokens(b.drawn).to_string(),
                    preflight.tokens(b.available).to_string(),
                    preflight.tokens(b.reserved),
                    b.epochs(),
                    used.first_repeat.map_or_else(String::new, |step| format!(", repeats from step {step}"))
                );
            }
            let warmup = study.spec().pretrain.warmup;
            if planned.starts_in_warmup(warmup).is_some() {
                let _ = writeln!(out, "    note: it starts before the warm-up ends (step {warmup})");
            }
        }
        out.push('\n');
    }

    fn describe_cost(&self, study: &Study, out: &mut String) {
        let (s, t) = (study.spec(), &self.tally);
        let runs = (study.arms().count() * study.sizes().count()) as u64 * s.pretrain_seeds;
        let unshared = runs.saturating_mul(s.pretrain.steps).saturating_mul(study.tokens_per_step());
        let _ = writeln!(
            out,
            "jobs: {} stretches of pretraining ({} tokens; {unshared} without shared prefixes), {} fine-tunes, {} \
             evaluations, {} others",
            t.stretches, t.pretrain_tokens, t.finetunes, t.evaluations, t.others
        );
        // Of stated sizes only pretraining is known.
        let flops = if self.prepared { t.operations } else { t.pretraining };
        let without = if self.prepared { "" } else { " (pretraining alone: fine-tuning sets are not at hand)" };
        let _ = writeln!(out, "compute: {flops:.3e} floating-point operations{without}");
        if !self.prepared {
            let hours = flops / (0.4 * 989e12) / 3600.0;
            let _ = writeln!(
                out,
                "time: about {hours:.1} GPU hours of pretraining at 40 % of 989 TFLOP/s (an H100 in bf16)"
            );
        }
        let largest = study.largest(self.place);
        let memory = largest.training_memory(self.place);
        let of = if study.sizes().count() > 1 {
            format!(" ({}, the largest)", largest.spec().model_name)
        } else {
            String::new()
        };
        let _ = writeln!(
            out,
            "memory: about {:.2} GB{of}, {:.2} of them activations of a micro-batch{}",
            memory.total() as f64 / 1e9,
            memory.activations as f64 / 1e9,
            if study.compute().recompute { " (blocks are recomputed)" } else { "" }
        );
        let _ = writeln!(
            out,
            "disk: about {:.2} GB: {:.2} of training states, {:.2} of {} states kept on the way, {:.2} of fine-tuned models",
            (t.states + t.states_kept + t.models) / 1e9,
            t.states / 1e9,
            t.states_kept / 1e9,
            t.kept,
            t.models / 1e9
        );
    }
}

impl Tally {
    fn of(jobs: &[Job]) -> Self {
        let mut t = Self::default();
        let bases = jobs.iter().filter_map(|job| match job {
            Job::Pretrain(state) => Some((state.address(), state.setup.model.parameter_count().total as f64)),
            _ => None,
        });
        let parameters: BTreeMap<_, f64> = bases.collect();
        for job in jobs {
            match job {
                Job::Pretrain(state) => {
                    t.stretches += 1;
                    t.pretrain_tokens = t.pretrain_tokens.saturating_add(state.tokens_planned());
                    t.kept += state.kept_states();
                    t.pretraining += job.cost().amount;
                    // A full state is weights and two moments.
                    let state_bytes = 12.0 * state.setup.model.parameter_count().total as f64;
                    t.states += state_bytes;
                    t.states_kept += state_bytes * state.kept_states() as f64;
                }
                Job::Finetune(tuned) => {
                    t.finetunes += 1;
                    t.models += 4.0 * parameters.get(&tuned.base).copied().unwrap_or(0.0);
                }
                Job::Evaluate(_) => t.evaluations += 1,
                _ => t.others += 1,
            }
            let runs_models = matches!(
                job,
                Job::Pretrain(_) | Job::Finetune(_) | Job::Evaluate(_) | Job::Probe(_) | Job::Walk(_) | Job::Plane(_)
            );
            if runs_models {
                t.operations += job.cost().amount;
            }
        }
        t
    }
}

/// An arm's mixture with the first pretraining seed, once those of all seeds are known to be possible: how many sequences
/// of a source are drawn differs from seed to seed by one.
fn mixes_of(study: &Study, arm: ArmId, sequences: &dyn Fn(&str) -> u64) -> Result<MixPlan, Error> {
    let first = study.mix(arm, 0, sequences)?;
    (1..study.spec().pretrain_seeds).try_for_each(|seed| study.mix(arm, seed, sequences).map(drop))?;
    Ok(first)
}

/// An arm's phases in words.
fn mixes(arm: &ArmSpec) -> String {
    let from = |start: Span| match start {
        Span::Steps(step) => format!("from step {step}"),
        Span::Tokens(tokens) => format!("from {tokens} tokens"),
    };
    let phase = |p: &Phase<Span>| {
        let general = p.general.as_ref().map(|shares| format!("{shares} for general text"));
        let mixed = p.specialised.as_ref().map(|shares| format!("{} of {shares}", p.weight));
        let both: Vec<String> = general.into_iter().chain(mixed).collect();
        let what = if both.is_empty() { "general text".to_owned() } else { both.join(" and ") };
        format!("{what} {}", from(p.start))
    };
    if arm.is_control() {
        return "general text only".to_owned();
    }
    arm.phases.iter().map(phase).collect::<Vec<_>>().join(", ")
}
