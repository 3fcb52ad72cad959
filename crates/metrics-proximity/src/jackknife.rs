//! The delete-group jackknife.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// A number with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Its standard error over groups of documents; `None` where there are too few.
    pub standard_error: Option<f64>,
    /// value ± t(G − 1)·error.
    pub interval: Option<(f64, f64)>,
    /// The jackknife's estimate of the value's bias, (G − 1)·(mean without a group − value). It is not taken out.
    pub bias: Option<f64>,
}

/// A statistic of everything, and of everything less each of G groups.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jackknife<'v> {
    value: f64,
    without: &'v [f64],
}

impl<'v> Jackknife<'v> {
    /// The first value is that of everything.
    pub(crate) fn of(values: &'v [f64]) -> Self {
        let (value, without) = values.split_first().map_or((f64::NAN, &values[..0]), |(v, rest)| (*v, rest));
        Self { value, without }
    }

    /// Var = (G − 1)/G · Σ (θ₍₋g₎ − mean)².
    pub(crate) fn estimate(&self, level: f64) -> Estimate {
        let Self { value, without } = *self;
        let groups = without.len();
        if groups < 2 {
            return Estimate { value, standard_error: None, interval: None, bias: None };
        }
        // Around the value itself: of equal replicates nothing is left, not rounding.
        let apart: Vec<f64> = without.iter().map(|v| v - value).collect();
        let mean = apart.iter().sum::<f64>() / groups as f64;
        let freedom = (groups - 1) as f64;
        let squares = apart.iter().map(|d| (d - mean).powi(2)).sum::<f64>();
        let error = (freedom / groups as f64 * squares).sqrt();
        let t = StudentsT::new(0.0, 1.0, freedom).map_or(f64::NAN, |t| t.inverse_cdf(0.5 + level / 2.0));
        Estimate {
            value,
            standard_error: Some(error),
            interval: Some((value - t * error, value + t * error)),
            bias: Some(freedom * mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_mean_it_is_the_standard_error() {
        let values = [1.0, 2.0, 4.0, 7.0];
        let without = values.map(|v| (14.0 - v) / 3.0);
        let all: Vec<f64> = std::iter::once(3.5).chain(without).collect();
        let found = Jackknife::of(&all).estimate(0.95);
        let variance = values.iter().map(|v| (v - 3.5f64).powi(2)).sum::<f64>() / 3.0;
        assert!((found.standard_error.unwrap() - (variance / 4.0).sqrt()).abs() < 1e-12);
        assert!(found.bias.unwrap().abs() < 1e-12);
        let (low, high) = found.interval.unwrap();
        assert!((high - low - 2.0 * 3.182_446_305_284_263 * found.standard_error.unwrap()).abs() < 1e-6);
        assert_eq!(Jackknife::of(&[2.0]).estimate(0.95).interval, None);
    }
}
