//! Checkpoints: one file each, written in the background, the last ones and every so many kept.

mod file;
mod writer;

pub use file::{checkpoints, keep_weights, load_model_config, load_weights, verify_checkpoint};

pub(crate) use file::differing_fields;
pub(crate) use writer::{Retention, Write, Writer};
