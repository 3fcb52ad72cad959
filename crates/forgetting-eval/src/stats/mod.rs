//! The statistics of a study over its seeds and over its (mix, set) pairs.

mod correlation;
mod error;
mod nested;
mod resample;
mod students_t;
mod summary;

pub use correlation::{Correlation, pearson, pearson_within_blocks, spearman};
pub use error::Error;
pub use nested::{Level, Nested};
pub use resample::{Block, Bootstrap, block_permutation_p, cluster_bootstrap, percentile_interval};
pub use students_t::{t_quantile, t_two_sided_p};
pub use summary::{Paired, Summary};
