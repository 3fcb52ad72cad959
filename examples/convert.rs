//! Writes a model as a Hugging Face directory: from a training checkpoint, or in other types and shards.
//!
//!     cargo run --release --example convert -- --model state.safetensors --output DIR --tokenizer tokenizer.json
//!     cargo run --release --example convert -- --model DIR --output DIR2 --dtype bf16 --max-shard-mb 500

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use midtrain::gptneox_model::{SaveOptions, Storage};
use midtrain::{Backend, Error, convert};

#[derive(Parser)]
#[command(about = "Writes a GPT-NeoX model as a Hugging Face directory")]
struct Args {
    /// A Hugging Face directory or a training checkpoint.
    #[arg(long)]
    model: PathBuf,
    /// The directory to write; what it holds of an earlier checkpoint is replaced.
    #[arg(long)]
    output: PathBuf,
    /// The type of the weights: f32, f16 or bf16.
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// Most megabytes of weights in a file.
    #[arg(long)]
    max_shard_mb: Option<u64>,
    /// A tokenizer.json to copy (default: the one beside the model, if any).
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    #[arg(long, default_value = "flex")]
    backend: String,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    let storage = match args.dtype.as_str() {
        "f32" => Storage::F32,
        "f16" => Storage::F16,
        "bf16" => Storage::Bf16,
        other => {
            let limit = "must be f32, f16 or bf16".to_owned();
            return Err(Error::Option { option: "dtype", value: other.to_owned(), limit });
        }
    };
    let options = SaveOptions { storage, max_shard_bytes: args.max_shard_mb.map(|mb| mb.saturating_mul(1_000_000)) };
    convert(args.backend.parse::<Backend>()?, &args.model, &args.output, &options, args.tokenizer.as_deref())
}
