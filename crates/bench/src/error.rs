//! What can go wrong in a measurement.

use std::path::{Path, PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A backend or a model that cannot be loaded or used.
    #[error(transparent)]
    Midtrain(#[from] midtrain::Error),
    /// A model that cannot be made.
    #[error(transparent)]
    Model(#[from] gptneox_model::Error),
    /// A step that failed.
    #[error(transparent)]
    Trainer(#[from] trainer::Error),
    /// A tokenizer that cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] corpus::TokenizeError),
    /// A file that cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file whose content cannot be used.
    #[error("{path}: {reason}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// An option outside its limits.
    #[error("{option} = {value} {limit}")]
    Option {
        /// The option.
        option: &'static str,
        /// The value given.
        value: String,
        /// The limit.
        limit: String,
    },
    /// Another program that did not do what it should.
    #[error("{command}: {reason}")]
    Peer {
        /// What was run.
        command: String,
        /// What it did.
        reason: String,
    },
}

impl Error {
    pub(crate) fn option(option: &'static str, value: impl ToString, limit: impl Into<String>) -> Self {
        Self::Option { option, value: value.to_string(), limit: limit.into() }
    }

    pub(crate) fn content(path: &Path, reason: impl ToString) -> Self {
        Self::Content { path: path.to_owned(), reason: reason.to_string() }
    }
}

impl From<midtrain::UnknownBackend> for Error {
    fn from(error: midtrain::UnknownBackend) -> Self {
        Self::Midtrain(error.into())
    }
}
