//! What can be wrong, and why a value may be missing.

/// Which side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The first: rows of a matrix.
    Left,
    /// The second: columns.
    Right,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Left => "left",
            Self::Right => "right",
        })
    }
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Too few examples for the estimator.
    #[error("{n} examples; this estimator needs at least {least}")]
    TooFew {
        /// Examples there are.
        n: u64,
        /// Examples needed.
        least: u64,
    },
    /// Features that do not vary (beyond the rounding of f32): CKA is 0/0.
    #[error("the {side} features are constant, so CKA is undefined")]
    Constant {
        /// Which side.
        side: Side,
    },
    /// Values that are not finite.
    #[error("the {side} features hold a value that is not finite")]
    NotFinite {
        /// Which side.
        side: Side,
    },
    /// The debiased HSIC of the features with themselves is not positive (beyond rounding): they are noise to this
    /// estimator, and the root of it does not exist.
    #[error("the debiased HSIC of the {side} features with themselves is not positive")]
    NotPositive {
        /// Which side.
        side: Side,
    },
}

/// What can be wrong with a comparison.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Sides with different examples.
    #[error("{left} examples on one side, {right} on the other")]
    Examples {
        /// One side.
        left: usize,
        /// The other.
        right: usize,
    },
    /// A layer with another number of examples than the first of its side.
    #[error("layer {layer} of the {side} side has {found} examples, the first has {expected}")]
    Rows {
        /// Which side.
        side: Side,
        /// The layer.
        layer: String,
        /// Its examples.
        found: usize,
        /// Those of the first.
        expected: usize,
    },
    /// Sides that did not see the same inputs: example i of one is not example i of the other.
    #[error("the sides did not see the same inputs (digests {left:016x} and {right:016x})")]
    Inputs {
        /// Digest of one side's.
        left: u64,
        /// Digest of the other's.
        right: u64,
    },
    /// Layers that are not the ones announced.
    #[error("the {side} side has layers {found}, announced were {expected}")]
    Layers {
        /// Which side.
        side: Side,
        /// What came.
        found: String,
        /// What was announced.
        expected: String,
    },
    /// A group beyond the last.
    #[error("group {group} of {groups}")]
    Group {
        /// The group, from 0.
        group: usize,
        /// Groups there are.
        groups: usize,
    },
    /// States that cannot be compared in pairs.
    #[error("pair {left}, {right} of {states} states")]
    State {
        /// One of the pair.
        left: usize,
        /// The other.
        right: usize,
        /// States there are.
        states: usize,
    },
    /// An option outside its limits.
    #[error("{field} = {value} {limit}")]
    Option {
        /// The option.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        limit: String,
    },
    /// Examples that no pass waits for.
    #[error("no pass has begun: begin_pass comes before push")]
    NoPass,
    /// A result asked for before all passes were made.
    #[error("{left} passes are left to be made")]
    Unfinished {
        /// How many.
        left: usize,
    },
    /// Accumulators that cannot be merged.
    #[error("accumulators of different {0} cannot be merged")]
    Merge(&'static str),
    /// There is no value.
    #[error(transparent)]
    Undefined(#[from] Reason),
    /// Values that have no difference or mean.
    #[error(transparent)]
    Jackknife(#[from] jackknife::Error),
}
