//! Learning-rate curves. Each numbering convention in use has its own name.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::{Error, Step};

/// How a warm-up followed by a cosine numbers its steps. k counts optimiser steps from 0, W is the warm-up, N the total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// First update peak/W, peak at k = W−1, the minimum exactly at k = N−1 and after
    /// (Hugging Face `cosine_warmup_with_min_lr`). The default.
    #[default]
    CosineWarmupWithMinLr,
    /// First update 0, peak at k = W, just above the minimum at k = N−1 (Hugging Face `cosine_with_min_lr`).
    CosineWithMinLr,
    /// LitGPT's `get_lr`: counts micro-batches; an update uses the rate of its last one, k·g + g−1.
    /// The paper was trained with it.
    Litgpt {
        /// g, micro-batches of an optimiser step: from the recipe, not from the hardware.
        accumulation: u64,
    },
}

/// A learning-rate curve, as written in a spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum LrSpec {
    /// Linear warm-up, then half a cosine to the minimum.
    Cosine {
        /// Highest rate.
        peak: f64,
        /// Rate at the end.
        min: f64,
        /// W, steps of warm-up.
        warmup: u64,
        /// N, steps in all.
        total: u64,
        /// How steps are numbered.
        #[serde(default)]
        convention: Convention,
    },
    /// The same rate always.
    Constant {
        /// The rate.
        rate: f64,
    },
}

/// A checked learning-rate curve.
#[derive(Debug, Clone, PartialEq)]
pub struct LrSchedule(LrSpec);

impl LrSpec {
    /// The default curve.
    pub fn cosine(peak: f64, min: f64, warmup: u64, total: u64) -> Self {
        Self::Cosine { peak, min, warmup, total, convention: Convention::default() }
    }

    /// Checks the spec.
    ///
    /// # Errors
    /// Rates that are not finite or negative, a minimum above the peak, a warm-up longer than the run, no steps.
    pub fn build(self) -> Result<LrSchedule, Error> {
        let rate = |field: &str, value: f64| {
            let ok = value.is_finite() && value >= 0.0;
            if ok { Ok(()) } else { Err(Error::field(field, value, "must be finite and not negative")) }
        };
        match &self {
            Self::Constant { rate: value } => rate("rate", *value)?,
            Self::Cosine { peak, min, warmup, total, convention } => {
                rate("peak", *peak)?;
                rate("min", *min)?;
                if min > peak {
                    return Err(Error::field("min", min, format!("must not exceed peak = {peak}")));
                }
                if *total == 0 {
                    return Err(Error::field("total", total, "must be at least 1"));
                }
                if warmup > total {
                    return Err(Error::field("warmup", warmup, format!("must not exceed total = {total}")));
                }
                if let Convention::Litgpt { accumulation: 0 } = convention {
                    return Err(Error::field("accumulation", 0, "must be at least 1"));
                }
            }
        }
        Ok(LrSchedule(self))
    }
}

impl LrSchedule {
    /// The rate of the (k+1)-th update.
    pub fn at(&self, step: Step) -> f64 {
        match self.0 {
            LrSpec::Constant { rate } => rate,
            LrSpec::Cosine { peak, min, warmup, total, convention } => match convention {
                Convention::CosineWarmupWithMinLr => curve(step.0.saturating_add(1), warmup, total, peak, min),
                Convention::CosineWithMinLr => curve(step.0, warmup, total, peak, min),
                Convention::Litgpt { accumulation: g } => {
                    let it = step.0.saturating_mul(g).saturating_add(g - 1);
                    litgpt(it, warmup.saturating_mul(g), total.saturating_mul(g), peak, min)
                }
            },
        }
    }

    /// The spec it was built from.
    pub fn spec(&self) -> &LrSpec {
        &self.0
    }
}

/// `peak·x/W` up to W, then half a cosine to `min` at N, clamped there.
fn curve(x: u64, warmup: u64, total: u64, peak: f64, min: f64) -> f64 {
    if x < warmup {
        return peak * (x as f64 / warmup as f64);
    }
    if x >= total {
        return min;
    }
    // As Hugging Face: a factor of the peak, so that x = W gives the peak itself.
    let progress = (x - warmup) as f64 / (total - warmup) as f64;
    let factor = 0.5 * (1.0 + (PI * progress).cos());
    let floor = if peak > 0.0 { min / peak } else { 0.0 };
    peak * (factor * (1.0 - floor) + floor)
}

fn litgpt(it: u64, warmup: u64, total: u64, peak: f64, min: f64) -> f64 {
    if it < warmup {
        return peak * it as f64 / warmup as f64;
    }
    if it > total || total == warmup {
        return min;
    }
    let ratio = (it - warmup) as f64 / (total - warmup) as f64;
    min + 0.5 * (1.0 + (PI * ratio).cos()) * (peak - min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_specs_are_refused() {
        for (spec, text) in [
            (LrSpec::cosine(1e-3, 1e-4, 11, 10), "warmup = 11 must not exceed total = 10"),
            (LrSpec::cosine(1e-4, 1e-3, 1, 10), "min = 0.001 must not exceed peak"),
            (LrSpec::cosine(f64::NAN, 0.0, 1, 10), "peak = NaN"),
            (LrSpec::cosine(1e-3, 0.0, 0, 0), "total = 0"),
            (LrSpec::Constant { rate: -1.0 }, "rate = -1"),
        ] {
            let message = spec.build().unwrap_err().to_string();
            assert!(message.contains(text), "{message}");
        }
    }

    #[test]
    fn ends_are_exact() {
        let lr = LrSpec::cosine(1e-3, 1e-5, 5, 50).build().unwrap();
        assert_eq!(lr.at(Step(0)), 1e-3 / 5.0);
        assert_eq!(lr.at(Step(4)), 1e-3);
        assert_eq!(lr.at(Step(49)), 1e-5);
        assert_eq!(lr.at(Step(u64::MAX)), 1e-5);
        let zero = LrSpec::cosine(0.0, 0.0, 0, 5).build().unwrap();
        assert!((0..7).all(|k| zero.at(Step(k)) == 0.0));
    }
}
