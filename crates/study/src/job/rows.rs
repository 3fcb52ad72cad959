//! What a fine-tuning set's examples become: rows, cuts, steps.

use data_mixer::{BatchSource as _, Replay, Sequences, SftBatches, SftReport, SftSpec};
use fused_ops::TrainingBackend;
use schedule::Weight;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::tokens::Content;
use super::{Context, Cost, Input, Kind};
use crate::Error;
use crate::address::Address;
use crate::store::Store;

/// Examples, and how they become batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Examples {
    /// The examples.
    pub(crate) tokens: Content,
    /// Of these, at most.
    pub(crate) examples: u64,
    /// How they become rows, and in which order.
    pub(crate) rows: SftSpec,
    /// General text that is added to each batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replay: Option<Replayed>,
}

/// General text that is added to batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Replayed {
    /// The text.
    pub(crate) general: Content,
    /// Its share of all rows.
    pub(crate) share: Weight,
    /// Tokens of a row.
    pub(crate) time: usize,
    /// Whether attention stops at the beginning of a document, as in pretraining.
    #[serde(default)]
    pub(crate) document_mask: bool,
    /// Seed of its order.
    pub(crate) seed: u64,
}

impl Examples {
    /// The batches.
    pub(crate) fn batches(&self, store: &Store) -> Result<SftBatches, Error> {
        let batches = SftBatches::new(self.tokens.open(store)?, self.examples, self.rows.clone())?;
        let Some(replay) = &self.replay else { return Ok(batches) };
        let sequences =
            Sequences::new(replay.general.open(store)?, replay.time)?.with_document_mask(replay.document_mask);
        Ok(batches.with_replay(Replay::new(sequences, replay.share, replay.seed)?)?)
    }

    /// The same in a fixed order.
    pub(super) fn unordered(&self) -> Self {
        let replay = self.replay.clone().map(|replay| Replayed { seed: 0, ..replay });
        Self { rows: unordered(&self.rows), replay, ..self.clone() }
    }

    /// What decides the batches.
    pub(super) fn identity(&self) -> Value {
        let mut identity = json!({ "tokens": self.tokens.digest, "examples": self.examples, "rows": self.rows });
        if let Some(Replayed { general, share, time, document_mask, seed }) = &self.replay {
            let text = json!({ "general": general.digest, "time": time, "document_mask": document_mask });
            identity["replay"] = json!({ "text": text, "share": share, "seed": seed });
        }
        identity
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = Input> + '_ {
        let general = self.replay.iter().map(|replay| &replay.general);
        std::iter::once(&self.tokens).chain(general).flat_map(Content::inputs)
    }
}

/// Counts a set's rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CountRows {
    /// What messages call the set.
    pub(crate) name: String,
    /// Its examples; the order does not matter here.
    pub(crate) set: Examples,
}

/// A set's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RowCounts {
    /// Examples used, cut, left out; positions and targets.
    pub(crate) report: SftReport,
    /// Optimiser steps of all epochs.
    pub(crate) steps: u64,
    /// Positions of an epoch, padding included.
    pub(crate) padded: u64,
    /// Rows of general text that are added in all epochs, and their tokens.
    #[serde(default)]
    pub(crate) replayed_rows: u64,
    #[serde(default)]
    pub(crate) replayed_tokens: u64,
}

impl RowCounts {
    /// Positions of a row, padding included, on average.
    pub(crate) fn mean_length(&self) -> usize {
        self.padded.div_ceil(self.report.examples.max(1)) as usize
    }
}

/// How examples become rows, whatever their order.
pub(super) fn unordered(rows: &SftSpec) -> SftSpec {
    SftSpec { seed: 0, ..rows.clone() }
}

impl Kind for CountRows {
    const NAME: &'static str = "rows";
    const VERSION: u32 = 2;
    type Output = RowCounts;

    fn address(&self) -> Address {
        Self::identified_by(&self.set.unordered().identity())
    }

    fn label(&self) -> String {
        format!("rows of {}", self.name)
    }

    fn inputs(&self) -> Vec<Input> {
        self.set.inputs().collect()
    }

    fn cost(&self) -> Cost {
        Cost::of("rows", self.set.tokens.documents.min(self.set.examples) as f64)
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let batches = self.set.unordered().batches(cx.store)?;
        let replayed_rows = batches.replayed_rows();
        let time = self.set.replay.as_ref().map_or(0, |replay| replay.time as u64);
        Ok(RowCounts {
            report: batches.report(),
            steps: batches.steps(),
            padded: batches.padded_positions(),
            replayed_rows,
            replayed_tokens: replayed_rows * time,
        })
    }
}
