//! Compares this build with fixtures that other software made: one line a file, then a count.
//!
//!     cargo run --release --example conformance -- DIR [--family F] [--backend B] [--tokenizer FILE]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use midtrain::Backend;
use midtrain::conformance::{Verdict, run};

#[derive(Parser)]
#[command(about = "Compares this build with reference fixtures")]
struct Args {
    /// The fixtures: a folder with one folder a family.
    dir: PathBuf,
    /// One family: models, generate, train, tokenizer, cka, proximity, stats, bound.
    #[arg(long)]
    family: Option<String>,
    /// What computes.
    #[arg(long, default_value = "flex")]
    backend: String,
    /// The tokenizer file of the tokenizer family.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let lines = args
        .backend
        .parse::<Backend>()
        .map_err(|e| e.to_string())
        .and_then(|backend| run(&args.dir, args.family.as_deref(), backend, args.tokenizer.as_deref()));
    let lines = match lines {
        Ok(lines) => lines,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    for line in &lines {
        println!("{line}");
    }
    let fail = lines.iter().filter(|l| l.failed()).count();
    let unsupported = lines.iter().filter(|l| matches!(l.verdict, Verdict::Unsupported(_))).count();
    println!("{} ok, {fail} fail, {unsupported} unsupported", lines.len() - fail - unsupported);
    ExitCode::from(u8::from(fail > 0))
}
