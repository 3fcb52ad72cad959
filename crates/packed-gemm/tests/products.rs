//! Products of random shapes, strides and starts beside plain sums in f64; the same bits with any number of threads.
#![allow(clippy::unwrap_used, reason = "tests")]

use packed_gemm::{Left, Mat, Right, Start, multiply, product, product_serial};
use proptest::prelude::*;

fn values(count: usize, salt: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + salt * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
}

/// A matrix of the shape, stored so or the other way round.
fn mat(data: &[f32], rows: usize, cols: usize, transposed: bool) -> Mat<'_> {
    if transposed { Mat::new(data, cols, rows).t() } else { Mat::new(data, rows, cols) }
}

fn at(data: &[f32], (rows, cols): (usize, usize), transposed: bool, i: usize, j: usize) -> f64 {
    f64::from(if transposed { data[j * rows + i] } else { data[i * cols + j] })
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn products_are_the_sums(
        (m, n, k) in prop_oneof![
            (1usize..40, 1usize..80, 0usize..40),
            (1usize..6, 1usize..300, 1usize..1100),
            (60usize..130, 1usize..130, 500usize..1300),
        ],
        a_t: bool,
        b_t: bool,
        gap in 0usize..5,
        which in 0usize..3,
    ) {
        let (a, b, row) = (values(m * k, 1), values(k * n, 2), values(n, 3));
        let (am, bm) = (mat(&a, m, k, a_t), mat(&b, k, n, b_t));
        let stride = n + gap;
        let before = values(m * stride, 4);
        let run = |parallel: bool| {
            let start = [Start::Zero, Start::Sum, Start::Row(&row)][which];
            let mut out = before.clone();
            if which == 0 {
                out.fill(f32::NAN);
            }
            if parallel {
                product(&mut out, stride, am, bm, start);
            } else {
                product_serial(&mut out, stride, am, bm, start);
            }
            out
        };
        let out = run(false);
        let tolerance = 1e-6 * (k as f64 + 4.0);
        for i in 0..m {
            for j in 0..stride {
                let found = out[i * stride + j];
                if j >= n {
                    let kept = if which == 0 { f32::NAN } else { before[i * stride + j] };
                    prop_assert!(found == kept || (found.is_nan() && kept.is_nan()), "between the rows");
                    continue;
                }
                let first = [0.0, before[i * stride + j], row[j]][which];
                let sum: f64 = (0..k).map(|l| at(&a, (m, k), a_t, i, l) * at(&b, (k, n), b_t, l, j)).sum();
                let truth = f64::from(first) + sum;
                prop_assert!((f64::from(found) - truth).abs() <= tolerance, "{i}, {j}: {found} and {truth}");
            }
        }
        for threads in [1, 2, 5] {
            let other = pool(threads).install(|| run(true));
            prop_assert!(other.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits()), "{threads} threads");
        }
        if which == 0 && gap == 0 {
            prop_assert!(multiply(am, bm) == out);
        }
    }

    #[test]
    fn packed_factors_give_the_same(m in 1usize..70, n in 1usize..90, k in 1usize..600, a_t: bool, b_t: bool) {
        let (a, b) = (values(m * k, 1), values(k * n, 2));
        let (am, bm) = (mat(&a, m, k, a_t), mat(&b, k, n, b_t));
        let whole = multiply(am, bm);
        let (left, right) = (Left::new(am), Right::new(bm));
        let (from, columns) = (m / 2 / Left::PANEL * Left::PANEL, n.div_ceil(2));
        let mut part = vec![f32::NAN; (m - from) * columns];
        left.times(&mut part, (from, m - from), &right, columns);
        for (i, row) in part.chunks_exact(columns).enumerate() {
            for (j, v) in row.iter().enumerate() {
                let truth = whole[(from + i) * n + j];
                prop_assert!((v - truth).abs() <= 1e-6 * (k as f32 + 4.0), "{i}, {j}: {v} and {truth}");
            }
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let data = values(12, 0);
    let m = Mat::new(&data, 3, 4);
    for bad in [
        std::panic::catch_unwind(|| multiply(m, m)),
        std::panic::catch_unwind(|| {
            let mut out = vec![0.0; 8];
            product(&mut out, 3, m, m.t(), Start::Zero);
            out
        }),
        std::panic::catch_unwind(|| {
            let mut out = vec![0.0; 9];
            product(&mut out, 3, m, m.t(), Start::Row(&[1.0]));
            out
        }),
    ] {
        assert!(bad.is_err());
    }
    assert_eq!(multiply(Mat::new(&[], 0, 3), Mat::new(&[], 3, 0)), []);
}
