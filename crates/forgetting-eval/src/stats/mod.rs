//! The statistics of a study over its seeds and over its (mix, set) pairs.

mod block;
mod correlation;
mod crossed;
mod error;
mod holm;
mod influence;
mod nested;
mod percentile;
mod power;
mod students_t;
mod summary;

pub use block::Block;
pub use correlation::{Correlation, RankCorrelation, pearson, pearson_within_blocks, spearman};
pub use crossed::{ArmPermutation, Crossed};
pub use error::Error;
pub use holm::holm;
pub use influence::{Influence, leave_one_pair_out};
pub use nested::{Level, Nested};
pub use percentile::percentile_interval;
pub use power::detectable;
pub use students_t::{t_quantile, t_two_sided_p};
pub use summary::{Paired, Summary};
