//! What a researcher writes: a study as plain data. [`Study::new`](crate::Study::new) checks it; `spec.toml` in the
//! output directory is one.

mod base;
mod finetune;
mod presets;
mod sizes;
mod sources;
mod splits;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corpus::SpecialTokens;
use data_mixer::Pairing;
use fused_ops::Precision;
use gptneox_model::GptNeoXConfig;
use schedule::{Convention, Phase, Span};
use serde::{Deserialize, Serialize};
use trainer::AdamWSpec;

pub(crate) use base::{folder as base_folder, name as base_name, tokenizer as base_tokenizer};
pub use finetune::{CurveShape, FinetuneCurve, FinetuneSpec, FixedRate, LrChoice, ReplaySpec, SftSetSpec};
pub use presets::{PRESETS, preset};
pub use sizes::SizeSpec;
pub use sources::{RoleFiles, Sources};
pub use splits::{Amount, HoldOut, Splits};

use crate::Error;

/// The version of study files that this program reads and writes.
pub const FORMAT: u32 = 1;

/// Everything that determines a study's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudySpec {
    /// The version of the file's format; [`FORMAT`] where absent.
    #[serde(default = "format")]
    pub format: u32,
    /// What tables call the model.
    pub model_name: String,
    /// A checkpoint that every arm begins at instead of first weights: a Hugging Face folder, or
    /// `hf://OWNER/NAME[@REVISION]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Whether results may come from processors whose matrix products differ in the last bits.
    #[serde(default, skip_serializing_if = "Kernels::is_same")]
    pub kernels: Kernels,
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
    /// What special tokens that stand in texts are: text, or special tokens.
    #[serde(default, skip_serializing_if = "is_text")]
    pub special_tokens: SpecialTokens,
    /// What of each role is held out; of roles that are not named, nothing. Files may say so of themselves
    /// ([`RoleFiles`]): that goes first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub splits: BTreeMap<String, Splits>,
    /// Whether documents that come more than once in a role are trained on once.
    #[serde(default)]
    pub deduplicate: bool,
    /// Tokens of the sequences by which evaluated text is looked for in training text.
    #[serde(default = "ngram")]
    pub ngram: usize,
    /// Roles of which documents that hold such a sequence are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decontaminate: Vec<String>,
    /// The model's sizes.
    pub model: GptNeoXConfig,
    /// Pretraining, midtraining included.
    pub pretrain: PretrainSpec,
    /// The arms; the first without a phase is the control.
    pub arms: Vec<ArmSpec>,
    /// Fine-tuning.
    pub sft: FinetuneSpec,
    /// Evaluation.
    pub eval: EvalSpec,
    /// Texts on which representations are compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeSpec>,
    /// Other sizes of the model, for tables and figures that compare sizes; what speaks of one size speaks of the first,
    /// `model`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<SizeSpec>,
}

fn format() -> u32 {
    FORMAT
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_cosine(shape: &CurveShape) -> bool {
    *shape == CurveShape::Cosine
}

fn is_text(tokens: &SpecialTokens) -> bool {
    *tokens == SpecialTokens::Text
}

/// As GPT-3's authors (Brown et al. 2020).
fn ngram() -> usize {
    13
}

/// Which results of other processors a study takes for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernels {
    /// Those of processors with the same kernels, whose bits are the same.
    #[default]
    Same,
    /// All: a long study can move between machines. Each job's record names what computed it, and pages say so.
    Any,
}

impl Kernels {
    fn is_same(&self) -> bool {
        *self == Self::Same
    }
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
        /// Bytes of files that one job tokenises: of more, several jobs share the work, each with whole files (1 GiB
        /// where absent). It changes no result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part_bytes: Option<u64>,
    },
    /// None: sizes in tokens alone, for a plan.
    Stated {
        /// Role to tokens.
        tokens: BTreeMap<String, u64>,
        /// Fine-tuning role to its examples.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        examples: BTreeMap<String, StatedExamples>,
    },
}

/// How many examples a fine-tuning set's own splits have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatedExamples {
    /// To train on; what the study holds out by number is taken from these.
    pub train: u64,
    /// In a split of its own.
    #[serde(default)]
    pub validation: u64,
    /// In a split of its own.
    #[serde(default)]
    pub test: u64,
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
    /// Its shape after the warm-up. A constant rate keeps apart when something is mixed in and how high the rate is then.
    #[serde(default, skip_serializing_if = "is_cosine")]
    pub shape: CurveShape,
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
    /// Whether general text that specialised data displace is passed over, so that arms draw the same (`displace`), or not
    /// (`shift`).
    #[serde(default, skip_serializing_if = "is_displace")]
    pub pairing: Pairing,
    /// Steps between full states that are kept, so that later forks need not begin at the start; none where absent. It
    /// changes no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_every: Option<u64>,
    /// What matrix products are computed in, fine-tuning and evaluation included.
    #[serde(default)]
    pub precision: Precision,
    /// Whether blocks are computed again in the backward pass instead of kept (saves memory, changes no result).
    #[serde(default)]
    pub recompute: bool,
    /// Whether attention stops at the beginning of a document. (The paper's does not.)
    #[serde(default)]
    pub document_mask: bool,
    /// Whether the documents of each source are put into a random order, another one for each pretraining seed, before sequences
    /// are cut from them; else sequences hold neighbours of the files.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shuffle_documents: bool,
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
    /// How often a sequence of these sources may be drawn over the whole run, where it differs from
    /// [`PretrainSpec::max_epochs`]: an arm that repeats a source says so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub max_epochs: BTreeMap<String, f64>,
}

impl ArmSpec {
    /// General text only.
    pub fn control(name: &str) -> Self {
        Self { name: name.to_owned(), phases: Vec::new(), max_epochs: BTreeMap::new() }
    }

    /// Whether it is general text only.
    pub fn is_control(&self) -> bool {
        self.phases.is_empty()
    }

    /// The roles that it reads besides general text.
    pub(crate) fn roles(&self) -> impl Iterator<Item = &str> {
        let sides = self.phases.iter().flat_map(|p| p.specialised.iter().chain(&p.general));
        sides.flat_map(|shares| shares.iter().map(|(name, _)| name))
    }
}

/// Evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalSpec {
    /// Held-out general sequences, at most: of documents that are drawn at random.
    // Its name in the records of older stores.
    #[serde(alias = "c4_sequences")]
    pub general_sequences: u64,
    /// Examples of a fine-tuning set's validation and test split that are evaluated, at most; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<u64>,
    /// Steps between evaluations while pretraining, of held-out general text and of each set's validation split (its test split where
    /// it has none): in the run's evals.jsonl, for `midtrain log`. None where absent. No result depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub along: Option<u64>,
    /// Documents of a probe, at most.
    #[serde(default = "probe_documents")]
    pub probe_documents: u64,
    /// Rows of the fixed batches on which gradients along a fine-tuning path are taken: of general text, and of examples.
    #[serde(default = "path_rows")]
    pub path_rows: u64,
    /// Steps between the points of such a path.
    #[serde(default = "path_stride")]
    pub path_stride: u64,
    /// Steps between the checkpoints that are fine-tuned along a run (figure 5); an eighth of the run where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<u64>,
    /// Points of each side of the grid on which a plane through parameter space is measured (figure 1).
    #[serde(default = "plane_points")]
    pub plane_points: u64,
}

fn is_displace(pairing: &Pairing) -> bool {
    *pairing == Pairing::Displace
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

fn plane_points() -> u64 {
    11
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

/// The role of general text.
pub(crate) const GENERAL: &str = "general";

/// Only what tells whether the rest can be read.
#[derive(Deserialize)]
struct Head {
    #[serde(default = "format")]
    format: u32,
}

impl StudySpec {
    /// From the text of a TOML file. Where it names a base, the model and the tokenizer are the base's unless it names its
    /// own.
    ///
    /// # Errors
    /// A format that this program does not know, unknown or missing fields, text that is no TOML, a base that cannot be read.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let parse = |reason: String| Error::Parse { path: path.to_owned(), reason };
        // First the format: a file of another one may have any fields.
        let head: Head = toml::from_str(text).map_err(|e| parse(e.to_string()))?;
        if head.format != FORMAT {
            let reason = format!("format = {} is unknown; this program reads format = {FORMAT}", head.format);
            return Err(parse(reason));
        }
        let base: base::Base = toml::from_str(text).map_err(|e| parse(e.to_string()))?;
        // After what is written, so that errors name its lines.
        let text = format!("{text}\n{}", base.adds()?);
        toml::from_str(&text).map_err(|e| parse(e.to_string()))
    }

    /// As the text of a TOML file, every field written out.
    ///
    /// # Errors
    /// A number that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|e| Error::Parse { path: "spec.toml".into(), reason: e.to_string() })
    }

    /// From a TOML file.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and a file that cannot be read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|e| Error::Parse { path: path.to_owned(), reason: e.to_string() })?;
        Self::parse(path, &text)
    }

    /// Roles that the study reads: general, the arms' sources, the fine-tuning sets, the probes, the tokenizer's.
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

    /// What of a role is held out. All of a probe's, but for general text's; what is evaluated is not trained on.
    pub fn splits_of(&self, role: &str) -> Splits {
        let mut splits = self.splits.get(role).cloned().unwrap_or_default();
        if let DataSpec::Files { sources, .. } = &self.data
            && let Some(files) = sources.0.get(role)
        {
            splits.validation = files.validation.clone().unwrap_or(splits.validation);
            splits.test = files.test.clone().unwrap_or(splits.test);
        }
        if role != GENERAL && self.probes.iter().any(|probe| probe.role == role) {
            splits = Splits::test(HoldOut::everything());
        }
        splits
    }

    /// Whether something is trained on a role.
    pub(crate) fn trains_on(&self, role: &str) -> bool {
        let mixed = self.arms.iter().any(|arm| arm.roles().any(|r| r == role));
        role == GENERAL || mixed || self.sft.sets.iter().any(|set| set.role == role)
    }
}
