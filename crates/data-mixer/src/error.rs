//! What can be wrong with a plan or the data behind it.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field outside its limits.
    #[error("{field} = {value} {limit}")]
    Field {
        /// The field.
        field: String,
        /// The value given.
        value: String,
        /// What is wrong with it.
        limit: String,
    },
    /// A source that would be repeated more than the spec allows.
    #[error(
        "source {source_name}: the plan needs {need} sequences, {have} are there ({max_epochs} epochs allowed); {remedy}"
    )]
    Budget {
        /// The source.
        source_name: String,
        /// Sequences the plan needs.
        need: u64,
        /// Sequences the source has.
        have: u64,
        /// How often each may be drawn.
        max_epochs: f64,
        /// What would fit.
        remedy: String,
    },
    /// A timeline names a source that the spec does not have.
    #[error("the timeline mixes in {name:?}; the sources are: {}", known.join(", "))]
    UnknownSource {
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A store that cannot be read.
    #[error(transparent)]
    Store(#[from] corpus::StoreError),
}

impl Error {
    pub(crate) fn field(field: impl Into<String>, value: impl ToString, limit: impl Into<String>) -> Self {
        Self::Field { field: field.into(), value: value.to_string(), limit: limit.into() }
    }
}
