//! Simulates, and prints one line of CSV for each rate.
//!
//! ```sh
//! cargo run --release -p calibration -- [--repetitions N] [--seed S] [NAME..]
//! ```

use std::process::ExitCode;

use calibration::proximity::Mixtures;
use calibration::{HEADER, Rate, arms, documents, proximity, representations, row, seeds};
use clap::Parser;

#[derive(Parser)]
#[command(about = "How often intervals cover and tests reject")]
struct Args {
    /// What to simulate; all of it by default.
    names: Vec<String>,
    /// Repetitions of each simulation.
    #[arg(long, default_value_t = 500)]
    repetitions: usize,
    /// Seed of everything.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

type Simulation = fn(usize, u64) -> Vec<Rate>;

const SIMULATIONS: [(&str, Simulation); 11] = [
    ("proximity", |repetitions, seed| proximity::coverage(Mixtures::All, repetitions, seed)),
    ("size", proximity::size),
    ("permutation", arms::permutation),
    ("scales", arms::scales),
    ("shuffling", arms::shuffling),
    ("ranks", arms::ranks),
    ("seeds", seeds::differences),
    ("power", seeds::power_and_marks),
    ("documents", documents::differences),
    ("textbook", documents::textbook),
    ("representations", representations::differences),
];

fn main() -> ExitCode {
    let args = Args::parse();
    if args.repetitions == 0 {
        eprintln!("error: --repetitions 0: must be at least 1");
        return ExitCode::from(2);
    }
    if let Some(unknown) = args.names.iter().find(|name| !SIMULATIONS.iter().any(|(known, _)| known == name)) {
        let names = SIMULATIONS.map(|(name, _)| name).join(", ");
        eprintln!("error: {unknown} is unknown; there are: {names}");
        return ExitCode::from(2);
    }
    println!("{HEADER}");
    let asked = |name: &str| args.names.is_empty() || args.names.iter().any(|n| n == name);
    for (_, simulate) in SIMULATIONS.iter().filter(|(name, _)| asked(name)) {
        simulate(args.repetitions, args.seed).iter().for_each(|rate| println!("{}", row(rate)));
    }
    ExitCode::SUCCESS
}
