//! What can go wrong in training.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of a spec outside its limits.
    #[error("{field} = {value} {limit}")]
    Field {
        /// The field.
        field: &'static str,
        /// The value given.
        value: String,
        /// The limit that it breaks.
        limit: String,
    },
    /// An impossible schedule.
    #[error(transparent)]
    Schedule(#[from] schedule::Error),
    /// An impossible model.
    #[error(transparent)]
    Model(#[from] gptneox_model::Error),
    /// Unavailable batches.
    #[error(transparent)]
    Data(#[from] data_mixer::Error),
    /// A file that cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A checkpoint that is damaged or not one.
    #[error("{path}: {reason}", path = path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Why it is invalid.
        reason: String,
    },
    /// A checkpoint of another spec.
    #[error("{path} was written under another spec; different: {}", fields.join(", "), path = path.display())]
    OtherSpec {
        /// The file.
        path: PathBuf,
        /// The fields that differ.
        fields: Vec<String>,
    },
    /// A batch that the model cannot take.
    #[error("step {step}: {reason}")]
    Batch {
        /// The step.
        step: u64,
        /// Why it is invalid.
        reason: String,
    },
    /// Too many steps whose loss or gradient was not finite.
    #[error(
        "step {step}: {skipped} steps in all had a loss or gradient that is not finite (limit {limit}); lower the learning rate or look at the data of these steps"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// Steps skipped so far.
        skipped: u64,
        /// The limit.
        limit: u64,
    },
    /// The device failed, so that its numbers are worth nothing.
    #[error("the device failed: {reason}")]
    Device {
        /// What its thread said.
        reason: String,
    },
}
