//! What a contrast says of a claim.
//!
//! A contrast is written so that it is above 0 where the claim is true; with a margin δ below which a benefit is of no account,
//! both fixed before any result is seen.
//!
//! 1. The claim *holds* where the contrast's 95 % interval lies above 0 and p is below 5 % (of the five findings adjusted by Holm).
//! 2. It *fails* where the interval excludes a benefit of δ or more.
//! 3. Where both are true there is a benefit, but a smaller one than δ. Where none is, the claim is *undecided*.
//! 4. What cannot be computed, or has no interval, is *not testable* or undecided, with the reason.

use forgetting_eval::Summary;

use crate::question::comparison::{LEVEL, POWER};

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

    /// The mean of correlations, on the scale on which these are nearly normal (Fisher's).
    pub(super) fn correlation(values: &[f64]) -> Self {
        // A perfect correlation has no finite place on that scale.
        let bounded = values.iter().map(|r| r.clamp(-0.999_999, 0.999_999).atanh());
        let summary = Summary::of(&bounded.collect::<Vec<_>>());
        Self {
            value: summary.mean.tanh(),
            interval: summary.interval(LEVEL).map(|(low, high)| (low.tanh(), high.tanh())),
            p: summary.t_test().map(|(_, p)| p),
            n: summary.n,
            detectable: summary.detectable(LEVEL, POWER).map(f64::tanh),
            note: None,
        }
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
    pub(super) fn of(tested: &Tested, margin: f64, p: Option<f64>) -> Self {
        let Some((low, high)) = tested.interval else { return Self::Undecided };
        let benefit = low > 0.0 && p.is_none_or(|p| p < 1.0 - LEVEL);
        match (benefit, high < margin) {
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
mod tests {
    use super::{Tested, Verdict};

    fn tested(low: f64, high: f64) -> Tested {
        Tested { value: 0.5 * (low + high), interval: Some((low, high)), p: None, n: 5, detectable: None, note: None }
    }

    #[test]
    fn verdicts_follow_the_interval() {
        let of = |low, high| Verdict::of(&tested(low, high), 0.01, Some(0.001));
        assert_eq!(of(0.002, 0.03), Verdict::Holds);
        assert_eq!(of(0.002, 0.008), Verdict::HoldsBelowMargin);
        assert_eq!(of(-0.004, 0.008), Verdict::Fails);
        assert_eq!(of(-0.04, -0.01), Verdict::Fails);
        assert_eq!(of(-0.004, 0.03), Verdict::Undecided);
        // Where several findings are tested, an interval of its own is not enough.
        assert_eq!(Verdict::of(&tested(0.002, 0.03), 0.01, Some(0.2)), Verdict::Undecided);
        assert_eq!(Verdict::of(&Tested { interval: None, ..tested(0.0, 1.0) }, 0.01, None), Verdict::Undecided);
    }

    #[test]
    fn an_effect_of_no_account_lies_within_the_margin() {
        assert_eq!(tested(-0.004, 0.002).within(0.01).interval, Some((0.006, 0.01)));
        assert!(tested(0.002, 0.03).within(0.01).interval.is_some_and(|(low, high)| low < 0.0 && high > 0.0));
        assert!(tested(0.02, 0.03).within(0.01).interval.is_some_and(|(_, high)| high < 0.0));
    }
}
