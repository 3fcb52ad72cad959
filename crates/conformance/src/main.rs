//! Compares this build with fixtures that other software made: one line a file, then a count.
//!
//! ```sh
//! cargo run --release -p conformance -- DIR [--family F] [--backend B] [--dtype bf16] [--tokenizer FILE]
//! ```

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use conformance::{Line, Options, Verdict, run};
use midtrain::{UnknownBackend, parse_precision};

midtrain::allocator!();

#[derive(Parser)]
#[command(about = "Compares this build with reference fixtures")]
struct Args {
    /// The fixtures: a folder with one folder a family.
    dir: PathBuf,
    /// One family: models, generate, train, tokenizer, cka, proximity, proximity_rarefied, stats, stats2, bound, megatron, cloze,
    /// average.
    #[arg(long)]
    family: Option<String>,
    /// What computes.
    #[arg(long, default_value = "flex")]
    backend: String,
    /// fp32, or bf16: models with bf16 products beside f32's logits.
    #[arg(long, default_value = "fp32")]
    dtype: String,
    /// Factor on the tolerances of models and training (20 for GPUs whose f32 products are TF32).
    #[arg(long, default_value_t = 1.0)]
    tolerance: f64,
    /// The tokenizer file of the tokenizer family.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
}

fn compared(args: &Args) -> Result<Vec<Line>, String> {
    let options = Options {
        family: args.family.as_deref(),
        backend: args.backend.parse().map_err(|e: UnknownBackend| e.to_string())?,
        tokenizer: args.tokenizer.as_deref(),
        precision: parse_precision(&args.dtype).map_err(|e| e.to_string())?,
        tolerance: args.tolerance,
    };
    run(&args.dir, &options)
}

fn main() -> ExitCode {
    let lines = match compared(&Args::parse()) {
        Ok(lines) => lines,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let mut said: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let fail = lines.iter().filter(|l| l.failed()).count();
    let unsupported = lines.iter().filter(|l| matches!(l.verdict, Verdict::Unsupported(_))).count();
    said += &format!("{} ok, {fail} fail, {unsupported} unsupported\n", lines.len() - fail - unsupported);
    // A reader that went away changes no verdict.
    drop(std::io::stdout().write_all(said.as_bytes()));
    ExitCode::from(u8::from(fail > 0))
}
