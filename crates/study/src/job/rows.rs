//! What a fine-tuning set's examples become: rows, cuts, steps.

use data_mixer::{BatchSource as _, SftBatches, SftReport, SftSpec};
use fused_ops::TrainingBackend;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::tokens::Content;
use super::{Context, Cost, Input, Kind};
use crate::Error;
use crate::address::Address;

/// Counts a set's rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CountRows {
    /// What messages call the set.
    pub(crate) name: String,
    /// Its examples.
    pub(crate) tokens: Content,
    /// Examples, at most.
    pub(crate) examples: u64,
    /// How they become rows; the order does not matter here.
    pub(crate) rows: SftSpec,
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
        let rows = unordered(&self.rows);
        Self::identified_by(&json!({ "tokens": self.tokens.digest, "examples": self.examples, "rows": rows }))
    }

    fn label(&self) -> String {
        format!("rows of {}", self.name)
    }

    fn inputs(&self) -> Vec<Input> {
        vec![Input::files(&self.tokens.made_by)]
    }

    fn cost(&self) -> Cost {
        Cost::of("rows", self.tokens.documents.min(self.examples) as f64)
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let batches = SftBatches::new(self.tokens.open(cx.store)?, self.examples, unordered(&self.rows))?;
        let padded = batches.padded_positions();
        Ok(RowCounts { report: batches.report(), steps: batches.steps(), padded })
    }
}
