//! What a command line changes in a study's spec.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fused_ops::Precision;
use gptneox_model::load_config;

use crate::fingerprints::Fingerprints;
use crate::protocol::{RATES, SFT, Size};
use crate::spec::{
    DataSpec, FixedRate, GENERAL, LrChoice, Sources, StudySpec, TokenizerSpec, base_folder, base_name, base_tokenizer,
};
use crate::{Error, Study};

/// Changes of a spec; what is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Pretraining runs of each arm.
    pub pretrain_seeds: Option<u64>,
    /// Fine-tunes of each pretrained model and set.
    pub sft_seeds: Option<u64>,
    /// Seed of everything.
    pub study_seed: Option<u64>,
    /// What matrix products are computed in.
    pub precision: Option<Precision>,
    /// How fine-tuning rates are chosen.
    pub rates: Option<RateChoice>,
    /// Real files: a folder with one folder a role.
    pub data: Option<PathBuf>,
    /// A checkpoint to begin at, with its model and its tokenizer.
    pub base: Option<String>,
    /// A Hugging Face tokenizer.json.
    pub tokenizer: Option<PathBuf>,
    /// Which files play which role.
    pub sources: Option<PathBuf>,
}

/// How fine-tuning rates are chosen: the paper states three ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateChoice {
    /// On the control's checkpoint (Appendix C).
    SweepBase,
    /// On each arm's own (Section 4).
    SweepEach,
    /// Those that the paper chose (Table 7).
    Paper,
}

impl std::str::FromStr for RateChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "sweep-base" => Self::SweepBase,
            "sweep-each" => Self::SweepEach,
            "paper" => Self::Paper,
            _ => return Err("must be sweep-base, sweep-each or paper".to_owned()),
        })
    }
}

impl RateChoice {
    fn apply(self, spec: &StudySpec) -> Result<LrChoice, Error> {
        let (grid, extend) = match &spec.sft.lr {
            LrChoice::SweepBase { grid, extend } | LrChoice::SweepEach { grid, extend } => (grid.clone(), *extend),
            LrChoice::Fixed { .. } => (RATES.to_vec(), 0),
        };
        Ok(match self {
            Self::SweepBase => LrChoice::SweepBase { grid, extend },
            Self::SweepEach => LrChoice::SweepEach { grid, extend },
            Self::Paper => LrChoice::Fixed { lr: FixedRate::BySet(papers_rates(spec)?) },
        })
    }
}

/// What the paper chose for the study's sets at its size.
fn papers_rates(spec: &StudySpec) -> Result<BTreeMap<String, f64>, Error> {
    let limit = "is for the paper's sizes and sets (Table 7)";
    let error = |what: &str| Error::field("--rates", "paper", format!("{limit}; the study's {what} is none of them"));
    let size = Size::ALL.into_iter().find(|size| size.name() == spec.model_name);
    let size = size.ok_or_else(|| error(&format!("model {}", spec.model_name)))?;
    let rate = |name: &String| {
        let set = SFT.iter().find(|set| set.name == *name).ok_or_else(|| error(&format!("set {name}")))?;
        Ok((name.clone(), set.rates[size as usize]))
    };
    spec.sft.sets.iter().map(|set| rate(&set.name)).collect()
}

impl Changes {
    /// The changed study. The store remembers what is known of a tokenizer's file.
    ///
    /// # Errors
    /// A file that cannot be read or parsed, a value outside its limits.
    pub fn apply(&self, mut spec: StudySpec, store: &Path) -> Result<Study, Error> {
        spec.pretrain_seeds = self.pretrain_seeds.unwrap_or(spec.pretrain_seeds);
        spec.sft_seeds = self.sft_seeds.unwrap_or(spec.sft_seeds);
        spec.study_seed = self.study_seed.unwrap_or(spec.study_seed);
        spec.pretrain.precision = self.precision.unwrap_or(spec.pretrain.precision);
        if let Some(base) = &self.base {
            let dir = base_folder(base)?;
            spec.model = load_config(&dir)?;
            spec.model_name = base_name(base);
            if self.tokenizer.is_none() {
                spec.tokenizer = base_tokenizer(&dir)?;
            }
            spec.base = Some(base.clone());
        }
        if let Some(rates) = self.rates {
            spec.sft.lr = rates.apply(&spec)?;
        }
        if let (Some(path), Some(_)) = (&self.tokenizer, &spec.base) {
            spec.tokenizer = TokenizerSpec::File { path: path.clone() };
        } else if let Some(path) = &self.tokenizer {
            // A model's vocabulary is padded, as Pythia's 50 277 tokens to 50 304.
            let tokenizer = Fingerprints::read(store)?.tokenizer(path)?;
            spec.model.vocab_size = tokenizer.vocab_size.next_multiple_of(128);
            spec.tokenizer = TokenizerSpec::File { path: path.clone() };
        }
        if self.data.is_some() || self.sources.is_some() {
            spec.data = self.files(&spec)?;
        }
        Study::new(spec)
    }

    fn files(&self, spec: &StudySpec) -> Result<DataSpec, Error> {
        // Sources alone are relative to where the command runs.
        let dir = self.data.clone().unwrap_or_else(|| PathBuf::from("."));
        if !dir.is_dir() {
            return Err(Error::field("--data", dir.display(), "is no directory"));
        }
        let named = spec.splits.iter().find(|(_, s)| !s.validation.files.is_empty() || !s.test.files.is_empty());
        let sources = match (&self.sources, named) {
            (Some(path), _) => Sources::from_file(path)?,
            (None, Some((role, _))) => {
                let limit = format!("needs --sources FILE: the splits of {role} are files that the study names");
                return Err(Error::field("--data", dir.display(), limit));
            }
            (None, None) => Sources::folders(&spec.roles(), &spec.splits_of(GENERAL).test, &dir),
        };
        if !sources.0.contains_key(GENERAL) {
            return Err(Error::field("--sources", GENERAL, "is a role it must name"));
        }
        Ok(DataSpec::Files { dir, sources, part_bytes: None })
    }
}
