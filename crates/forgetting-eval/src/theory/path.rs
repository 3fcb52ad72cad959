//! Terms along a fine-tuning path.

use serde::{Deserialize, Serialize};

use super::Scalar;
use super::vector::{dot, dot_difference, square_distance};

/// What is measured at a point of the path, on fixed batches.
#[derive(Debug, Clone, PartialEq)]
pub struct Point<T> {
    /// The parameters.
    pub theta: Vec<T>,
    /// J_P
    pub loss_p: f64,
    /// ∇J_P
    pub grad_p: Vec<T>,
    /// J_T
    pub loss_t: f64,
    /// ∇J_T
    pub grad_t: Vec<T>,
}

/// A point that does not fit the others.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Vectors of different lengths.
    #[error("point {point}: {what} has {found} values, expected {expected}")]
    Length {
        /// The point.
        point: usize,
        /// Which vector.
        what: &'static str,
        /// Its values.
        found: usize,
        /// Those of the first point's parameters.
        expected: usize,
    },
    /// A loss or a product of gradients that is not finite.
    #[error("point {point}: {what} is not finite")]
    NotFinite {
        /// The point.
        point: usize,
        /// What.
        what: &'static str,
    },
    /// A step size that is none.
    #[error("step {step}: its size {rate} must not be negative")]
    Rate {
        /// The step.
        step: usize,
        /// Its size.
        rate: f64,
    },
}

/// What lies between two neighbouring points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// η: the step size, or the sum of those of the steps between the points.
    pub rate: f64,
    /// ⟨∇J_P, ∇J_T⟩ at its beginning.
    pub dot: f64,
    /// ‖∇J_P‖²
    pub grad_p_square: f64,
    /// ‖∇J_T‖²
    pub grad_t_square: f64,
    /// ⟨∇J_P, Δθ⟩ with the actual step.
    pub step_dot_p: f64,
    /// ⟨∇J_T, Δθ⟩
    pub step_dot_t: f64,
    /// ‖Δθ‖²
    pub step_square: f64,
    /// ‖∇J_P(θ + Δθ) − ∇J_P(θ)‖²
    pub change_p_square: f64,
    /// ‖∇J_T(θ + Δθ) − ∇J_T(θ)‖²
    pub change_t_square: f64,
}

impl Segment {
    /// Cosine of the two gradients: above 0, fine-tuning helps the general loss at first. NaN where one is 0.
    pub fn cosine(&self) -> f64 {
        self.dot / (self.grad_p_square.sqrt() * self.grad_t_square.sqrt())
    }
}

/// L-smoothness constants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Smoothness {
    /// L_P
    pub l_p: f64,
    /// L_T
    pub l_t: f64,
}

/// A fine-tuning path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Path {
    /// J_P at each point.
    pub losses_p: Vec<f64>,
    /// J_T at each point.
    pub losses_t: Vec<f64>,
    /// Between them.
    pub segments: Vec<Segment>,
    /// What a step of gradient descent would have led to from each point but the last; empty where that was not measured.
    #[serde(default)]
    pub descents: Vec<Descent>,
}

/// The losses at θ − η∇J_T(θ): where the paper's step leads, whatever step was taken.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Descent {
    /// J_P there.
    pub loss_p: f64,
    /// J_T there.
    pub loss_t: f64,
}

/// Bounds on Δ_P(K), and what they consist of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// Δ_P(K) itself (Eq. 9).
    pub forgetting: f64,
    /// A = −Σ η ⟨∇J_P, ∇J_T⟩ (Eq. 3).
    pub alignment: f64,
    /// B = L_P/2 · Σ η² ‖∇J_T‖² (Eq. 3).
    pub energy: f64,
    /// L_P η (J_T(θ_0) − J_T(θ_K)) (Eq. 4), with the largest η.
    pub effort_to_end: f64,
    /// L_P η (J_T(θ_0) − J_T*) (Eq. 5), with the largest η.
    pub effort: f64,
    /// Σ ⟨∇J_P, Δθ⟩ with the steps that were taken, whatever the optimiser.
    pub actual_alignment: f64,
    /// L_P/2 · Σ ‖Δθ‖² with the steps that were taken.
    pub actual_energy: f64,
    /// The constants used.
    pub smoothness: Smoothness,
    /// J_T* as given.
    pub best_t: f64,
    /// The largest η.
    pub largest_rate: f64,
    /// η · L_T with the largest η: Eq. 4 and 5 assume at most 1 (assumption A.2).
    pub rate_times_l_t: f64,
}

impl Bounds {
    /// Right side of Eq. 3.
    pub fn eq3(&self) -> f64 {
        self.alignment + self.energy
    }

    /// Right side of Eq. 4: up to the loss reached.
    pub fn eq4(&self) -> f64 {
        self.alignment + self.effort_to_end
    }

    /// Right side of Eq. 5 (and 12): up to the best loss there is.
    pub fn eq5(&self) -> f64 {
        self.alignment + self.effort
    }

    /// The same sum as Eq. 3 with the steps that were taken: it needs no gradient descent.
    pub fn actual(&self) -> f64 {
        self.actual_alignment + self.actual_energy
    }

    /// What share of the bound from the steps that were taken the forgetting is: near 1 where the bound says much, near 0
    /// where it says little. `None` where the bound is not positive.
    pub fn tightness(&self) -> Option<f64> {
        (self.actual() > 0.0).then(|| self.forgetting / self.actual())
    }

    /// Whether assumption A.2, η ≤ 1/L_T, is met by the constants used. (An estimate of L_T is a lower one: then this
    /// can refute the assumption, not prove it.)
    pub fn rate_is_small(&self) -> bool {
        self.rate_times_l_t <= 1.0 + 1e-12
    }
}

impl Path {
    /// Walks a path of `rates.len() + 1` points: `point(k)` gives what is measured at θ_k, in order; `rates[k]` is the
    /// step size (or the sum of step sizes) from θ_k to θ_{k+1}. Two points are kept at a time.
    ///
    /// # Errors
    /// What `point` fails with; points of different sizes; values that are not finite; a rate that is negative.
    pub fn walk<T: Scalar, E: From<PathError>>(
        rates: &[f64],
        mut point: impl FnMut(usize) -> Result<Point<T>, E>,
    ) -> Result<Self, E> {
        let mut before = point(0)?;
        let expected = before.theta.len();
        check(0, expected, &before)?;
        let mut path = Self {
            losses_p: vec![before.loss_p],
            losses_t: vec![before.loss_t],
            segments: Vec::with_capacity(rates.len()),
            descents: Vec::new(),
        };
        for (k, rate) in rates.iter().enumerate() {
            if !(rate.is_finite() && *rate >= 0.0) {
                return Err(PathError::Rate { step: k, rate: *rate }.into());
            }
            let after = point(k + 1)?;
            check(k + 1, expected, &after)?;
            let segment = between(*rate, &before, &after);
            let products = [segment.dot, segment.step_dot_p, segment.change_p_square, segment.change_t_square];
            if !products.iter().all(|v| v.is_finite()) {
                return Err(PathError::NotFinite { point: k, what: "a product of its gradients" }.into());
            }
            path.segments.push(segment);
            path.losses_p.push(after.loss_p);
            path.losses_t.push(after.loss_t);
            before = after;
        }
        Ok(path)
    }

    /// With the losses that a step of gradient descent from each point but the last leads to.
    ///
    /// # Errors
    /// Another number of them than of segments, losses that are not finite.
    pub fn with_descents(self, descents: Vec<Descent>) -> Result<Self, PathError> {
        if descents.len() != self.segments.len() {
            let (found, expected) = (descents.len(), self.segments.len());
            return Err(PathError::Length { point: 0, what: "the list of descents", found, expected });
        }
        match descents.iter().position(|d| !(d.loss_p.is_finite() && d.loss_t.is_finite())) {
            Some(point) => Err(PathError::NotFinite { point, what: "a loss after a step of gradient descent" }),
            None => Ok(Self { descents, ..self }),
        }
    }

    /// Δ_P(K) = J_P(θ_K) − J_P(θ_0) (Eq. 9).
    pub fn forgetting(&self) -> f64 {
        self.losses_p[self.losses_p.len() - 1] - self.losses_p[0]
    }

    /// The lowest J_T on the path.
    pub fn lowest_t(&self) -> f64 {
        self.losses_t.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// L_P and L_T as far as the path shows them: the largest ‖∇J(θ + Δθ) − ∇J(θ)‖ / ‖Δθ‖. The true constants are at
    /// least as large. 0 where nothing moved.
    pub fn smoothness(&self) -> Smoothness {
        let largest = |change: fn(&Segment) -> f64| {
            let moved = self.segments.iter().filter(|s| s.step_square > 0.0);
            moved.map(|s| (change(s) / s.step_square).sqrt()).fold(0.0, f64::max)
        };
        Smoothness { l_p: largest(|s| s.change_p_square), l_t: largest(|s| s.change_t_square) }
    }

    /// All terms, for given constants and a given J_T* (0 is always valid for a log loss; the lowest loss on the path
    /// is not, but closer).
    pub fn bounds(&self, smoothness: Smoothness, best_t: f64) -> Bounds {
        let sum = |f: &dyn Fn(&Segment) -> f64| self.segments.iter().map(f).sum::<f64>();
        let rate = self.segments.iter().map(|s| s.rate).fold(0.0, f64::max);
        let (first, last) = (self.losses_t[0], self.losses_t[self.losses_t.len() - 1]);
        Bounds {
            forgetting: self.forgetting(),
            alignment: -sum(&|s| s.rate * s.dot),
            energy: smoothness.l_p / 2.0 * sum(&|s| s.rate * s.rate * s.grad_t_square),
            effort_to_end: smoothness.l_p * rate * (first - last),
            effort: smoothness.l_p * rate * (first - best_t),
            actual_alignment: sum(&|s| s.step_dot_p),
            actual_energy: smoothness.l_p / 2.0 * sum(&|s| s.step_square),
            smoothness,
            best_t,
            largest_rate: rate,
            rate_times_l_t: rate * smoothness.l_t,
        }
    }
}

fn check<T: Scalar>(index: usize, expected: usize, point: &Point<T>) -> Result<(), PathError> {
    for (what, vector) in [("theta", &point.theta), ("grad_p", &point.grad_p), ("grad_t", &point.grad_t)] {
        if vector.len() != expected {
            return Err(PathError::Length { point: index, what, found: vector.len(), expected });
        }
    }
    for (what, loss) in [("loss_p", point.loss_p), ("loss_t", point.loss_t)] {
        if !loss.is_finite() {
            return Err(PathError::NotFinite { point: index, what });
        }
    }
    Ok(())
}

fn between<T: Scalar>(rate: f64, before: &Point<T>, after: &Point<T>) -> Segment {
    Segment {
        rate,
        dot: dot(&before.grad_p, &before.grad_t),
        grad_p_square: dot(&before.grad_p, &before.grad_p),
        grad_t_square: dot(&before.grad_t, &before.grad_t),
        step_dot_p: dot_difference(&before.grad_p, &before.theta, &after.theta),
        step_dot_t: dot_difference(&before.grad_t, &before.theta, &after.theta),
        step_square: square_distance(&before.theta, &after.theta),
        change_p_square: square_distance(&before.grad_p, &after.grad_p),
        change_t_square: square_distance(&before.grad_t, &after.grad_t),
    }
}
