//! Differences of two models over the same held-out documents.

use forgetting_eval::{DocumentComparison, DocumentDifferences, DocumentLosses, HeldOut, OverDocuments};

use crate::{Random, Rate, covers, repeat};

const LEVEL: f64 = 0.05;
/// Documents of equal length that a page asks for before it shows an interval.
const LEAST: f64 = 5.0;

/// Two models whose expected losses are the same: documents differ in length and in how hard they are, and each model is a
/// little better at some. `by_length`: how much of that depends on a document's length.
fn comparison(count: usize, spread: f64, by_length: f64, random: &mut Random) -> DocumentComparison {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let tokens = random.log_normal(300.0, spread).round().max(1.0);
        let hard = 3.0 + 0.5 * random.normal();
        // One model is better at long documents, the other at short ones; over all tokens they are as good. (The mean of ln m
        // over tokens is that over documents and the variance of ln m.)
        let length = (tokens / 300.0).ln() + spread * spread / 2.0 - spread * spread;
        let better = 0.05 * (random.normal() + by_length * length / spread);
        let mut nats = |shift: f64| tokens * (hard + shift) + tokens.sqrt() * 0.3 * random.normal();
        let (left, right) = (nats(better / 2.0), nats(-better / 2.0));
        let held_out = |nats: f64| HeldOut { nats, tokens: tokens as u64, bytes: None };
        a.push(held_out(left));
        b.push(held_out(right));
    }
    let differences = DocumentDifferences::of(&DocumentLosses::new(a), &DocumentLosses::new(b));
    differences.and_then(|d| d.compare(1.0 - LEVEL)).expect("the same documents")
}

/// How often the interval and p over documents are wrong where two models are as good as each other, of those that a page
/// shows.
pub fn differences(repetitions: usize, seed: u64) -> Vec<Rate> {
    rates("differences over documents", |comparison| comparison.jackknife, repetitions, seed)
}

/// The same for the textbook's ratio estimator. No page uses it.
pub fn textbook(repetitions: usize, seed: u64) -> Vec<Rate> {
    rates("differences over documents, linearised (not used)", |comparison| comparison.linearised, repetitions, seed)
}

fn rates(
    simulation: &'static str,
    over: fn(&DocumentComparison) -> OverDocuments,
    repetitions: usize,
    seed: u64,
) -> Vec<Rate> {
    let mut rates = Vec::new();
    let settings = [0.5, 1.0, 1.5].map(|spread| (spread, 0.0)).into_iter().chain([(0.5, 0.5), (1.0, 0.5), (1.5, 0.5)]);
    for (spread, by_length) in settings {
        for count in [15, 30, 60, 200, 1000] {
            let found = repeat(repetitions, seed, |random| comparison(count, spread, by_length, random));
            let shown: Vec<_> = found.iter().filter(|c| c.effective_documents >= LEAST).collect();
            // Where hardly any are shown there is no rate.
            if shown.len() * 2 < repetitions {
                continue;
            }
            let setting = format!(
                "{count} documents, lengths spread by {spread} (of the logarithm), effect by length {by_length}, {} of {repetitions} shown",
                shown.len()
            );
            let covered = shown.iter().map(|c| covers(Some(over(c).interval), 0.0));
            let errors = shown.iter().map(|c| (c.difference, over(c).standard_error));
            let rate = Rate::of(simulation, &setting, "95 % interval covers", 1.0 - LEVEL, covered);
            rates.push(rate.with_errors(errors));
            let rejected = shown.iter().map(|c| over(c).p.is_some_and(|p| p <= LEVEL));
            let counted = "p <= 0.05 of models that are as good";
            rates.push(Rate::of(simulation, &setting, counted, LEVEL, rejected));
        }
    }
    rates
}
