//! How close mixes and fine-tuning sets are (Appendix D): similarities, proximity advantages, intervals.

use fused_ops::TrainingBackend;
use metrics_proximity::{
    Advantage, Basis, Corpora, Documents, Draws, Observed, SimilarityMatrix, SimilarityOptions, sample_documents,
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
    /// How similarities are weighed.
    pub(crate) options: SimilarityOptions,
    /// How the controlled variant draws documents.
    pub(crate) draws: Draws,
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
    /// What was counted.
    pub(crate) corpora: Vec<CorpusSize>,
    /// What the controlled variant was computed from.
    pub(crate) basis: Basis,
    /// The controlled variant: every mix and set with every other, every side at the same number of tokens.
    pub(crate) controlled: SimilarityMatrix,
    /// Its proximity advantages, mixes by sets.
    pub(crate) advantages: Vec<Vec<Advantage>>,
    /// The paper's variant: corpora as they are.
    pub(crate) observed: Observed,
}

impl Kind for Proximity {
    const NAME: &'static str = "proximity";
    const VERSION: u32 = 2;
    type Output = Closeness;

    fn address(&self) -> Address {
        let corpora: Vec<_> = self.corpora.iter().map(|(role, content, seed)| (role, &content.digest, seed)).collect();
        let identity = json!({
            "vocabulary": self.vocabulary,
            "corpora": corpora,
            "sample": self.sample,
            "mixtures": self.mixtures,
            "targets": self.targets,
            "options": self.options,
            "draws": self.draws,
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
            Ok((role.clone(), Documents::of_store(self.vocabulary, &store, &documents)?))
        };
        let landscape = Corpora {
            corpora: self.corpora.iter().map(count).collect::<Result<Vec<_>, Error>>()?,
            mixtures: self.mixtures.clone(),
            general: 0,
            targets: self.targets.clone(),
        };
        let sizes = landscape.corpora.iter().map(|(role, documents)| CorpusSize {
            role: role.clone(),
            documents: documents.len() as u64,
            tokens: documents.tokens(),
            types: documents.counts().types() as u64,
        });
        let corpora = sizes.collect();
        cx.report.check()?;
        let (basis, controlled) = landscape.similarities(&self.options, &self.draws)?;
        cx.report.check()?;
        let (_, advantages) = landscape.advantages(&self.options, &self.draws)?;
        Ok(Closeness { corpora, basis, controlled, advantages, observed: landscape.observed(&self.options)? })
    }
}
