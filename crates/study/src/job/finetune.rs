//! Fine-tuning a pretrained model on a set.

use burn::module::AutodiffModule as _;
use corpus::Tokenizer;
use data_mixer::{BatchSource as _, LedgerHead};
use fused_ops::TrainingBackend;
use gptneox_model::{Metadata, SaveOptions, save_pretrained};
use schedule::Step;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trainer::{Start, TrainSpec, Trainer, load_model_config, load_weights};

use super::rows::Examples;
use super::training::{Stretch, train};
use super::{Context, Cost, Input, Kind, MakeTokenizer, pretrain};
use crate::Error;
use crate::address::Address;
use crate::rates::Rates;

/// The fine-tuned model's folder in the job's: a Hugging Face directory.
pub(crate) const MODEL: &str = "model";

/// Fine-tunes a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finetune {
    /// What messages call it.
    pub label: String,
    /// The pretrained state that it starts from.
    pub(crate) base: Address,
    /// The recipe. Its learning rates enter the address as they are applied; what changes no result does not.
    pub(crate) recipe: TrainSpec,
    /// Peak learning rate.
    pub(crate) lr: f64,
    /// The set's training examples.
    pub(crate) set: Examples,
    /// Optimiser steps.
    pub(crate) steps: u64,
    /// The class of matrix kernels; `None` where the study takes any.
    pub(crate) kernels: Option<String>,
    /// The tokenizer: a copy of it lies beside the model.
    pub(crate) tokenizer: Address,
    /// What it is expected to take.
    #[serde(default)]
    pub(crate) cost: Cost,
}

/// A fine-tune: `model/` in the job's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FineTuned {
    /// Peak learning rate.
    pub(crate) lr: f64,
    /// Steps left out because their loss or gradient was not finite.
    pub(crate) skipped: u64,
    /// What was seen.
    pub(crate) ledger: LedgerHead,
}

impl Kind for Finetune {
    const NAME: &'static str = "finetune";
    const VERSION: u32 = 2;
    type Output = FineTuned;

    fn address(&self) -> Address {
        let TrainSpec { optimizer, clip, micro_tokens, precision, lr, .. } = &self.recipe;
        // A curve that cannot be built fails when it is run; until then its spec tells it apart.
        let rates = Rates::new(&self.label, lr.clone())
            .map_or_else(|_| json!(lr), |rates| json!(rates.digest(Step(self.steps))));
        let identity = json!({
            "base": self.base,
            "rates": rates,
            "optimizer": optimizer,
            "clip": clip,
            "micro_tokens": micro_tokens,
            "precision": precision,
            "set": self.set.identity(),
            "kernels": self.kernels,
        });
        Self::identified_by(&identity)
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn inputs(&self) -> Vec<Input> {
        [Input::weights(&self.base), Input::files(&self.tokenizer)].into_iter().chain(self.set.inputs()).collect()
    }

    fn cost(&self) -> Cost {
        self.cost.clone()
    }

    fn kernels(&self) -> Option<&str> {
        self.kernels.as_deref()
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let batches = self.set.batches(cx.store)?;
        let base = pretrain::weights(cx.store, &self.base);
        let (config, device) = (load_model_config(&base)?, cx.device);
        let start = Start::Weights {
            model: &config,
            spec: self.recipe.clone(),
            device,
            make: Box::new(|| load_weights(&base, device)),
        };
        let until = batches.steps();
        let stretch = Stretch { label: &self.label, begin: 0, began: None, until, from: 0, stop: until, evals: &[] };
        let trainer: Trainer<AB> = train(start, &batches, &stretch, cx)?;
        let (ledger, skipped) = (trainer.ledger(), trainer.steps_skipped());
        let to = cx.folder.join(MODEL);
        let tokenizer = MakeTokenizer::file(cx.store, &self.tokenizer);
        // Other programs generate up to the end of a document.
        let metadata = Metadata::with_end_token(Tokenizer::from_file(&tokenizer)?.end_of_text());
        let files = vec![("tokenizer.json".to_owned(), tokenizer)];
        let options = SaveOptions { metadata, files, ..SaveOptions::default() };
        save_pretrained(&trainer.into_model().valid(), &to, &options)?;
        Ok(FineTuned { lr: self.lr, skipped, ledger })
    }
}
