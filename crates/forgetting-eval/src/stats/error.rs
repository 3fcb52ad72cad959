//! What can be wrong with samples.

/// What can be wrong with samples.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Samples that cannot be paired.
    #[error("{left} values cannot be paired with {right}")]
    Unpaired {
        /// Values on one side.
        left: usize,
        /// Values on the other.
        right: usize,
    },
    /// Losses of documents that are not the same.
    #[error(
        "document {document} has {left} predicted tokens on one side and {right} on the other: not the same documents"
    )]
    Document {
        /// Its place.
        document: usize,
        /// Tokens on one side.
        left: u64,
        /// Tokens on the other.
        right: u64,
    },
    /// Fewer values than the statistic needs.
    #[error("{what} needs at least {least} values, there are {n}")]
    TooFew {
        /// The statistic.
        what: &'static str,
        /// Values needed.
        least: usize,
        /// Values there are.
        n: usize,
    },
    /// A value that is not finite.
    #[error("value {index} of {side} is {value}, which is not finite")]
    NotFinite {
        /// Which sample.
        side: &'static str,
        /// Its place.
        index: usize,
        /// The value.
        value: f64,
    },
    /// Values that do not vary beyond rounding: a correlation with them is 0/0.
    #[error("{side} does not vary (its spread is {spread:e} of its mean, which is rounding noise)")]
    Constant {
        /// Which sample.
        side: &'static str,
        /// Norm of the deviations over the size of the mean.
        spread: f64,
    },
    /// A block whose values do not vary.
    #[error("in block {block}: {source}")]
    Block {
        /// Its place.
        block: usize,
        /// The cause.
        source: Box<Error>,
    },
    /// An argument outside its limits.
    #[error("{field} = {value} {limit}")]
    Argument {
        /// The argument.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        limit: &'static str,
    },
}
