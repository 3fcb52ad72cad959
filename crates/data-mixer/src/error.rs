//! What can be wrong with a plan or the data behind it.

use std::path::PathBuf;

use schedule::Tokens;

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
        /// The limit that it breaks.
        limit: String,
    },
    /// A source that would be repeated more than the spec allows.
    #[error(
        "source {source_name}: the plan {verb} {need} tokens ({need_sequences} sequences{of_these}), it has {have} \
         ({have_sequences}), to be drawn at most {max_epochs} times; {remedy}",
        verb = if drawn == need { "needs" } else { "reserves" },
        of_these = if drawn == need { String::new() } else { format!("; it draws {drawn} of them") }
    )]
    Budget {
        /// The source.
        source_name: String,
        /// Tokens the plan needs, reserved ones included.
        need: Tokens,
        /// Of these, tokens it draws: the others are reserved in slots that are specialised.
        drawn: Tokens,
        /// Tokens the source has.
        have: Tokens,
        /// Sequences the plan needs.
        need_sequences: u64,
        /// Sequences the source has.
        have_sequences: u64,
        /// How often each may be drawn.
        max_epochs: f64,
        /// What would fit.
        remedy: Box<str>,
    },
    /// A source whose weight is so small, or its phases so short, that none of it would be drawn.
    #[error(
        "source {source_name}: its weights ask for {expected:.3} sequences of {slots} in the run, so none would be \
         drawn; leave it out, raise its weight or lengthen the run"
    )]
    Vanishes {
        /// The source.
        source_name: String,
        /// Sequences that the weights ask for.
        expected: f64,
        /// Sequences of the run.
        slots: u64,
    },
    /// A timeline names a source that the spec does not have.
    #[error("the timeline mixes in {name:?}; the sources are: {}", known.join(", "))]
    UnknownSource {
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// An example longer than the row, where none may be cut.
    #[error(
        "example {document} of {store} has {tokens} tokens, a row holds {limit}: cut or drop such examples, or use longer rows"
    )]
    TooLong {
        /// The store.
        store: String,
        /// The example.
        document: u64,
        /// Its tokens.
        tokens: u64,
        /// The most there may be.
        limit: u64,
    },
    /// A ledger that cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A ledger that is not one, or a damaged one.
    #[error("{path}:{line}: {reason}", path = path.display())]
    Ledger {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Why it is invalid.
        reason: String,
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
