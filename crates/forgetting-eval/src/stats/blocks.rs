//! Arms that have the same seeds: what is told apart from the best.

use super::{Error, Summary, t_quantile};

/// The analysis of arms by seeds, one value each (randomised complete blocks): the spread that is left after what each arm and
/// each seed has of its own, pooled over all arms. Pooled, few seeds say more, and the same difference is told apart whichever two
/// arms it is between; it supposes that all arms spread alike.
///
/// ```
/// use forgetting_eval::RandomisedBlocks;
///
/// // Three arms, two seeds.
/// let blocks = RandomisedBlocks::of(&[vec![2.0, 3.1], vec![1.0, 2.0], vec![1.1, 2.0]])?;
/// let least = blocks.least_significant_difference(0.95).unwrap();
/// assert_eq!(blocks.freedom, 2);
/// assert!(0.05 < least && least < 1.0); // the first is told apart from the second, the third is not
/// # Ok::<(), forgetting_eval::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomisedBlocks {
    /// Seeds.
    pub seeds: usize,
    /// Residual variance, with `freedom` degrees of freedom.
    pub variance: f64,
    /// (arms − 1)·(seeds − 1)
    pub freedom: usize,
}

impl RandomisedBlocks {
    /// Of values by arm, each with those of all seeds in the same order.
    ///
    /// # Errors
    /// Fewer than two arms or seeds, arms with different numbers of seeds.
    pub fn of(arms: &[Vec<f64>]) -> Result<Self, Error> {
        let seeds = arms.first().map_or(0, Vec::len);
        for (what, n) in [("arms by seeds", arms.len()), ("seeds of arms", seeds)] {
            if n < 2 {
                return Err(Error::TooFew { what, least: 2, n });
            }
        }
        if let Some(other) = arms.iter().find(|arm| arm.len() != seeds) {
            return Err(Error::Unpaired { left: seeds, right: other.len() });
        }
        let mean = |values: &[f64]| Summary::of(values).mean;
        let whole = mean(&arms.concat());
        let of_seed: Vec<f64> =
            (0..seeds).map(|s| mean(&arms.iter().map(|arm| arm[s]).collect::<Vec<f64>>())).collect();
        let squares: f64 = arms
            .iter()
            .flat_map(|arm| {
                let of_arm = mean(arm);
                arm.iter().zip(&of_seed).map(move |(v, of_seed)| (v - of_arm - of_seed + whole).powi(2))
            })
            .sum();
        let freedom = (arms.len() - 1) * (seeds - 1);
        Ok(Self { seeds, variance: squares / freedom as f64, freedom })
    }

    /// The smallest difference of two arms' means that is told apart from 0 at a level (Fisher's least significant difference,
    /// t·√(2 s²/n)); `None` for a level outside (0, 1).
    pub fn least_significant_difference(&self, level: f64) -> Option<f64> {
        let error = (2.0 * self.variance / self.seeds as f64).sqrt();
        (level > 0.0 && level < 1.0).then(|| t_quantile(0.5 + level / 2.0, self.freedom as f64) * error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Paired;

    /// Of two arms it is the paired t-test.
    #[test]
    fn two_arms_are_paired() {
        let arms = [vec![2.0, 3.5, 4.0], vec![1.5, 3.4, 4.2]];
        let least = RandomisedBlocks::of(&arms).unwrap().least_significant_difference(0.95).unwrap();
        let (low, high) = Paired::of(&arms[0], &arms[1]).unwrap().summary.interval(0.95).unwrap();
        assert!((least - (high - low) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn what_arms_and_seeds_have_of_their_own_is_no_spread() {
        let blocks = RandomisedBlocks::of(&[vec![1.0, 2.0], vec![4.0, 5.0], vec![0.0, 1.0]]).unwrap();
        assert!(blocks.variance < 1e-24 && blocks.freedom == 2);
        assert!(RandomisedBlocks::of(&[vec![1.0, 2.0]]).is_err());
        assert!(RandomisedBlocks::of(&[vec![1.0], vec![2.0]]).is_err());
        assert!(matches!(RandomisedBlocks::of(&[vec![1.0, 2.0], vec![2.0]]), Err(Error::Unpaired { .. })));
    }
}
