//! Measurements beside those of other software: of CPUs with the program `peer-bench`, of GPUs with `gpu-check`.

mod error;
pub mod peer;
pub mod roofline;
pub mod versus;

pub use error::Error;
