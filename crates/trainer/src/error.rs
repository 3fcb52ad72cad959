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
    /// A field of a held-out set outside its limits.
    #[error("{field} = {value} {limit}")]
    EvalField {
        /// The set's place and field.
        field: String,
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
    /// A log that is damaged.
    #[error("{path}{at}: {reason}", path = path.display(), at = if *line > 0 { format!(", line {line}") } else { String::new() })]
    Log {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 where it is the whole file.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A run that would go on with other data than it had.
    #[error(
        "{path}: the batch of step {step} had the digest {seen:016x}, and now has {made:016x}: the data, their order or the mixture \
         changed since, and the run cannot go on", path = path.display()
    )]
    OtherData {
        /// The run's ledger.
        path: PathBuf,
        /// The step.
        step: u64,
        /// Its batch's digest in the ledger.
        seen: u64,
        /// That of the batch as it is made now.
        made: u64,
    },
    /// A run that ended with an error, and of whose last steps no checkpoint could be written.
    #[error("{error}; and no checkpoint could be written after it: {checkpoint}")]
    NotSaved {
        /// Why it ended.
        error: Box<Error>,
        /// Why there is no checkpoint.
        checkpoint: Box<Error>,
    },
    /// A run whose beginning cannot be made.
    #[error("{reason}")]
    Start {
        /// Why not.
        reason: String,
    },
    /// Stopped at the caller's word.
    #[error("stopped")]
    Stopped,
    /// Too many steps whose loss or gradient was not finite.
    #[error(
        "step {step}: {skipped} of the last {window} steps had a loss or gradient that is not finite (limit {limit}); lower the learning \
         rate (a run may go on with another one: allow the change of lr) or look at the data of this step{}",
        if rows.is_empty() { String::new() } else { format!(", by source: {}", rows.join("; ")) }
    )]
    Diverged {
        /// The step.
        step: u64,
        /// Steps skipped among the last ones.
        skipped: u64,
        /// How many those are.
        window: u64,
        /// How many of them may be skipped.
        limit: u64,
        /// The batch's sequences, by source: the first of each.
        rows: Vec<String>,
    },
    /// The device failed, so that its numbers are worth nothing.
    #[error("the device failed: {reason}")]
    Device {
        /// What its thread said.
        reason: String,
    },
}
