//! Claims judged by results that were made up: with effects that are there, and without.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use super::Judged;
use super::contrasts::FINDINGS;
use super::evidence::{AtSize, ByCell, Evidence, Replicates, Which};
use crate::protocol::{ARMS, C4, CONTINUED_MATH, CONTINUED_STARCODER, GSM8K, MATH, PYCODE, SFT, STARCODER};
use crate::question::figure4::COMPENSATION;

/// Pretraining seeds.
const SEEDS: usize = 5;
/// Of a loss, between seeds.
const NOISE: f64 = 0.01;

/// Normal numbers, from a counter.
struct Noise {
    seed: u64,
    next: u64,
}

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.next += 1;
        (data_mixer::stream_key(self.seed, "planted", self.next) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.uniform().max(1e-300), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

/// Which findings are true.
type Truth = [bool; 5];

const MATCHED: [(&str, &str); 2] = [(STARCODER.name, PYCODE.name), (MATH.name, GSM8K.name)];

/// Around 0.05 in every set. A matched pair is exactly as close as the others on average, so that findings 1 and 2 can be planted
/// one without the other.
fn advantages(mixes: &[String], sets: &[String], noise: &mut Noise) -> BTreeMap<(String, String), f64> {
    let mut out = BTreeMap::new();
    for set in sets {
        let others = || mixes.iter().filter(|mix| !MATCHED.contains(&(mix, set)));
        let draws: Vec<f64> = others().map(|_| 0.1 * noise.uniform()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        out.extend(mixes.iter().map(|mix| ((mix.clone(), set.clone()), 0.05)));
        out.extend(others().zip(draws).map(|(mix, draw)| ((mix.clone(), set.clone()), 0.05 + draw - mean)));
    }
    out
}

/// Results of two sizes: a loss of 3 with noise, and what is planted. Effects are several times the half-width of the contrast's
/// interval.
fn results(truth: Truth, seed: u64) -> Evidence {
    let mut noise = Noise { seed, next: 0 };
    let mixes: Vec<String> = ARMS.iter().filter(|arm| arm.mix.is_some()).map(|arm| arm.name.to_owned()).collect();
    let sets: Vec<String> = SFT.iter().map(|set| set.name.to_owned()).collect();
    let advantages = advantages(&mixes, &sets, &mut noise);
    let corners = ["early low", "early high", "late low", "late high"].map(str::to_owned);
    let mut size = |model: &str| {
        let mut cells: BTreeMap<Which, ByCell> = BTreeMap::new();
        for set in &sets {
            let others = [C4.name, CONTINUED_STARCODER.name, CONTINUED_MATH.name];
            let grid = corners.iter().map(String::as_str).chain(COMPENSATION.iter().copied());
            for mix in mixes.iter().map(String::as_str).chain(others).chain(grid) {
                // Continued pretraining gains what its mixture gains, but for what is planted.
                let domain = match mix {
                    _ if mix == CONTINUED_STARCODER.name => STARCODER.name,
                    _ if mix == CONTINUED_MATH.name => MATH.name,
                    _ => mix,
                };
                let mut effect = 0.0;
                if truth[0] && MATCHED.contains(&(domain, set)) {
                    effect -= 0.2;
                }
                if truth[1]
                    && let Some(advantage) = advantages.get(&(domain.to_owned(), set.clone()))
                {
                    effect -= 3.0 * advantage;
                }
                if truth[2] && mix.starts_with("Ctd.") {
                    effect += 0.2;
                }
                // What is gained early by a high weight is lost late.
                if truth[3] {
                    effect += match mix {
                        "early high" => -0.15,
                        "late high" => 0.15,
                        _ => 0.0,
                    };
                }
                for which in [Which::Sft, Which::C4] {
                    let values = (0..SEEDS).map(|_| 3.0 + effect + NOISE * noise.normal()).collect();
                    cells.entry(which).or_default().insert((mix.to_owned(), set.clone()), values);
                }
            }
        }
        let steadier = if truth[4] { 0.05 } else { 0.0 };
        let shift = (0..SEEDS).map(|_| steadier + NOISE * noise.normal()).collect();
        AtSize {
            model: model.to_owned(),
            control: C4.name.to_owned(),
            mixes: mixes.clone(),
            sets: sets.clone(),
            losses: cells,
            advantages: advantages.clone(),
            shifts: [("APPS".to_owned(), shift)].into_iter().collect(),
            corners: Some(corners.clone()),
        }
    };
    let sizes = vec![size("s"), size("m")];
    Evidence { sizes, replicates: Replicates::Seeds { pretraining: true }, seed }
}

/// In how many of 20 results each finding is said to hold.
fn holds(truth: Truth) -> [usize; 5] {
    let mut count = [0; 5];
    for seed in 0..20 {
        let judged = Judged::of(&results(truth, seed), 0.01);
        for (count, row) in count.iter_mut().zip(&judged.findings) {
            *count += usize::from(row.verdict.holds());
        }
    }
    count
}

#[test]
fn what_is_planted_is_found() {
    assert_eq!(FINDINGS.len(), 5);
    let found = holds([true; 5]);
    assert!(found.iter().all(|n| *n >= 18), "{found:?}");
    // Each alone.
    for finding in 0..5 {
        let mut truth = [false; 5];
        truth[finding] = true;
        let found = holds(truth);
        assert!(found[finding] >= 18, "{finding}: {found:?}");
    }
}

#[test]
fn nothing_is_found_where_nothing_is() {
    let found = holds([false; 5]);
    assert!(found.iter().sum::<usize>() <= 1, "{found:?}");
    // Nor elsewhere, where something is.
    for finding in 0..5 {
        let mut truth = [false; 5];
        truth[finding] = true;
        let elsewhere: usize = holds(truth).iter().enumerate().filter(|(i, _)| *i != finding).map(|(_, n)| n).sum();
        assert!(elsewhere <= 2, "{finding}: {elsewhere}");
    }
}

#[test]
fn one_run_gives_no_verdict() {
    let evidence = Evidence { replicates: Replicates::Seeds { pretraining: false }, ..results([true; 5], 0) };
    let judged = Judged::of(&evidence, 0.01);
    assert!(judged.findings.iter().all(|row| judged.verdict(row) == "none"));
    // Without values there is no interval, and without arms nothing to test.
    let mut empty = results([true; 5], 0);
    empty.sizes.iter_mut().for_each(|at| at.losses.clear());
    let judged = Judged::of(&empty, 0.01);
    assert!(judged.findings[..4].iter().all(|row| row.verdict.name() == "not testable"));
}
