//! Means where seeds are nested: fine-tuning seeds within pretraining seeds.

use serde::{Deserialize, Serialize};

use super::Summary;

/// Which seeds an interval is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// Pretraining seeds: it says how another pretraining run would come out.
    Pretraining,
    /// Fine-tuning seeds of one pretrained model: it says nothing of other pretraining runs.
    FineTuning,
}

/// A value's mean over nested seeds, and where its variance lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nested {
    /// Summary of the values that the interval is over: means by pretraining seed, or the fine-tunes of the only one.
    pub summary: Summary,
    /// Which seeds these are.
    pub level: Level,
    /// Variance between fine-tuning seeds of one model (pooled); `None` where no model has two.
    pub within: Option<f64>,
    /// Variance between pretraining seeds, that of the fine-tunes taken out (analysis of variance: it may come out
    /// negative, which means 0); `None` with one pretraining seed or without `within`.
    pub between: Option<f64>,
}

impl Nested {
    /// Of values by pretraining seed, each with those of its fine-tunes. Seeds without values are left out.
    pub fn of(values: &[Vec<f64>]) -> Self {
        let groups: Vec<&Vec<f64>> = values.iter().filter(|g| !g.is_empty()).collect();
        let means: Vec<f64> = groups.iter().map(|g| Summary::of(g).mean).collect();
        let freedom: usize = groups.iter().map(|g| g.len() - 1).sum();
        let squares = groups.iter().filter_map(|g| Some(Summary::of(g).sd?.powi(2) * (g.len() - 1) as f64));
        let within = (freedom > 0).then(|| squares.sum::<f64>() / freedom as f64);
        if let [only] = groups.as_slice() {
            return Self { summary: Summary::of(only), level: Level::FineTuning, within, between: None };
        }
        let summary = Summary::of(&means);
        let inverse_size = groups.iter().map(|g| 1.0 / g.len() as f64).sum::<f64>() / groups.len() as f64;
        let between = within.zip(summary.sd).map(|(within, sd)| sd * sd - within * inverse_size);
        Self { summary, level: Level::Pretraining, within, between }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_levels() {
        let nested = Nested::of(&[vec![1.0, 3.0], vec![5.0, 7.0], vec![3.0, 5.0]]);
        assert_eq!((nested.summary.mean, nested.level), (4.0, Level::Pretraining));
        // Means 2, 6, 4: variance 4. Within: 2 in each. Between: 4 − 2/2.
        assert!((nested.within.unwrap() - 2.0).abs() < 1e-12 && (nested.between.unwrap() - 3.0).abs() < 1e-12);
        let single = Nested::of(&[vec![1.0, 2.0]]);
        assert_eq!((single.level, single.summary.n, single.between), (Level::FineTuning, 2, None));
        let one = Nested::of(&[vec![1.0]]);
        assert_eq!((one.summary.interval(0.95), one.within), (None, None));
        assert!(Nested::of(&[]).summary.mean.is_nan());
    }
}
