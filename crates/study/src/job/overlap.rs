//! What a fine-tuning set's held-out examples have in common with text that is trained on.

use std::collections::BTreeSet;

use corpus::NgramIndex;
use fused_ops::TrainingBackend;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::tokens::Content;
use super::{Context, Cost, Input, Kind};
use crate::Error;
use crate::address::Address;

/// Looks for evaluated examples in training text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Overlap {
    /// What messages call the set.
    pub(crate) name: String,
    /// Its held-out examples.
    pub(crate) evaluated: Content,
    /// Training text by role.
    pub(crate) training: Vec<(String, Content)>,
    /// Tokens of the sequences that are looked for.
    pub(crate) ngram: usize,
}

/// What is shared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Shared {
    /// Evaluated examples that are long enough to tell.
    pub(crate) judged: u64,
    /// Those that share a sequence.
    pub(crate) any: u64,
    /// Those of which one role holds half the sequences.
    pub(crate) half: u64,
    /// The role that most share a sequence with, and how many; `None` if none does.
    pub(crate) most: Option<(u64, String)>,
}

impl Kind for Overlap {
    const NAME: &'static str = "overlap";
    const VERSION: u32 = 1;
    type Output = Shared;

    fn address(&self) -> Address {
        let training: Vec<(&str, &str)> = self.training.iter().map(|(r, c)| (r.as_str(), c.digest.as_str())).collect();
        let identity = json!({ "evaluated": self.evaluated.digest, "training": training, "ngram": self.ngram });
        Self::identified_by(&identity)
    }

    fn label(&self) -> String {
        format!("looking for held-out examples of {} in training text", self.name)
    }

    fn inputs(&self) -> Vec<Input> {
        let contents = std::iter::once(&self.evaluated).chain(self.training.iter().map(|(_, content)| content));
        contents.map(|content| Input::files(&content.made_by)).collect()
    }

    fn cost(&self) -> Cost {
        Cost::of("overlap", self.training.iter().map(|(_, content)| content.tokens as f64).sum())
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let evaluated = self.evaluated.open(cx.store)?;
        let index = NgramIndex::new(&evaluated, self.ngram)?;
        let (mut any, mut half) = (BTreeSet::new(), BTreeSet::new());
        let mut shared = Shared::default();
        let mut most = (0, String::new());
        for (role, content) in &self.training {
            cx.report.check()?;
            let overlap = index.overlap(&*content.open(cx.store)?)?;
            shared.judged = overlap.documents - overlap.too_short;
            if overlap.contaminated > most.0 {
                most = (overlap.contaminated, role.clone());
            }
            for (document, own, sequences) in overlap.worst {
                any.insert(document);
                if own * 2 >= sequences {
                    half.insert(document);
                }
            }
        }
        (shared.any, shared.half) = (any.len() as u64, half.len() as u64);
        shared.most = (most.0 > 0).then_some(most);
        Ok(shared)
    }
}
