//! Claims judged by results that were made up: with effects that are there, and without.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use super::Judged;
use super::contrasts::{FINDINGS, MATCHED};
use super::evidence::{AtSize, ByCell, Evidence, Replicates, Which};
use crate::protocol::{ARMS, C4, CONTINUED_MATH, CONTINUED_STARCODER, FLAN, MATH, SFT, STARCODER};
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

/// How strong each finding is, in units of about three half-widths of its contrast's interval; 0 is not true at all.
type Truth = [f64; 5];

const NOTHING: Truth = [0.0; 5];
const ALL: Truth = [1.0; 5];

fn alone(finding: usize) -> Truth {
    let mut truth = NOTHING;
    truth[finding] = 1.0;
    truth
}

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

/// Results of two sizes: a loss of 3 with noise, and what is planted.
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
                if MATCHED.contains(&(domain, set)) {
                    effect -= 0.024 * truth[0];
                }
                if let Some(advantage) = advantages.get(&(domain.to_owned(), set.clone())) {
                    effect -= 0.38 * truth[1] * advantage;
                }
                if mix.starts_with("Ctd.") {
                    effect += 0.019 * truth[2];
                }
                // What is gained early by a high weight is lost late, and not made up for.
                effect += 0.038
                    * truth[3]
                    * match mix {
                        "early high" => -1.0,
                        "late high" => 1.0,
                        _ => COMPENSATION.iter().position(|cell| *cell == mix).map_or(0.0, |later| later as f64),
                    };
                for which in [Which::Sft, Which::C4] {
                    let values = (0..SEEDS).map(|_| 3.0 + effect + NOISE * noise.normal()).collect();
                    cells.entry(which).or_default().insert((mix.to_owned(), set.clone()), values);
                }
            }
        }
        let mut shift = |by: f64| (0..SEEDS).map(|_| by + NOISE * noise.normal()).collect();
        let shifts = [("APPS".to_owned(), shift(0.026 * truth[4])), ("C4".to_owned(), shift(0.0))];
        AtSize {
            model: model.to_owned(),
            control: C4.name.to_owned(),
            mixes: mixes.clone(),
            sets: sets.clone(),
            losses: cells,
            advantages: advantages.clone(),
            shifts: shifts.into_iter().collect(),
            corners: Some(corners.clone()),
        }
    };
    let sizes = vec![size("s"), size("m")];
    Evidence { sizes, replicates: Replicates::Seeds { pretraining: true }, exchangeable: true, seed }
}

fn judged(truth: Truth, seed: u64) -> Judged {
    Judged::of(&results(truth, seed), 0.01)
}

/// In how many of 20 studies each finding is said to hold.
fn holds(truth: Truth) -> [usize; 5] {
    let mut count = [0; 5];
    for seed in 0..20 {
        for (count, row) in count.iter_mut().zip(&judged(truth, seed).findings) {
            *count += usize::from(row.verdict.holds());
        }
    }
    count
}

/// What is planted is what the tests say: about three half-widths of each contrast's interval.
#[test]
fn three_half_widths_are_planted() {
    assert_eq!(FINDINGS.len(), 5);
    let mut ratios = [0.0; 5];
    for seed in 0..20 {
        for (ratio, row) in ratios.iter_mut().zip(&judged(ALL, seed).findings) {
            let tested = row.tested.as_ref().unwrap();
            let ((low, high), value) = (tested.interval.unwrap(), tested.value);
            // A correlation's interval is of this length on Fisher's scale.
            let half = if row.claim.id == "F2" { 0.5 * (high.atanh() - low.atanh()) } else { 0.5 * (high - low) };
            let value = if row.claim.id == "F2" { value.atanh() } else { value };
            *ratio += value / half / 20.0;
        }
    }
    // Of proximity some more: five mixes allow no p below 1/120, which Holm multiplies by five where nothing else is found.
    let most = [4.5, 6.5, 4.5, 4.5, 4.5];
    assert!(ratios.iter().zip(most).all(|(ratio, most)| (2.5..most).contains(ratio)), "{ratios:?}");
}

#[test]
fn what_is_planted_is_found() {
    let found = holds(ALL);
    assert!(found.iter().all(|n| *n >= 18), "{found:?}");
    for finding in 0..5 {
        let found = holds(alone(finding));
        assert!(found[finding] >= 18, "{finding}: {found:?}");
    }
}

#[test]
fn nothing_is_found_where_nothing_is() {
    // Any of the five, in so many studies.
    let any = |truth: Truth, studies: u64, but: Option<usize>| {
        let found = |seed: &u64| {
            judged(truth, *seed).findings.iter().enumerate().any(|(i, row)| Some(i) != but && row.verdict.holds())
        };
        (0..studies).filter(found).count()
    };
    let found = any(NOTHING, 200, None);
    assert!(found <= 10, "{found} of 200");
    for finding in 0..5 {
        let elsewhere = any(alone(finding), 40, Some(finding));
        assert!(elsewhere <= 4, "{finding}: {elsewhere} of 40");
    }
}

/// The statements that belong to the findings, with strong effects for them and against them.
#[test]
fn parts_hold_and_fail() {
    let count = |strength: f64, id: &str, name: &str| {
        let is = |seed: &u64| {
            // Of the finding that it belongs to, alone.
            let finding = id.as_bytes()[1] - b'1';
            let judged = judged(alone(usize::from(finding)).map(|by| strength * by), *seed);
            judged.parts.iter().any(|row| row.claim.id == id && row.verdict.name() == name)
        };
        (0..20).filter(is).count()
    };
    for id in ["F1a", "F1b", "F1e", "F3a", "F4a", "F4b", "F4c", "F5a"] {
        let (holding, failing) = (count(5.0, id, "holds"), count(-5.0, id, "fails"));
        assert!(holding >= 18 && failing >= 18, "{id}: holds {holding}, fails {failing}");
    }
    // With nothing planted, what says that effects are small holds.
    for id in ["F1c", "F1d"] {
        let holding = count(0.0, id, "holds");
        assert!(holding >= 18, "{id}: {holding}");
    }
    // Proximity that predicts at the smallest size.
    assert!(count(5.0, "F2a", "holds") >= 18);
    assert_eq!(count(-5.0, "F2a", "fails"), 0, "a correlation does not fail");
}

/// Effects that are to be small, and are not.
#[test]
fn effects_beyond_the_margin_are_seen() {
    let verdict = |by: f64, id: &str, mix: &str| {
        let mut evidence = results(NOTHING, 0);
        for at in &mut evidence.sizes {
            let cells = at.losses.get_mut(&Which::Sft).unwrap();
            let of_mix = cells.iter_mut().filter(|((name, _), _)| name == mix || (mix.is_empty() && name != C4.name));
            of_mix.for_each(|(_, values)| values.iter_mut().for_each(|value| *value *= by));
        }
        let judged = Judged::of(&evidence, 0.01);
        judged.parts.iter().find(|row| row.claim.id == id).unwrap().verdict.name()
    };
    assert_eq!([0.996, 1.004, 0.9, 1.1].map(|by| verdict(by, "F1d", FLAN.name)), ["holds", "holds", "fails", "fails"]);
    assert_eq!([0.996, 1.004, 0.9, 1.1].map(|by| verdict(by, "F1c", "")), ["holds", "holds", "fails", "holds"]);
}

#[test]
fn one_run_gives_no_verdict() {
    let evidence = Evidence { replicates: Replicates::Seeds { pretraining: false }, ..results(ALL, 0) };
    let judged = Judged::of(&evidence, 0.01);
    assert!(judged.findings.iter().all(|row| judged.verdict(row) == "none"));
    // Without values there is no interval, and without arms nothing to test.
    let mut empty = results(ALL, 0);
    empty.sizes.iter_mut().for_each(|at| at.losses.clear());
    let judged = Judged::of(&empty, 0.01);
    assert!(judged.findings[..4].iter().all(|row| row.verdict.name() == "not testable"));
    // Mixes that share a source cannot be exchanged.
    let shared = Judged::of(&Evidence { exchangeable: false, ..results(ALL, 0) }, 0.01);
    assert_eq!(shared.findings[1].verdict.name(), "not testable");
}
