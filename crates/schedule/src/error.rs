//! What can be wrong with a spec.

/// An impossible spec: which field, the value given, the limit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A weight that is no decimal number from 0 to 1 with at most nine decimals.
    #[error("{given} must be a decimal number from 0 to 1 with at most 9 decimals")]
    Weight {
        /// As given.
        given: String,
    },
    /// Any other field outside its limits.
    #[error("{field} = {value} {limit}")]
    Field {
        /// The field.
        field: String,
        /// The value given.
        value: String,
        /// The limit that it breaks.
        limit: String,
    },
}

impl Error {
    pub(crate) fn field(field: impl Into<String>, value: impl ToString, limit: impl Into<String>) -> Self {
        Self::Field { field: field.into(), value: value.to_string(), limit: limit.into() }
    }
}
