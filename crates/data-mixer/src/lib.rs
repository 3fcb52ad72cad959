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
mod sft;

pub use batch::{Batch, BatchSource, IGNORE, RankView};
pub use error::Error;
pub use key::stream_key;
pub use ledger::{Ledger, LedgerDiff, LedgerFile, LedgerHead};
pub use mix::{Budget, Draw, MixPlan, MixSpec, Pairing, Permutation, PhaseUse, Preflight, SourceSize, SourceUse};
pub use prefetch::{Prefetched, prefetch};
pub use pretrain::{MixedBatches, Sequences};
pub use sft::{SftBatches, SftReport, SftSpec, Truncation};
