//! Pure functions of the step: learning rates, mixture weights, phase timelines, and the units they are in.
//!
//! Nothing here keeps state: what happens at a step follows from the spec and the step alone, so resuming,
//! inspecting and pairing runs need no replay.
//!
//! ```
//! use schedule::{LrSpec, Step, Timeline, Weight};
//!
//! let lr = LrSpec::cosine(3e-4, 1e-6, 6_100, 61_000).build()?;
//! assert_eq!(lr.at(Step(6_099)), 3e-4); // the peak, at k = W − 1
//! assert_eq!(lr.at(Step(60_999)), 1e-6); // the minimum, exactly, at k = N − 1
//!
//! // C4 only, then 20 % code from step 6 000 on.
//! let timeline = Timeline::midtrain(Step(61_000), Step(6_000), "C4", "Starcoder", Weight::parse("0.2")?)?;
//! assert_eq!(timeline.phase_at(Step(6_000)).map(|p| p.weight), Some(Weight::parse("0.2")?.into()));
//! # Ok::<(), schedule::Error>(())
//! ```

mod curve;
mod error;
mod lr;
mod shares;
mod timeline;
mod units;
mod weight;

pub use curve::WeightCurve;
pub use error::Error;
pub use lr::{Convention, Decay, LrSchedule, LrSpec, LrStage};
pub use shares::Shares;
pub use timeline::{Phase, Timeline, TimelineSpec};
pub use units::{Span, Step, Tokens};
pub use weight::Weight;

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
