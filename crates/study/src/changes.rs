//! What a command line changes in a study's spec.

use std::path::{Path, PathBuf};

use fused_ops::Precision;

use crate::fingerprints::Fingerprints;
use crate::spec::{DataSpec, GENERAL, Sources, StudySpec, TokenizerSpec};
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
    /// Real files: a folder with one folder a role.
    pub data: Option<PathBuf>,
    /// A Hugging Face tokenizer.json.
    pub tokenizer: Option<PathBuf>,
    /// Which files play which role.
    pub sources: Option<PathBuf>,
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
        if let Some(path) = &self.tokenizer {
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
        let sources = match &self.sources {
            Some(path) => Sources::from_file(path)?,
            None => Sources::folders(&spec.roles(), &spec.splits_of(GENERAL).test, &dir),
        };
        if !sources.0.contains_key(GENERAL) {
            return Err(Error::field("--sources", GENERAL, "is a role it must name"));
        }
        Ok(DataSpec::Files { dir, sources, part_bytes: None })
    }
}
