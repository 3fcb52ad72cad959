//! Times what other software also does, with the same options and the same JSON line, so that both can be alternated.
//!
//!     cargo run --release --example peer_bench -- train-step --config pythia-70m --batch 1 --seq 512

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use midtrain::Backend;
use midtrain::gptneox_model::GptNeoXConfig;
use midtrain::peer::TrainStep;

#[derive(Parser)]
#[command(about = "Times what other software also does, for side-by-side runs")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Forward, loss, backward, clip, AdamW on GPT-NeoX.
    TrainStep(TrainStepArgs),
}

#[derive(Args)]
struct TrainStepArgs {
    /// pythia-14m, 31m, 70m, 160m, 410m, 1b.
    #[arg(long, default_value = "pythia-70m")]
    config: String,
    #[arg(long)]
    hidden: Option<usize>,
    #[arg(long)]
    layers: Option<usize>,
    #[arg(long)]
    heads: Option<usize>,
    #[arg(long)]
    ffn: Option<usize>,
    #[arg(long, default_value_t = 50_304)]
    vocab: usize,
    /// Sequences of a micro-batch.
    #[arg(long, default_value_t = 2)]
    batch: usize,
    /// Micro-batches of a step.
    #[arg(long, default_value_t = 1)]
    accum: usize,
    #[arg(long, default_value_t = 512)]
    seq: usize,
    #[arg(long, default_value_t = 5)]
    steps: usize,
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    #[arg(long, default_value = "flex")]
    backend: String,
    #[arg(long)]
    threads: Option<usize>,
    /// Peak TFLOP/s of the device, for MFU.
    #[arg(long)]
    peak: Option<f64>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> ExitCode {
    let What::TrainStep(args) = Cli::parse().what;
    match run(&args) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &TrainStepArgs) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let backend: Backend = args.backend.parse().map_err(|e: midtrain::UnknownBackend| e.to_string())?;
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    let base = GptNeoXConfig::pythia(args.config.strip_prefix("pythia-").unwrap_or(&args.config))?;
    let hidden_size = args.hidden.unwrap_or(base.hidden_size);
    let model = GptNeoXConfig {
        vocab_size: args.vocab,
        hidden_size,
        num_layers: args.layers.unwrap_or(base.num_layers),
        num_heads: args.heads.unwrap_or(base.num_heads),
        intermediate_size: args.ffn.unwrap_or(4 * hidden_size),
        max_positions: base.max_positions.max(args.seq),
        ..base
    };
    let (batch, accum, seq) = (args.batch, args.accum, args.seq);
    if batch == 0 || accum == 0 || seq < 2 {
        return Err(format!("batch = {batch}, accum = {accum} must be at least 1, seq = {seq} at least 2").into());
    }
    let bench = TrainStep {
        model,
        batch,
        accum,
        seq,
        steps: args.steps,
        warmup: args.warmup,
        seed: args.seed,
        peak: args.peak,
    };
    bench.run(backend)
}
