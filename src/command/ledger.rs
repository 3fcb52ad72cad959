//! `midtrain ledger`: what runs have seen. Every run keeps a digest and the tokens of each source, step by step.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use data_mixer::{Error, Ledger};
use schedule::Step;

/// What is asked of ledgers.
#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Tokens of each source before a step.
    #[command(after_help = "\
Example:
  midtrain ledger seen-by 120 runs/store/pretrain/KEY/ledger
A stretch that continues another one's checkpoint records its own steps: name the stretches in their order.")]
    SeenBy {
        /// The step; those before it are counted.
        step: u64,
        /// A run's ledger, or those of its stretches.
        #[arg(required = true)]
        ledgers: Vec<PathBuf>,
    },
    /// The digest of a step's batch.
    #[command(after_help = "Example:\n  midtrain ledger digest 120 runs/store/pretrain/KEY/ledger")]
    Digest {
        /// The step.
        step: u64,
        /// A run's ledger, or those of its stretches.
        #[arg(required = true)]
        ledgers: Vec<PathBuf>,
    },
    /// Where two runs saw something else.
    #[command(after_help = "Example:\n  midtrain ledger diff A/ledger B/ledger")]
    Diff {
        /// A run's ledger.
        a: PathBuf,
        /// Another one's.
        b: PathBuf,
    },
}

impl LedgerCommand {
    pub(super) fn run(self) -> Result<String, Error> {
        match self {
            Self::SeenBy { step, ledgers } => {
                let ledger = joined(&ledgers)?;
                ledger.covers(Step(step))?;
                let tokens = ledger.seen_by(Step(step));
                Ok(tokens.iter().map(|(source, tokens)| format!("{source} {}\n", tokens.0)).collect())
            }
            Self::Digest { step, ledgers } => {
                let ledger = joined(&ledgers)?;
                let digest = ledger.digest(Step(step)).ok_or_else(|| not_recorded(&ledger, step))?;
                Ok(format!("{digest:016x}\n"))
            }
            Self::Diff { a, b } => diff(&a, &b),
        }
    }
}

fn not_recorded(ledger: &Ledger, step: u64) -> Error {
    let steps = ledger.steps();
    let limit = match steps.end.checked_sub(1) {
        Some(last) if !steps.is_empty() => format!("must be from {} to {last}, what is recorded", steps.start),
        _ => "is not recorded: the ledger is empty".to_owned(),
    };
    Error::Field { field: "step".to_owned(), value: step.to_string(), limit }
}

fn diff(a: &Path, b: &Path) -> Result<String, Error> {
    let diff = Ledger::read(a)?.diff(&Ledger::read(b)?);
    let mut out = format!("{} steps in common: {} equal, {} different\n", diff.common, diff.equal, diff.different);
    if let Some(step) = diff.first_difference {
        out += &format!("the first difference is at step {step}\n");
    }
    for (source, ours, theirs) in diff.tokens {
        out += &format!("{source}: {} and {} tokens\n", ours.0, theirs.0);
    }
    Ok(out)
}

fn joined(paths: &[PathBuf]) -> Result<Ledger, Error> {
    let mut ledgers = paths.iter().map(|path| Ledger::read(path));
    // Clap asks for one at least.
    let first = ledgers.next().transpose()?.unwrap_or_else(|| Ledger::new(0, Vec::new()));
    ledgers.try_fold(first, |joined, next| joined.then(&next?))
}
