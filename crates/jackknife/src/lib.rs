//! The delete-group jackknife: how sure a value is, from what it is without each group of documents in turn.
//!
//! Whoever can compute a statistic of all documents and of all but one group has its interval, whatever the statistic. Documents
//! are independent, tokens of one document are not: groups are of whole documents.

mod jackknifed;

pub use jackknifed::Jackknifed;

/// Values that are no jackknife, or have no difference or mean.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a value without each group.
    #[error("{values} values without a group for {groups} groups")]
    Lengths {
        /// Values.
        values: usize,
        /// Groups.
        groups: usize,
    },
    /// Groups that cannot be left out.
    #[error("groups of {sizes:?} examples: there must be two at least, each with examples")]
    Sizes {
        /// Their sizes.
        sizes: Vec<u64>,
    },
    /// A value that is not finite.
    #[error("a value is {value}, which is not finite")]
    NotFinite {
        /// The value.
        value: f64,
    },
    /// Values over other groups.
    #[error("groups of {left:?} cannot be paired with groups of {right:?}")]
    Groups {
        /// Sizes on one side.
        left: Vec<u64>,
        /// Sizes on the other.
        right: Vec<u64>,
    },
    /// A mean of nothing.
    #[error("a mean needs at least one value")]
    Nothing,
}

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
