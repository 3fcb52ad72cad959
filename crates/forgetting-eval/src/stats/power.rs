//! What a design can find.

use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::gamma::ln_gamma;

use super::t_quantile;

/// The smallest true effect that a two-sided t-test at the level 1 − `level` finds with the chance `power`, for an estimate with
/// this standard error and so many degrees of freedom (Student's noncentral t). The standard error is itself an estimate: with few
/// degrees of freedom it may be several times too small or too large, and this number with it. `None` for shares outside (0, 1), a
/// power below the test's own level, or fewer than one degree of freedom.
///
/// ```
/// use forgetting_eval::detectable;
///
/// let with_many = detectable(1.0, 1e6, 0.95, 0.8).unwrap();
/// assert!((with_many - (1.959964 + 0.841621)).abs() < 1e-3);
/// let with_two_seeds = detectable(1.0, 1.0, 0.95, 0.8).unwrap();
/// assert!(with_two_seeds > 5.0 * with_many);
/// ```
pub fn detectable(standard_error: f64, freedom: f64, level: f64, power: f64) -> Option<f64> {
    let inside = |share: f64| share > 0.0 && share < 1.0;
    if !(inside(level) && inside(power) && power > 1.0 - level && freedom >= 1.0 && standard_error.is_finite()) {
        return None;
    }
    let critical = t_quantile(0.5 + level / 2.0, freedom);
    // Power grows with the effect: the effect is found by halving.
    let (mut low, mut high) = (0.0, critical + 1.0);
    while rejects(high, critical, freedom) < power && high < 1e6 {
        high *= 2.0;
    }
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if rejects(middle, critical, freedom) < power { low = middle } else { high = middle }
    }
    Some(high * standard_error)
}

/// The chance that |T| exceeds `critical`, T having this noncentrality: the mean of Φ(δ − c·s) + Φ(−δ − c·s) over s = √(χ²/ν), by
/// Simpson's rule on u = ln s.
fn rejects(noncentrality: f64, critical: f64, freedom: f64) -> f64 {
    // The normal distribution passes from 0 to 1 while c·s changes by a few: steps are finer where c is large.
    let steps = 2 * (300 + 20 * critical.min(500.0) as usize);
    let normal = Normal::standard();
    // ln of the density of u: s² ν is χ² with ν degrees of freedom.
    let constant = std::f64::consts::LN_2 + freedom / 2.0 * (freedom / 2.0).ln() - ln_gamma(freedom / 2.0);
    let density = |u: f64| (constant + freedom * u - freedom / 2.0 * (2.0 * u).exp()).exp();
    // Eight standard deviations of ln s; to the left the density falls like s^ν, to the right it is gone by s = 9.
    let spread = 8.0 / (2.0 * freedom).sqrt();
    let (from, to) = (-spread.max(30.0 / freedom), spread.min(2.2));
    let width = (to - from) / steps as f64;
    let value = |i: usize| {
        let u = from + i as f64 * width;
        let c = critical * u.exp();
        density(u) * (normal.cdf(noncentrality - c) + normal.cdf(-noncentrality - c))
    };
    let weight = |i: usize| if i == 0 || i == steps { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 };
    (0..=steps).map(|i| weight(i) * value(i)).sum::<f64>() * width / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From SciPy's noncentral t: the noncentrality at which |T| > t(0.975, df) with a chance of 0.8.
    #[test]
    fn the_noncentral_t_distribution() {
        for (freedom, factor) in FACTORS {
            let found = detectable(1.0, freedom, 0.95, 0.8).unwrap();
            assert!((found / factor - 1.0).abs() < 1e-5, "{freedom}: {found} {factor}");
        }
        // Without an effect the test rejects as often as it says.
        for freedom in [1.0, 2.5, 19.0, 500.0] {
            let level = rejects(0.0, t_quantile(0.975, freedom), freedom);
            assert!((level - 0.05).abs() < 1e-6, "{freedom}: {level}");
        }
    }

    #[test]
    fn what_has_no_answer() {
        assert_eq!(detectable(1.0, 0.5, 0.95, 0.8), None);
        assert_eq!(detectable(1.0, 4.0, 1.0, 0.8), None);
        assert_eq!(detectable(1.0, 4.0, 0.95, 0.01), None);
        assert_eq!(detectable(f64::NAN, 4.0, 0.95, 0.8), None);
        assert_eq!(detectable(0.0, 4.0, 0.95, 0.8), Some(0.0));
    }

    const FACTORS: [(f64, f64); 6] = [
        (1.0, 16.334_008_869_92),
        (2.0, 5.653_489_266_2),
        (4.0, 3.761_059_553_83),
        (9.0, 3.149_632_886_45),
        (19.0, 2.953_584_869_82),
        (200.0, 2.815_124_060_24),
    ];
}
