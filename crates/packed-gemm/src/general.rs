//! Products by the `gemm` crate, for any processor.

use gemm::Parallelism;
use rayon::prelude::*;

use crate::{First, Mat, Out};

/// Rows of a block of a tall product: one task each, which costs less than sharing one product between threads. Fixed,
/// so that results do not depend on the number of threads.
const TALL_BLOCK: usize = 256;

/// # Safety
/// As [`run`](crate::run); neither side of the output is zero.
pub(crate) unsafe fn product(out: Out, a: Mat<'_>, b: Mat<'_>, first: First, parallel: bool) {
    let rows = || 0..a.rows;
    // SAFETY: rows of the output and the first row, which the caller vouches for.
    unsafe {
        match first {
            First::Zero if a.cols == 0 => rows().for_each(|row| out.row(row).write_bytes(0, b.cols)),
            First::Row(from) => rows().for_each(|row| out.row(row).copy_from(from, b.cols)),
            First::Zero | First::Sum => {}
        }
    }
    if a.cols == 0 {
        return;
    }
    let add = !matches!(first, First::Zero);
    let tall = a.rows >= 16 * TALL_BLOCK && a.rows >= 4 * b.cols;
    let block = |from: usize, to: usize, parallelism| {
        let rows = a.row_range(from, to);
        // SAFETY: rows of the output that no other task writes; the factors were checked.
        unsafe { one(out.row(from), out.stride, rows, b, add, parallelism) }
    };
    if tall {
        // The same blocks with one thread: a short last one may be computed by another kernel.
        let one = |i: usize| block(i * TALL_BLOCK, ((i + 1) * TALL_BLOCK).min(a.rows), Parallelism::None);
        let blocks = 0..a.rows.div_ceil(TALL_BLOCK);
        if parallel { blocks.into_par_iter().for_each(one) } else { blocks.for_each(one) }
    } else {
        block(0, a.rows, if parallel { Parallelism::Rayon(0) } else { Parallelism::None });
    }
}

/// # Safety
/// `out` is valid for writes at `row * stride + column` for all rows of `a` and columns of `b`, and for reads there if `add`;
/// the views lie inside their slices.
unsafe fn one(out: *mut f32, stride: usize, a: Mat<'_>, b: Mat<'_>, add: bool, parallelism: Parallelism) {
    // SAFETY: as the caller vouches.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out,
            1,
            stride as isize,
            add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tall_products_are_those_of_one_thread() {
        let (m, k, n) = (16 * TALL_BLOCK + 1, 9, 5);
        let values = |count: usize| (0..count).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect::<Vec<_>>();
        let (a, b) = (values(m * k), values(k * n));
        let b = Mat::new(&b, k, n);
        for a in [Mat::new(&a, m, k), Mat::new(&a, k, m).t()] {
            let run = |first, parallel| {
                let mut out = vec![1f32; m * n];
                // SAFETY: the output has the product's size.
                unsafe { product(Out { data: out.as_mut_ptr(), stride: n }, a, b, first, parallel) };
                out
            };
            assert!(run(First::Zero, true) == run(First::Zero, false));
            let once = run(First::Zero, true);
            let row = [2f32; 5];
            let more = [run(First::Sum, true), run(First::Row(row.as_ptr()), true)];
            for (i, v) in once.iter().enumerate() {
                assert!((more[0][i] - v - 1.0).abs() < 1e-5 && (more[1][i] - v - 2.0).abs() < 1e-5, "{i}");
            }
        }
    }
}
