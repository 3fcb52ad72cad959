//! What runs have seen. Every run keeps a ledger: a digest and the tokens of each source, step by step.
//!
//!     cargo run --release --example ledger -- seen-by 120 runs/store/pretrain/KEY/ledger
//!     cargo run --release --example ledger -- digest 120 runs/store/pretrain/KEY/ledger
//!     cargo run --release --example ledger -- diff runs/store/pretrain/KEY/ledger runs/store/pretrain/OTHER/ledger
//!
//! A stretch that continues another one's checkpoint records its own steps: name the stretches in their order.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use midtrain::data_mixer::{Error, Ledger};
use midtrain::schedule::Step;

#[derive(Parser)]
#[command(about = "What runs have seen, step by step")]
enum Cli {
    /// Tokens of each source before a step.
    SeenBy {
        step: u64,
        /// A run's ledger, or those of its stretches.
        #[arg(required = true)]
        ledgers: Vec<PathBuf>,
    },
    /// The digest of a step's batch.
    Digest {
        step: u64,
        #[arg(required = true)]
        ledgers: Vec<PathBuf>,
    },
    /// Where two runs saw something else.
    Diff { a: PathBuf, b: PathBuf },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> Result<String, Error> {
    match cli {
        Cli::SeenBy { step, ledgers } => {
            let ledger = joined(&ledgers)?;
            ledger.covers(Step(step))?;
            let tokens = ledger.seen_by(Step(step));
            Ok(tokens.iter().map(|(source, tokens)| format!("{source} {}\n", tokens.0)).collect())
        }
        Cli::Digest { step, ledgers } => {
            let ledger = joined(&ledgers)?;
            ledger.covers(Step(step + 1))?;
            Ok(ledger.digest(Step(step)).map_or_else(String::new, |digest| format!("{digest:016x}\n")))
        }
        Cli::Diff { a, b } => {
            let diff = Ledger::read(&a)?.diff(&Ledger::read(&b)?);
            let mut out =
                format!("{} steps in common: {} equal, {} different\n", diff.common, diff.equal, diff.different);
            if let Some(step) = diff.first_difference {
                out += &format!("the first difference is at step {step}\n");
            }
            for (source, ours, theirs) in diff.tokens {
                out += &format!("{source}: {} and {} tokens\n", ours.0, theirs.0);
            }
            Ok(out)
        }
    }
}

fn joined(paths: &[PathBuf]) -> Result<Ledger, Error> {
    let read = |path: &PathBuf| Ledger::read(Path::new(path));
    let mut ledgers = paths.iter().map(read);
    // Clap asks for one at least.
    let first = ledgers.next().transpose()?.unwrap_or_else(|| Ledger::new(0, Vec::new()));
    ledgers.try_fold(first, |joined, next| joined.then(&next?))
}
