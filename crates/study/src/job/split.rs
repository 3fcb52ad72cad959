//! A role's tokens, divided: to train on, to choose rates on, to report. Nothing is copied.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;

use corpus::TokenStore;
use data_mixer::stream_key;
use fused_ops::TrainingBackend;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::held_out::{HeldOut, Side};
use super::tokens::{Content, open_whole};
use super::{Context, Cost, Input, Kind};
use crate::Error;
use crate::address::Address;

/// The folder of what is trained on in the job's; those of the splits have their names.
const TRAIN: &str = "train";

/// Divides a role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Split {
    /// The role.
    pub(crate) role: String,
    /// The job that tokenised it.
    pub(crate) whole: Address,
    /// Its documents.
    pub(crate) documents: u64,
    /// Everything that the study holds out, this role's splits among it.
    pub(crate) held_out: HeldOut,
    /// Whether documents that come more than once are trained on once.
    pub(crate) deduplicate: bool,
    /// What of a split is evaluated.
    pub(crate) sample: Sample,
    /// Seed of the sample.
    pub(crate) seed: u64,
}

/// How much of a split is evaluated: documents in a random order that their contents and a seed decide, until there are as
/// many, and as many tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sample {
    /// All.
    Whole,
    /// At least so much.
    AtLeast {
        /// Documents.
        documents: u64,
        /// Tokens.
        tokens: u64,
    },
}

/// A role's parts, as stores in the job's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SplitMade {
    /// What is trained on.
    pub(crate) train: Content,
    /// What rates are chosen on.
    pub(crate) validation: Content,
    /// What is reported.
    pub(crate) test: Content,
    /// Documents of the splits, evaluated or not.
    pub(crate) held_out: [u64; 2],
    /// What is in none of the three.
    pub(crate) left_out: LeftOut,
}

/// Documents that are neither trained on nor evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct LeftOut {
    /// Held out of another role, or of this one and there more than once: by the split that holds them.
    pub(crate) held_out: BTreeMap<String, u64>,
    /// Those that came before, where the study keeps documents once.
    pub(crate) duplicates: u64,
}

impl Kind for Split {
    const NAME: &'static str = "split";
    const VERSION: u32 = 1;
    type Output = SplitMade;

    fn address(&self) -> Address {
        let identity = json!({
            "role": self.role,
            "whole": self.whole,
            "held_out": self.held_out.digest(),
            "deduplicate": self.deduplicate,
            "sample": self.sample,
            "seed": if self.sample == Sample::Whole { 0 } else { self.seed },
        });
        Self::identified_by(&identity)
    }

    fn label(&self) -> String {
        format!("splits of {}", self.role)
    }

    fn inputs(&self) -> Vec<Input> {
        [Input::files(&self.whole)].into_iter().chain(self.held_out.inputs()).collect()
    }

    fn cost(&self) -> Cost {
        Cost::of("split", self.documents as f64)
    }

    /// 1. A document that the study holds out goes to its own role's split, once; anywhere else it is left out.
    /// 2. Of the others, all are trained on; or each content once, where the study says so.
    /// 3. Of each split a sample is evaluated, where it is larger than that.
    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let store = open_whole(cx.store, &self.whole)?;
        let held_out = self.held_out.read(cx.store, &self.role)?;
        let (mut train, mut validation, mut test) = (Vec::<Range<u64>>::new(), Vec::new(), Vec::new());
        let (mut seen, mut evaluated, mut left_out) = (HashSet::new(), HashSet::new(), LeftOut::default());
        for document in 0..store.document_count() {
            if document % (1 << 20) == 0 {
                cx.report.check()?;
            }
            let Some(hash) = store.document_hash(document) else { continue };
            let Some(set) = held_out.get(&hash).map(|place| &self.held_out.sets[*place]) else {
                // 2.
                if self.deduplicate && !seen.insert(hash) {
                    left_out.duplicates += 1;
                } else {
                    add(&mut train, document);
                }
                continue;
            };
            // 1.
            if set.role == self.role && evaluated.insert(hash) {
                match set.side {
                    Side::Validation => validation.push(document),
                    Side::Test => test.push(document),
                }
            } else {
                *left_out.held_out.entry(set.name()).or_default() += 1;
            }
        }
        let held_out = [validation.len() as u64, test.len() as u64];
        // 3.
        let (validation, test) =
            (self.sampled(&store, validation, Side::Validation), self.sampled(&store, test, Side::Test));
        let made = |side: Side, documents: Vec<u64>| self.made(&store, side.name(), documents, cx.folder);
        Ok(SplitMade {
            train: self.made(&store, TRAIN, train.into_iter().flatten(), cx.folder)?,
            validation: made(Side::Validation, validation)?,
            test: made(Side::Test, test)?,
            held_out,
            left_out,
        })
    }
}

/// Adds a document to ranges: most of a store is one.
fn add(ranges: &mut Vec<Range<u64>>, document: u64) {
    match ranges.last_mut() {
        Some(range) if range.end == document => range.end += 1,
        _ => ranges.push(document..document + 1),
    }
}

impl Split {
    /// What of a split is evaluated, in the store's order.
    fn sampled(&self, store: &TokenStore, documents: Vec<u64>, side: Side) -> Vec<u64> {
        let Sample::AtLeast { documents: enough, tokens: most } = self.sample else { return documents };
        let key =
            |document: &u64| stream_key(self.seed, side.name(), store.document_hash(*document).unwrap_or_default());
        let mut order: Vec<(u64, u64)> = documents.iter().map(|document| (key(document), *document)).collect();
        order.sort_unstable();
        let (mut chosen, mut tokens) = (Vec::new(), 0);
        for (_, document) in order {
            if chosen.len() as u64 >= enough && tokens >= most {
                break;
            }
            tokens += store.document_len(document);
            chosen.push(document);
        }
        chosen.sort_unstable();
        chosen
    }

    fn made(
        &self,
        store: &TokenStore,
        name: &str,
        documents: impl IntoIterator<Item = u64>,
        folder: &Path,
    ) -> Result<Content, Error> {
        let part = store.select(documents, &folder.join(name))?;
        Content::of(&part, self.address(), name, &self.whole)
    }
}
