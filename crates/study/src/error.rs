//! What can go wrong in a study, and the exit status it means.

use std::path::{Path, PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A spec, option or file layout that cannot be used.
    #[error("{field} = {value} {limit}")]
    Field {
        /// The field or option.
        field: String,
        /// The value given.
        value: String,
        /// What is wrong with it.
        limit: String,
    },
    /// Options that cannot be used.
    #[error("{reason}")]
    Usage {
        /// What is wrong.
        reason: String,
    },
    /// A spec or sources file that cannot be parsed.
    #[error("{path}: {reason}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An input file that cannot be used.
    #[error("role {role}: {source}")]
    Input {
        /// What the file is for.
        role: String,
        /// What is wrong with it.
        source: corpus::ReadError,
    },
    /// A tokenizer that cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] corpus::TokenizeError),
    /// An arm whose mixture cannot be had.
    #[error("arm {arm}: {source}")]
    Mixture {
        /// The arm.
        arm: String,
        /// What is wrong with it.
        source: data_mixer::Error,
    },
    /// An impossible schedule.
    #[error("{what}: {source}")]
    Schedule {
        /// Of what.
        what: String,
        /// What is wrong with it.
        source: schedule::Error,
    },
    /// An impossible model.
    #[error(transparent)]
    Model(#[from] gptneox_model::Error),
    /// Data that cannot be batched.
    #[error(transparent)]
    Data(#[from] data_mixer::Error),
    /// A store that cannot be read.
    #[error(transparent)]
    Store(#[from] corpus::StoreError),
    /// Training that failed.
    #[error(transparent)]
    Train(#[from] trainer::Error),
    /// Token counts that cannot be had.
    #[error(transparent)]
    Counts(#[from] metrics_proximity::Error),
    /// Representations that cannot be compared.
    #[error(transparent)]
    Representations(#[from] metrics_cka::Error),
    /// A fine-tuning path that cannot be measured.
    #[error(transparent)]
    Path(#[from] forgetting_eval::theory::PathError),
    /// Statistics that cannot be had.
    #[error(transparent)]
    Statistics(#[from] forgetting_eval::Error),
    /// A file that cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A result that cannot be rendered.
    #[error("cannot draw {what}: {reason}")]
    Render {
        /// What.
        what: String,
        /// Why.
        reason: String,
    },
    /// Stopped by a signal; what was done is kept.
    #[error("stopped by signal {signal}; start the same command again to continue")]
    Stopped {
        /// The signal's number.
        signal: i32,
    },
}

impl Error {
    pub(crate) fn field(field: impl Into<String>, value: impl ToString, limit: impl Into<String>) -> Self {
        Self::Field { field: field.into(), value: value.to_string(), limit: limit.into() }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// 2 for wrong usage, spec or data; 1 for what failed later; 128 + signal when stopped.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Field { .. }
            | Self::Usage { .. }
            | Self::Parse { .. }
            | Self::Input { .. }
            | Self::Tokenizer(
                corpus::TokenizeError::File { .. }
                | corpus::TokenizeError::Tokenizer(_)
                | corpus::TokenizeError::Read(_),
            )
            | Self::Train(trainer::Error::Field { .. })
            | Self::Mixture { .. }
            | Self::Schedule { .. }
            | Self::Model(_)
            | Self::Data(_) => 2,
            Self::Stopped { signal } => 128u8.saturating_add(u8::try_from(*signal).unwrap_or(0)),
            _ => 1,
        }
    }
}
