//! Token-level similarity of corpora and mixtures, and proximity advantage (the paper's Eq. 6 and Appendix D).
//!
//! Everything follows from unigram counts under one tokenizer. Corpora as they are:
//!
//! ```
//! use metrics_proximity::{Counts, Distribution, SimilarityOptions, proximity_advantage, similarity};
//!
//! let of = |tokens: &[u32]| Distribution::of(&Counts::of_tokens(8, tokens.iter().copied())?);
//! let general = of(&[0, 0, 1, 2, 3, 3])?;
//! let code = of(&[4, 4, 5, 6, 4, 5])?;
//! let target = of(&[4, 5, 4, 3])?;
//! let options = SimilarityOptions::default(); // Appendix D
//!
//! let mix = Distribution::mixture(&[(&general, 0.8), (&code, 0.2)])?; // exactly Σ wᵢ pᵢ
//! assert!(proximity_advantage(&mix, &general, &target, &options)? > 0.0);
//! let none = Distribution::mixture(&[(&general, 1.0), (&code, 0.0)])?;
//! assert_eq!(proximity_advantage(&none, &general, &target, &options)?, 0.0);
//! assert!((similarity(&code, &code, &options)?.combined - 1.0).abs() < 1e-15);
//! # Ok::<(), metrics_proximity::Error>(())
//! ```
//!
//! Corpora of different sizes show different shares of their vocabularies, so that similarities of corpora as they are
//! depend on sizes. Every side at the same number of tokens, with intervals over documents:
//!
//! ```
//! use metrics_proximity::{Corpora, Documents, Draws, SimilarityOptions};
//!
//! let documents = |from: u32| Documents::new(40, (0..50).map(|d| (0..30).map(|i| from + (i * d) % 20).collect::<Vec<_>>()));
//! let corpora = Corpora {
//!     corpora: vec![("C4".into(), documents(0)?), ("code".into(), documents(20)?), ("Pycode".into(), documents(15)?)],
//!     general: 0,
//!     mixtures: vec![("code (20%)".into(), vec![(0, 0.8), (1, 0.2)])],
//!     targets: vec![("Pycode".into(), 2)],
//! };
//! let (basis, advantages) = corpora.advantages(&SimilarityOptions::default(), &Draws::default())?;
//! let pa = &advantages[0][0].advantage;
//! assert!(pa.interval(0.95).unwrap().0 > 0.0); // the mix is closer to Pycode than C4 is
//! assert!(basis.budget <= 750); // tokens a side: at most half of the smallest corpus
//! # Ok::<(), metrics_proximity::Error>(())
//! ```
//!
//! [`Counts`] come from tokens or, on all cores, from a token store; they merge, and serde writes them. [`Rarefied`] says
//! exactly what vocabulary a sample of given size shows. [`SimilarityMatrix`] compares whatever has a label, and says where
//! sizes make cells incomparable.

mod corpora;
mod counts;
mod distribution;
mod documents;
mod draws;
mod error;
mod matrix;
mod rarefied;
mod sample;
mod similarity;

pub use corpus;

pub use corpora::{Advantage, Basis, Corpora, Observed};
pub use counts::Counts;
pub use distribution::Distribution;
pub use documents::{Documents, sample_documents};
pub use draws::Draws;
pub use error::Error;
pub use jackknife::Jackknifed;
pub use matrix::SimilarityMatrix;
pub use rarefied::{Rarefied, SharedTypes};
pub use similarity::{
    JsForm, Similarity, SimilarityOptions, Warning, kl_reduction, proximity_advantage, similarity, warning,
};

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
