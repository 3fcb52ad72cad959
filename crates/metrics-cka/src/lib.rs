//! Linear CKA between two activation matrices, biased (Kornblith et al. 2019) and debiased (HSIC₁, Song et al. 2012).
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
//! Letters: n examples, p and q features.

mod linear;

pub use linear::{Error, biased, debiased};
