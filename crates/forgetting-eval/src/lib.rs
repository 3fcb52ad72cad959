//! Held-out losses before and after fine-tuning, what was forgotten, and the statistics over seeds.
//!
//! ```
//! use forgetting_eval::{Paired, Summary, forgetting};
//!
//! // Δ_P = J_P(θ_K) − J_P(θ_0), Eq. 9 of the paper: the rise of the general loss in fine-tuning.
//! assert!((forgetting(3.10, 3.45) - 0.35).abs() < 1e-12);
//!
//! let arm = [1.90, 1.88, 1.89];
//! let control = [2.17, 2.18, 2.16];
//! let delta = Paired::of(&arm, &control)?;
//! assert!(delta.summary.mean < -0.27 && delta.summary.interval(0.95).unwrap().1 < 0.0);
//! assert_eq!(Summary::of(&[2.0]).interval(0.95), None); // one seed has no interval
//! # Ok::<(), forgetting_eval::Error>(())
//! ```

mod loss;
mod stats;

pub use loss::{HeldOut, forgetting, relative_improvement};
pub use stats::{Error, Paired, Summary};
