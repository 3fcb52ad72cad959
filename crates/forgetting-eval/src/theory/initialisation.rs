//! What midtraining changes before fine-tuning begins (Lemmas A.5 and A.6).

use serde::{Deserialize, Serialize};

use super::Scalar;
use super::path::{Bounds, PathError};
use super::vector::{dot, dot_difference, square_distance};

/// From θ_pre, the model before midtraining, to θ_0, the one that is fine-tuned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Initialisation {
    /// J_T(θ_pre)
    pub loss_before: f64,
    /// J_T(θ_0)
    pub loss_after: f64,
    /// ⟨∇J_T(θ_pre), δ⟩
    pub linear: f64,
    /// ‖δ‖²
    pub displacement_square: f64,
    /// ‖∇J_T(θ_pre)‖²
    pub grad_square: f64,
}

impl Initialisation {
    /// Of the two models' parameters, ∇J_T at the first, and J_T at both.
    ///
    /// # Errors
    /// Vectors of different lengths, losses that are not finite.
    pub fn of<T: Scalar>(
        before: &[T],
        after: &[T],
        grad_before: &[T],
        (loss_before, loss_after): (f64, f64),
    ) -> Result<Self, PathError> {
        for (what, found) in [("the model after midtraining", after.len()), ("its gradient", grad_before.len())] {
            if found != before.len() {
                return Err(PathError::Length { point: 0, what, found, expected: before.len() });
            }
        }
        if !(loss_before.is_finite() && loss_after.is_finite()) {
            return Err(PathError::NotFinite { point: 0, what: "J_T before or after midtraining" });
        }
        Ok(Self {
            loss_before,
            loss_after,
            linear: dot_difference(grad_before, before, after),
            displacement_square: square_distance(before, after),
            grad_square: dot(grad_before, grad_before),
        })
    }

    /// Right side of Eq. 14: J_T(θ_pre) + ⟨∇J_T(θ_pre), δ⟩ + L_T/2 ‖δ‖².
    pub fn eq14(&self, l_t: f64) -> f64 {
        self.loss_before + self.linear + l_t / 2.0 * self.displacement_square
    }

    /// Both sides of Eq. 15. With the true L_T, or a larger one, midtraining is sure to lower J_T where the left side is at
    /// most the right one. With a lower estimate of L_T that is not sufficient: such an estimate can only refute the condition.
    pub fn eq15(&self, l_t: f64) -> (f64, f64) {
        (self.linear, -l_t / 2.0 * self.displacement_square)
    }

    /// The largest L_T with which Eq. 15 holds, −2⟨∇J_T, δ⟩/‖δ‖²: where the true constant is larger, it does not. `None` where δ
    /// does not descend.
    pub fn largest_l_t(&self) -> Option<f64> {
        (self.linear < 0.0 && self.displacement_square > 0.0).then(|| -2.0 * self.linear / self.displacement_square)
    }

    /// The smallest L_T with which Eq. 14 holds here: curvature along δ that any valid constant must have. (With it Eq. 14 holds
    /// by definition, and Eq. 15 wherever J_T fell: that says nothing of an estimate from elsewhere.) `None` where nothing moved.
    pub fn least_l_t(&self) -> Option<f64> {
        let moved = self.displacement_square > 0.0;
        moved.then(|| 2.0 * (self.loss_after - self.loss_before - self.linear) / self.displacement_square)
    }

    /// Cosine of the descent direction −∇J_T(θ_pre) and δ: 1 if midtraining went where fine-tuning would. `None` where nothing
    /// moved or the gradient is 0.
    pub fn cosine(&self) -> Option<f64> {
        let norms = self.grad_square.sqrt() * self.displacement_square.sqrt();
        (norms > 0.0).then(|| -self.linear / norms)
    }
}

/// How far training went, from its logged steps (Lemma A.6).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Displacement {
    /// Steps.
    pub steps: u64,
    /// Σ ‖φ_{u+1} − φ_u‖, which ‖δ‖ cannot exceed.
    pub length: f64,
    /// α: the highest step size.
    pub alpha: f64,
    /// G(w): the largest ‖φ_{u+1} − φ_u‖ for its step size. (For gradient descent the largest gradient norm; for AdamW
    /// the largest norm of its preconditioned update, decay included.)
    pub g: f64,
    /// S(t) = Σ s, s the step size relative to α.
    pub s: f64,
    /// Whether s never rose, as the lemma supposes (its bound does not need it).
    pub nonincreasing: bool,
}

impl Displacement {
    /// From (step size, norm of the update) of each step.
    ///
    /// # Errors
    /// A size or norm that is negative or not finite, no step with a positive size, an update without a step size.
    pub fn of(steps: impl IntoIterator<Item = (f64, f64)>) -> Result<Self, PathError> {
        let (mut length, mut sum, mut alpha, mut g, mut count) = (0.0, 0.0, 0f64, 0f64, 0u64);
        let (mut last, mut nonincreasing) = (f64::INFINITY, true);
        for (rate, norm) in steps {
            let step = count as usize;
            if !(rate.is_finite() && rate >= 0.0) || (rate == 0.0 && norm != 0.0) {
                return Err(PathError::Rate { step, rate });
            }
            if !(norm.is_finite() && norm >= 0.0) {
                return Err(PathError::NotFinite { point: step, what: "the norm of its update" });
            }
            length += norm;
            sum += rate;
            alpha = alpha.max(rate);
            if rate > 0.0 {
                g = g.max(norm / rate);
            }
            nonincreasing &= rate <= last;
            last = rate;
            count += 1;
        }
        if alpha == 0.0 {
            return Err(PathError::Rate { step: 0, rate: 0.0 });
        }
        Ok(Self { steps: count, length, alpha, g, s: sum / alpha, nonincreasing })
    }

    /// Right side of Eq. 17: α G(w) S(t).
    pub fn eq17(&self) -> f64 {
        self.alpha * self.g * self.s
    }

    /// Right side of Eq. 18: L_T/2 · (α G(w) S(t))².
    pub fn eq18(&self, l_t: f64) -> f64 {
        l_t / 2.0 * self.eq17().powi(2)
    }

    /// Right side of Eq. 19: the fine-tuning path's alignment, and L_P η times what is left to learn from θ_pre on. As Eq. 3, it
    /// needs a path of single steps.
    pub fn eq19(&self, path: &Bounds, before: &Initialisation) -> f64 {
        let rate = path.largest_rate;
        let left = before.loss_before - path.best_t + before.linear + self.eq18(path.smoothness.l_t);
        path.alignment + path.smoothness.l_p * rate * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_walk_is_as_long_as_its_displacement() {
        let d = Displacement::of([(0.2, 0.4), (0.1, 0.2)]).unwrap();
        assert!((d.length - 0.6).abs() < 1e-15 && (d.eq17() - 0.6).abs() < 1e-15);
        assert!(d.nonincreasing && !Displacement::of([(0.1, 0.1), (0.2, 0.1)]).unwrap().nonincreasing);
        assert!(Displacement::of([]).is_err() && Displacement::of([(0.0, 1.0)]).is_err());
        assert!(Displacement::of([(0.1, f64::NAN)]).is_err());
    }

    #[test]
    fn eq14_is_exact_for_a_parabola() {
        // J_T(θ) = θ², L_T = 2, from 3 to 1.
        let i = Initialisation::of(&[3.0], &[1.0], &[6.0], (9.0, 1.0)).unwrap();
        assert_eq!((i.eq14(2.0), i.least_l_t(), i.cosine()), (1.0, Some(2.0), Some(1.0)));
        let still = Initialisation::of(&[3.0], &[3.0], &[6.0], (9.0, 9.0)).unwrap();
        assert_eq!((still.least_l_t(), still.cosine(), still.largest_l_t()), (None, None, None));
        assert_eq!(i.largest_l_t(), Some(6.0));
        let (left, right) = i.eq15(2.0);
        assert!(left <= right);
        assert!(Initialisation::of(&[3.0], &[1.0, 2.0], &[6.0], (9.0, 1.0)).is_err());
    }
}
