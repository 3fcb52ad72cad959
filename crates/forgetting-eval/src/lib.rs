//! Held-out losses before and after fine-tuning, what was forgotten and what bounds it, and the statistics over seeds.
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
//!
//! The bound of the paper's Eq. 3 to 5 along a path of gradient descent, here on two parabolas. Gradients come from a
//! closure, so that any model and any way of computing them will do:
//!
//! ```
//! use forgetting_eval::theory::{Path, PathError, Point, Smoothness};
//!
//! let eta = 0.3; // J_P = (θ − 1)², J_T = θ²: L = 2 for both, and η ≤ 1/L_T
//! let path = Path::walk(&[eta; 5], |k| {
//!     let theta = 2.0 * (1.0f64 - 2.0 * eta).powi(k as i32);
//!     let (p, t) = (theta - 1.0, theta);
//!     let (grad_p, grad_t) = (vec![2.0 * p], vec![2.0 * t]);
//!     Ok::<_, PathError>(Point { theta: vec![theta], loss_p: p * p, grad_p, loss_t: t * t, grad_t })
//! })?;
//! let bounds = path.bounds(Smoothness { l_p: 2.0, l_t: 2.0 }, 0.0);
//! assert!(bounds.rate_is_small());
//! assert!(bounds.forgetting <= bounds.eq3() + 1e-12 && bounds.eq3() <= bounds.eq4() && bounds.eq4() <= bounds.eq5());
//! # Ok::<(), PathError>(())
//! ```

mod cloze;
mod comparison;
mod documents;
mod loss;
mod stats;
pub mod theory;

pub use cloze::{ClozeError, ClozeItem, ClozeScore, PerLength, accuracy, gold_bits_per_byte};
pub use comparison::{ArmComparison, compare_arms};
pub use documents::{DocumentComparison, DocumentDifferences, OverDocuments};
pub use loss::{DocumentLosses, HeldOut, forgetting, relative_improvement};
pub use stats::{
    ArmPermutation, Block, Correlation, Crossed, Error, Influence, Level, Nested, Paired, RankCorrelation, Summary,
    detectable, holm, leave_one_pair_out, pearson, pearson_within_blocks, percentile_interval, spearman, t_quantile,
    t_two_sided_p,
};

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
