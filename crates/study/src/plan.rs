//! From a spec to jobs, with shared prefixes, and what they cost.

use std::fmt::Write as _;

use data_mixer::{Budget, MixPlan, MixSpec, Pairing, SourceSize, stream_key};
use schedule::{LrSpec, Phase, Step, Timeline};
use serde::Serialize;
use trainer::TrainSpec;

use crate::spec::GENERAL;
use crate::{ArmSpec, DataSpec, Error, LrChoice, Prepared, SftSetSpec, StudySpec};

/// One stretch of pretraining.
#[derive(Debug, Clone)]
pub struct PretrainNode {
    /// The pretraining seed.
    pub seed: u64,
    /// The node it continues.
    pub parent: Option<usize>,
    /// First step.
    pub from: u64,
    /// One past the last step.
    pub until: u64,
    /// The phases that have begun by its end.
    pub phases: Vec<Phase>,
    /// What logs call it.
    pub label: String,
}

/// An arm: which node ends it for each pretraining seed, and what it takes from each source.
#[derive(Debug, Clone)]
pub struct PlannedArm {
    /// Its spec.
    pub arm: ArmSpec,
    /// The last node for each pretraining seed.
    pub ends: Vec<usize>,
    /// Sequences by source over the whole run.
    pub budgets: Result<Vec<Budget>, String>,
}

/// A study's jobs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Pretraining, parents before children.
    pub nodes: Vec<PretrainNode>,
    /// The arms, in the spec's order.
    pub arms: Vec<PlannedArm>,
    spec: StudySpec,
}

impl Plan {
    /// Plans on prepared data: an arm whose mixture cannot be had is an error.
    ///
    /// # Errors
    /// The arm, its source, need, have and what would fit.
    pub fn build(spec: &StudySpec, prepared: &Prepared) -> Result<Self, Error> {
        let sequences = |role: &str| {
            let tokens = prepared.roles.get(role).map_or(0, |r| r.train.token_count());
            tokens.saturating_sub(1) / spec.pretrain.time as u64
        };
        let plan = Self::lay_out(spec, &sequences)?;
        for (arm, planned) in spec.arms.iter().zip(&plan.arms) {
            if planned.budgets.is_err() {
                mix_plan(spec, arm, 0, &sequences)?;
            }
        }
        Ok(plan)
    }

    /// Plans on stated token counts: arms that cannot be had are marked, with the reason.
    ///
    /// # Errors
    /// A spec outside its limits.
    pub fn stated(spec: &StudySpec) -> Result<Self, Error> {
        spec.validate()?;
        let DataSpec::Stated { tokens } = &spec.data else {
            return Err(Error::field("data", "given", "is to be prepared, not stated"));
        };
        let time = spec.pretrain.time as u64;
        Self::lay_out(spec, &|role| tokens.get(role).map_or(0, |n| n.saturating_sub(1) / time))
    }

    fn lay_out(spec: &StudySpec, sequences: &dyn Fn(&str) -> u64) -> Result<Self, Error> {
        let mut nodes = Vec::new();
        let mut arms: Vec<PlannedArm> = Vec::new();
        for arm in &spec.arms {
            let budgets = match mix_plan(spec, arm, 0, sequences) {
                Ok(mix) => Ok(mix.budgets()),
                Err(Error::Mixture { source, .. }) => Err(source.to_string()),
                Err(other) => return Err(other),
            };
            arms.push(PlannedArm { arm: arm.clone(), ends: Vec::new(), budgets });
        }
        // The general trunk, cut where an arm leaves it.
        let mut cuts: Vec<u64> = spec.arms.iter().filter(|a| a.source.is_some()).map(|a| a.start.0).collect();
        cuts.push(spec.pretrain.steps);
        cuts.retain(|c| *c > 0);
        cuts.sort_unstable();
        cuts.dedup();
        for seed in 0..spec.pretrain_seeds {
            let mut trunk: Vec<(u64, usize)> = Vec::new();
            let mut from = 0;
            for until in &cuts {
                let parent = trunk.last().map(|(_, node)| *node);
                let label = format!("general text, seed {seed}");
                nodes.push(PretrainNode { seed, parent, from, until: *until, phases: Vec::new(), label });
                trunk.push((*until, nodes.len() - 1));
                from = *until;
            }
            for planned in &mut arms {
                let timeline = spec.timeline(&planned.arm)?;
                let at = |step: u64| trunk.iter().find(|(until, _)| *until == step).map(|(_, node)| *node);
                let end = match timeline.phases().first() {
                    None => at(spec.pretrain.steps).expect("the trunk reaches the end"),
                    Some(first) => {
                        nodes.push(PretrainNode {
                            seed,
                            parent: at(first.start.0),
                            from: first.start.0,
                            until: spec.pretrain.steps,
                            phases: timeline.phases().to_vec(),
                            label: format!("{}, seed {seed}", planned.arm.name),
                        });
                        nodes.len() - 1
                    }
                };
                planned.ends.push(end);
            }
        }
        Ok(Self { nodes, arms, spec: spec.clone() })
    }

    /// Tokens of pretraining, shared prefixes counted once.
    pub fn pretrain_tokens(&self) -> u64 {
        let per_step = self.spec.pretrain.batch * self.spec.pretrain.time as u64;
        self.nodes.iter().map(|n| (n.until - n.from) * per_step).sum()
    }

    /// Tokens that pretraining would take if every arm were trained from scratch.
    pub fn unshared_tokens(&self) -> u64 {
        let p = &self.spec.pretrain;
        self.arms.len() as u64 * self.spec.pretrain_seeds * p.steps * p.batch * p.time as u64
    }

    /// Fine-tunes, those of the learning-rate sweep included.
    pub fn finetunes(&self) -> u64 {
        let s = &self.spec;
        let sets = s.sft.sets.len() as u64;
        let runs = self.arms.len() as u64 * sets * s.pretrain_seeds * s.sft_seeds;
        match &s.sft.lr {
            LrChoice::Fixed { .. } => runs,
            // The winner is one of the runs.
            LrChoice::SweepBase { grid } => runs + (grid.len() as u64 - 1) * sets,
            LrChoice::SweepEach { grid } => runs + (grid.len() as u64 - 1) * sets * self.arms.len() as u64,
        }
    }

    /// What the study costs and takes, as text. `flops_per_second` is what the engine was measured to sustain.
    pub fn describe(&self, prepared: Option<&Prepared>, flops_per_second: Option<f64>) -> String {
        let s = &self.spec;
        let count = s.model.parameter_count();
        let mut out = String::new();
        let mut line = |text: String| {
            let _ = writeln!(out, "{text}");
        };
        line(format!(
            "model {}: {} parameters ({} without embeddings), vocabulary {}",
            s.model_name, count.total, count.without_embeddings, s.model.vocab_size
        ));
        line(format!(
            "pretraining: {} steps x {} sequences x {} tokens = {} tokens an arm",
            s.pretrain.steps,
            s.pretrain.batch,
            s.pretrain.time,
            s.pretrain.steps * s.pretrain.batch * s.pretrain.time as u64
        ));
        line(format!(
            "seeds: {} pretraining x {} fine-tuning, study seed {}",
            s.pretrain_seeds, s.sft_seeds, s.study_seed
        ));
        line(String::new());
        for planned in &self.arms {
            let arm = &planned.arm;
            match &planned.budgets {
                Ok(budgets) => {
                    let mix = match &arm.source {
                        None => "general text only".to_owned(),
                        Some(source) => format!("{} of {source} from step {}", arm.weight, arm.start),
                    };
                    line(format!("arm {:<18} {mix}", arm.name));
                    for b in budgets.iter().filter(|b| b.reserved > 0) {
                        line(format!(
                            "    {:<16} {:>12} of {:>12} sequences drawn, {} reserved = {:.3} epochs",
                            b.source,
                            b.drawn,
                            b.available,
                            b.reserved,
                            b.reserved as f64 / b.available as f64
                        ));
                    }
                    if arm.source.is_some() && arm.start.0 < s.pretrain.warmup {
                        line(format!("    note: it starts before the warm-up ends (step {})", s.pretrain.warmup));
                    }
                }
                Err(reason) => line(format!("arm {:<18} REFUSED: {reason}", arm.name)),
            }
        }
        line(String::new());
        let tokens = self.pretrain_tokens();
        line(format!(
            "jobs: {} stretches of pretraining ({tokens} tokens; {} without shared prefixes), {} fine-tunes",
            self.nodes.len(),
            self.unshared_tokens(),
            self.finetunes()
        ));
        let sft_tokens = prepared.and_then(|p| self.finetune_tokens(p).ok());
        let flops = self.flops(sft_tokens.unwrap_or(0));
        line(format!(
            "compute: {flops:.3e} floating-point operations{}",
            if sft_tokens.is_none() { " (pretraining alone: fine-tuning sets are not at hand)" } else { "" }
        ));
        if let Some(speed) = flops_per_second {
            let hours = flops / speed / 3600.0;
            line(format!(
                "time: about {hours:.2} hours at {:.1} GFLOP/s, measured on this machine just now",
                speed / 1e9
            ));
        } else {
            let hours = flops / (0.4 * 989e12) / 3600.0;
            line(format!("time: about {hours:.1} GPU hours at 40 % of 989 TFLOP/s (an H100 in bf16)"));
        }
        let checkpoint = count.total as f64 * 12.0;
        let disk = checkpoint * self.nodes.len() as f64 + count.total as f64 * 4.0 * self.finetunes() as f64;
        line(format!("disk: about {:.2} GB of checkpoints and models", disk / 1e9));
        out
    }

    /// Tokens of all fine-tuning, evaluation at a third of the cost.
    pub(crate) fn finetune_tokens(&self, prepared: &Prepared) -> Result<u64, Error> {
        let s = &self.spec;
        let evaluation = (s.eval.c4_sequences * s.pretrain.time as u64) / 3;
        let mut total = 0;
        for set in &s.sft.sets {
            let batches = sft_batches(s, prepared, set, 0)?;
            let tokens = batches.report().positions * s.sft.epochs;
            total += (tokens + evaluation) * self.finetunes() / s.sft.sets.len() as u64;
        }
        Ok(total)
    }

    fn flops(&self, sft_tokens: u64) -> f64 {
        let s = &self.spec;
        self.pretrain_tokens() as f64 * s.model.training_flops(s.pretrain.time).total()
            + sft_tokens as f64 * s.model.training_flops(s.sft.max_time).total()
    }
}

/// The seed of a pretraining run's purpose.
pub(crate) fn pretrain_seed(spec: &StudySpec, purpose: &str, seed: u64) -> u64 {
    stream_key(spec.study_seed, purpose, seed)
}

/// An arm's mixture.
pub(crate) fn mix_plan(
    spec: &StudySpec,
    arm: &ArmSpec,
    seed: u64,
    sequences: &dyn Fn(&str) -> u64,
) -> Result<MixPlan, Error> {
    let timeline = spec.timeline(arm)?;
    build_mix(spec, &arm.name, timeline, seed, sequences)
}

/// A mixture of the study's sources along a timeline.
pub(crate) fn build_mix(
    spec: &StudySpec,
    arm: &str,
    timeline: Timeline,
    seed: u64,
    sequences: &dyn Fn(&str) -> u64,
) -> Result<MixPlan, Error> {
    let mut names: Vec<&str> = Vec::new();
    for phase in timeline.phases() {
        if !names.contains(&phase.source.as_str()) {
            names.push(&phase.source);
        }
    }
    let specialised = names.iter().map(|n| SourceSize::new(n, sequences(n))).collect();
    MixPlan::build(MixSpec {
        seed: pretrain_seed(spec, "pretraining data", seed),
        batch: spec.pretrain.batch,
        timeline,
        general: SourceSize::new(GENERAL, sequences(GENERAL)),
        specialised,
        pairing: Pairing::Displace,
        max_epochs: spec.pretrain.max_epochs,
    })
    .map_err(|source| Error::Mixture { arm: arm.to_owned(), source })
}

/// The recipe of pretraining.
pub(crate) fn pretrain_recipe(spec: &StudySpec) -> TrainSpec {
    let p = &spec.pretrain;
    TrainSpec {
        lr: spec.pretrain_lr(),
        optimizer: p.optimizer.clone(),
        clip: p.clip,
        micro_tokens: p.micro_tokens,
        max_skipped: 10,
    }
}

/// The recipe of fine-tuning over `steps` steps.
pub(crate) fn finetune_recipe(spec: &StudySpec, lr: f64, steps: u64) -> TrainSpec {
    let s = &spec.sft;
    let warmup = (u128::from(steps) * u128::from(s.warmup.parts()) / u128::from(schedule::Weight::PARTS)) as u64;
    TrainSpec {
        lr: LrSpec::cosine(lr, 0.0, warmup, steps),
        optimizer: s.optimizer.clone(),
        clip: s.clip,
        micro_tokens: spec.pretrain.micro_tokens,
        max_skipped: 10,
    }
}

/// A fine-tuning set's training batches.
pub(crate) fn sft_batches(
    spec: &StudySpec,
    prepared: &Prepared,
    set: &SftSetSpec,
    seed: u64,
) -> Result<data_mixer::SftBatches, Error> {
    let store = prepared.roles[&set.role].train.clone();
    Ok(data_mixer::SftBatches::new(store, spec.sft.examples, sft_rows(spec, set, seed))?)
}

/// A fine-tuning set's held-out examples, with the training mask.
pub(crate) fn sft_held_out(
    spec: &StudySpec,
    prepared: &Prepared,
    set: &SftSetSpec,
) -> Result<data_mixer::SftBatches, Error> {
    let store = prepared.roles[&set.role].held_out.clone();
    Ok(data_mixer::SftBatches::new(store, spec.sft.held_out, sft_rows(spec, set, 0))?)
}

fn sft_rows(spec: &StudySpec, set: &SftSetSpec, seed: u64) -> data_mixer::SftSpec {
    data_mixer::SftSpec {
        epochs: spec.sft.epochs,
        batch: spec.sft.batch,
        max_time: spec.sft.max_time,
        mask_prompt: set.mask_prompt,
        seed: stream_key(spec.study_seed, "fine-tuning order", seed),
    }
}

/// What determines a stretch of pretraining: its address in the store.
#[derive(Serialize)]
pub(crate) struct PretrainKey<'a> {
    pub(crate) kind: &'static str,
    pub(crate) engine: &'a str,
    pub(crate) model: &'a gptneox_model::GptNeoXConfig,
    pub(crate) init_seed: u64,
    pub(crate) data_seed: u64,
    pub(crate) recipe: &'a TrainSpec,
    pub(crate) batch: u64,
    pub(crate) time: usize,
    pub(crate) general: String,
    /// Phase and fingerprint of its source.
    pub(crate) phases: Vec<(Phase, String)>,
    pub(crate) evaluation: (String, u64),
    pub(crate) parent: Option<String>,
    pub(crate) until: Step,
}

/// What determines a fine-tune.
#[derive(Serialize)]
pub(crate) struct FinetuneKey<'a> {
    pub(crate) kind: &'static str,
    pub(crate) base: &'a str,
    pub(crate) recipe: &'a TrainSpec,
    pub(crate) rows: (u64, usize, usize, u64, u64, bool),
    pub(crate) order_seed: u64,
    pub(crate) stores: [String; 3],
    pub(crate) c4_sequences: u64,
}
