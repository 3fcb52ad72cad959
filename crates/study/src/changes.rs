//! What a command line changes in a study's spec.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fused_ops::Precision;
use gptneox_model::load_config;
use schedule::{Phase, Shares, Span, Step, Tokens, Weight, WeightCurve};

use crate::fingerprints::Fingerprints;
use crate::protocol::{RATES, SFT, Size};
use crate::spec::{
    ArmSpec, CurveShape, DataSpec, FixedRate, GENERAL, LrChoice, Sources, StudySpec, TokenizerSpec, base_folder,
    base_name, base_tokenizer,
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
    /// The shape of pretraining's learning rate.
    pub curve: Option<CurveShape>,
    /// Whether arms are added that see the same number of a source's sequences whenever they begin.
    pub iso_exposure: bool,
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

/// Adds, for each source that arms of one phase mix in from several steps on, an arm for each of these steps that sees the same
/// number of its sequences: as many as the arm that begins first with the lowest weight, or, where the last start leaves no room
/// for them, as many as the arm that sees fewest.
fn add_fibres(spec: &mut StudySpec) -> Result<(), Error> {
    let tokens_per_step = Tokens(spec.pretrain.batch.saturating_mul(spec.pretrain.time as u64));
    // Source, start, weight, sequences, and the start as it is written.
    let mut arms: Vec<(String, Step, Weight, u64, Span)> = Vec::new();
    for arm in &spec.arms {
        let [Phase { start: written, weight: WeightCurve::Constant(weight), specialised: Some(side), .. }] =
            &arm.phases[..]
        else {
            continue;
        };
        let error = |source| Error::Schedule { what: format!("arm {}", arm.name), source };
        let start = written.in_steps(tokens_per_step).map_err(error)?;
        let names: Vec<&str> = side.iter().map(|(name, _)| name).collect();
        if let ([source], false) = (names.as_slice(), *weight == Weight::ONE) {
            let slots = spec.pretrain.steps.saturating_sub(start.0).saturating_mul(spec.pretrain.batch);
            let sequences = u128::from(slots) * u128::from(weight.parts()) / u128::from(Weight::PARTS);
            arms.push(((*source).to_owned(), start, *weight, sequences as u64, *written));
        }
    }
    arms.sort_by(|a, b| (&a.0, a.1, a.2).cmp(&(&b.0, b.1, b.2)));
    let mut added = Vec::new();
    for of_source in arms.chunk_by(|a, b| a.0 == b.0) {
        let mut starts: Vec<(Step, Span)> = of_source.iter().map(|a| (a.1, a.4)).collect();
        starts.dedup_by_key(|(step, _)| *step);
        let ([first, ..], Some((last, _)), true) = (of_source, starts.last(), starts.len() > 1) else { continue };
        let room = spec.pretrain.steps.saturating_sub(last.0).saturating_mul(spec.pretrain.batch);
        let least = of_source.iter().map(|a| a.3).min().unwrap_or(0);
        let sequences = if first.3 <= room { first.3 } else { least };
        for (step, start) in starts {
            let side = Shares::one(&first.0);
            let side = side.map_err(|source| Error::Schedule { what: format!("arm of {}", first.0), source })?;
            let phase =
                Phase { start, weight: WeightCurve::Sequences(sequences), specialised: Some(side), general: None };
            let name = format!("{}, {sequences} sequences from step {step}", first.0);
            added.push(ArmSpec { phases: vec![phase], ..ArmSpec::control(&name) });
        }
    }
    if added.is_empty() {
        let limit = "needs a source that several arms mix in from different steps on, each in one phase and with a weight below 1";
        return Err(Error::field("--iso-exposure", "true", limit));
    }
    spec.arms.extend(added);
    Ok(())
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
        spec.pretrain.shape = self.curve.unwrap_or(spec.pretrain.shape);
        if let Some(base) = &self.base {
            let dir = base_folder(base)?;
            spec.model = load_config(&dir)?;
            spec.model_name = base_name(base);
            if self.tokenizer.is_none() {
                spec.tokenizer = base_tokenizer(&dir)?;
            }
            spec.base = Some(base.clone());
            // A checkpoint is one model.
            spec.sizes.clear();
        }
        if let Some(rates) = self.rates {
            let each = spec.sizes.iter().map(|size| rates.apply(&size.alone(&spec)));
            let each = each.collect::<Result<Vec<_>, Error>>()?;
            spec.sft.lr = rates.apply(&spec)?;
            for (size, lr) in spec.sizes.iter_mut().zip(each) {
                size.lr = (lr != spec.sft.lr).then_some(lr);
            }
        }
        if let (Some(path), Some(_)) = (&self.tokenizer, &spec.base) {
            spec.tokenizer = TokenizerSpec::File { path: path.clone() };
        } else if let Some(path) = &self.tokenizer {
            // A model's vocabulary is padded, as Pythia's 50 277 tokens to 50 304.
            let tokenizer = Fingerprints::read(store)?.tokenizer(path)?;
            let vocabulary = tokenizer.vocab_size.next_multiple_of(128);
            spec.model.vocab_size = vocabulary;
            spec.sizes.iter_mut().for_each(|size| size.model.vocab_size = vocabulary);
            spec.tokenizer = TokenizerSpec::File { path: path.clone() };
        }
        if self.data.is_some() || self.sources.is_some() {
            spec.data = self.files(&spec)?;
        }
        if self.iso_exposure {
            add_fibres(&mut spec)?;
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
