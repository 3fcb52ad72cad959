//! How close mixes and fine-tuning sets are (Appendix D): similarities, proximity advantages, intervals.

use fused_ops::TrainingBackend;
use metrics_proximity::{
    Advantage, Corpora, Distribution, DocumentCounts, Resampling, SimilarityMatrix, SimilarityOptions, sample_documents,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::tokens::Content;
use super::{Context, Cost, Input, Kind};
use crate::Error;
use crate::address::Address;

/// Compares mixes and fine-tuning sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Proximity {
    /// The model's vocabulary.
    pub(crate) vocabulary: usize,
    /// Corpora: role, training text, seed of the documents drawn. The first is the general one.
    pub(crate) corpora: Vec<(String, Content, u64)>,
    /// Documents of a corpus, at most.
    pub(crate) sample: u64,
    /// Mixes: name, and corpora (places) with their shares.
    pub(crate) mixtures: Vec<(String, Vec<(usize, f64)>)>,
    /// Fine-tuning sets: name, corpus (place).
    pub(crate) targets: Vec<(String, usize)>,
    /// Seed of the bootstrap.
    pub(crate) seed: u64,
}

/// What was counted of a corpus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CorpusSize {
    /// The role.
    pub(crate) role: String,
    /// Documents.
    pub(crate) documents: u64,
    /// Their tokens.
    pub(crate) tokens: u64,
    /// Tokens that occur.
    pub(crate) types: u64,
}

/// How close everything is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Closeness {
    /// Every side of the controlled variant is taken at as many tokens as the smallest corpus has.
    pub(crate) budget: u64,
    /// What was counted.
    pub(crate) corpora: Vec<CorpusSize>,
    /// The controlled variant: every mix and set with every other.
    pub(crate) controlled: SimilarityMatrix,
    /// The paper's variant: vocabularies as observed.
    pub(crate) paper: SimilarityMatrix,
    /// Proximity advantages, mixes by sets, controlled.
    pub(crate) advantages: Vec<Advantage>,
    /// The same in the paper's variant, values alone.
    pub(crate) advantages_paper: Vec<Advantage>,
}

impl Kind for Proximity {
    const NAME: &'static str = "proximity";
    const VERSION: u32 = 1;
    type Output = Closeness;

    fn address(&self) -> Address {
        let corpora: Vec<_> = self.corpora.iter().map(|(role, content, seed)| (role, &content.digest, seed)).collect();
        let identity = json!({
            "vocabulary": self.vocabulary,
            "corpora": corpora,
            "sample": self.sample,
            "mixtures": self.mixtures,
            "targets": self.targets,
            "seed": self.seed,
        });
        Self::identified_by(&identity)
    }

    fn label(&self) -> String {
        "comparing corpora".to_owned()
    }

    fn inputs(&self) -> Vec<Input> {
        self.corpora.iter().flat_map(|(_, content, _)| content.inputs()).collect()
    }

    fn cost(&self) -> Cost {
        let drawn =
            |content: &Content| content.tokens as f64 * (self.sample as f64 / content.documents.max(1) as f64).min(1.0);
        Cost::of("proximity", self.corpora.iter().map(|(_, content, _)| drawn(content)).sum())
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let count = |(role, content, seed): &(String, Content, u64)| {
            let store = content.open(cx.store)?;
            let documents = sample_documents(store.document_count(), self.sample, *seed);
            Ok((role.clone(), DocumentCounts::of_store(self.vocabulary, &store, &documents)?))
        };
        let landscape = Corpora {
            corpora: self.corpora.iter().map(count).collect::<Result<Vec<_>, Error>>()?,
            mixtures: self.mixtures.clone(),
            general: 0,
            targets: self.targets.iter().map(|(_, place)| *place).collect(),
        };
        let all = landscape.distributions()?;
        let budget = all.iter().map(Distribution::tokens).min().unwrap_or(0);
        let sizes = landscape.corpora.iter().zip(&all).map(|((role, documents), distribution)| CorpusSize {
            role: role.clone(),
            documents: documents.len() as u64,
            tokens: distribution.tokens(),
            types: distribution.types() as u64,
        });
        let corpora = sizes.collect();
        let mut compared = landscape.mixed(&all)?;
        compared.extend(self.targets.iter().map(|(name, place)| (name.clone(), all[*place].clone())));
        let resampling = Resampling { seed: self.seed, ..Resampling::default() };
        let controlled = SimilarityOptions::controlled(budget as f64);
        cx.report.check()?;
        Ok(Closeness {
            budget,
            corpora,
            controlled: SimilarityMatrix::of(&compared, &compared, &controlled)?,
            paper: SimilarityMatrix::of(&compared, &compared, &SimilarityOptions::paper())?,
            advantages: landscape.advantages(&controlled, &resampling)?,
            advantages_paper: landscape.advantages(
                &SimilarityOptions::paper(),
                &Resampling { resamples: 0, splits: 0, ..Resampling::default() },
            )?,
        })
    }
}
