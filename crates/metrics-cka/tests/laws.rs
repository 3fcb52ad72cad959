//! Laws of CKA, on random matrices.
#![allow(clippy::unwrap_used, reason = "tests")]

use metrics_cka::{biased, debiased};
use ndarray::{Array1, Array2};
use proptest::prelude::*;

fn matrix(n: usize, p: usize) -> impl Strategy<Value = Array2<f64>> {
    prop::collection::vec(-3.0f64..3.0, n * p).prop_map(move |v| Array2::from_shape_vec((n, p), v).unwrap())
}

/// A product of reflections: orthogonal.
fn orthogonal(p: usize, seed: &Array2<f64>) -> Array2<f64> {
    let mut q = Array2::eye(p);
    for row in seed.rows() {
        let v: Array1<f64> = row.iter().cycle().take(p).copied().collect();
        let norm = v.dot(&v);
        if norm > 1e-6 {
            let column = v.view().insert_axis(ndarray::Axis(1));
            let reflection = Array2::eye(p) - &(column.dot(&column.t()) * (2.0 / norm));
            q = q.dot(&reflection);
        }
    }
    q
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn invariances(x in matrix(20, 4), y in matrix(20, 3), seed in matrix(5, 4), scale in 0.1f64..10.0, shift in -50.0f64..50.0) {
        for f in [biased, debiased] {
            let value = f(x.view(), y.view()).unwrap();
            let moved = x.dot(&orthogonal(4, &seed)) * scale + shift;
            prop_assert!((f(moved.view(), y.view()).unwrap() - value).abs() < 1e-8);
            prop_assert!((f(y.view(), x.view()).unwrap() - value).abs() < 1e-12);
            prop_assert!((f(x.view(), x.view()).unwrap() - 1.0).abs() < 1e-12);
            prop_assert!(value <= 1.0 + 1e-12);
        }
        prop_assert!(biased(x.view(), y.view()).unwrap() >= 0.0);
    }

    /// Independent features with n close to p: biased CKA is far from 0, debiased near it.
    #[test]
    fn debiased_is_near_zero_on_independent_data(x in matrix(60, 40), y in matrix(60, 40)) {
        prop_assert!(biased(x.view(), y.view()).unwrap() > 0.3);
        prop_assert!(debiased(x.view(), y.view()).unwrap().abs() < 0.1);
    }
}
