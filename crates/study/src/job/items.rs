//! Multiple-choice items: read once, and what models make of them.

use std::path::{Path, PathBuf};

use burn::module::AutodiffModule as _;
use corpus::Tokenizer;
use forgetting_eval::{ClozeItem, ClozeScore};
use fused_ops::{Precision, TrainingBackend};
use schedule::LrSpec;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trainer::TrainSpec;

use super::{Context, Cost, Input, Kind, MakeTokenizer, Model};
use crate::Error;
use crate::address::{Address, digest};
use crate::cloze::cloze_scores;
use crate::fingerprints::Fingerprints;

/// Reads a set's items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImportItems {
    /// What messages call the set.
    pub(crate) set: String,
    /// The file.
    pub(crate) path: PathBuf,
    /// Changes whenever its content does.
    pub(crate) fingerprint: String,
}

/// A set's items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImportedItems {
    /// A digest of them: this is what addresses hold.
    pub(crate) digest: String,
    /// The items.
    pub(crate) items: Vec<ClozeItem>,
}

/// Items that were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Items {
    /// A digest of them.
    pub(crate) digest: String,
    /// The job that read them.
    pub(crate) made_by: Address,
    /// How many choices they have in all.
    pub(crate) choices: u64,
}

impl ImportItems {
    /// Of a file that a study names.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn new(set: &str, path: &Path, known: &mut Fingerprints) -> Result<Self, Error> {
        let contents = known.of(&[path.to_owned()])?;
        let fingerprint = contents.into_iter().map(|(content, _)| content).collect();
        Ok(Self { set: set.to_owned(), path: path.to_owned(), fingerprint })
    }
}

impl Kind for ImportItems {
    const NAME: &'static str = "items";
    const VERSION: u32 = 1;
    type Output = ImportedItems;

    fn address(&self) -> Address {
        Self::identified_by(&json!({ "file": self.fingerprint }))
    }

    fn label(&self) -> String {
        format!("reading the items of {}", self.set)
    }

    fn inputs(&self) -> Vec<Input> {
        Vec::new()
    }

    fn cost(&self) -> Cost {
        Cost::default()
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let mut known = Fingerprints::read(cx.store.root())?.until(cx.report.signal());
        if Self::new(&self.set, &self.path, &mut known)?.fingerprint != self.fingerprint {
            let limit = "are not those that the job was planned for: the file changed since";
            return Err(Error::field("items", self.path.display(), limit));
        }
        let text = std::fs::read_to_string(&self.path).map_err(Error::io(&self.path))?;
        let wrong = |e: forgetting_eval::ClozeError| Error::Parse { path: self.path.clone(), reason: e.to_string() };
        let items = ClozeItem::read(&text).map_err(wrong)?;
        Ok(ImportedItems { digest: digest(&items), items })
    }
}

/// Scores a model on multiple-choice items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MultipleChoice {
    /// What messages call the model.
    pub label: String,
    /// What they call the set.
    pub(crate) set: String,
    /// The model.
    pub(crate) model: Model,
    /// The items.
    pub(crate) items: Items,
    /// The tokenizer.
    pub(crate) tokenizer: Address,
    /// Most tokens of a micro-batch.
    pub(crate) micro_tokens: usize,
    /// What matrix products are computed in.
    pub(crate) precision: Precision,
    /// The class of matrix kernels; `None` where the study takes any.
    pub(crate) kernels: Option<String>,
    /// What it is expected to take.
    #[serde(default)]
    pub(crate) cost: Cost,
}

impl Kind for MultipleChoice {
    const NAME: &'static str = "cloze";
    const VERSION: u32 = 1;
    type Output = Vec<ClozeScore>;

    fn address(&self) -> Address {
        Self::identified_by(&json!({
            "model": self.model.identity(),
            "items": self.items.digest,
            "tokenizer": self.tokenizer,
            "micro_tokens": self.micro_tokens,
            "precision": self.precision,
            "kernels": self.kernels,
        }))
    }

    fn label(&self) -> String {
        format!("{}, choosing among the answers of {}", self.label, self.set)
    }

    fn inputs(&self) -> Vec<Input> {
        vec![self.model.input(), Input::outcome(&self.items.made_by), Input::files(&self.tokenizer)]
    }

    fn cost(&self) -> Cost {
        self.cost.clone()
    }

    fn kernels(&self) -> Option<&str> {
        self.kernels.as_deref()
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let imported = cx.store.result::<ImportItems>(&self.items.made_by)?;
        let items = imported.filter(|imported| imported.digest == self.items.digest);
        let items = items.ok_or_else(|| Error::NoJob { address: self.items.made_by.clone() })?.items;
        let tokenizer = Tokenizer::from_file(&MakeTokenizer::file(cx.store, &self.tokenizer))?;
        let spec = TrainSpec {
            micro_tokens: self.micro_tokens,
            precision: self.precision,
            ..TrainSpec::new(LrSpec::constant(0.0))
        };
        let model = self.model.load::<AB>(cx.store, cx.device)?.valid().with_compute(spec.compute());
        let go_on = || cx.report.signal().received().is_none();
        let scores = cloze_scores(&model, &tokenizer, &items, &spec, cx.device, &go_on)?;
        cx.report.check()?;
        let finite = scores.iter().all(|score| score.log_likelihoods.iter().all(|value| value.is_finite()));
        if !finite {
            return Err(Error::NotFinite { what: self.label(), reason: "a log-likelihood is not finite".to_owned() });
        }
        Ok(scores)
    }
}
