//! A value, and how much it rests on each group.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::Error;

/// A value, and what it is without each group of documents in turn.
///
/// Values of the same documents in the same groups can be subtracted and averaged group by group, so that what they have in
/// common is not in the interval of their difference:
///
/// ```
/// use jackknife::Jackknifed;
///
/// let of = |value: f64, without: [f64; 3]| Jackknifed { value, without: without.to_vec(), sizes: vec![10, 10, 20] };
/// let (arm, control) = (of(0.9, [0.8, 0.95, 0.85]), of(0.7, [0.6, 0.75, 0.66]));
/// let difference = arm.less(&control)?;
/// assert!((difference.value - 0.2).abs() < 1e-12);
/// assert!(difference.standard_error().unwrap() < arm.standard_error().unwrap() / 5.0);
/// # Ok::<(), jackknife::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Jackknifed {
    /// Of all examples.
    pub value: f64,
    /// Without each group.
    pub without: Vec<f64>,
    /// Examples of each group.
    pub sizes: Vec<u64>,
}

impl Jackknifed {
    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.without.len()
    }

    /// The estimated bias of the value, which is not taken out of it. `None` below two groups.
    pub fn bias(&self) -> Option<f64> {
        Some(self.value - self.bias_corrected()?)
    }

    /// The value less its estimated bias, G θ − Σ (1 − m_g/n) θ₍₋g₎ (Busing, Meijer and van der Leeden 1999); `None` below two
    /// groups.
    pub fn bias_corrected(&self) -> Option<f64> {
        let groups = self.without.len();
        let left_out = self.shares().zip(&self.without).map(|(share, v)| (1.0 - share) * v).sum::<f64>();
        (groups >= 2).then_some(groups as f64 * self.value - left_out)
    }

    /// Standard error over groups, weighted by their sizes: SE² = 1/G Σ (h θ − (h − 1) θ₍₋g₎ − θ_J)²/(h − 1) with h = n/m_g
    /// and the bias-corrected θ_J. `None` below two groups.
    pub fn standard_error(&self) -> Option<f64> {
        let corrected = self.bias_corrected()?;
        let squares = self.shares().zip(&self.without).map(|(share, v)| {
            let h = 1.0 / share;
            (h * self.value - (h - 1.0) * v - corrected).powi(2) / (h - 1.0)
        });
        Some((squares.sum::<f64>() / self.without.len() as f64).sqrt())
    }

    /// value ± t(G − 1)·error: for differences. `None` below two groups or for a level outside (0, 1).
    pub fn interval(&self, level: f64) -> Option<(f64, f64)> {
        let half = self.t(level)? * self.standard_error()?;
        Some((self.value - half, self.value + half))
    }

    /// The same on the scale of atanh, where −1 and 1 are infinitely far: for a value that lies between them, as CKA does.
    /// Neither end leaves that range, however few groups there are.
    pub fn bounded_interval(&self, level: f64) -> Option<(f64, f64)> {
        let slope = 1.0 - self.value * self.value;
        if slope < 1e-12 {
            // At the end of the range: nothing but rounding is left of the error.
            return self.interval(level);
        }
        let half = self.t(level)? * self.standard_error()? / slope;
        let centre = self.value.atanh();
        Some(((centre - half).tanh(), (centre + half).tanh()))
    }

    /// The smallest value other than 0 that as many such documents show with the chance `power`, at the two-sided level
    /// 1 − `level`: (t(½ + level/2) + t(power)) standard errors. `None` below two groups or for shares outside (0, 1).
    pub fn detectable(&self, level: f64, power: f64) -> Option<f64> {
        let power = self.quantile(power)?.max(0.0);
        Some((self.t(level)? + power) * self.standard_error()?)
    }

    /// This less another value of the same groups.
    ///
    /// # Errors
    /// Other groups.
    pub fn less(&self, other: &Self) -> Result<Self, Error> {
        self.must_match(other)?;
        let without = self.without.iter().zip(&other.without).map(|(a, b)| a - b).collect();
        Ok(Self { value: self.value - other.value, without, sizes: self.sizes.clone() })
    }

    /// The mean of values of the same groups, such as those of several seeds.
    ///
    /// # Errors
    /// No values, other groups.
    pub fn mean(all: &[Self]) -> Result<Self, Error> {
        let Some(first) = all.first() else {
            return Err(Error::Nothing);
        };
        all.iter().try_for_each(|other| first.must_match(other))?;
        let count = all.len() as f64;
        let without = (0..first.without.len()).map(|g| all.iter().map(|v| v.without[g]).sum::<f64>() / count);
        let value = all.iter().map(|v| v.value).sum::<f64>() / count;
        Ok(Self { value, without: without.collect(), sizes: first.sizes.clone() })
    }

    fn must_match(&self, other: &Self) -> Result<(), Error> {
        if self.sizes == other.sizes && self.without.len() == other.without.len() {
            return Ok(());
        }
        Err(Error::Groups { left: self.sizes.clone(), right: other.sizes.clone() })
    }

    fn shares(&self) -> impl Iterator<Item = f64> + '_ {
        let n: u64 = self.sizes.iter().sum();
        self.sizes.iter().map(move |m| *m as f64 / n as f64)
    }

    fn t(&self, level: f64) -> Option<f64> {
        self.quantile(0.5 + level / 2.0).filter(|_| level > 0.0)
    }

    /// Of Student's t with G − 1 degrees of freedom.
    fn quantile(&self, probability: f64) -> Option<f64> {
        let freedom = self.without.len().checked_sub(1).filter(|f| *f > 0)? as f64;
        let t = StudentsT::new(0.0, 1.0, freedom).ok()?;
        (probability > 0.0 && probability < 1.0).then(|| t.inverse_cdf(probability))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups of one value each: leaving one out of a mean.
    fn of_mean() -> Jackknifed {
        let values = [1.0, 2.0, 4.0, 7.0];
        let without = values.iter().map(|v| (14.0 - v) / 3.0).collect();
        Jackknifed { value: 3.5, without, sizes: vec![1; 4] }
    }

    #[test]
    fn of_a_mean_it_is_the_standard_error() {
        let variance = [1.0, 2.0, 4.0, 7.0].iter().map(|v| (v - 3.5f64).powi(2)).sum::<f64>() / 3.0;
        assert!((of_mean().standard_error().unwrap() - (variance / 4.0).sqrt()).abs() < 1e-12);
        assert!((of_mean().bias_corrected().unwrap() - 3.5).abs() < 1e-12 && of_mean().bias().unwrap().abs() < 1e-12);
        let one = Jackknifed { without: vec![1.0], sizes: vec![4], ..of_mean() };
        assert_eq!((one.standard_error(), one.interval(0.95), one.bounded_interval(0.95)), (None, None, None));
        assert_eq!(
            (of_mean().interval(1.0), of_mean().interval(0.0), of_mean().detectable(0.95, 1.0)),
            (None, None, None)
        );
        // t(0.975, 3) = 3.182 and t(0.8, 3) = 0.978.
        let share = of_mean().detectable(0.95, 0.8).unwrap() / of_mean().standard_error().unwrap();
        assert!((share - 4.1609).abs() < 1e-3, "{share}");
    }

    #[test]
    fn bounded_intervals_stay_inside() {
        // Two documents, far apart.
        let two = Jackknifed { value: 0.95, without: vec![0.99, 0.4], sizes: vec![5, 5] };
        assert!(two.interval(0.95).unwrap().1 > 2.0);
        let (low, high) = two.bounded_interval(0.95).unwrap();
        assert!((-1.0..0.95).contains(&low) && 0.95 < high && high <= 1.0, "{low} {high}");
        // Where the error is small both are the same.
        let narrow = Jackknifed { value: 0.5, without: vec![0.5001, 0.4999, 0.5002, 0.4998], sizes: vec![5; 4] };
        let (plain, bounded) = (narrow.interval(0.95).unwrap(), narrow.bounded_interval(0.95).unwrap());
        assert!((plain.0 - bounded.0).abs() < 1e-6 && (plain.1 - bounded.1).abs() < 1e-6);
        let itself = Jackknifed { value: 1.0, without: vec![1.0; 4], sizes: vec![5; 4] };
        assert_eq!(itself.bounded_interval(0.95), Some((1.0, 1.0)));
    }

    #[test]
    fn other_groups_are_refused() {
        let other = Jackknifed { sizes: vec![1, 1, 2, 1], ..of_mean() };
        assert!(matches!(of_mean().less(&other), Err(Error::Groups { .. })));
        assert!(Jackknifed::mean(&[of_mean(), other]).is_err() && Jackknifed::mean(&[]).is_err());
        assert_eq!(Jackknifed::mean(&[of_mean(), of_mean()]).unwrap(), of_mean());
        assert_eq!(of_mean().less(&of_mean()).unwrap().interval(0.95), Some((0.0, 0.0)));
    }
}
