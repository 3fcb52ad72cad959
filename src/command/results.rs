//! `midtrain gc` and `midtrain results`: what a store holds, freed or moved.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use study::{Error, Keep, Store, export, gc, import};

const GC_EXAMPLES: &str = "\
Examples:
  midtrain gc --list                      says what would be freed
  midtrain gc                             frees what none of the studies that were run on the store needs
  midtrain gc --keep my-study             also frees what only other studies need";

/// What is freed.
#[derive(Debug, Args)]
#[command(after_help = GC_EXAMPLES)]
pub(super) struct GcArgs {
    /// The store.
    #[arg(long, value_name = "DIR", default_value = "runs/store")]
    store: PathBuf,
    /// Studies whose needs count: beginnings of their records' names (STORE/studies). All by default.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    keep: Vec<String>,
    /// Only says what would be freed.
    #[arg(long)]
    list: bool,
}

impl GcArgs {
    pub(super) fn run(self) -> Result<String, Error> {
        let keep = if self.keep.is_empty() { Keep::Every } else { Keep::Named(self.keep) };
        Ok(gc(&Store::new(&self.store), &keep, self.list)?.to_string())
    }
}

/// Which way results go.
#[derive(Debug, Subcommand)]
pub(super) enum ResultsCommand {
    /// Writes what jobs returned, without weights: small enough to commit.
    #[command(after_help = "Example:\n  midtrain results export bundle.jsonl.zst --store runs/store --study my-study")]
    Export {
        /// The bundle to write.
        file: PathBuf,
        /// The store.
        #[arg(long, value_name = "DIR", default_value = "runs/store")]
        store: PathBuf,
        /// Beginnings of the names of studies (STORE/studies); all by default.
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        study: Vec<String>,
    },
    /// Takes a bundle's results into a store: pages are then made from them without training.
    #[command(after_help = "Example:\n  midtrain results import bundle.jsonl.zst --store runs/store")]
    Import {
        /// The bundle.
        file: PathBuf,
        /// The store.
        #[arg(long, value_name = "DIR", default_value = "runs/store")]
        store: PathBuf,
    },
}

impl ResultsCommand {
    pub(super) fn run(self) -> Result<String, Error> {
        match self {
            Self::Export { file, store, study } => {
                if !store.is_dir() {
                    let (field, value) = ("--store".to_owned(), store.display().to_string());
                    return Err(Error::Field { field, value, limit: "is no folder".to_owned() });
                }
                let report = export(&Store::new(&store), &study, &file)?;
                let (results, studies, bytes) = (report.results, report.studies, report.bytes);
                Ok(format!("{}: {results} results of {studies} studies, {bytes} bytes\n", file.display()))
            }
            Self::Import { file, store } => {
                let report = import(&Store::new(&store), &file)?;
                let (results, known) = (report.results, report.known);
                Ok(format!("{}: {results} results, {known} of them known\n", file.display()))
            }
        }
    }
}
