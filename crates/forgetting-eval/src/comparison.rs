//! Arms against the control, seed by seed.

use serde::{Deserialize, Serialize};

use crate::{Error, Paired, Summary, holm, relative_improvement};

/// One arm's values beside the control's. Values with the same index belong to the same seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmComparison {
    /// The arm.
    pub arm: String,
    /// The control's values.
    pub control: Summary,
    /// The arm's values.
    pub values: Summary,
    /// Arm less control, seed by seed: below 0 is better for a loss.
    pub difference: Summary,
    /// The t-interval of the difference; `None` with one seed.
    pub interval: Option<(f64, f64)>,
    /// Two-sided p of the paired t-test; `None` with one seed or where all differences are the same.
    pub p: Option<f64>,
    /// p adjusted for the number of arms (Holm 1979).
    pub p_adjusted: Option<f64>,
    /// Of the means, relative to the control's: above 0 is better for a loss.
    pub improvement: f64,
}

/// Compares each arm with the control, intervals at `level`.
///
/// # Errors
/// An arm with another number of seeds than the control, a level outside (0, 1).
pub fn compare_arms(control: &[f64], arms: &[(&str, &[f64])], level: f64) -> Result<Vec<ArmComparison>, Error> {
    if !(level > 0.0 && level < 1.0) {
        return Err(Error::Argument { field: "level", value: level, limit: "must be between 0 and 1" });
    }
    let base = Summary::of(control);
    let compare = |(arm, values): &(&str, &[f64])| {
        let difference = Paired::of(values, control)?.summary;
        let summary = Summary::of(values);
        let p = difference.t_test().map(|(_, p)| p);
        Ok(ArmComparison {
            arm: (*arm).to_owned(),
            control: base,
            values: summary,
            difference,
            interval: difference.interval(level),
            p,
            p_adjusted: None,
            improvement: relative_improvement(base.mean, summary.mean),
        })
    };
    let mut rows = arms.iter().map(compare).collect::<Result<Vec<_>, _>>()?;
    let adjusted = holm(&rows.iter().map(|r| r.p).collect::<Vec<_>>());
    rows.iter_mut().zip(adjusted).for_each(|(row, p)| row.p_adjusted = p);
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_remove_what_seeds_share() {
        let control = [2.0, 3.0, 4.0];
        let rows = compare_arms(&control, &[("a", &[1.9, 2.91, 3.89]), ("b", &[2.0, 3.0, 4.0])], 0.95).unwrap();
        assert!(rows[0].interval.unwrap().1 < 0.0 && rows[0].p.unwrap() < 0.01);
        assert!((rows[0].improvement - 0.1 / 3.0).abs() < 1e-12);
        // Without any difference there is no t; a single seed has neither p nor interval.
        assert_eq!((rows[1].p, rows[1].interval), (None, Some((0.0, 0.0))));
        let single = compare_arms(&[2.0], &[("a", &[1.0])], 0.95).unwrap();
        assert_eq!((single[0].p, single[0].interval), (None, None));
        assert!(compare_arms(&control, &[("a", &[1.0])], 0.95).is_err());
        assert!(compare_arms(&control, &[], 1.0).is_err());
    }
}
