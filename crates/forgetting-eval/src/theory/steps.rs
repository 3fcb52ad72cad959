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

/// What rounding of losses in f32 may make of an inequality that is met, as a share of the loss.
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
    /// An inequality for the change of a loss over each segment.
    fn check(&self, losses: &[f64], right: impl Fn(&Segment) -> f64) -> StepCheck {
        let steps = self.segments.iter().zip(losses.windows(2));
        StepCheck::of(steps.map(|(segment, pair)| (pair[1] - pair[0] - right(segment), pair[0])))
    }

    /// Eq. 2 (and 10): J_P(θ_{k+1}) − J_P(θ_k) ≤ −η ⟨∇J_P, ∇J_T⟩ + L_P η²/2 ‖∇J_T‖². It supposes gradient descent on the J_T
    /// that is measured.
    pub fn eq2(&self, l_p: f64) -> StepCheck {
        self.check(&self.losses_p, |s| -s.rate * s.dot + l_p * s.rate * s.rate / 2.0 * s.grad_t_square)
    }

    /// Eq. 7 for J_P, with the steps that were taken, whatever the optimiser:
    /// J_P(θ_{k+1}) − J_P(θ_k) ≤ ⟨∇J_P, Δθ⟩ + L_P/2 ‖Δθ‖².
    pub fn eq7(&self, l_p: f64) -> StepCheck {
        self.check(&self.losses_p, |s| s.step_dot_p + l_p / 2.0 * s.step_square)
    }

    /// Eq. 8: J_T(θ_{k+1}) ≤ J_T(θ_k) − η/2 ‖∇J_T‖². It needs no constant: it follows from assumption A.2 (η ≤ 1/L_T, gradient
    /// descent on this J_T), so that a step on which it fails refutes that assumption.
    pub fn eq8(&self) -> StepCheck {
        self.check(&self.losses_t, |s| -s.rate / 2.0 * s.grad_t_square)
    }

    /// Eq. 13 with the steps that were taken: J_T(θ + Δθ) ≤ J_T(θ) + ⟨∇J_T, Δθ⟩ + L_T/2 ‖Δθ‖².
    pub fn eq13(&self, l_t: f64) -> StepCheck {
        self.check(&self.losses_t, |s| s.step_dot_t + l_t / 2.0 * s.step_square)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn small_steps_meet_every_inequality() {
        let path = descent(0.25);
        for check in [path.eq2(2.0), path.eq7(2.0), path.eq8(), path.eq13(2.0)] {
            assert!(check.all() && check.steps == 4 && check.worst.unwrap().1 <= 1e-12, "{check:?}");
        }
        // The curvature is 2: less is refuted on every step.
        let less = path.eq13(1.9);
        assert!(less.held == 0 && less.worst.is_some_and(|(step, excess)| step == 0 && excess > 0.0), "{less:?}");
    }

    #[test]
    fn eq8_refutes_steps_that_are_too_long() {
        // η = 0.8 > 1/L_T = 0.5: the loss still falls, by less than η/2 ‖∇J_T‖².
        let check = descent(0.8).eq8();
        assert!(check.held == 0 && check.worst.unwrap().1 > 0.0, "{check:?}");
        assert!(descent(0.5).eq8().all());
    }
}
