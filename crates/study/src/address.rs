//! What determines a job's result: its digest is the job's folder in the store.

use std::collections::BTreeMap;

use schedule::{Phase, Step};
use serde::Serialize;
use trainer::TrainSpec;

/// What determines a stretch of pretraining: its address in the store.
#[derive(Serialize)]
pub(crate) struct PretrainKey<'a> {
    pub(crate) kind: &'static str,
    pub(crate) engine: &'a str,
    pub(crate) model: &'a gptneox_model::GptNeoXConfig,
    pub(crate) init_seed: u64,
    pub(crate) data_seed: u64,
    pub(crate) recipe: &'a TrainSpec,
    pub(crate) batch: u64,
    pub(crate) time: usize,
    pub(crate) general: String,
    pub(crate) phases: &'a [Phase],
    /// The phases' sources and their fingerprints.
    pub(crate) sources: BTreeMap<String, String>,
    pub(crate) document_mask: bool,
    pub(crate) evaluation: (String, u64),
    pub(crate) parent: Option<String>,
    pub(crate) until: Step,
}

/// What determines a fine-tune.
#[derive(Serialize)]
pub(crate) struct FinetuneKey<'a> {
    pub(crate) kind: &'static str,
    pub(crate) base: &'a str,
    pub(crate) recipe: &'a TrainSpec,
    pub(crate) rows: (u64, usize, usize, data_mixer::Truncation, u64, u64, bool),
    pub(crate) order_seed: u64,
    pub(crate) stores: [String; 3],
    pub(crate) c4_sequences: u64,
}
