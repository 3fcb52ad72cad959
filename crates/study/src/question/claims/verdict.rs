//! What a contrast says of a claim.
//!
//! A contrast is written so that it is above 0 where the claim is true; with a margin δ below which a benefit is of no account,
//! both fixed before any result is seen.
//!
//! 1. The claim *holds* where the contrast's 95 % interval lies above 0 and p is below 5 % (of the five findings adjusted by Holm).
//! 2. A claim of a benefit *fails* where the interval excludes a benefit of δ or more. Where both are true there is a benefit, but
//!    a smaller one than δ.
//! 3. A claim that an effect is below δ has δ less the effect as its contrast: it fails where the interval lies below 0.
//! 4. A claim of a correlation never fails: it must hold for other seeds and for other mixes, and no interval covers both.
//! 5. Where none of this is so, the claim is *undecided*. What cannot be computed is *not testable*, with the reason.

use forgetting_eval::Summary;

use crate::question::comparison::{LEVEL, POWER, is_significant};

/// A contrast as it was measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tested {
    /// Its value.
    pub(super) value: f64,
    /// Its 95 % interval.
    pub(super) interval: Option<(f64, f64)>,
    /// Of no contrast at all, two-sided.
    pub(super) p: Option<f64>,
    /// How many values it is the mean of.
    pub(super) n: usize,
    /// The smallest true contrast that is found with a chance of 80 %.
    pub(super) detectable: Option<f64>,
    /// What that many values of something were, where it is not a mean of them: how it was computed.
    pub(super) note: Option<String>,
}

impl Tested {
    /// The mean of values, one a replicate.
    pub(super) fn mean(values: &[f64]) -> Self {
        let summary = Summary::of(values);
        Self {
            value: summary.mean,
            interval: summary.interval(LEVEL),
            p: summary.t_test().map(|(_, p)| p),
            n: summary.n,
            detectable: summary.detectable(LEVEL, POWER),
            note: None,
        }
    }

    /// What several seeds show together, and all of them without each one: the delete-one jackknife, on a scale on which values
    /// are nearly normal.
    pub(super) fn jackknife(value: f64, without: &[f64], scale: Scale) -> Self {
        let n = without.len();
        let centre = scale.to(value);
        let without: Vec<f64> = without.iter().map(|value| scale.to(*value)).collect();
        let mean = without.iter().sum::<f64>() / n as f64;
        let squares: f64 = without.iter().map(|value| (value - mean).powi(2)).sum();
        let spread = if n > 1 { Some(((n - 1) as f64 * squares).sqrt()) } else { None };
        // As of a mean of n values with this spread.
        let summary = Summary { n, mean: centre, sd: spread };
        Self {
            value,
            interval: summary.interval(LEVEL).map(|(low, high)| (scale.from(low), scale.from(high))),
            p: summary.t_test().map(|(_, p)| p),
            n,
            detectable: summary.detectable(LEVEL, POWER).map(|by| scale.from(by)),
            note: None,
        }
    }

    /// The lowest of several means, all of which must be above 0.
    ///
    /// 1. All are above 0 where the lowest end of their intervals is: each has its own level, and none has to be adjusted.
    /// 2. One is below something where one of their upper ends is: these are adjusted for how many there are (Bonferroni).
    /// 3. p is the highest of theirs, 1 where a mean is not above 0.
    pub(super) fn least(contrasts: &[(String, Vec<f64>)]) -> Option<Self> {
        let all: Vec<(&str, Summary)> = contrasts.iter().map(|(name, v)| (name.as_str(), Summary::of(v))).collect();
        let (name, least) = all.iter().min_by(|a, b| a.1.mean.total_cmp(&b.1.mean))?;
        let adjusted = 1.0 - (1.0 - LEVEL) / all.len() as f64;
        let low = all.iter().map(|(_, s)| s.interval(LEVEL).map(|(low, _)| low));
        let high = all.iter().map(|(_, s)| s.interval(adjusted).map(|(_, high)| high));
        let lowest = |ends: Option<Vec<f64>>| ends.map(|ends| ends.into_iter().fold(f64::INFINITY, f64::min));
        let p = all.iter().map(|(_, s)| s.t_test().map(|(_, p)| if s.mean > 0.0 { p } else { 1.0 }));
        let p: Option<Vec<f64>> = p.collect();
        Some(Self {
            value: least.mean,
            interval: lowest(low.collect()).zip(lowest(high.collect())),
            p: p.map(|p| p.into_iter().fold(0.0, f64::max)),
            n: least.n,
            detectable: least.detectable(LEVEL, POWER),
            note: Some(format!("least favourable: {name}")),
        })
    }

    /// How far below a margin the size of an effect is: above 0 where the effect is of no account.
    pub(super) fn within(self, margin: f64) -> Self {
        let furthest = |(low, high): (f64, f64)| low.abs().max(high.abs());
        // The nearest that the effect may be to 0 gives the upper end.
        let nearest = |(low, high): (f64, f64)| if low <= 0.0 && high >= 0.0 { 0.0 } else { low.abs().min(high.abs()) };
        Self {
            value: margin - self.value.abs(),
            interval: self.interval.map(|i| (margin - furthest(i), margin - nearest(i))),
            p: None,
            detectable: None,
            ..self
        }
    }
}

/// A scale on which values are nearly normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Their own.
    Plain,
    /// Fisher's, of correlations.
    Fisher,
}

impl Scale {
    fn to(self, value: f64) -> f64 {
        match self {
            Self::Plain => value,
            // A perfect correlation has no finite place on it.
            Self::Fisher => value.clamp(-0.999_999, 0.999_999).atanh(),
        }
    }

    fn from(self, value: f64) -> f64 {
        match self {
            Self::Plain => value,
            Self::Fisher => value.tanh(),
        }
    }
}

/// In which sense a contrast above 0 speaks for a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sense {
    /// There is a benefit: the contrast is it.
    Benefit,
    /// An effect is below δ: the contrast is what is left to δ.
    Bound,
    /// Two values go together: the contrast is a correlation, or a difference of two.
    Correlation,
}

/// What is said of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is a benefit, and one of δ or more is possible.
    Holds,
    /// There is a benefit, but a smaller one than δ.
    HoldsBelowMargin,
    /// A benefit of δ or more is excluded.
    Fails,
    /// Neither.
    Undecided,
    /// Why it cannot be tested here.
    NotTestable(String),
}

impl Verdict {
    /// Of a contrast. `p` is adjusted where several are in one family; some contrasts have none beside their interval.
    pub(super) fn of(tested: &Tested, sense: Sense, margin: f64, p: Option<f64>) -> Self {
        let Some((low, high)) = tested.interval else { return Self::Undecided };
        let above = low > 0.0 && p.is_none_or(is_significant);
        let excluded = match sense {
            Sense::Benefit => high < margin,
            Sense::Bound => high < 0.0,
            Sense::Correlation => false,
        };
        match (above, excluded) {
            (true, false) => Self::Holds,
            (true, true) => Self::HoldsBelowMargin,
            (false, true) => Self::Fails,
            (false, false) => Self::Undecided,
        }
    }

    /// Whether there is a benefit.
    #[cfg(test)]
    pub(super) fn holds(&self) -> bool {
        matches!(self, Self::Holds | Self::HoldsBelowMargin)
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::HoldsBelowMargin => "holds, below the margin",
            Self::Fails => "fails",
            Self::Undecided => "undecided",
            Self::NotTestable(_) => "not testable",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{Scale, Sense, Tested, Verdict};

    fn tested(low: f64, high: f64) -> Tested {
        Tested { value: 0.5 * (low + high), interval: Some((low, high)), p: None, n: 5, detectable: None, note: None }
    }

    #[test]
    fn verdicts_follow_the_interval() {
        let of = |low, high| Verdict::of(&tested(low, high), Sense::Benefit, 0.01, Some(0.001));
        assert_eq!(of(0.002, 0.03), Verdict::Holds);
        assert_eq!(of(0.002, 0.008), Verdict::HoldsBelowMargin);
        assert_eq!(of(-0.004, 0.008), Verdict::Fails);
        assert_eq!(of(-0.04, -0.01), Verdict::Fails);
        assert_eq!(of(-0.004, 0.03), Verdict::Undecided);
        // Where several findings are tested, an interval of its own is not enough.
        assert_eq!(Verdict::of(&tested(0.002, 0.03), Sense::Benefit, 0.01, Some(0.2)), Verdict::Undecided);
        let none = Tested { interval: None, ..tested(0.0, 1.0) };
        assert_eq!(Verdict::of(&none, Sense::Benefit, 0.01, None), Verdict::Undecided);
        assert_eq!(Verdict::of(&tested(0.002, 0.03), Sense::Benefit, 0.01, Some(6.0 / 120.0)), Verdict::Undecided);
        // Correlations hold, or not yet.
        let of = |low, high| Verdict::of(&tested(low, high), Sense::Correlation, 0.3, Some(0.01));
        assert_eq!([of(0.1, 0.2), of(-0.9, -0.8)], [Verdict::Holds, Verdict::Undecided]);
    }

    /// Effects of a size that is to be below 1 %.
    #[test]
    fn an_effect_of_no_account_lies_within_the_margin() {
        let of = |low, high| Verdict::of(&tested(low, high).within(0.01), Sense::Bound, 0.01, None);
        assert_eq!(tested(-0.004, 0.002).within(0.01).interval, Some((0.006, 0.01)));
        assert_eq!(of(-0.004, 0.002), Verdict::Holds);
        assert_eq!(of(0.001, 0.003), Verdict::Holds, "an effect that is there, and small");
        assert_eq!(of(0.003, 0.013), Verdict::Undecided);
        assert_eq!([of(0.02, 0.03), of(-0.03, -0.02)], [Verdict::Fails, Verdict::Fails]);
    }

    #[test]
    fn the_least_favourable_of_several_decides() {
        let of = |lists: &[[f64; 3]]| {
            let named: Vec<(String, Vec<f64>)> =
                lists.iter().enumerate().map(|(i, values)| (i.to_string(), values.to_vec())).collect();
            Tested::least(&named).unwrap()
        };
        let [good, bad, noisy] = [[0.30, 0.31, 0.32], [-0.30, -0.31, -0.32], [-3.0, 0.1, 3.0]];
        let verdict = |tested: &Tested| Verdict::of(tested, Sense::Benefit, 0.01, tested.p);
        assert_eq!(verdict(&of(&[good, good])), Verdict::Holds);
        assert_eq!(verdict(&of(&[good, noisy])), Verdict::Undecided);
        // A noisy one hides none that is refuted.
        let tested = of(&[good, bad, noisy]);
        assert_eq!(verdict(&tested), Verdict::Fails);
        let (low, high) = tested.interval.unwrap();
        assert!(low <= tested.value && tested.value <= high && tested.note.as_deref() == Some("least favourable: 1"));
    }

    /// Of a mean the jackknife is Student's interval.
    #[test]
    fn a_jackknife_of_a_mean_is_its_interval() {
        let values = [0.3, 0.5, 0.1, 0.6];
        let mean = Tested::mean(&values);
        let without: Vec<f64> = values.iter().map(|v| (values.iter().sum::<f64>() - v) / 3.0).collect();
        let own = Tested::jackknife(mean.value, &without, Scale::Plain);
        let (a, b) = (own.interval.unwrap(), mean.interval.unwrap());
        assert!((a.0 - b.0).abs() < 1e-12 && (a.1 - b.1).abs() < 1e-12 && own.n == 4);
        assert!((own.p.unwrap() - mean.p.unwrap()).abs() < 1e-12);
        assert_eq!(Tested::jackknife(0.5, &[0.5], Scale::Fisher).interval, None);
    }
}
