//! The theory's inequalities, step by step.

use serde::{Deserialize, Serialize};

use super::{Path, Segment};

/// How an inequality `left ≤ right` fared on the steps of a path.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepCheck {
    /// Steps checked.
    pub steps: usize,
    /// Steps on which it held.
    pub held: usize,
    /// The step with the largest left − right, and that: how far it was from holding (above 0), or how near to failing.
    pub worst: Option<(usize, f64)>,
}

/// What rounding of losses in f32 may make of an inequality that is met, as a share of the loss. (Losses of models whose products
/// are rounded to fewer bits are rougher than this.)
const ROUNDING: f64 = 1e-7;

/// One step: left − right, and the loss that both are changes of.
type Excess = (f64, f64);

impl StepCheck {
    fn of(steps: impl Iterator<Item = Excess>) -> Self {
        let mut out = Self { steps: 0, held: 0, worst: None };
        for (step, (excess, loss)) in steps.enumerate() {
            out.steps += 1;
            out.held += usize::from(excess <= ROUNDING * loss.abs());
            if out.worst.is_none_or(|(_, worst)| excess > worst) {
                out.worst = Some((step, excess));
            }
        }
        out
    }

    /// Whether it held on every step.
    pub fn all(&self) -> bool {
        self.held == self.steps
    }
}

impl Path {
    /// An inequality for the change of a loss from each point: `after` it, at most `right`. Steps of size 0 check nothing.
    fn check(&self, losses: &[f64], after: impl Iterator<Item = f64>, right: impl Fn(&Segment) -> f64) -> StepCheck {
        let steps = self.segments.iter().zip(losses).zip(after).filter(|((segment, _), _)| segment.rate > 0.0);
        StepCheck::of(steps.map(|((segment, before), after)| (after - before - right(segment), *before)))
    }

    /// Eq. 2 (and 10), J_P(θ − η∇J_T) − J_P(θ) ≤ −η ⟨∇J_P, ∇J_T⟩ + L_P η²/2 ‖∇J_T‖², for a step of gradient descent from each
    /// point; `None` where that was not measured ([`with_descents`](Self::with_descents)).
    pub fn eq2(&self, l_p: f64) -> Option<StepCheck> {
        let right = |s: &Segment| -s.rate * s.dot + l_p * s.rate * s.rate / 2.0 * s.grad_t_square;
        (!self.descents.is_empty()).then(|| self.check(&self.losses_p, self.descents.iter().map(|d| d.loss_p), right))
    }

    /// Eq. 7 for J_P, with the steps that were taken, whatever the optimiser:
    /// J_P(θ_{k+1}) − J_P(θ_k) ≤ ⟨∇J_P, Δθ⟩ + L_P/2 ‖Δθ‖².
    pub fn eq7(&self, l_p: f64) -> StepCheck {
        let after = self.losses_p.iter().skip(1).copied();
        self.check(&self.losses_p, after, |s| s.step_dot_p + l_p / 2.0 * s.step_square)
    }

    /// Eq. 8, J_T(θ − η∇J_T) ≤ J_T(θ) − η/2 ‖∇J_T‖², for a step of gradient descent from each point. It needs no constant: where
    /// it fails, η > 1/L_T, against assumption A.2. `None` where that was not measured.
    pub fn eq8(&self) -> Option<StepCheck> {
        let right = |s: &Segment| -s.rate / 2.0 * s.grad_t_square;
        (!self.descents.is_empty()).then(|| self.check(&self.losses_t, self.descents.iter().map(|d| d.loss_t), right))
    }

    /// Eq. 13 with the steps that were taken: J_T(θ + Δθ) ≤ J_T(θ) + ⟨∇J_T, Δθ⟩ + L_T/2 ‖Δθ‖².
    pub fn eq13(&self, l_t: f64) -> StepCheck {
        let after = self.losses_t.iter().skip(1).copied();
        self.check(&self.losses_t, after, |s| s.step_dot_t + l_t / 2.0 * s.step_square)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theory::Descent;

    /// J_P = J_T = θ², from 1, with a step size: L = 2 for both.
    fn descent(eta: f64) -> Path {
        Path::walk(&[eta; 4], |k| {
            let theta = (1.0f64 - 2.0 * eta).powi(k as i32);
            let (loss, gradient) = (theta * theta, vec![2.0 * theta]);
            Ok::<_, super::super::PathError>(super::super::Point {
                theta: vec![theta],
                loss_p: loss,
                grad_p: gradient.clone(),
                loss_t: loss,
                grad_t: gradient,
            })
        })
        .unwrap()
    }

    /// With what descent leads to: here it is the path itself.
    fn measured(eta: f64) -> Path {
        let path = descent(eta);
        let descents = path.losses_p[1..].iter().zip(&path.losses_t[1..]);
        let descents = descents.map(|(p, t)| Descent { loss_p: *p, loss_t: *t }).collect();
        path.with_descents(descents).unwrap()
    }

    #[test]
    fn small_steps_meet_every_inequality() {
        let path = measured(0.25);
        for check in [path.eq2(2.0).unwrap(), path.eq7(2.0), path.eq8().unwrap(), path.eq13(2.0)] {
            assert!(check.all() && check.steps == 4 && check.worst.unwrap().1 <= 1e-12, "{check:?}");
        }
        // The curvature is 2: less is refuted on every step.
        let less = path.eq13(1.9);
        assert!(less.held == 0 && less.worst.is_some_and(|(step, excess)| step == 0 && excess > 0.0), "{less:?}");
    }

    #[test]
    fn eq8_refutes_steps_that_are_too_long() {
        // η = 0.8 > 1/L_T = 0.5: the loss still falls, by less than η/2 ‖∇J_T‖².
        let check = measured(0.8).eq8().unwrap();
        assert!(check.held == 0 && check.worst.unwrap().1 > 0.0, "{check:?}");
        assert!(measured(0.5).eq8().unwrap().all());
        assert_eq!((descent(0.5).eq8(), descent(0.5).eq2(2.0)), (None, None));
        assert!(descent(0.5).with_descents(Vec::new()).is_err());
    }
}
