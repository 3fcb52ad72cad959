//! Which sequence fills which slot of which batch.
//!
//! A slot is one sequence of the global batch. [`MixPlan`] maps a slot to its draw — source, epoch, sequence — as a
//! pure function of (spec, seed, slot) in integer arithmetic: no state, no index built at start-up, the same on
//! every machine. Over the slots of a phase the specialised source's count differs from the exact share by less
//! than 1 at every prefix.
//!
//! ```
//! use data_mixer::{MixPlan, MixSpec, Pairing, SourceSize};
//! use schedule::{Step, Timeline, Weight};
//!
//! // The paper's Starcoder arm: 61 000 steps of 1024 sequences, 20 % code from step 6 000 on.
//! let plan = MixPlan::build(MixSpec {
//!     seed: 7,
//!     batch: 1024,
//!     timeline: Timeline::midtrain(Step(61_000), Step(6_000), "Starcoder", Weight::parse("0.2")?)?,
//!     general: SourceSize::new("C4", 70_000_000),
//!     specialised: vec![SourceSize::new("Starcoder", 95_000_000)],
//!     pairing: Pairing::Displace,
//!     max_epochs: 1.0,
//! })?;
//! assert_eq!(plan.budgets()[1].drawn, 55_000 * 1024 / 5);
//! let draw = plan.draw(40_000 * 1024 + 17);
//! assert_eq!(draw, plan.draw(40_000 * 1024 + 17));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod error;
mod key;
mod ledger;
mod mix;
mod permutation;
mod pretrain;
mod sft;

pub use batch::{Batch, BatchSource, IGNORE};
pub use error::Error;
pub use key::stream_key;
pub use ledger::LedgerHead;
pub use mix::{Budget, Draw, MixPlan, MixSpec, Pairing, SourceSize};
pub use permutation::Permutation;
pub use pretrain::{MixedBatches, Sequences};
pub use sft::{SftBatches, SftReport, SftSpec};
