//! Correlations of arms that are crossed with sets, and of ranks.

use forgetting_eval::{Crossed, spearman};

use crate::{Random, Rate, covers, repeat};

const ARMS: usize = 5;
const SETS: usize = 4;
/// The two-sided level of tests.
const LEVEL: f64 = 0.05;

/// A value of each arm on each set: what is peculiar to the arm, to the set, and to both.
fn values(random: &mut Random, arm_variance: f64) -> Vec<Vec<f64>> {
    let sets: Vec<f64> = random.normals(SETS).iter().map(|s| 2.0 * s).collect();
    let arm = |random: &mut Random| {
        let own = arm_variance.sqrt() * random.normal();
        sets.iter().map(|set| own + set + random.normal()).collect()
    };
    (0..ARMS).map(|_| arm(random)).collect()
}

/// How often figure 3's test rejects where proximity and improvement have nothing to do with each other, for arms that differ
/// more and more from each other in what they do on all sets.
pub fn permutation(repetitions: usize, seed: u64) -> Vec<Rate> {
    let of = |arm_variance: f64| {
        let ps = repeat(repetitions, seed, |random| {
            let crossed = Crossed::new(values(random, arm_variance), values(random, arm_variance));
            let standardised = crossed.and_then(|c| c.standardised()).expect("normal values vary");
            standardised.permute_arms(10_000, 0).expect("normal values vary").p()
        });
        let setting = format!("{ARMS} mixes on {SETS} sets, variance of mixes {arm_variance} of that of pairs");
        let rejected = ps.into_iter().map(|p| p <= LEVEL + 1e-12);
        Rate::of("exchanging mixes", setting, "p <= 0.05 where nothing is related", LEVEL, rejected)
    };
    [0.0, 0.5, 1.0, 2.0].map(of).into()
}

/// The same where mixes weigh more or less, and both values with them: of z-scores, and of ranks.
pub fn scales(repetitions: usize, seed: u64) -> Vec<Rate> {
    let mut rates = Vec::new();
    let weights = [[0.2; ARMS], [0.2, 0.12, 0.05, 0.2, 0.2], [1.0, 0.2, 0.2, 0.2, 0.2], [1.0, 0.05, 0.05, 0.05, 0.05]];
    for weights in weights {
        let found = repeat(repetitions, seed, |random| {
            let scaled = |random: &mut Random| -> Vec<Vec<f64>> {
                let arm = |weight: f64, random: &mut Random| {
                    let own = random.normal();
                    (0..SETS).map(|_| weight * (own + random.normal())).collect()
                };
                weights.iter().map(|weight| arm(*weight, random)).collect()
            };
            let crossed = Crossed::new(scaled(random), scaled(random)).expect("normal values vary");
            let p = |crossed: Result<Crossed, forgetting_eval::Error>| {
                crossed.and_then(|c| c.permute_arms(10_000, 0)).expect("normal values vary").p()
            };
            [p(crossed.standardised()), p(crossed.ranked())]
        });
        for (i, what) in ["z-scores", "ranks"].into_iter().enumerate() {
            let setting = format!("{ARMS} mixes on {SETS} sets, shares and scales {weights:?}, {what}");
            let rejected = found.iter().map(|ps| ps[i] <= LEVEL + 1e-12);
            rates.push(Rate::of(
                "exchanging mixes of unlike shares",
                setting,
                "p <= 0.05 where nothing is related",
                LEVEL,
                rejected,
            ));
        }
    }
    rates
}

/// The same for shuffles within each set, which take what one mix does on all sets for several facts. No page uses them.
pub fn shuffling(repetitions: usize, seed: u64) -> Vec<Rate> {
    const SHUFFLES: usize = 199;
    let of = |arm_variance: f64| {
        let rejected = repeat(repetitions, seed, |random| {
            let (x, y) = (values(random, arm_variance), values(random, arm_variance));
            let r = |y: Vec<Vec<f64>>| {
                let crossed = Crossed::new(x.clone(), y).and_then(|c| c.standardised()).and_then(|c| c.r());
                crossed.expect("normal values vary").abs()
            };
            let found = r(y.clone()) - 1e-12;
            let order = |random: &mut Random| {
                let mut order: Vec<usize> = (0..ARMS).collect();
                (1..ARMS).rev().for_each(|i| order.swap(i, random.below(i + 1)));
                order
            };
            let shuffled = |random: &mut Random| {
                let orders: Vec<Vec<usize>> = (0..SETS).map(|_| order(random)).collect();
                let arm = |arm: usize| orders.iter().enumerate().map(|(set, order)| y[order[arm]][set]).collect();
                r((0..ARMS).map(arm).collect())
            };
            let as_large = (0..SHUFFLES).filter(|_| shuffled(random) >= found).count();
            (1 + as_large) as f64 / (1 + SHUFFLES) as f64 <= LEVEL
        });
        let setting = format!("{ARMS} mixes on {SETS} sets, variance of mixes {arm_variance} of that of pairs");
        Rate::of("shuffling within sets (not used)", setting, "p <= 0.05 where nothing is related", LEVEL, rejected)
    };
    [0.0, 0.5, 1.0, 2.0].map(of).into()
}

/// Coverage of the interval of Spearman's ρ over the mixes of one set: normal pairs of a known correlation.
pub fn ranks(repetitions: usize, seed: u64) -> Vec<Rate> {
    let of = |(n, r): (usize, f64)| {
        // What ranks of normal pairs correlate by (Pearson 1907).
        let rho = 6.0 / std::f64::consts::PI * (r / 2.0).asin();
        let found = repeat(repetitions, seed, |random| {
            let x = random.normals(n);
            let y: Vec<f64> = x.iter().map(|x| r * x + (1.0 - r * r).sqrt() * random.normal()).collect();
            covers(spearman(&x, &y).expect("normal values vary").interval(0.95), rho)
        });
        let setting = format!("{n} mixes, rho {rho:.3}");
        Rate::of("Spearman's rho", setting, "95 % interval covers", 0.95, found)
    };
    [(5, 0.0), (5, 0.6), (10, 0.6), (24, 0.6)].map(of).into()
}
