//! Differences of an arm and the control over seeds.

use forgetting_eval::{Nested, Paired, Summary, compare_arms, detectable};

use crate::{Random, Rate, covers, repeat};

const ARMS: usize = 5;
const LEVEL: f64 = 0.05;
/// Fine-tunes of each pretrained model.
const FINE_TUNES: usize = 3;

/// Losses of one arm by pretraining seed, each with those of its fine-tunes: a seed is in all arms' losses, and each model and
/// each fine-tune adds of its own.
fn losses(random: &mut Random, shared: &[f64]) -> Vec<Vec<f64>> {
    let seed = |shared: &f64| {
        let own = shared + 0.5 * random.normal();
        (0..FINE_TUNES).map(|_| own + 0.3 * random.normal()).collect()
    };
    shared.iter().map(seed).collect()
}

/// How often an effect of the size that is said to be detected with a chance of 80 % is found, and how often table 2's marks tell
/// apart mixes that are as good.
pub fn power_and_marks(repetitions: usize, seed: u64) -> Vec<Rate> {
    let mut rates = Vec::new();
    for seeds in [2, 3, 5] {
        // The true standard error of a mean of differences of unit variance.
        let effect =
            detectable(1.0 / (seeds as f64).sqrt(), (seeds - 1) as f64, 1.0 - LEVEL, 0.8).expect("two seeds or more");
        let found = repeat(repetitions, seed, |random| {
            let differences: Vec<f64> = random.normals(seeds).iter().map(|d| d + effect).collect();
            Summary::of(&differences).t_test().is_some_and(|(_, p)| p <= LEVEL)
        });
        let setting = format!("{seeds} seeds, an effect of the smallest size that is said to be detected");
        rates.push(Rate::of("smallest effects", setting, "p <= 0.05", 0.8, found));
        let found = repeat(repetitions, seed ^ 2, |random| {
            let shared = random.normals(seeds);
            let arms: Vec<Vec<f64>> =
                (0..=ARMS).map(|_| shared.iter().map(|s| s + random.normal()).collect()).collect();
            let mean = |arm: &Vec<f64>| Summary::of(arm).mean;
            let best = arms.iter().min_by(|a, b| mean(a).total_cmp(&mean(b))).expect("six mixes");
            let pairs = (arms.len() * (arms.len() - 1) / 2) as f64;
            let apart = |arm: &Vec<f64>| {
                let test = Paired::of(arm, best).expect("the same seeds").summary.t_test();
                test.is_some_and(|(_, p)| p * pairs < LEVEL)
            };
            arms.iter().any(apart)
        });
        let setting = format!("{seeds} seeds, {} mixes that are as good", ARMS + 1);
        rates.push(Rate::of("marks", setting, "any told apart from the best at 5 %", LEVEL, found));
    }
    rates
}

/// How often the t-tests and intervals of table 2 are wrong where no mix does anything: one comparison at a time, and any of a
/// family after Holm's adjustment.
pub fn differences(repetitions: usize, seed: u64) -> Vec<Rate> {
    let mut rates = Vec::new();
    for pretraining in [2, 3, 5] {
        let found = repeat(repetitions, seed, |random| {
            let shared = random.normals(pretraining);
            let arm = |random: &mut Random| -> Vec<f64> {
                let by_seed = losses(random, &shared);
                by_seed.iter().map(|tunes| tunes.iter().sum::<f64>() / tunes.len() as f64).collect()
            };
            let control = arm(random);
            let arms: Vec<Vec<f64>> = (0..ARMS).map(|_| arm(random)).collect();
            let named: Vec<(&str, &[f64])> = arms.iter().map(|values| ("arm", values.as_slice())).collect();
            compare_arms(&control, &named, 1.0 - LEVEL).expect("as many seeds as the control")
        });
        let setting =
            format!("{pretraining} pretraining seeds, {FINE_TUNES} fine-tunes each, {ARMS} mixes that do nothing");
        let first = || found.iter().map(|rows| &rows[0]);
        let rejected = first().map(|row| row.p.is_some_and(|p| p <= LEVEL));
        rates.push(Rate::of("differences over seeds", &setting, "p <= 0.05 of one mix", LEVEL, rejected));
        let covered = first().map(|row| covers(row.interval, 0.0));
        rates.push(Rate::of("differences over seeds", &setting, "95 % interval covers", 1.0 - LEVEL, covered));
        let any = found.iter().map(|rows| rows.iter().any(|row| row.p_adjusted.is_some_and(|p| p <= LEVEL)));
        rates.push(Rate::of("differences over seeds", &setting, "any p (Holm) <= 0.05 of the family", LEVEL, any));
    }
    // Fine-tuning seeds of one pretrained model: the interval is one for this model.
    let found = repeat(repetitions, seed ^ 1, |random| {
        let model = random.normal();
        let tunes = (0..5).map(|_| model + 0.3 * random.normal()).collect();
        covers(Nested::of(&[tunes]).summary.interval(1.0 - LEVEL), model)
    });
    let setting = "5 fine-tunes of one checkpoint: covers that checkpoint's mean";
    rates.push(Rate::of("differences over seeds", setting, "95 % interval covers", 1.0 - LEVEL, found));
    rates
}
