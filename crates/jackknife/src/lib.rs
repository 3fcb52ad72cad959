//! The delete-group jackknife: how sure a value is, from what it is without each group of documents in turn.
//!
//! Whoever can compute a statistic of all documents and of all but one group has its interval, whatever the statistic. Documents
//! are independent, tokens of one document are not: groups are of whole documents.

mod jackknifed;

pub use jackknifed::Jackknifed;

/// Values that have no difference or mean.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
