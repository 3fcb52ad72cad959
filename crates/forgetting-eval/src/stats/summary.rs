//! Mean, spread and interval over seeds; paired differences.

use serde::{Deserialize, Serialize};

use super::{Error, t_quantile, t_two_sided_p};

/// Mean and spread of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Values.
    pub n: usize,
    /// Their mean; NaN without values.
    pub mean: f64,
    /// Their standard deviation with n − 1; `None` below two values.
    pub sd: Option<f64>,
}

impl Summary {
    /// Of these values.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len();
        // Shifted by the first value: exact for equal values, and no cancellation for values far from 0.
        let origin = values.first().copied().unwrap_or(f64::NAN);
        let mean = origin + values.iter().map(|v| v - origin).sum::<f64>() / n as f64;
        let sd = (n >= 2).then(|| {
            let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
            (squares / (n - 1) as f64).sqrt()
        });
        Self { n, mean, sd }
    }

    /// The t-interval of the mean at a confidence level; `None` below two values or for a level outside (0, 1).
    pub fn interval(&self, level: f64) -> Option<(f64, f64)> {
        if !(level > 0.0 && level < 1.0) {
            return None;
        }
        let sd = self.sd?;
        let t = t_quantile(0.5 + level / 2.0, (self.n - 1) as f64);
        let half = t * sd / (self.n as f64).sqrt();
        Some((self.mean - half, self.mean + half))
    }

    /// Standard error of the mean; `None` below two values.
    pub fn standard_error(&self) -> Option<f64> {
        Some(self.sd? / (self.n as f64).sqrt())
    }

    /// The smallest true mean other than 0 that a t-test of as many values finds with the chance `power`
    /// ([`detectable`](super::detectable)), as far as these values' spread is the true one. `None` below two values.
    pub fn detectable(&self, level: f64, power: f64) -> Option<f64> {
        super::detectable(self.standard_error()?, (self.n - 1) as f64, level, power)
    }

    /// t of the mean against 0, and its two-sided p; `None` below two values or where all are the same.
    pub fn t_test(&self) -> Option<(f64, f64)> {
        let t = self.mean / self.standard_error().filter(|e| *e > 0.0)?;
        Some((t, t_two_sided_p(t, (self.n - 1) as f64)))
    }
}

/// Differences of values that belong together (the same seed in two arms).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Left less right, pair by pair.
    pub differences: Vec<f64>,
    /// Their summary.
    pub summary: Summary,
}

impl Paired {
    /// Left less right.
    ///
    /// # Errors
    /// Samples of different sizes.
    pub fn of(left: &[f64], right: &[f64]) -> Result<Self, Error> {
        if left.len() != right.len() {
            return Err(Error::Unpaired { left: left.len(), right: right.len() });
        }
        let differences: Vec<f64> = left.iter().zip(right).map(|(l, r)| l - r).collect();
        let summary = Summary::of(&differences);
        Ok(Self { differences, summary })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_values() {
        // By hand: mean 3, sd √2.5, t(0.975, 4) = 2.776445105.
        let s = Summary::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!((s.n, s.mean), (5, 3.0));
        assert!((s.sd.unwrap() - 2.5f64.sqrt()).abs() < 1e-15);
        let (low, high) = s.interval(0.95).unwrap();
        let half = 2.776_445_105_197_793 * (2.5f64 / 5.0).sqrt();
        assert!((low - (3.0 - half)).abs() < 1e-14 && (high - (3.0 + half)).abs() < 1e-14, "{low} {high}");
    }

    #[test]
    fn edges() {
        assert!(Summary::of(&[]).mean.is_nan() && Summary::of(&[]).sd.is_none());
        assert_eq!(Summary::of(&[7.0]).interval(0.95), None);
        assert_eq!(Summary::of(&[1e9 + 0.25; 4]).sd, Some(0.0));
        assert_eq!(Summary::of(&[1.0, 2.0]).interval(1.0), None);
        assert_eq!(Paired::of(&[1.0], &[]).unwrap_err(), Error::Unpaired { left: 1, right: 0 });
    }
}
