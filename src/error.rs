//! What can go wrong in the programs that load a model and use it.

use std::path::{Path, PathBuf};

use crate::UnknownBackend;

/// An error of this crate's programs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A backend that this build does not have.
    #[error(transparent)]
    Backend(#[from] UnknownBackend),
    /// A model that cannot be loaded or used.
    #[error(transparent)]
    Model(#[from] gptneox_model::Error),
    /// A checkpoint that cannot be loaded, or a step that failed.
    #[error(transparent)]
    Trainer(#[from] trainer::Error),
    /// A study that cannot be run, or failed.
    #[error(transparent)]
    Study(#[from] study::Error),
    /// A ledger that cannot be read, or does not hold what is asked for.
    #[error(transparent)]
    Mixer(#[from] data_mixer::Error),
    /// A token store that cannot be read.
    #[error(transparent)]
    Store(#[from] corpus::StoreError),
    /// Files that cannot be read as documents.
    #[error(transparent)]
    Read(#[from] corpus::ReadError),
    /// A tokenizer that cannot be loaded or used.
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
        /// Why it is invalid.
        reason: String,
    },
    /// A run that is another one when it stops and goes on.
    #[error("{run}: differs when it stops and goes on, {difference}")]
    Resume {
        /// The run.
        run: String,
        /// Where.
        difference: Box<trainer::ResumeDifference>,
    },
    /// A model whose loss is not finite.
    #[error("{model}: its loss is not finite: its weights are damaged, or it diverged", model = model.display())]
    NotFinite {
        /// The model.
        model: PathBuf,
    },
    /// An option outside its limits.
    #[error("{option} = {value} {limit}")]
    Option {
        /// The option.
        option: &'static str,
        /// The value given.
        value: String,
        /// The limit that it breaks.
        limit: String,
    },
}

impl Error {
    pub(crate) fn option(option: &'static str, value: impl ToString, limit: impl Into<String>) -> Self {
        Self::Option { option, value: value.to_string(), limit: limit.into() }
    }

    pub(crate) fn content(path: &Path, reason: impl ToString) -> Self {
        Self::Content { path: path.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
