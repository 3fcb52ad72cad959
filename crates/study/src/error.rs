//! What can go wrong in a study, and the exit status it means.

use std::path::{Path, PathBuf};

use crate::address::Address;
use crate::store::Failure;

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
        /// The limit that it breaks.
        limit: String,
    },
    /// Options that cannot be used.
    #[error("{reason}")]
    Usage {
        /// Why it is invalid.
        reason: String,
    },
    /// A spec or sources file that cannot be parsed.
    #[error("{path}: {reason}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why it is invalid.
        reason: String,
    },
    /// An input file that cannot be used.
    #[error("role {role}: {source}")]
    Input {
        /// What the file is for.
        role: String,
        /// The cause.
        source: corpus::ReadError,
    },
    /// A tokenizer that cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] corpus::TokenizeError),
    /// An arm with an impossible mixture.
    #[error("arm {arm}: {source}")]
    Mixture {
        /// The arm.
        arm: String,
        /// The cause.
        source: data_mixer::Error,
    },
    /// An impossible schedule.
    #[error("{what}: {source}")]
    Schedule {
        /// Of what.
        what: String,
        /// The cause.
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
    /// A run that diverged: its loss or gradient was too often not finite.
    #[error("{label}: {source}")]
    Diverged {
        /// The run: arm, set, rate, seed.
        label: String,
        /// What happened.
        source: trainer::Error,
    },
    /// A result that is not finite.
    #[error("{what}: {reason}")]
    NotFinite {
        /// What was measured.
        what: String,
        /// Why, such as "the loss is not finite".
        reason: String,
    },
    /// A run that saw other data than another one on the same trajectory.
    #[error(
        "{label}: by step {step} the ledger says {found}, that of {by} says {expected}: the data are not the same, though \
         they should be"
    )]
    OtherData {
        /// The run.
        label: String,
        /// The step.
        step: u64,
        /// Its ledger's head.
        found: data_mixer::LedgerHead,
        /// The other's.
        expected: data_mixer::LedgerHead,
        /// The other.
        by: Address,
    },
    /// A job that is run on a machine of another class than it was planned for.
    #[error(
        "it was planned for a machine of the class \"{planned}\", this one is of the class \"{here}\": their results differ in \
         the last bits; run the study on machines of one class, or say kernels = \"any\" in it"
    )]
    OtherKernels {
        /// The class in its address.
        planned: String,
        /// This machine's.
        here: String,
    },
    /// A command of Slurm that failed.
    #[error("{command}: {reason}")]
    Slurm {
        /// The command.
        command: String,
        /// What it said.
        reason: String,
    },
    /// What went wrong in another process.
    #[error(transparent)]
    Job(crate::engine::Trouble),
    /// Jobs that failed; everything else was done.
    #[error("{}", failed(.failures))]
    Failed {
        /// Each once.
        failures: Vec<Failure>,
    },
    /// An address that the store does not hold.
    #[error("{address} is not in the store")]
    NoJob {
        /// The address.
        address: Address,
    },
    /// A file system that has no locks: two processes on one store could not keep out of each other's way.
    #[error(
        "{path}: the file system has no file locks ({source}); put the store on one that has, such as a local disk", path = path.display()
    )]
    NoLocks {
        /// The lock's file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A store that another process uses.
    #[error("{path}: another process uses the store; free space when it is done", path = path.display())]
    InUse {
        /// The store.
        path: PathBuf,
    },
    /// A bundle of results that cannot be used.
    #[error("{path}: {reason}", path = path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// Why it is invalid.
        reason: String,
    },
    /// Invalid token counts.
    #[error(transparent)]
    Counts(#[from] metrics_proximity::Error),
    /// Representations that cannot be compared.
    #[error(transparent)]
    Representations(#[from] metrics_cka::Error),
    /// A fine-tuning path that cannot be measured.
    #[error(transparent)]
    Path(#[from] forgetting_eval::theory::PathError),
    /// Statistics that are undefined.
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
    /// A page that cannot be written.
    #[error(transparent)]
    Report(#[from] report::Error),
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

    /// A run's error, with what it was where the error does not say so.
    pub(crate) fn labelled(label: &str, error: trainer::Error) -> Self {
        match error {
            source @ trainer::Error::Diverged { .. } => Self::Diverged { label: label.to_owned(), source },
            trainer::Error::NotSaved { error, .. } if matches!(*error, trainer::Error::Diverged { .. }) => {
                Self::Diverged { label: label.to_owned(), source: *error }
            }
            other => Self::Train(other),
        }
    }

    /// Whether the same happens whenever the same job is run: then it counts as the job's outcome.
    pub(crate) fn is_certain(&self) -> bool {
        matches!(self, Self::Diverged { .. } | Self::NotFinite { .. } | Self::Path(_))
    }

    /// The file that is missing or damaged, where that is what went wrong: it can be made again.
    pub(crate) fn damaged_file(&self) -> Option<&Path> {
        let gone = |source: &std::io::Error| {
            use std::io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
            matches!(source.kind(), NotFound | UnexpectedEof | InvalidData)
        };
        match self {
            Self::Io { source, .. }
            | Self::Store(corpus::StoreError::Io { source, .. })
            | Self::Data(
                data_mixer::Error::Io { source, .. } | data_mixer::Error::Store(corpus::StoreError::Io { source, .. }),
            )
            | Self::Tokenizer(corpus::TokenizeError::Store(corpus::StoreError::Io { source, .. }))
            | Self::Train(
                trainer::Error::Io { source, .. } | trainer::Error::Data(data_mixer::Error::Io { source, .. }),
            )
            | Self::Model(gptneox_model::Error::Io { source, .. })
                if !gone(source) =>
            {
                None
            }
            _ => self.file(),
        }
    }

    /// The file that the error is about, if it is about one.
    fn file(&self) -> Option<&Path> {
        use corpus::{StoreError, TokenizeError};
        Some(match self {
            Self::Io { path, .. } | Self::Parse { path, .. } => path,
            Self::Store(StoreError::Io { path, .. } | StoreError::Format { path, .. })
            | Self::Data(data_mixer::Error::Store(StoreError::Io { path, .. } | StoreError::Format { path, .. }))
            | Self::Data(data_mixer::Error::Io { path, .. } | data_mixer::Error::Ledger { path, .. })
            | Self::Tokenizer(
                TokenizeError::File { path, .. }
                | TokenizeError::Store(StoreError::Io { path, .. } | StoreError::Format { path, .. }),
            )
            | Self::Train(trainer::Error::Io { path, .. } | trainer::Error::Checkpoint { path, .. })
            | Self::Train(trainer::Error::Data(
                data_mixer::Error::Io { path, .. } | data_mixer::Error::Ledger { path, .. },
            )) => path,
            Self::Model(error) => return error.path(),
            _ => return None,
        })
    }

    /// 2 for wrong usage, spec or data; 1 for what failed later; 128 + signal when stopped.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Field { .. }
            | Self::Usage { .. }
            | Self::Parse { .. }
            | Self::Bundle { .. }
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
            Self::Job(trouble) => trouble.status,
            Self::Stopped { signal } => 128u8.saturating_add(u8::try_from(*signal).unwrap_or(0)),
            _ => 1,
        }
    }
}

/// Each failure on a line of its own.
fn failed(failures: &[Failure]) -> String {
    let jobs = if failures.len() == 1 { "job" } else { "jobs" };
    let lines: String = failures.iter().map(|failure| format!("\n  {failure}")).collect();
    format!("{} {jobs} failed, everything that does not depend on them is done:{lines}", failures.len())
}
