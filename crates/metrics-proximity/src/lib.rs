//! Token-level similarity of corpora and mixtures, and proximity advantage (the paper's Eq. 6 and Appendix D).
//!
//! Everything follows from unigram counts under one tokenizer. Two variants are named, because the paper leaves the
//! choice open (see [`Variant`]).
//!
//! ```
//! use metrics_proximity::{Counts, Mixture, Variant, proximity_advantage};
//!
//! let general = Counts::of_tokens(8, [0, 0, 1, 2, 3, 3])?;
//! let code = Counts::of_tokens(8, [4, 4, 5, 6, 4, 5])?;
//! let target = Counts::of_tokens(8, [4, 5, 4, 3])?;
//! let mix = Mixture::new(&general, &code, 0.2)?;
//! assert!(proximity_advantage(&mix, &target, Variant::Controlled { budget: 6.0 })? > 0.0);
//! let none = Mixture::new(&general, &code, 0.0)?;
//! assert_eq!(proximity_advantage(&none, &target, Variant::Controlled { budget: 6.0 })?, 0.0);
//! # Ok::<(), metrics_proximity::Error>(())
//! ```

mod counts;
mod similarity;

pub use counts::{Counts, Error, Mixture};
pub use similarity::{Similarity, Variant, proximity_advantage, similarity};
