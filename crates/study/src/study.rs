//! A study that was checked: everything later reads it without checking again.

use std::ops::Index;

use data_mixer::{Grouping, MixPlan, MixSpec, SftSpec, SourceSize, stream_key};
use fused_ops::Place;
use schedule::{LrSpec, Shares, Step, Timeline, TimelineSpec, Tokens, Weight};
use trainer::TrainSpec;

use crate::Error;
use crate::job::{Content, Examples, Replayed};
use crate::rates::Rates;
use crate::spec::{
    ArmSpec, CurveShape, DataSpec, FixedRate, GENERAL, LrChoice, PretrainSpec, ProbeSpec, SftSetSpec, StudySpec,
    TokenizerSpec,
};

/// The most seeds of a kind: more is a slip of the pen, and would take the memory there is.
const MAX_SEEDS: u64 = 10_000;
/// The most optimiser steps of a run: every rate of it is hashed, and no run of a model has nearly as many.
pub(crate) const MAX_STEPS: u64 = 10_000_000;
/// Points of a side of a plane's grid, at most: each takes two gradients.
const MAX_PLANE: u64 = 201;
/// A grid may grow this often, at most.
const MAX_EXTEND: u32 = 3;

/// An arm of a [`Study`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArmId(usize);

/// A fine-tuning set of a [`Study`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(usize);

impl SetId {
    /// Its place in the file's order.
    pub(crate) fn place(self) -> usize {
        self.0
    }
}

impl ArmId {
    /// Its place in the file's order.
    pub(crate) fn place(self) -> usize {
        self.0
    }
}

/// A size of a [`Study`]'s model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SizeId(usize);

impl SizeId {
    /// What speaks of one size speaks of this one.
    pub(crate) const FIRST: Self = Self(0);
}

/// A probe of a [`Study`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(usize);

/// An arm and its phases in steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    spec: ArmSpec,
    timeline: Timeline,
}

impl Arm {
    /// What the file says of it.
    pub fn spec(&self) -> &ArmSpec {
        &self.spec
    }

    /// What tables call it.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its phases over the run.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Its highest weight in batches of so many sequences: the one that tables print.
    pub fn weight(&self, batch: u64) -> Weight {
        let phases = self.timeline.phases().iter().enumerate();
        let slots = |i: usize, start: Step| (self.timeline.phase_end(i).0 - start.0).saturating_mul(batch);
        phases.map(|(i, p)| p.weight.peak(slots(i, p.start))).max().unwrap_or_default()
    }
}

/// A validated study.
#[derive(Debug, Clone)]
pub struct Study {
    spec: StudySpec,
    arms: Vec<Arm>,
    control: ArmId,
    rates: Rates,
    /// The same study at its other sizes, in the file's order.
    others: Vec<Self>,
}

impl Study {
    /// Checks everything that does not need the data, and builds every arm's timeline.
    ///
    /// # Errors
    /// The first field outside its limits.
    pub fn new(spec: StudySpec) -> Result<Self, Error> {
        check_numbers(&spec)?;
        spec.model.validate()?;
        let longest = spec.pretrain.time.max(spec.sft.max_time);
        if longest > spec.model.longest() {
            let [pretrain, sft] = [spec.pretrain.time, spec.sft.max_time];
            let limit = format!(
                "is shorter than the longest sequence, {longest} (pretrain.time = {pretrain}, sft.max_time = {sft})"
            );
            return Err(Error::field("model.max_positions", spec.model.max_positions, limit));
        }
        let rates = Rates::new("pretrain", pretrain_lr(&spec))?;
        let arms = spec
            .arms
            .iter()
            .map(|arm| Ok(Arm { spec: arm.clone(), timeline: timeline(&spec, arm)? }))
            .collect::<Result<Vec<_>, Error>>()?;
        let control = spec
            .arms
            .iter()
            .position(ArmSpec::is_control)
            .ok_or_else(|| Error::field("arms", spec.arms.len(), "hold no control (an arm without phases)"))?;
        check_tokenizer(&spec)?;
        check_names(&spec)?;
        check_rates(&spec)?;
        let others = others(&spec)?;
        let study = Self { arms, control: ArmId(control), rates, others, spec };
        study.pretrain_recipe().validate().map_err(within("pretrain"))?;
        study.finetune_recipe(1e-3, 1000).validate().map_err(within("sft"))?;
        check_splits(&study.spec)?;
        Ok(study)
    }

    /// What the file says.
    pub fn spec(&self) -> &StudySpec {
        &self.spec
    }

    /// All sizes of the model, the first one first. `&study[size]` is the study at that size alone; arms, sets and probes are the
    /// same.
    pub fn sizes(&self) -> impl DoubleEndedIterator<Item = SizeId> + Clone + use<> {
        (0..=self.others.len()).map(SizeId)
    }

    /// All arms, in the file's order.
    pub fn arms(&self) -> impl Iterator<Item = ArmId> + Clone + use<> {
        (0..self.arms.len()).map(ArmId)
    }

    /// The control: the first arm without a phase.
    pub fn control(&self) -> ArmId {
        self.control
    }

    /// All arms but the control.
    pub fn treated(&self) -> impl Iterator<Item = ArmId> + Clone + use<> {
        let control = self.control;
        self.arms().filter(move |arm| *arm != control)
    }

    /// All fine-tuning sets, in the file's order.
    pub fn sets(&self) -> impl Iterator<Item = SetId> + Clone + use<> {
        (0..self.spec.sft.sets.len()).map(SetId)
    }

    /// All probes, in the file's order.
    pub fn probes(&self) -> impl Iterator<Item = ProbeId> + Clone + use<> {
        (0..self.spec.probes.len()).map(ProbeId)
    }

    /// An arm by its name.
    ///
    /// # Errors
    /// A name that is not in the study: it lists those that are.
    pub fn arm_named(&self, name: &str) -> Result<ArmId, Error> {
        named("arm", name, self.arms.iter().map(|a| a.spec.name.as_str())).map(ArmId)
    }

    /// A fine-tuning set by its name.
    ///
    /// # Errors
    /// As [`arm_named`](Self::arm_named).
    pub fn set_named(&self, name: &str) -> Result<SetId, Error> {
        named("set", name, self.spec.sft.sets.iter().map(|s| s.name.as_str())).map(SetId)
    }

    /// A probe by its name.
    ///
    /// # Errors
    /// As [`arm_named`](Self::arm_named).
    pub fn probe_named(&self, name: &str) -> Result<ProbeId, Error> {
        named("probe", name, self.spec.probes.iter().map(|p| p.name.as_str())).map(ProbeId)
    }

    /// The learning rates of pretraining.
    pub(crate) fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Tokens of an optimiser step of pretraining.
    pub(crate) fn tokens_per_step(&self) -> u64 {
        self.spec.pretrain.batch.saturating_mul(self.spec.pretrain.time as u64)
    }

    /// The seed of a purpose.
    pub(crate) fn seed(&self, purpose: &str, index: u64) -> u64 {
        stream_key(self.spec.study_seed, purpose, index)
    }

    /// An arm's mixture, with so many sequences of each role.
    pub(crate) fn mix(&self, arm: ArmId, seed: u64, sequences: &dyn Fn(&str) -> u64) -> Result<MixPlan, Error> {
        let arm = &self[arm];
        let timeline = arm.timeline.clone();
        let source = |name: &str| {
            let max_epochs = arm.spec.max_epochs.get(name).copied();
            SourceSize::new(name, sequences(name)).with_max_epochs(max_epochs)
        };
        let sources = timeline.sources().into_iter().map(source).collect();
        MixPlan::build(MixSpec {
            seed: self.seed("pretraining data", seed),
            batch: self.spec.pretrain.batch,
            time: self.spec.pretrain.time as u64,
            timeline,
            sources,
            pairing: self.spec.pretrain.pairing,
            max_epochs: self.spec.pretrain.max_epochs,
        })
        .map_err(|source| Error::Mixture { arm: arm.spec.name.clone(), source })
    }

    /// The recipe of pretraining.
    pub(crate) fn pretrain_recipe(&self) -> TrainSpec {
        let p = &self.spec.pretrain;
        TrainSpec {
            optimizer: p.optimizer.clone(),
            clip: p.clip,
            micro_tokens: p.micro_tokens,
            precision: p.precision,
            recompute: p.recompute,
            ..TrainSpec::new(self.rates.spec().clone())
        }
    }

    /// How models are computed.
    pub fn compute(&self) -> gptneox_model::Compute {
        gptneox_model::Compute { precision: self.spec.pretrain.precision, recompute: self.spec.pretrain.recompute }
    }

    /// Memory that training needs at its peak: of the longest rows, in micro-batches as the spec says.
    pub fn training_memory(&self, place: Place) -> gptneox_model::TrainingMemory {
        let spec = &self.spec;
        let row = spec.pretrain.time.max(spec.sft.max_time);
        let tokens = (spec.pretrain.micro_tokens / row).max(1) * row;
        spec.model.training_memory(tokens, self.compute(), place)
    }

    /// The study at the size whose training needs most memory.
    pub fn largest(&self, place: Place) -> &Self {
        let need = |size: &SizeId| self[*size].training_memory(place).total();
        self.sizes().max_by_key(need).map_or(self, |size| &self[size])
    }

    /// The recipe of fine-tuning over `steps` steps.
    pub(crate) fn finetune_recipe(&self, lr: f64, steps: u64) -> TrainSpec {
        let (s, p) = (&self.spec.sft, &self.spec.pretrain);
        TrainSpec {
            optimizer: s.optimizer.clone(),
            clip: s.clip,
            micro_tokens: p.micro_tokens,
            precision: p.precision,
            recompute: p.recompute,
            ..TrainSpec::new(s.curve.over(lr, steps))
        }
    }

    /// A fine-tune of so many steps has a rate above 0 at one of them at least.
    pub(crate) fn check_curve(&self, set: SetId, steps: u64) -> Result<(), Error> {
        // Sizes that are not stated.
        if steps == 0 {
            return Ok(());
        }
        let rates = self.spec.sft.curve.over(1.0, steps);
        let rates = rates
            .build()
            .map_err(|source| Error::Schedule { what: format!("sft.curve over {steps} steps"), source })?;
        if steps <= MAX_STEPS && (0..steps).all(|step| rates.at(Step(step)) == 0.0) {
            let limit = format!(
                "has a rate of 0 at each of the {steps} steps on {}, which would train nothing: give it a min, a shape = \
                 \"constant\", or more examples or epochs",
                self[set].name
            );
            return Err(Error::field("sft.curve", format!("{:?}", self.spec.sft.curve.shape).to_lowercase(), limit));
        }
        Ok(())
    }

    /// A set's training examples in the order of a seed, with the general text that is added to them. `train`: a role's
    /// training text.
    pub(crate) fn examples(&self, set: SetId, seed: u64, train: &dyn Fn(&str) -> Content) -> Examples {
        let replay = self.spec.sft.replay.filter(|replay| replay.share != Weight::ZERO);
        Examples {
            tokens: train(&self[set].role),
            examples: self[set].examples.unwrap_or(u64::MAX),
            rows: self.rows(set, seed),
            replay: replay.map(|replay| Replayed {
                general: train(GENERAL),
                share: replay.share,
                time: replay.time.unwrap_or(self.spec.sft.max_time),
                document_mask: self.spec.pretrain.document_mask,
                seed: self.seed("fine-tuning replay", seed),
            }),
        }
    }

    /// How a set's examples become rows, in the order of a seed.
    pub(crate) fn rows(&self, set: SetId, seed: u64) -> SftSpec {
        let s = &self.spec.sft;
        SftSpec {
            epochs: s.epochs,
            batch: s.batch,
            max_time: s.max_time,
            truncation: s.truncation,
            mask_prompt: self[set].mask_prompt,
            seed: self.seed("fine-tuning order", seed),
            grouping: if s.group_by_length { Grouping::Length } else { Grouping::Random },
        }
    }
}

impl TryFrom<StudySpec> for Study {
    type Error = Error;
    fn try_from(spec: StudySpec) -> Result<Self, Error> {
        Self::new(spec)
    }
}

impl Index<SizeId> for Study {
    type Output = Self;
    fn index(&self, size: SizeId) -> &Self {
        size.0.checked_sub(1).map_or(self, |i| &self.others[i])
    }
}

impl Index<ArmId> for Study {
    type Output = Arm;
    fn index(&self, arm: ArmId) -> &Arm {
        &self.arms[arm.0]
    }
}

impl Index<SetId> for Study {
    type Output = SftSetSpec;
    fn index(&self, set: SetId) -> &SftSetSpec {
        &self.spec.sft.sets[set.0]
    }
}

impl Index<ProbeId> for Study {
    type Output = ProbeSpec;
    fn index(&self, probe: ProbeId) -> &ProbeSpec {
        &self.spec.probes[probe.0]
    }
}

fn timeline(spec: &StudySpec, arm: &ArmSpec) -> Result<Timeline, Error> {
    let tokens_per_step = Tokens(spec.pretrain.batch.saturating_mul(spec.pretrain.time as u64));
    Shares::one(GENERAL)
        .and_then(|general| {
            let (end, phases) = (spec.pretrain.steps.into(), arm.phases.clone());
            TimelineSpec { end, general, phases }.build(tokens_per_step)
        })
        .map_err(|source| Error::Schedule { what: format!("arm {}", arm.name), source })
}

/// A size's name in names of files and columns.
pub(crate) fn plain(model: &str) -> String {
    model.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// The study at each of its other sizes.
fn others(spec: &StudySpec) -> Result<Vec<Study>, Error> {
    if let (Some(base), Some(size)) = (&spec.base, spec.sizes.first()) {
        let limit = format!("is one model: a study that begins at {base} has no other sizes");
        return Err(Error::field("sizes", &size.model_name, limit));
    }
    // Tables and files of a size are named after it.
    let mut names = vec![plain(&spec.model_name)];
    let mut out = Vec::new();
    for size in &spec.sizes {
        let name = plain(&size.model_name);
        if names.contains(&name) {
            let limit = format!("is named twice (in files' names it is {name})");
            return Err(Error::field("sizes.model_name", &size.model_name, limit));
        }
        names.push(name);
        if size.model.vocab_size != spec.model.vocab_size {
            let limit = format!("must be the study's, {}", spec.model.vocab_size);
            return Err(Error::field(format!("model.vocab_size of {}", size.model_name), size.model.vocab_size, limit));
        }
        let of_size = |error| match error {
            Error::Field { field, value, limit } => {
                Error::Field { field: format!("{field} of the size {}", size.model_name), value, limit }
            }
            other => Error::field("sizes", &size.model_name, format!("cannot be used: {other}")),
        };
        let alone = size.alone(spec);
        if (StudySpec { model_name: spec.model_name.clone(), sizes: spec.sizes.clone(), ..alone.clone() }) == *spec {
            let limit = format!("differs from {} in nothing but its name", spec.model_name);
            return Err(Error::field("sizes", &size.model_name, limit));
        }
        out.push(Study::new(alone).map_err(of_size)?);
    }
    Ok(out)
}

/// Pretraining's curve of learning rates.
pub(crate) fn pretrain_lr(spec: &StudySpec) -> LrSpec {
    let PretrainSpec { lr_peak: peak, lr_min: min, convention, shape, .. } = spec.pretrain;
    let (warmup, total) = (spec.pretrain.warmup.into(), spec.pretrain.steps.into());
    match shape {
        CurveShape::Cosine => LrSpec::Cosine { peak, min, warmup, total, convention },
        CurveShape::Linear => LrSpec::Linear { peak, min, warmup, total, convention },
        CurveShape::Constant => LrSpec::Constant { rate: peak, warmup, convention },
    }
}

fn check_numbers(spec: &StudySpec) -> Result<(), Error> {
    if let crate::spec::DataSpec::Files { part_bytes: Some(0), .. } = &spec.data {
        return Err(Error::field("data.files.part_bytes", 0, "must be at least 1"));
    }
    let positive = [
        ("pretrain_seeds", spec.pretrain_seeds),
        ("sft_seeds", spec.sft_seeds),
        ("pretrain.steps", spec.pretrain.steps),
        ("pretrain.micro_tokens", spec.pretrain.micro_tokens as u64),
        ("pretrain.batch", spec.pretrain.batch),
        ("pretrain.time", spec.pretrain.time as u64),
        ("pretrain.keep_every", spec.pretrain.keep_every.unwrap_or(1)),
        ("eval.general_sequences", spec.eval.general_sequences),
        ("eval.probe_documents", spec.eval.probe_documents),
        ("eval.path_rows", spec.eval.path_rows),
        ("eval.path_stride", spec.eval.path_stride),
        ("eval.checkpoint_every", spec.eval.checkpoint_every.unwrap_or(1)),
        ("eval.examples", spec.eval.examples.unwrap_or(1)),
        ("eval.along", spec.eval.along.unwrap_or(1)),
        ("ngram", spec.ngram as u64),
        ("sft.epochs", spec.sft.epochs),
        ("sft.batch", spec.sft.batch as u64),
        ("sft.max_time", spec.sft.max_time as u64),
    ];
    if let Some((field, _)) = positive.iter().find(|(_, value)| *value == 0) {
        return Err(Error::field(*field, 0, "must be at least 1"));
    }
    for (field, seeds) in [("pretrain_seeds", spec.pretrain_seeds), ("sft_seeds", spec.sft_seeds)] {
        if seeds > MAX_SEEDS {
            return Err(Error::field(field, seeds, format!("must not exceed {MAX_SEEDS}")));
        }
    }
    if !(2..=MAX_PLANE).contains(&spec.eval.plane_points) {
        let limit = format!("must be from 2 to {MAX_PLANE}");
        return Err(Error::field("eval.plane_points", spec.eval.plane_points, limit));
    }
    if spec.pretrain.steps > MAX_STEPS {
        return Err(Error::field("pretrain.steps", spec.pretrain.steps, format!("must not exceed {MAX_STEPS}")));
    }
    if let Some(replay) = &spec.sft.replay {
        if replay.share == Weight::ONE {
            return Err(Error::field("sft.replay.share", replay.share, "must be below 1: examples are rows too"));
        }
        let time = replay.time.unwrap_or(spec.sft.max_time);
        if !(1..=spec.sft.max_time).contains(&time) {
            let limit = format!("must be from 1 to sft.max_time, {}", spec.sft.max_time);
            return Err(Error::field("sft.replay.time", time, limit));
        }
    }
    if let Some(set) = spec.sft.sets.iter().find(|set| set.examples == Some(0)) {
        return Err(Error::field(format!("sft.sets.examples of {}", set.name), 0, "must be at least 1"));
    }
    let max_epochs = spec.pretrain.max_epochs;
    if !(max_epochs.is_finite() && max_epochs > 0.0) {
        return Err(Error::field("pretrain.max_epochs", max_epochs, "must be positive"));
    }
    for arm in &spec.arms {
        for (role, epochs) in &arm.max_epochs {
            if role != GENERAL && !arm.roles().any(|r| r == role) {
                let limit = format!("is no source of the arm {}", arm.name);
                return Err(Error::field("arms.max_epochs", role, limit));
            }
            if !(epochs.is_finite() && *epochs > 0.0) {
                return Err(Error::field(
                    format!("arms.max_epochs of {role} in {}", arm.name),
                    epochs,
                    "must be positive",
                ));
            }
        }
    }
    Ok(())
}

/// A recipe's error, with the part of the file that it is in.
fn within(part: &'static str) -> impl FnOnce(trainer::Error) -> Error {
    move |error| match error {
        trainer::Error::Field { field, value, limit } => {
            let optimizer = if ["beta1", "beta2", "eps", "weight_decay"].contains(&field) { "optimizer." } else { "" };
            Error::Field { field: format!("{part}.{optimizer}{field}"), value, limit }
        }
        other => other.into(),
    }
}

/// A BPE has something to be trained on, and fits the model.
fn check_tokenizer(spec: &StudySpec) -> Result<(), Error> {
    let TokenizerSpec::Bpe { vocab_size, roles, max_bytes } = &spec.tokenizer else { return Ok(()) };
    if *vocab_size > spec.model.vocab_size {
        let limit = format!("is smaller than the tokenizer's vocabulary of {vocab_size}");
        return Err(Error::field("model.vocab_size", spec.model.vocab_size, limit));
    }
    if roles.is_empty() {
        return Err(Error::field("tokenizer.bpe.roles", "[]", "must hold at least one role"));
    }
    if *max_bytes == 0 {
        return Err(Error::field("tokenizer.bpe.max_bytes", 0, "must be at least 1"));
    }
    Ok(())
}

/// No two arms, sets or probes of one name; a probe is nothing that is trained on.
fn check_names(spec: &StudySpec) -> Result<(), Error> {
    let twice = |field: &str, names: Vec<&String>| {
        let again = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name));
        again.map_or(Ok(()), |(_, name)| Err(Error::field(field, name, "is named twice")))
    };
    // Names stand in tables, figures and messages.
    let arms = spec.arms.iter().map(|a| ("arms.name", &a.name));
    let sets = spec.sft.sets.iter().map(|s| ("sft.sets.name", &s.name));
    let probes = spec.probes.iter().map(|p| ("probes.name", &p.name));
    for (field, name) in arms.chain(sets).chain(probes).chain([("model_name", &spec.model_name)]) {
        let shown = format!("{name:?}");
        if name.trim().is_empty() || name.trim() != name.as_str() {
            return Err(Error::field(field, shown, "must be words without space before or after them"));
        }
        if name.chars().any(char::is_control) {
            return Err(Error::field(field, shown, "must not hold control characters"));
        }
    }
    twice("arms", spec.arms.iter().map(|a| &a.name).collect())?;
    twice("sft.sets", spec.sft.sets.iter().map(|s| &s.name).collect())?;
    twice("probes", spec.probes.iter().map(|p| &p.name).collect())?;
    if spec.sft.sets.is_empty() {
        return Err(Error::field("sft.sets", "[]", "must hold at least one set"));
    }
    let trained = |role: &str| {
        spec.arms.iter().any(|a| a.roles().any(|r| r == role)) || spec.sft.sets.iter().any(|s| s.role == role)
    };
    match spec.probes.iter().find(|p| p.role != GENERAL && trained(&p.role)) {
        Some(probe) => Err(Error::field("probes", &probe.role, "is a role that something is trained on")),
        None => Ok(()),
    }
}

fn check_rates(spec: &StudySpec) -> Result<(), Error> {
    let lr = &spec.sft.lr;
    let field = match lr {
        LrChoice::Fixed { .. } => "sft.lr.fixed.lr",
        LrChoice::SweepBase { .. } => "sft.lr.sweep_base.grid",
        LrChoice::SweepEach { .. } => "sft.lr.sweep_each.grid",
    };
    for set in &spec.sft.sets {
        let grid = lr.grid(&set.name);
        if grid.is_empty() {
            let limit = format!("must hold at least one learning rate for {}", set.name);
            return Err(Error::field(field, "[]", limit));
        }
        if let Some(rate) = grid.iter().find(|rate| !(rate.is_finite() && **rate > 0.0)) {
            return Err(Error::field(field, rate, "must be positive and finite"));
        }
        if let Some((_, rate)) = grid.iter().enumerate().find(|(i, rate)| grid[..*i].contains(rate)) {
            return Err(Error::field(field, rate, "is given twice"));
        }
    }
    if let LrChoice::Fixed { lr: FixedRate::BySet(rates) } = lr
        && let Some(name) = rates.keys().find(|name| spec.sft.sets.iter().all(|set| set.name != **name))
    {
        return Err(Error::field("sft.lr.fixed.lr", name, "is no set of the study"));
    }
    let extend = field.replace("grid", "extend");
    if lr.extend() > MAX_EXTEND {
        return Err(Error::field(extend, lr.extend(), format!("must not exceed {MAX_EXTEND}")));
    }
    if lr.extend() > 0 && spec.sft.sets.iter().any(|set| lr.grid(&set.name).len() < 2) {
        return Err(Error::field(
            extend,
            lr.extend(),
            "needs a grid of at least two rates, whose ratio says how it grows",
        ));
    }
    Ok(())
}

/// What is evaluated is held out, and what is held out is named rightly.
fn check_splits(spec: &StudySpec) -> Result<(), Error> {
    let roles = spec.roles();
    for role in spec.splits.keys().chain(&spec.decontaminate) {
        if !roles.contains(role) {
            let limit = format!("is no role of the study; there are: {}", roles.join(", "));
            return Err(Error::field(
                if spec.splits.contains_key(role) { "splits" } else { "decontaminate" },
                role,
                limit,
            ));
        }
    }
    for role in spec.roles().iter().filter(|role| !spec.trains_on(role)) {
        if !spec.probes.iter().any(|probe| probe.role == *role) {
            continue;
        }
        let named = |what: &str| format!("is read by a probe alone, which evaluates all of it: {what}");
        let stated = match &spec.data {
            DataSpec::Files { sources, .. } => {
                sources.0.get(role).is_some_and(|f| f.validation.is_some() || f.test.is_some())
            }
            _ => false,
        };
        if spec.splits.contains_key(role) || stated {
            return Err(Error::field("splits", role, named("it has no splits")));
        }
        if spec.decontaminate.contains(role) {
            return Err(Error::field("decontaminate", role, named("nothing is trained on it")));
        }
    }
    roles.iter().try_for_each(|role| spec.splits_of(role).check(role))?;
    let nothing =
        |field: String, why: &str| Err(Error::field(field, "none", format!("must hold something out: {why}")));
    if spec.splits_of(GENERAL).test.is_nothing() {
        return nothing(format!("splits.{GENERAL}.test"), "losses on general text are reported on it");
    }
    for set in &spec.sft.sets {
        let splits = spec.splits_of(&set.role);
        if splits.test.is_nothing() {
            return nothing(format!("splits.{}.test", set.role), "losses are reported on it");
        }
        if spec.sft.lr.is_chosen() && splits.validation.is_nothing() {
            return nothing(format!("splits.{}.validation", set.role), "learning rates are chosen on it");
        }
    }
    Ok(())
}

/// A place by its name.
fn named<'s>(what: &str, name: &str, names: impl Iterator<Item = &'s str> + Clone) -> Result<usize, Error> {
    let found = names.clone().position(|n| n == name);
    found.ok_or_else(|| {
        let known = names.collect::<Vec<_>>().join(", ");
        let limit = if known.is_empty() { "there are none".to_owned() } else { format!("there are: {known}") };
        Error::field(what, name, format!("is not in the study; {limit}"))
    })
}
