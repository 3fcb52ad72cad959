//! What a role's training text has in common with everything that is evaluated; the documents that do are left out where
//! the study asks for it.

use std::collections::HashSet;

use corpus::{NgramIndex, TokenStore};
use fused_ops::TrainingBackend;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::tokens::Content;
use super::{Context, Cost, Input, Kind};
use crate::Error;
use crate::address::Address;

/// The folder of what is left, in the job's.
const CLEAN: &str = "train";
/// Evaluation sets that are looked for at once.
const SETS: usize = 64;

/// Looks for evaluated text in a role's training text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Contamination {
    /// The role.
    pub(crate) role: String,
    /// Its training text.
    pub(crate) train: Content,
    /// What is evaluated: names and text.
    pub(crate) evaluated: Vec<(String, Content)>,
    /// Tokens of the sequences that are looked for.
    pub(crate) ngram: usize,
    /// Whether documents with such a sequence are left out.
    pub(crate) remove: bool,
}

/// What is shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contaminated {
    /// By evaluation set.
    pub(crate) shared: Vec<Shared>,
    /// Training documents that share a sequence with any of them.
    pub(crate) documents: u64,
    /// What is left to be trained on, where these are left out.
    pub(crate) left: Option<Content>,
}

/// What an evaluation set shares with a role.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Shared {
    /// The set.
    pub(crate) with: String,
    /// Evaluated documents that are long enough to tell.
    pub(crate) judged: u64,
    /// Those that share a sequence, by number.
    pub(crate) any: Vec<u64>,
    /// Those of which the role holds half the sequences, by number.
    pub(crate) half: Vec<u64>,
    /// Training documents that share a sequence.
    pub(crate) holders: u64,
}

impl Kind for Contamination {
    const NAME: &'static str = "contamination";
    const VERSION: u32 = 1;
    type Output = Contaminated;

    fn address(&self) -> Address {
        let evaluated: Vec<(&str, &str)> =
            self.evaluated.iter().map(|(n, c)| (n.as_str(), c.digest.as_str())).collect();
        let identity = json!({
            "train": self.train.digest,
            "evaluated": evaluated,
            "ngram": self.ngram,
            "remove": self.remove,
        });
        Self::identified_by(&identity)
    }

    fn label(&self) -> String {
        format!("looking for evaluated text in {}", self.role)
    }

    fn inputs(&self) -> Vec<Input> {
        let mut inputs: Vec<Input> = Vec::new();
        for input in std::iter::once(&self.train).chain(self.evaluated.iter().map(|(_, c)| c)).flat_map(Content::inputs)
        {
            if !inputs.contains(&input) {
                inputs.push(input);
            }
        }
        inputs
    }

    fn cost(&self) -> Cost {
        let evaluated = self.evaluated.iter().map(|(_, content)| content.tokens).sum::<u64>();
        Cost::of("overlap", (self.train.tokens + evaluated) as f64)
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let train = self.train.open(cx.store)?;
        let (mut shared, mut holders) = (Vec::new(), HashSet::new());
        for sets in self.evaluated.chunks(SETS) {
            cx.report.check()?;
            let stores = sets.iter().map(|(_, content)| content.open(cx.store)).collect::<Result<Vec<_>, _>>()?;
            let stores: Vec<&TokenStore> = stores.iter().map(|store| &**store).collect();
            let go_on = || cx.report.signal().received().is_none();
            let found = NgramIndex::new(&stores, self.ngram)?.contamination_while(&train, &go_on)?;
            cx.report.check()?;
            holders.extend(found.documents);
            shared.extend(sets.iter().zip(found.sets).map(|((name, _), overlap)| shared_with(name, &overlap)));
        }
        let documents = holders.len() as u64;
        let left = if self.remove { Some(self.without(&train, &holders, cx)?) } else { None };
        Ok(Contaminated { shared, documents, left })
    }
}

impl Contamination {
    fn without<AB: TrainingBackend>(
        &self,
        train: &TokenStore,
        holders: &HashSet<u64>,
        cx: &Context<'_, AB>,
    ) -> Result<Content, Error> {
        if holders.len() as u64 == train.document_count() {
            let limit = format!(
                "leaves none of its {} documents: each shares {} tokens in a row with evaluated text, such as a preamble that \
                 all have",
                train.document_count(),
                self.ngram
            );
            return Err(Error::field("decontaminate", &self.role, limit));
        }
        let kept = (0..train.document_count()).filter(|document| !holders.contains(document));
        let left = train.select(kept, &cx.folder.join(CLEAN))?;
        Content::of(&left, self.address(), CLEAN, &self.train.whole)
    }
}

fn shared_with(name: &str, overlap: &corpus::Overlap) -> Shared {
    let numbers = |half: bool| {
        let chosen = overlap.worst.iter().filter(|(_, own, all)| !half || own * 2 >= *all);
        let mut numbers: Vec<u64> = chosen.map(|(document, ..)| *document).collect();
        numbers.sort_unstable();
        numbers
    };
    Shared {
        with: name.to_owned(),
        judged: overlap.documents - overlap.too_short,
        any: numbers(false),
        half: numbers(true),
        holders: overlap.holders,
    }
}
