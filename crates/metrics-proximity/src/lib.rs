//! Token-level similarity of corpora and mixtures, and proximity advantage (the paper's Eq. 6 and Appendix D).
//!
//! Everything follows from unigram counts under one tokenizer.
//!
//! ```
//! use metrics_proximity::{Counts, Distribution, SimilarityOptions, proximity_advantage, similarity};
//!
//! let of = |tokens: &[u32]| Distribution::of(&Counts::of_tokens(8, tokens.iter().copied())?);
//! let general = of(&[0, 0, 1, 2, 3, 3])?;
//! let code = of(&[4, 4, 5, 6, 4, 5])?;
//! let target = of(&[4, 5, 4, 3])?;
//! let options = SimilarityOptions::controlled(6.0); // every side as if it were 6 tokens long
//!
//! let mix = Distribution::mixture(&[(&general, 0.8), (&code, 0.2)])?; // exactly Σ wᵢ pᵢ
//! assert!(proximity_advantage(&mix, &general, &target, &options)? > 0.0);
//! let none = Distribution::mixture(&[(&general, 1.0), (&code, 0.0)])?;
//! assert_eq!(proximity_advantage(&none, &general, &target, &options)?, 0.0);
//! assert!((similarity(&code, &code, &options)?.combined - 1.0).abs() < 1e-15);
//! # Ok::<(), metrics_proximity::Error>(())
//! ```
//!
//! [`Counts`] come from tokens or, on all cores, from a token store; they merge, and serde writes them.
//! [`DocumentCounts`] keep documents apart: [`Corpora::advantages`] gives the PA of every mixture towards every target
//! with its interval over documents and the noise floor below which a PA means nothing. [`SimilarityMatrix`] compares
//! whatever has a label, and says where sizes make cells incomparable.

mod advantage;
mod counts;
mod distribution;
mod documents;
mod error;
mod matrix;
mod similarity;

pub use corpus;

pub use advantage::{Advantage, Corpora, Resampling};
pub use counts::Counts;
pub use distribution::Distribution;
pub use documents::{DocumentCounts, sample_documents};
pub use error::Error;
pub use matrix::SimilarityMatrix;
pub use similarity::{
    JsForm, Similarity, SimilarityOptions, Support, Warning, kl_reduction, proximity_advantage, similarity, warning,
};

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
