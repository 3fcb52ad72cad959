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
/// let of = |value: f64, without: [f64; 3]| Jackknifed::new(value, without.to_vec(), vec![10, 10, 20]);
/// let (arm, control) = (of(0.9, [0.8, 0.95, 0.85])?, of(0.7, [0.6, 0.75, 0.66])?);
/// let difference = arm.less(&control)?;
/// assert!((difference.value() - 0.2).abs() < 1e-12);
/// assert!(difference.standard_error().unwrap() < arm.standard_error().unwrap() / 5.0);
/// # Ok::<(), jackknife::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Jackknifed {
    value: f64,
    without: Vec<f64>,
    sizes: Vec<u64>,
}

#[derive(Deserialize)]
struct Unchecked {
    value: f64,
    without: Vec<f64>,
    sizes: Vec<u64>,
}

impl TryFrom<Unchecked> for Jackknifed {
    type Error = Error;

    fn try_from(Unchecked { value, without, sizes }: Unchecked) -> Result<Self, Error> {
        Self::new(value, without, sizes)
    }
}

impl Jackknifed {
    /// A value of everything, the values without each group, and how many examples each group has. Without groups it is a value
    /// alone, which has no interval.
    ///
    /// # Errors
    /// Another number of values than of groups, a single group, a group without examples, a value that is not finite.
    pub fn new(value: f64, without: Vec<f64>, sizes: Vec<u64>) -> Result<Self, Error> {
        if without.len() != sizes.len() {
            return Err(Error::Lengths { values: without.len(), groups: sizes.len() });
        }
        if sizes.len() == 1 || sizes.contains(&0) {
            return Err(Error::Sizes { sizes });
        }
        match std::iter::once(value).chain(without.iter().copied()).find(|v| !v.is_finite()) {
            Some(value) => Err(Error::NotFinite { value }),
            None => Ok(Self { value, without, sizes }),
        }
    }

    /// Of all examples.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Without each group.
    pub fn without(&self) -> &[f64] {
        &self.without
    }

    /// Examples of each group.
    pub fn sizes(&self) -> &[u64] {
        &self.sizes
    }

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

    /// The same for a value that lies within limits, such as −1 and 1 for CKA: on the scale of atanh, on which these are infinitely
    /// far. Neither end leaves them, however few groups there are.
    pub fn bounded_interval(&self, level: f64, (low, high): (f64, f64)) -> Option<(f64, f64)> {
        let half_range = (high - low) / 2.0;
        let place = (self.value - low) / half_range - 1.0;
        let slope = 1.0 - place * place;
        if slope < 1e-12 {
            // At a limit the scale ends: the plain interval, as far as the limits.
            return self.interval(level).map(|(from, to)| (from.max(low), to.min(high)));
        }
        let half = self.t(level)? * self.standard_error()? / (half_range * slope);
        let end = |place: f64| low + half_range * (1.0 + place);
        let centre = place.atanh();
        Some((end((centre - half).tanh()), end((centre + half).tanh())))
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
        let freedom = self.without.len().checked_sub(1).filter(|f| *f > 0)? as f64;
        let t = StudentsT::new(0.0, 1.0, freedom).ok()?;
        (level > 0.0 && level < 1.0).then(|| t.inverse_cdf(0.5 + level / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: f64, without: &[f64], sizes: &[u64]) -> Jackknifed {
        Jackknifed::new(value, without.to_vec(), sizes.to_vec()).unwrap()
    }

    /// Groups of one value each: leaving one out of a mean.
    fn of_mean() -> Jackknifed {
        of(3.5, &[1.0, 2.0, 4.0, 7.0].map(|v| (14.0 - v) / 3.0), &[1; 4])
    }

    #[test]
    fn of_a_mean_it_is_the_standard_error() {
        let variance = [1.0, 2.0, 4.0, 7.0].iter().map(|v| (v - 3.5f64).powi(2)).sum::<f64>() / 3.0;
        assert!((of_mean().standard_error().unwrap() - (variance / 4.0).sqrt()).abs() < 1e-12);
        assert!((of_mean().bias_corrected().unwrap() - 3.5).abs() < 1e-12 && of_mean().bias().unwrap().abs() < 1e-12);
        let alone = of(3.5, &[], &[]);
        assert_eq!(
            (alone.standard_error(), alone.interval(0.95), alone.bounded_interval(0.95, (-1.0, 1.0))),
            (None, None, None)
        );
        assert_eq!((of_mean().interval(1.0), of_mean().interval(0.0)), (None, None));
    }

    #[test]
    fn bounded_intervals_stay_inside() {
        // Two documents, far apart.
        let two = of(0.95, &[0.99, 0.4], &[5, 5]);
        assert!(two.interval(0.95).unwrap().1 > 2.0);
        for limits in [(-1.0, 1.0), (0.0, 1.0)] {
            let (low, high) = two.bounded_interval(0.95, limits).unwrap();
            assert!((limits.0..0.95).contains(&low) && 0.95 < high && high <= 1.0, "{low} {high}");
        }
        // Where the error is small they are the same.
        let narrow = of(0.3, &[0.3001, 0.2999, 0.3002, 0.2998], &[5; 4]);
        let (plain, bounded) = (narrow.interval(0.95).unwrap(), narrow.bounded_interval(0.95, (0.0, 1.0)).unwrap());
        assert!((plain.0 - bounded.0).abs() < 1e-6 && (plain.1 - bounded.1).abs() < 1e-6);
        assert_eq!(of(1.0, &[1.0; 4], &[5; 4]).bounded_interval(0.95, (-1.0, 1.0)), Some((1.0, 1.0)));
        let (low, high) = of(1.0, &[1.0, 0.996, 1.0, 0.992], &[5; 4]).bounded_interval(0.95, (0.0, 1.0)).unwrap();
        assert!(low < 1.0 && high == 1.0);
    }

    #[test]
    fn other_groups_are_refused() {
        let other = of(3.5, of_mean().without(), &[1, 1, 2, 1]);
        assert!(matches!(of_mean().less(&other), Err(Error::Groups { .. })));
        assert!(Jackknifed::mean(&[of_mean(), other]).is_err() && Jackknifed::mean(&[]).is_err());
        assert_eq!(Jackknifed::mean(&[of_mean(), of_mean()]).unwrap(), of_mean());
        assert_eq!(of_mean().less(&of_mean()).unwrap().interval(0.95), Some((0.0, 0.0)));
    }

    #[test]
    fn what_is_no_jackknife_is_refused() {
        let new = |without: &[f64], sizes: &[u64]| Jackknifed::new(1.0, without.to_vec(), sizes.to_vec()).unwrap_err();
        assert_eq!(new(&[1.0, 2.0], &[1]), Error::Lengths { values: 2, groups: 1 });
        assert!(
            matches!(new(&[1.0], &[4]), Error::Sizes { .. })
                && matches!(new(&[1.0, 2.0], &[4, 0]), Error::Sizes { .. })
        );
        assert!(matches!(new(&[1.0, f64::NAN], &[4, 4]), Error::NotFinite { .. }));
    }
}
