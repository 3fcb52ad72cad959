//! The bounds hold on random quadratics.
#![allow(clippy::unwrap_used, reason = "tests")]

use forgetting_eval::theory::{Descent, Displacement, Initialisation, Path, PathError, Point, Smoothness};
use proptest::prelude::*;

const D: usize = 4;

/// A quadratic (θ − c)ᵀA(θ − c)/2 with A = MᵀM + a trace of I; its smoothness bounded from above by the trace.
#[derive(Debug, Clone)]
struct Quadratic {
    a: [[f64; D]; D],
    c: [f64; D],
}

impl Quadratic {
    fn gradient(&self, theta: &[f64]) -> Vec<f64> {
        self.a.iter().map(|row| (0..D).map(|j| row[j] * (theta[j] - self.c[j])).sum()).collect()
    }

    fn loss(&self, theta: &[f64]) -> f64 {
        let gradient = self.gradient(theta);
        (0..D).map(|i| gradient[i] * (theta[i] - self.c[i])).sum::<f64>() / 2.0
    }

    fn smoothness(&self) -> f64 {
        (0..D).map(|i| self.a[i][i]).sum()
    }
}

/// Gradient descent on `t`.
fn descent(p: &Quadratic, t: &Quadratic, start: &[f64], eta: f64, steps: usize) -> Path {
    let mut theta = start.to_vec();
    Path::walk(&vec![eta; steps], |k| {
        if k > 0 {
            let gradient = t.gradient(&theta);
            theta.iter_mut().zip(gradient).for_each(|(x, g)| *x -= eta * g);
        }
        Ok::<_, PathError>(Point {
            loss_p: p.loss(&theta),
            grad_p: p.gradient(&theta),
            loss_t: t.loss(&theta),
            grad_t: t.gradient(&theta),
            theta: theta.clone(),
        })
    })
    .unwrap()
}

fn quadratic() -> impl Strategy<Value = Quadratic> {
    let entries = || prop::array::uniform4(-2.0f64..2.0);
    (prop::array::uniform4(entries()), entries()).prop_map(|(m, c)| {
        let mut a = [[0.0; D]; D];
        for i in 0..D {
            for j in 0..D {
                a[i][j] = (0..D).map(|k| m[k][i] * m[k][j]).sum::<f64>() + if i == j { 1e-3 } else { 0.0 };
            }
        }
        Quadratic { a, c }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn eq3_to_eq5(p in quadratic(), t in quadratic(), start in prop::array::uniform4(-5.0f64..5.0), share in 0.01f64..1.0, steps in 1usize..40) {
        let (l_p, l_t) = (p.smoothness(), t.smoothness());
        let eta = share / l_t;
        let path = descent(&p, &t, &start, eta, steps);
        let bounds = path.bounds(Smoothness { l_p, l_t }, 0.0);
        let slack = 1e-9 * (1.0 + bounds.eq5().abs() + bounds.alignment.abs());
        prop_assert!(bounds.rate_is_small());
        prop_assert!(bounds.forgetting <= bounds.eq3() + slack);
        prop_assert!(bounds.eq3() <= bounds.eq4() + slack);
        prop_assert!(bounds.eq4() <= bounds.eq5() + slack);
        // With plain gradient descent the actual steps are the paper's.
        prop_assert!((bounds.actual() - bounds.eq3()).abs() <= slack);
        // Nor does any step break any of the inequalities.
        let after = path.losses_p[1..].iter().zip(&path.losses_t[1..]);
        let descents = after.map(|(p, t)| Descent { loss_p: *p, loss_t: *t }).collect();
        let path = path.with_descents(descents).unwrap();
        for check in [path.eq2(l_p).unwrap(), path.eq7(l_p), path.eq8().unwrap(), path.eq13(l_t)] {
            prop_assert!(check.all() && check.steps == steps, "{check:?}");
        }
        // Estimates along the path are lower ones.
        let seen = path.smoothness();
        prop_assert!(seen.l_p <= l_p * (1.0 + 1e-6) && seen.l_t <= l_t * (1.0 + 1e-6));
    }

    /// Eq. 14, 17, 18 and 19: midtraining is any walk, here along the gradient of another quadratic.
    #[test]
    fn midtraining(p in quadratic(), t in quadratic(), m in quadratic(), start in prop::array::uniform4(-5.0f64..5.0), steps in 1usize..20) {
        let (l_p, l_t) = (p.smoothness(), t.smoothness());
        let alpha = 0.5 / m.smoothness();
        let mut theta = start.to_vec();
        let mut logged = Vec::new();
        for u in 0..steps {
            let rate = alpha * (1.0 - u as f64 / (2 * steps) as f64);
            let gradient = m.gradient(&theta);
            logged.push((rate, rate * gradient.iter().map(|g| g * g).sum::<f64>().sqrt()));
            theta.iter_mut().zip(gradient).for_each(|(x, g)| *x -= rate * g);
        }
        let before = Initialisation::of(&start, &theta, &t.gradient(&start), (t.loss(&start), t.loss(&theta))).unwrap();
        let moved = Displacement::of(logged).unwrap();
        let slack = 1e-9 * (1.0 + before.loss_before + before.eq14(l_t).abs() + moved.eq18(l_t));
        prop_assert!(before.loss_after <= before.eq14(l_t) + slack);
        prop_assert!(before.least_l_t().is_none_or(|l| l <= l_t * (1.0 + 1e-6) + 1e-9) || before.displacement_square < 1e-12);
        let (left, right) = before.eq15(l_t);
        prop_assert!(left > right || before.loss_after <= before.loss_before + slack);
        prop_assert!(moved.nonincreasing);
        prop_assert!(before.displacement_square.sqrt() <= moved.length + slack);
        prop_assert!(moved.length <= moved.eq17() + slack);
        let eta = 1.0 / l_t;
        let path = descent(&p, &t, &theta, eta, 5);
        let bounds = path.bounds(Smoothness { l_p, l_t }, 0.0);
        let eq19 = moved.eq19(&bounds, &before);
        prop_assert!(bounds.forgetting <= eq19 + 1e-9 * (1.0 + eq19.abs() + bounds.alignment.abs()));
    }
}

#[test]
fn points_that_do_not_fit_are_refused() {
    let point =
        |theta: Vec<f64>, loss_p| Point { grad_p: theta.clone(), grad_t: theta.clone(), theta, loss_p, loss_t: 1.0 };
    let walk = |rates: &[f64], points: Vec<Point<f64>>| Path::walk(rates, |k| Ok::<_, PathError>(points[k].clone()));
    assert!(matches!(
        walk(&[0.1], vec![point(vec![1.0], 0.0), point(vec![1.0, 2.0], 0.0)]),
        Err(PathError::Length { point: 1, what: "theta", found: 2, expected: 1 })
    ));
    assert!(matches!(
        walk(&[], vec![point(vec![1.0], f64::NAN)]),
        Err(PathError::NotFinite { point: 0, what: "loss_p" })
    ));
    assert!(matches!(walk(&[-0.1], vec![point(vec![1.0], 0.0)]), Err(PathError::Rate { step: 0, .. })));
    // A path of one point has forgotten nothing.
    let still = walk(&[], vec![point(vec![1.0], 2.0)]).unwrap();
    assert_eq!((still.forgetting(), still.smoothness().l_p), (0.0, 0.0));
}
