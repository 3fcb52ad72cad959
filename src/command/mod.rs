//! The command `midtrain`: studies by their files, and the tools around token stores, models, runs and results.

mod batches;
mod completions;
mod convert;
mod evaluate;
mod generate;
mod ledger;
mod log;
mod results;
mod run;
mod stores;
mod target;
mod verify_resume;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

use crate::terminal::{print, say};
use crate::{Error, runner};

/// Controlled studies of midtraining, and the tools around them.
#[derive(Debug, Parser)]
#[command(name = "midtrain", version, propagate_version = true)]
#[command(
    after_help = "Exit status: 0 done; 2 wrong usage or an error; run, verify-resume and export-batches: 1 failed later, 130 or 143 stopped by a signal."
)]
enum Cli {
    /// Answers questions of a study: trains what the store lacks, writes tables, figures and reports.
    Run(Box<run::RunArgs>),
    /// Says what a study would do and cost: tokens, FLOPs, hours, disk.
    Plan(Box<run::RunArgs>),
    /// Says what of a study is done, runs, waits and failed.
    Status(Box<run::RunArgs>),
    /// Frees what no study of a store needs.
    Gc(results::GcArgs),
    /// Moves results between stores, without weights.
    #[command(subcommand)]
    Results(results::ResultsCommand),
    /// Tokenises files into a store, divided into what is trained on and what is held out.
    Tokenize(Box<stores::TokenizeArgs>),
    /// Trains a byte-level BPE.
    TrainBpe(stores::TrainBpeArgs),
    /// Says what a token store holds, by its headers.
    Inspect(stores::StoreArgs),
    /// Reads a whole token store and compares its checksums.
    Verify(stores::StoreArgs),
    /// Looks for an evaluation set's text in training stores.
    Overlap(stores::OverlapArgs),
    /// What runs have seen, step by step.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Writes what a run is trained on, for other programs' trainers.
    ExportBatches(batches::ExportBatchesArgs),
    /// Proves that a run that stops and goes on is the run that does not.
    VerifyResume(verify_resume::VerifyResumeArgs),
    /// Writes a run's log as CSV and for TensorBoard.
    Log(log::LogArgs),
    /// Continues a text with a model.
    Generate(generate::GenerateArgs),
    /// What a model makes of a text, or of token ids.
    Evaluate(evaluate::EvaluateArgs),
    /// Writes a model as a Hugging Face directory.
    Convert(convert::ConvertArgs),
    /// Prints what a shell needs to complete this command.
    Completions(completions::CompletionsArgs),
    /// Writes manual pages of this command and its subcommands.
    Man(completions::ManArgs),
}

/// Runs the command that this process was called with.
pub fn main() -> ExitCode {
    if let Some(code) = runner::serve() {
        return code;
    }
    match dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the text has gone: nothing is wrong.
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(match error {
                Error::Study(error) => error.exit_status(),
                Error::Resume { .. } | Error::NotFinite { .. } => 1,
                Error::Io { path, .. } if path.as_os_str() == "standard output" => 1,
                Error::Trainer(trainer::Error::Field { .. }) => 2,
                Error::Trainer(_) => 1,
                _ => 2,
            })
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), Error> {
    match cli {
        Cli::Run(args) => args.run()?,
        Cli::Plan(args) => args.plan()?,
        Cli::Status(args) => args.status()?,
        Cli::Gc(args) => print(&args.run()?)?,
        Cli::Results(command) => print(&command.run()?)?,
        Cli::Tokenize(args) => print(&args.run()?)?,
        Cli::TrainBpe(args) => print(&args.run()?)?,
        Cli::Inspect(args) => print(&args.inspect()?)?,
        Cli::Verify(args) => print(&args.verify()?)?,
        Cli::Overlap(args) => print(&args.run()?)?,
        Cli::Ledger(command) => print(&command.run()?)?,
        Cli::ExportBatches(args) => print(&args.run()?)?,
        Cli::VerifyResume(args) => print(&args.run()?)?,
        Cli::Log(args) => print(&args.run()?)?,
        Cli::Generate(args) => args.run()?,
        Cli::Evaluate(args) => print(&args.run()?)?,
        Cli::Convert(args) => args.run()?,
        Cli::Completions(args) => print(&args.run(&mut Cli::command()))?,
        Cli::Man(args) => args.run(Cli::command())?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_comes_with_an_example() {
        fn look(command: &clap::Command, path: &str) {
            for of in command.get_subcommands() {
                let path = format!("{path} {}", of.get_name());
                if of.has_subcommands() {
                    look(of, &path);
                    continue;
                }
                let after = of.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(after.contains(&path), "{path} --help shows no call of it");
                assert!(of.get_about().is_some(), "{path}");
            }
        }
        look(&Cli::command(), "midtrain");
    }
}
