//! Learning-rate curves: a warm-up, a plateau, a decay; and curves one after the other.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::{Error, Span, Step, Tokens};

/// How a curve with a warm-up numbers its steps. k counts optimiser steps from 0, W is the warm-up, N the total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// First update peak/W, peak at k = W−1, the minimum exactly at k = N−1 and after
    /// (Hugging Face `cosine_warmup_with_min_lr`). The default.
    #[default]
    CosineWarmupWithMinLr,
    /// First update 0, peak at k = W, just above the minimum at k = N−1 (Hugging Face `cosine_with_min_lr`,
    /// `get_linear_schedule_with_warmup`).
    CosineWithMinLr,
    /// LitGPT's `get_lr`: counts micro-batches; an update uses the rate of its last one, k·g + g−1.
    /// The paper was trained with it.
    Litgpt {
        /// g, micro-batches of an optimiser step: from the recipe, not from the hardware.
        accumulation: u64,
    },
}

impl Convention {
    /// (x, W, N) of a step, in what the convention counts: the curve is a function of x.
    fn position(self, step: u64, warmup: u64, total: u64) -> (u64, u64, u64) {
        match self {
            Self::CosineWarmupWithMinLr => (step.saturating_add(1), warmup, total),
            Self::CosineWithMinLr => (step, warmup, total),
            Self::Litgpt { accumulation: g } => {
                (step.saturating_mul(g).saturating_add(g - 1), warmup.saturating_mul(g), total.saturating_mul(g))
            }
        }
    }
}

/// The shape of a decay from 1 to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decay {
    /// A straight line.
    #[default]
    Linear,
    /// 1 − √progress (Hägele et al. 2024): steep at first.
    OneMinusSqrt,
    /// Half a cosine.
    Cosine,
}

impl Decay {
    /// What is left at a progress from 0 to 1.
    fn at(self, progress: f64) -> f64 {
        match self {
            Self::Linear => 1.0 - progress,
            Self::OneMinusSqrt => 1.0 - progress.sqrt(),
            Self::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
        }
    }
}

/// A learning-rate curve, as written in a spec. Lengths are in steps (a number) or tokens (`"800M tokens"`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum LrSpec {
    /// Linear warm-up, then the same rate always.
    Constant {
        /// The rate.
        rate: f64,
        /// W, length of the warm-up.
        #[serde(default = "zero", skip_serializing_if = "is_zero")]
        warmup: Span,
        /// How steps are numbered.
        #[serde(default)]
        convention: Convention,
    },
    /// Linear warm-up, then a straight line to the minimum.
    Linear {
        /// Highest rate.
        peak: f64,
        /// Rate at the end.
        min: f64,
        /// W, length of the warm-up.
        warmup: Span,
        /// N, the whole length.
        total: Span,
        /// How steps are numbered.
        #[serde(default)]
        convention: Convention,
    },
    /// Linear warm-up, then half a cosine to the minimum.
    Cosine {
        /// Highest rate.
        peak: f64,
        /// Rate at the end.
        min: f64,
        /// W, length of the warm-up.
        warmup: Span,
        /// N, the whole length.
        total: Span,
        /// How steps are numbered.
        #[serde(default)]
        convention: Convention,
    },
    /// Warm-up, stable, decay: the peak is held until the last stretch (Hu et al. 2024).
    Wsd {
        /// Highest rate.
        peak: f64,
        /// Rate at the end.
        min: f64,
        /// W, length of the warm-up.
        warmup: Span,
        /// Length of the decay: the run's last stretch.
        decay: Span,
        /// Its shape.
        #[serde(default)]
        shape: Decay,
        /// N, the whole length.
        total: Span,
        /// How steps are numbered.
        #[serde(default)]
        convention: Convention,
    },
    /// Curves one after the other, each counting from 0 in its own stage: so a stage can warm up again. The last one
    /// goes on.
    Sequence {
        /// The stages.
        stages: Vec<LrStage>,
    },
}

/// A stage of a sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LrStage {
    /// Its length. A curve that is longer is cut, one that is shorter stays at its last rate.
    pub length: Span,
    /// Its curve.
    pub lr: LrSpec,
}

fn zero() -> Span {
    Span::from(0)
}

fn is_zero(span: &Span) -> bool {
    *span == zero()
}

impl LrSpec {
    /// The default curve.
    pub fn cosine(peak: f64, min: f64, warmup: impl Into<Span>, total: impl Into<Span>) -> Self {
        Self::Cosine { peak, min, warmup: warmup.into(), total: total.into(), convention: Convention::default() }
    }

    /// One rate from the first step on.
    pub fn constant(rate: f64) -> Self {
        Self::Constant { rate, warmup: zero(), convention: Convention::default() }
    }

    /// The same with every length in steps.
    ///
    /// # Errors
    /// Lengths in tokens where a step has none.
    pub fn in_steps(mut self, tokens_per_step: Tokens) -> Result<Self, Error> {
        let convert = |span: &mut Span| -> Result<(), Error> {
            *span = span.in_steps(tokens_per_step)?.into();
            Ok(())
        };
        match &mut self {
            Self::Constant { warmup, .. } => convert(warmup)?,
            Self::Linear { warmup, total, .. } | Self::Cosine { warmup, total, .. } => {
                convert(warmup)?;
                convert(total)?;
            }
            Self::Wsd { warmup, decay, total, .. } => {
                convert(warmup)?;
                convert(decay)?;
                convert(total)?;
            }
            Self::Sequence { stages } => {
                for stage in stages {
                    convert(&mut stage.length)?;
                    let lr = std::mem::replace(&mut stage.lr, Self::constant(0.0));
                    stage.lr = lr.in_steps(tokens_per_step)?;
                }
            }
        }
        Ok(self)
    }

    /// Checks the spec. Its lengths must be in steps.
    ///
    /// # Errors
    /// Rates that are not finite or negative, a minimum above the peak, a warm-up and decay longer than the run, no
    /// steps, a stage without steps, lengths in tokens.
    pub fn build(self) -> Result<LrSchedule, Error> {
        let curve = self.curve()?;
        Ok(LrSchedule { spec: self, curve })
    }

    fn curve(&self) -> Result<Curve, Error> {
        match self {
            Self::Constant { rate, warmup, convention } => {
                check_rate("rate", *rate)?;
                check_convention(*convention)?;
                let warmup = warmup.steps("warmup")?;
                Ok(Curve::Ramped(Ramped {
                    peak: *rate,
                    min: *rate,
                    warmup,
                    decay_from: u64::MAX,
                    total: u64::MAX,
                    shape: Decay::Linear,
                    convention: *convention,
                }))
            }
            Self::Linear { peak, min, warmup, total, convention } => {
                Ramped::curve((*peak, *min), *warmup, None, *total, Decay::Linear, *convention)
            }
            Self::Cosine { peak, min, warmup, total, convention } => {
                Ramped::curve((*peak, *min), *warmup, None, *total, Decay::Cosine, *convention)
            }
            Self::Wsd { peak, min, warmup, decay, shape, total, convention } => {
                Ramped::curve((*peak, *min), *warmup, Some(*decay), *total, *shape, *convention)
            }
            Self::Sequence { stages } => {
                let mut starts = Vec::new();
                let mut at = 0u64;
                for stage in stages {
                    let length = stage.length.steps("length of a stage")?;
                    if length == 0 {
                        return Err(Error::field("length of a stage", 0, "must be at least 1"));
                    }
                    starts.push((at, stage.lr.curve()?));
                    at = at.saturating_add(length);
                }
                if starts.is_empty() {
                    return Err(Error::field("stages", "[]", "must hold at least one"));
                }
                Ok(Curve::Sequence(starts))
            }
        }
    }
}

fn check_rate(field: &str, value: f64) -> Result<(), Error> {
    let ok = value.is_finite() && value >= 0.0;
    if ok { Ok(()) } else { Err(Error::field(field, value, "must be finite and not negative")) }
}

fn check_convention(convention: Convention) -> Result<(), Error> {
    match convention {
        Convention::Litgpt { accumulation: 0 } => Err(Error::field("accumulation", 0, "must be at least 1")),
        _ => Ok(()),
    }
}

/// A checked learning-rate curve.
#[derive(Debug, Clone, PartialEq)]
pub struct LrSchedule {
    spec: LrSpec,
    curve: Curve,
}

impl LrSchedule {
    /// The rate of the (k+1)-th update.
    pub fn at(&self, step: Step) -> f64 {
        self.curve.at(step.0)
    }

    /// The spec it was built from.
    pub fn spec(&self) -> &LrSpec {
        &self.spec
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Curve {
    Ramped(Ramped),
    /// Each stage's first step and its curve.
    Sequence(Vec<(u64, Curve)>),
}

impl Curve {
    fn at(&self, step: u64) -> f64 {
        match self {
            Self::Ramped(ramped) => ramped.at(step),
            Self::Sequence(stages) => {
                let after = stages.partition_point(|(start, _)| *start <= step);
                let (start, curve) = &stages[after - 1]; // the first stage starts at 0
                curve.at(step - start)
            }
        }
    }
}

/// `peak·x/W` up to W, the peak up to `decay_from`, a decay to `min` at N, and `min` from there on.
#[derive(Debug, Clone, PartialEq)]
struct Ramped {
    peak: f64,
    min: f64,
    warmup: u64,
    decay_from: u64,
    total: u64,
    shape: Decay,
    convention: Convention,
}

impl Ramped {
    /// `decay`: the length of the last stretch; all after the warm-up where absent.
    fn curve(
        (peak, min): (f64, f64),
        warmup: Span,
        decay: Option<Span>,
        total: Span,
        shape: Decay,
        convention: Convention,
    ) -> Result<Curve, Error> {
        check_rate("peak", peak)?;
        check_rate("min", min)?;
        check_convention(convention)?;
        let (warmup, total) = (warmup.steps("warmup")?, total.steps("total")?);
        if min > peak {
            return Err(Error::field("min", min, format!("must not exceed peak = {peak}")));
        }
        if total == 0 {
            return Err(Error::field("total", total, "must be at least 1"));
        }
        if warmup > total {
            return Err(Error::field("warmup", warmup, format!("must not exceed total = {total}")));
        }
        let decay = decay.map_or(Ok(total - warmup), |d| d.steps("decay"))?;
        if decay > total - warmup {
            let limit = format!("must not exceed total − warmup = {}", total - warmup);
            return Err(Error::field("decay", decay, limit));
        }
        Ok(Curve::Ramped(Self { peak, min, warmup, decay_from: total - decay, total, shape, convention }))
    }

    fn at(&self, step: u64) -> f64 {
        let (x, warmup, total) = self.convention.position(step, self.warmup, self.total);
        let (_, _, decay_from) = self.convention.position(step, self.warmup, self.decay_from);
        if x < warmup {
            return self.peak * (x as f64 / warmup as f64);
        }
        // The last step of a run that never decays, all warm-up or all plateau, is at the peak.
        if x <= decay_from && step < self.total {
            return self.peak;
        }
        if x >= total {
            return self.min;
        }
        let progress = (x - decay_from) as f64 / (total - decay_from) as f64;
        self.min + self.shape.at(progress) * (self.peak - self.min)
    }
}
