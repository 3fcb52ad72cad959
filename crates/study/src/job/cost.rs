//! What jobs are expected to take: for plans and for progress. It is in no address.

use gptneox_model::GptNeoXConfig;
use serde::{Deserialize, Serialize};
use trainer::TrainSpec;

use crate::address::digest;

/// Lengths are told apart this finely: shorter rows are slower per operation.
const LENGTHS: usize = 32;

/// What a job is expected to take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Jobs of one class do the same amount a second: what is done, with which model, in rows of which length.
    pub(crate) class: String,
    /// Floating-point operations where models run; bytes, tokens or documents where data are read.
    pub(crate) amount: f64,
}

impl Cost {
    /// Of something that runs no model.
    pub(crate) fn of(class: &str, amount: f64) -> Self {
        Self { class: class.to_owned(), amount }
    }

    /// Training on tokens in rows of a length, padding included.
    pub(crate) fn training(model: &GptNeoXConfig, recipe: &TrainSpec, time: usize, tokens: f64) -> Self {
        let amount = model.training_flops(time).total() * tokens;
        Self { class: class("train", model, recipe, time), amount }
    }

    /// A forward pass over tokens in rows of a length, padding included.
    pub(crate) fn evaluating(model: &GptNeoXConfig, recipe: &TrainSpec, time: usize, tokens: f64) -> Self {
        let amount = model.training_flops(time).total() / 3.0 * tokens;
        Self { class: class("evaluate", model, recipe, time), amount }
    }

    /// What classes call a model and how it is computed.
    pub(crate) fn shape(model: &GptNeoXConfig, recipe: &TrainSpec) -> String {
        digest(&(model, recipe.precision, recipe.recompute, recipe.micro_tokens))[..8].to_owned()
    }

    /// Another use of a model.
    pub(crate) fn with_model(what: &str, model: &GptNeoXConfig, recipe: &TrainSpec, amount: f64) -> Self {
        Self { class: class(what, model, recipe, LENGTHS), amount }
    }
}

/// `WHAT SHAPE LENGTH`.
fn class(what: &str, model: &GptNeoXConfig, recipe: &TrainSpec, time: usize) -> String {
    format!("{what} {} {}", Cost::shape(model, recipe), time.next_multiple_of(LENGTHS))
}
