//! `midtrain convert`: a model as a Hugging Face directory.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gptneox_model::Storage;

use crate::{Backend, ConvertOptions, Error, convert};

/// A model, and how it is written.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  midtrain convert --model state.safetensors --output DIR --tokenizer tokenizer.json
  midtrain convert --model DIR --output DIR2 --dtype bf16 --max-shard-mb 500")]
pub(super) struct ConvertArgs {
    /// A Hugging Face directory or a training checkpoint.
    #[arg(long)]
    model: PathBuf,
    /// The directory to write, the model's own too: what it holds of an earlier checkpoint is replaced once the new one is
    /// complete, other files stay.
    #[arg(long)]
    output: PathBuf,
    /// The type of the weights (default: as they are stored; a training checkpoint's in f32).
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// Most megabytes of weights in a file.
    #[arg(long)]
    max_shard_mb: Option<u64>,
    /// A tokenizer.json to copy (default: the one beside the model, if any).
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// What computes.
    #[arg(long, default_value = "flex")]
    backend: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    F16,
    Bf16,
}

impl ConvertArgs {
    pub(super) fn run(self) -> Result<(), Error> {
        let storage = self.dtype.map(|dtype| match dtype {
            Dtype::F32 => Storage::F32,
            Dtype::F16 => Storage::F16,
            Dtype::Bf16 => Storage::Bf16,
        });
        let max_shard_bytes = self.max_shard_mb.map(|mb| mb.saturating_mul(1_000_000));
        let options = ConvertOptions { storage, max_shard_bytes, tokenizer: self.tokenizer };
        convert(self.backend.parse::<Backend>()?, &self.model, &self.output, &options)
    }
}
