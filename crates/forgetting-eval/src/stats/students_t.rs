//! Student's t distribution, to the last digits that intervals and tiny p-values need.

use statrs::distribution::{Continuous, ContinuousCDF, StudentsT};
use statrs::function::beta::beta_reg;

/// P(|T| ≥ |t|) with `df` degrees of freedom; NaN below one degree.
pub fn t_two_sided_p(t: f64, df: f64) -> f64 {
    // df/(df + t²), without overflow for large t.
    let share = if t.abs() > 1e150 { 0.0 } else { df / (df + t * t) };
    two_sided(share, df)
}

/// The same from the share df/(df + t²), which for a correlation is 1 − r².
pub(crate) fn two_sided(share: f64, df: f64) -> f64 {
    if !(df >= 1.0 && share.is_finite()) {
        return f64::NAN;
    }
    beta_reg(df / 2.0, 0.5, share.clamp(0.0, 1.0))
}

/// t with P(T ≤ t) = `probability` for `df` degrees of freedom; NaN outside (0, 1) or below one degree.
pub fn t_quantile(probability: f64, df: f64) -> f64 {
    if !(probability > 0.0 && probability < 1.0 && df >= 1.0) {
        return f64::NAN;
    }
    if probability < 0.5 {
        return -t_quantile(1.0 - probability, df);
    }
    let tail = 2.0 * (1.0 - probability);
    let Ok(distribution) = StudentsT::new(0.0, 1.0, df) else { return f64::NAN };
    // The library's inverse has some nine digits; Newton's steps on the tail give the rest.
    let mut t = distribution.inverse_cdf(probability);
    for _ in 0..4 {
        let slope = 2.0 * distribution.pdf(t);
        if slope > 0.0 {
            t += (t_two_sided_p(t, df) - tail) / slope;
        }
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_values() {
        // From SciPy, stats.t.ppf(0.975, df).
        for (df, t) in [(1.0, 12.706_204_736_174_694), (4.0, 2.776_445_105_197_793_4), (94.0, 1.985_523_441_866_604)] {
            assert!((t_quantile(0.975, df) - t).abs() < 1e-12, "{df}: {}", t_quantile(0.975, df));
            assert!((t_quantile(0.025, df) + t).abs() < 1e-12);
        }
        assert!((t_two_sided_p(60.0, 78.0) / 4.918_924_202_124_444e-67 - 1.0).abs() < 1e-6);
        assert_eq!(t_two_sided_p(0.0, 4.0), 1.0);
        assert_eq!(t_two_sided_p(f64::INFINITY, 4.0), 0.0);
        assert!(t_two_sided_p(1.0, 0.0).is_nan() && t_quantile(1.0, 4.0).is_nan());
    }
}
