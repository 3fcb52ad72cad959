//! Linear CKA between layers and models: biased (Kornblith et al. 2019) and debiased (HSIC₁, Song et al. 2012).
//!
//! Two matrices:
//!
//! ```
//! use metrics_cka::{biased, debiased};
//! use ndarray::array;
//!
//! let x = array![[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [1.0, 3.0], [0.5, 0.2]];
//! let scaled = &x * 3.0 + 1.0; // CKA sees neither scale nor shift
//! assert!((biased(x.view(), scaled.view())? - 1.0).abs() < 1e-12);
//! assert!((debiased(x.view(), scaled.view())? - 1.0).abs() < 1e-12);
//! # Ok::<(), metrics_cka::Error>(())
//! ```
//!
//! All pairs of layers of two models, batch by batch: an [`Accumulator`] keeps sums whose size does not depend on the
//! number of examples, and merges with others; a [`Comparison`] (or [`compare()`]) keeps within a stated memory, gives
//! intervals over groups of documents, and shows standardised features and those without massive dimensions beside the
//! raw ones; [`States`] compares several states in pairs on the same documents, and a [`Jackknifed`] value knows what it is
//! without each group of documents, so that differences have intervals too. A `Recorder` takes hidden states from a model's observer; sides that did not see the same inputs are
//! refused.
//!
//! Products are computed in f32 or f64, on this machine's cores ([`Host`]) or on a burn device (`Device`), and are
//! added up in f64. Where there is no value there is a [`Reason`]; nothing is cut off at 0 or 1.
//!
//! Letters: n examples (tokens), p and q features.

mod accumulator;
mod activations;
mod comparison;
#[cfg(feature = "burn")]
mod device;
mod error;
mod gram;
mod linear;
mod matrix;
mod moments;
mod products;
mod real;
#[cfg(feature = "burn")]
mod recorder;
mod states;
mod sums;

pub use accumulator::{Accumulator, Form, SumOptions};
pub use activations::{Activations, Layer, LayerValues};
pub use comparison::{CkaOptions, Comparison, Report, Treated, Treatment, compare};
#[cfg(feature = "burn")]
pub use device::{Device, TransposedProduct};
pub use error::{Error, Reason, Side};
pub use jackknife::Jackknifed;
pub use linear::{biased, debiased};
pub use matrix::{Cell, Matrix};
pub use products::{Host, Products};
pub use real::Real;
#[cfg(feature = "burn")]
pub use recorder::Recorder;
pub use states::States;

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
