//! Which sequence fills which slot of which batch.
//!
//! A slot is one sequence of the global batch. [`MixPlan`] maps a slot to its draw — source, epoch, sequence — as a
//! pure function of (spec, seed, slot) in integer arithmetic: no state, no index built at start-up, the same on
//! every machine. Over the slots of a phase the specialised count differs from the exact share by less than 1 at every
//! prefix.
//!
//! ```
//! use data_mixer::{MixPlan, MixSpec, Pairing, SourceSize};
//! use schedule::{Step, Timeline, Tokens, Weight};
//!
//! // The paper's Starcoder arm: 61 000 steps of 1024 sequences, 20 % code from step 6 000 on.
//! let plan = MixPlan::build(MixSpec {
//!     seed: 7,
//!     batch: 1024,
//!     time: 2048,
//!     timeline: Timeline::midtrain(Step(61_000), Step(6_000), "C4", "Starcoder", Weight::parse("0.2")?)?,
//!     sources: vec![
//!         SourceSize::of_tokens("C4", Tokens(156_000_000_000), 2048),
//!         SourceSize::of_tokens("Starcoder", Tokens(196_000_000_000), 2048),
//!     ],
//!     pairing: Pairing::Displace,
//!     max_epochs: 1.0,
//! })?;
//! assert_eq!(plan.budgets()[1].drawn, 55_000 * 1024 / 5);
//! let draw = plan.draw(40_000 * 1024 + 17);
//! assert_eq!(draw, plan.draw(40_000 * 1024 + 17));
//! println!("{}", plan.preflight()); // tokens by phase and source, epochs, the first step that repeats
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With stores behind it, a plan gives batches — any step's, any rank's part, made ahead:
//!
//! ```
//! use std::sync::Arc;
//! use corpus::{StoreDocument, StoreInfo, StoreWriter, TokenStore};
//! use data_mixer::{
//!     BatchSource, MixPlan, MixSpec, MixedBatches, Pairing, RankView, Sequences, SourceSize, prefetch,
//! };
//! use schedule::{Phase, Shares, Step, Timeline, Weight};
//!
//! # let dir = tempfile::tempdir()?;
//! let open = |name: &str| -> Result<Sequences, Box<dyn std::error::Error>> {
//!     let path = dir.path().join(name);
//!     let mut writer = StoreWriter::create(&path, StoreInfo::new(name, "my tokenizer", 50_304))?;
//!     for document in 0..100 {
//!         writer.push(StoreDocument { tokens: &[document, 1, 2, 3, 4, 5, 6, 0], ..Default::default() })?;
//!     }
//!     writer.finish()?;
//!     Ok(Sequences::new(Arc::new(TokenStore::open(&path)?), 4)?) // sequences of 4 tokens
//! };
//! let sources = [open("web")?, open("code")?];
//! let plan = MixPlan::build(MixSpec {
//!     seed: 1,
//!     batch: 8,
//!     time: 4,
//!     // The weight rises from 0 to a half over the last 10 of 20 steps.
//!     timeline: Timeline::new(Step(20), Shares::one("web")?, vec![
//!         Phase::ramp(Step(10), "code", Weight::ZERO, Weight::parse("0.5")?)?,
//!     ])?,
//!     sources: ["web", "code"].iter().zip(&sources).map(|(name, s)| SourceSize::new(name, s.len())).collect(),
//!     pairing: Pairing::Displace,
//!     max_epochs: 1.0,
//! })?;
//! let batches = MixedBatches::new(plan, sources.to_vec())?;
//! // The second of three ranks, from step 12 on.
//! let mine = RankView::new(&batches, 1, 3)?;
//! let rows = prefetch(&mine, 12..mine.steps(), 2, |queue| {
//!     queue.map(|batch| Ok(batch?.rows())).sum::<Result<usize, data_mixer::Error>>()
//! })?;
//! assert_eq!(rows, 8 * 3); // 8 steps of rows 2..5
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`MixedBatches`] fills the slots from token stores, [`SftBatches`] makes fine-tuning batches; both are
//! [`BatchSource`]s: any step's batch, any rank's part of it ([`RankView`]), made ahead by [`prefetch`]. A [`Ledger`]
//! says what a run has seen and where two runs differ.

mod batch;
mod error;
mod key;
mod ledger;
mod mix;
mod prefetch;
mod pretrain;
mod replay;
mod sequences;
mod sft;
mod shuffled;

pub use {corpus, schedule};

pub use batch::{Batch, BatchSource, HUGGING_FACE_IGNORE, IGNORE, RankView};
pub use error::Error;
pub use key::stream_key;
pub use ledger::{Ledger, LedgerDiff, LedgerFile, LedgerHead, LedgerSpan};
pub use mix::{Budget, Draw, MixPlan, MixSpec, Pairing, Permutation, PhaseUse, Preflight, SourceSize, SourceUse};
pub use prefetch::{Prefetched, prefetch, prefetch_owned};
pub use pretrain::MixedBatches;
pub use replay::Replay;
pub use sequences::Sequences;
pub use sft::{Grouping, SftBatches, SftReport, SftSpec, Truncation};
pub use shuffled::ShuffledDocuments;

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
