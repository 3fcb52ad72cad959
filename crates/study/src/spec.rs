//! A study as plain data. [`StudySpec::validate`] checks it; `spec.toml` in the output directory is one.

use std::path::PathBuf;

use fused_ops::Precision;
use gptneox_model::GptNeoXConfig;
use schedule::{Convention, LrSpec, Phase, Shares, Span, Timeline, TimelineSpec, Tokens, Weight};
use serde::{Deserialize, Serialize};
use trainer::AdamWSpec;

use crate::recipe::{finetune_recipe, pretrain_recipe};
use crate::{Error, Sources};

/// Everything that determines a study's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudySpec {
    /// What tables call the model.
    pub model_name: String,
    /// Seed of everything: initialisation, orders, mixture phases, fine-tuning orders.
    pub study_seed: u64,
    /// Pretraining runs of each arm.
    pub pretrain_seeds: u64,
    /// Fine-tunes of each pretrained model and set.
    pub sft_seeds: u64,
    /// Where documents come from.
    pub data: DataSpec,
    /// What turns them into tokens.
    pub tokenizer: TokenizerSpec,
    /// Of 1000 documents, how many are held out (by hash of their content).
    pub held_out_permille: u16,
    /// Whether documents that come more than once in a role are kept once.
    #[serde(default)]
    pub deduplicate: bool,
    /// The model's sizes.
    pub model: GptNeoXConfig,
    /// Pretraining, midtraining included.
    pub pretrain: PretrainSpec,
    /// The arms; the first without a phase is the control.
    pub arms: Vec<ArmSpec>,
    /// Fine-tuning.
    pub sft: SftSpec,
    /// Evaluation.
    pub eval: EvalSpec,
    /// Texts on which representations are compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeSpec>,
}

/// Where documents come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DataSpec {
    /// The generated corpus.
    Generated {
        /// Its seed.
        seed: u64,
        /// Documents of general text.
        general: u64,
        /// Documents of each specialised source.
        specialised: u64,
        /// Examples of each fine-tuning set.
        sft: u64,
    },
    /// Local files.
    Files {
        /// The data directory.
        dir: PathBuf,
        /// What lies where in it.
        sources: Sources,
    },
    /// None: sizes in tokens alone, for a plan.
    Stated {
        /// Role to tokens.
        tokens: std::collections::BTreeMap<String, u64>,
    },
}

/// What turns documents into tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenizerSpec {
    /// A byte-level BPE trained on the study's own text.
    Bpe {
        /// Tokens.
        vocab_size: usize,
        /// Roles it is trained on, in equal parts.
        roles: Vec<String>,
        /// Bytes of text it is trained on, at most.
        max_bytes: u64,
    },
    /// A Hugging Face `tokenizer.json`.
    File {
        /// The file.
        path: PathBuf,
    },
}

impl TokenizerSpec {
    /// The roles it is trained on.
    pub(crate) fn roles(&self) -> &[String] {
        match self {
            Self::Bpe { roles, .. } => roles,
            Self::File { .. } => &[],
        }
    }
}

/// Pretraining and midtraining: one optimiser, one curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainSpec {
    /// Optimiser steps in all.
    pub steps: u64,
    /// Sequences of a step.
    pub batch: u64,
    /// Tokens of a sequence.
    pub time: usize,
    /// Highest learning rate.
    pub lr_peak: f64,
    /// Last learning rate.
    pub lr_min: f64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// How the curve numbers steps.
    pub convention: Convention,
    /// The optimiser.
    pub optimizer: AdamWSpec,
    /// Largest global gradient norm.
    pub clip: f64,
    /// Most tokens of a micro-batch.
    pub micro_tokens: usize,
    /// How often a sequence of a source may be drawn.
    pub max_epochs: f64,
    /// What matrix products are computed in, fine-tuning and evaluation included.
    #[serde(default)]
    pub precision: Precision,
    /// Whether blocks are computed again in the backward pass instead of kept (saves memory, changes no result).
    #[serde(default)]
    pub recompute: bool,
    /// Whether attention stops at the beginning of a document. (The paper's does not.)
    #[serde(default)]
    pub document_mask: bool,
}

/// One arm: what is mixed into the general text, how much, from when on, in any number of phases.
///
/// ```toml
/// [[arms]]
/// name = "Code, then mathematics"
/// phases = [
///     { start = 6000, weight = { from = 0, to = 0.2 }, specialised = "starcoder" },
///     { start = "42B tokens", weight = 0.2, specialised = { starcoder = 0.5, math = 0.5 } },
/// ]
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmSpec {
    /// What tables call it.
    pub name: String,
    /// Its phases; none for the control.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase<Span>>,
}

impl ArmSpec {
    /// General text only.
    pub fn control(name: &str) -> Self {
        Self { name: name.to_owned(), phases: Vec::new() }
    }

    /// Whether it is general text only.
    pub fn is_control(&self) -> bool {
        self.phases.is_empty()
    }

    /// Its highest weight: the one that tables print.
    pub fn weight(&self) -> Weight {
        self.phases.iter().map(|p| p.weight.peak()).max().unwrap_or_default()
    }

    /// The roles that it reads besides general text.
    fn roles(&self) -> impl Iterator<Item = &str> {
        let sides = self.phases.iter().flat_map(|p| p.specialised.iter().chain(&p.general));
        sides.flat_map(|shares| shares.iter().map(|(name, _)| name))
    }
}

/// How fine-tuning learning rates are chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LrChoice {
    /// One for all.
    Fixed {
        /// The rate.
        lr: f64,
    },
    /// The best of a grid on the control's checkpoint, per set (Appendix C).
    SweepBase {
        /// The grid.
        grid: Vec<f64>,
    },
    /// The best of a grid on each arm's own checkpoint, per set (Section 4).
    SweepEach {
        /// The grid.
        grid: Vec<f64>,
    },
}

/// Fine-tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftSpec {
    /// Passes over the examples.
    pub epochs: u64,
    /// Examples of a step.
    pub batch: usize,
    /// Longest row in tokens.
    pub max_time: usize,
    /// What happens to longer examples.
    #[serde(default)]
    pub truncation: data_mixer::Truncation,
    /// Training examples, at most.
    pub examples: u64,
    /// Held-out examples, at most.
    pub held_out: u64,
    /// Peak learning rate.
    pub lr: LrChoice,
    /// Share of the steps that warm up.
    pub warmup: Weight,
    /// The optimiser.
    pub optimizer: AdamWSpec,
    /// Largest global gradient norm.
    pub clip: f64,
    /// The sets.
    pub sets: Vec<SftSetSpec>,
}

/// One fine-tuning set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftSetSpec {
    /// What tables call it.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Leave the prompt out of the loss.
    pub mask_prompt: bool,
}

/// Evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalSpec {
    /// Held-out general sequences, at most.
    pub c4_sequences: u64,
    /// Documents of a probe, at most.
    #[serde(default = "probe_documents")]
    pub probe_documents: u64,
    /// Rows of the fixed batches on which gradients along a fine-tuning path are taken: of general text, and of examples.
    #[serde(default = "path_rows")]
    pub path_rows: u64,
    /// Steps between the points of such a path.
    #[serde(default = "path_stride")]
    pub path_stride: u64,
}

fn probe_documents() -> u64 {
    200
}

fn path_rows() -> u64 {
    32
}

fn path_stride() -> u64 {
    1
}

/// A text on which representations are compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeSpec {
    /// What figures call it.
    pub name: String,
    /// Its role. Of general text what is held out is read; of other roles, which nothing is trained on, all of it.
    pub role: String,
}

/// The most seeds of a kind: more is a slip of the pen, and would take the memory there is.
const MAX_SEEDS: u64 = 10_000;

/// The role of general text.
pub(crate) const GENERAL: &str = "general";

impl StudySpec {
    /// Roles that the study reads: general, the arms' sources, the fine-tuning sets.
    pub fn roles(&self) -> Vec<String> {
        let mut roles = vec![GENERAL.to_owned()];
        let sources = self.arms.iter().flat_map(|a| a.roles().map(str::to_owned));
        let sets = self.sft.sets.iter().map(|s| s.role.clone());
        let probes = self.probes.iter().map(|p| p.role.clone());
        for role in sources.chain(sets).chain(probes).chain(self.tokenizer.roles().iter().cloned()) {
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        roles
    }

    /// The control: the first arm without a phase.
    pub fn control(&self) -> Option<usize> {
        self.arms.iter().position(ArmSpec::is_control)
    }

    /// An arm's phases.
    pub(crate) fn timeline(&self, arm: &ArmSpec) -> Result<Timeline, Error> {
        let spec = |general| TimelineSpec { end: self.pretrain.steps.into(), general, phases: arm.phases.clone() };
        let tokens_per_step = Tokens(self.pretrain.batch.saturating_mul(self.pretrain.time as u64));
        Shares::one(GENERAL)
            .and_then(|general| spec(general).build(tokens_per_step))
            .map_err(|source| Error::Schedule { what: format!("arm {}", arm.name), source })
    }

    /// The pretraining curve.
    pub(crate) fn pretrain_lr(&self) -> LrSpec {
        let p = &self.pretrain;
        let (warmup, total) = (p.warmup.into(), p.steps.into());
        LrSpec::Cosine { peak: p.lr_peak, min: p.lr_min, warmup, total, convention: p.convention }
    }

    /// Checks what does not need the data.
    ///
    /// # Errors
    /// The first field outside its limits.
    pub fn validate(&self) -> Result<(), Error> {
        let positive = |field: &str, value: u64| {
            if value == 0 { Err(Error::field(field, 0, "must be at least 1")) } else { Ok(()) }
        };
        positive("pretrain_seeds", self.pretrain_seeds)?;
        positive("sft_seeds", self.sft_seeds)?;
        for (field, seeds) in [("pretrain_seeds", self.pretrain_seeds), ("sft_seeds", self.sft_seeds)] {
            if seeds > MAX_SEEDS {
                return Err(Error::field(field, seeds, format!("must not exceed {MAX_SEEDS}")));
            }
        }
        positive("pretrain.batch", self.pretrain.batch)?;
        positive("pretrain.time", self.pretrain.time as u64)?;
        positive("eval.c4_sequences", self.eval.c4_sequences)?;
        positive("eval.probe_documents", self.eval.probe_documents)?;
        positive("eval.path_rows", self.eval.path_rows)?;
        positive("eval.path_stride", self.eval.path_stride)?;
        positive("sft.held_out", self.sft.held_out)?;
        positive("sft.examples", self.sft.examples)?;
        positive("sft.epochs", self.sft.epochs)?;
        positive("sft.batch", self.sft.batch as u64)?;
        positive("sft.max_time", self.sft.max_time as u64)?;
        if !(1..=500).contains(&self.held_out_permille) {
            return Err(Error::field("held_out_permille", self.held_out_permille, "must be from 1 to 500"));
        }
        self.model.validate()?;
        let longest = self.pretrain.time.max(self.sft.max_time);
        if longest > self.model.max_positions {
            let limit = format!("is shorter than the longest sequence, {longest}");
            return Err(Error::field("model.max_positions", self.model.max_positions, limit));
        }
        self.pretrain_lr().build().map_err(|source| Error::Schedule { what: "pretrain".into(), source })?;
        if self.control().is_none() {
            return Err(Error::field("arms", self.arms.len(), "hold no control (an arm without phases)"));
        }
        for (i, arm) in self.arms.iter().enumerate() {
            if self.arms[..i].iter().any(|other| other.name == arm.name) {
                return Err(Error::field("arms", &arm.name, "is named twice"));
            }
            self.timeline(arm)?;
        }
        for (i, set) in self.sft.sets.iter().enumerate() {
            if self.sft.sets[..i].iter().any(|other| other.name == set.name) {
                return Err(Error::field("sft.sets", &set.name, "is named twice"));
            }
        }
        let trained = |role: &str| {
            self.arms.iter().any(|a| a.roles().any(|r| r == role)) || self.sft.sets.iter().any(|s| s.role == role)
        };
        for (i, probe) in self.probes.iter().enumerate() {
            if self.probes[..i].iter().any(|other| other.name == probe.name) {
                return Err(Error::field("probes", &probe.name, "is named twice"));
            }
            if probe.role != GENERAL && trained(&probe.role) {
                return Err(Error::field("probes", &probe.role, "is a role that something is trained on"));
            }
        }
        if self.sft.sets.is_empty() {
            return Err(Error::field("sft.sets", "[]", "must hold at least one set"));
        }
        let grid = match &self.sft.lr {
            LrChoice::Fixed { lr } => std::slice::from_ref(lr),
            LrChoice::SweepBase { grid } | LrChoice::SweepEach { grid } => grid,
        };
        if grid.is_empty() {
            return Err(Error::field("sft.lr.grid", "[]", "must hold at least one learning rate"));
        }
        if let Some(lr) = grid.iter().find(|lr| !(lr.is_finite() && **lr > 0.0)) {
            return Err(Error::field("sft.lr", lr, "must be positive"));
        }
        pretrain_recipe(self).validate()?;
        finetune_recipe(self, grid[0], 1).validate()?;
        let max_epochs = self.pretrain.max_epochs;
        if !(max_epochs.is_finite() && max_epochs > 0.0) {
            return Err(Error::field("pretrain.max_epochs", max_epochs, "must be positive"));
        }
        Ok(())
    }
}
