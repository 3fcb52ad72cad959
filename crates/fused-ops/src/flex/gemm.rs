//! A safe face for `gemm`: strided views that are checked once, products into fresh or given storage.

use gemm::Parallelism;
use rayon::prelude::*;

/// A strided view of a matrix.
#[derive(Clone, Copy)]
pub(super) struct Mat<'a> {
    data: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// A row-major matrix.
    pub(super) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a {rows} x {cols} matrix needs as many values");
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The transposed view.
    pub(super) fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// Rows `from..to`.
    pub(super) fn row_range(self, from: usize, to: usize) -> Self {
        assert!(from <= to && to <= self.rows, "a range of the view's rows");
        Self { data: &self.data[from * self.row_stride..], rows: to - from, ..self }
    }

    fn rows_at(self, from: usize, count: usize) -> Self {
        self.row_range(from, from + count)
    }

    fn fits(&self) -> bool {
        self.rows == 0
            || self.cols == 0
            || (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride < self.data.len()
    }
}

/// Below this many multiply-adds a second thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 18;

fn parallelism(work: usize) -> Parallelism {
    if work < PARALLEL_FROM { Parallelism::None } else { Parallelism::Rayon(0) }
}

/// Rows of a block of a tall product: one task each, which costs less than sharing one product between threads. Fixed,
/// so that results do not depend on the number of threads.
const TALL_BLOCK: usize = 256;

fn is_tall(a: Mat<'_>, b: Mat<'_>) -> bool {
    a.rows >= 16 * TALL_BLOCK && a.rows >= 4 * b.cols
}

/// `a·b`, row-major, on all cores.
pub(super) fn matmul(a: Mat<'_>, b: Mat<'_>) -> Vec<f32> {
    let n = a.rows * b.cols;
    let mut out = Vec::with_capacity(n);
    let work = n * a.cols;
    if a.cols == 0 {
        out.resize(n, 0.0);
        return out;
    }
    if is_tall(a, b) {
        let blocks = out.spare_capacity_mut()[..n].par_chunks_mut(TALL_BLOCK * b.cols).enumerate();
        blocks.for_each(|(i, out)| {
            let rows = a.rows_at(i * TALL_BLOCK, out.len() / b.cols);
            // SAFETY: the block holds as many rows of b.cols values as `rows` has, and nothing is read from it.
            unsafe { run(out.as_mut_ptr().cast(), b.cols, rows, b, false, Parallelism::None) }
        });
    } else {
        // SAFETY: the capacity is `n`, and nothing is read from it.
        unsafe { run(out.as_mut_ptr(), b.cols, a, b, false, parallelism(work)) }
    }
    // SAFETY: `run` with `accumulate = false` wrote every one of the `n` values.
    unsafe { out.set_len(n) }
    out
}

/// `out = a·b`, or `out += a·b`, row-major, on all cores.
pub(super) fn matmul_into(out: &mut [f32], a: Mat<'_>, b: Mat<'_>, accumulate: bool) {
    assert_eq!(out.len(), a.rows * b.cols, "the output has the product's size");
    if is_tall(a, b) {
        out.par_chunks_mut(TALL_BLOCK * b.cols).enumerate().for_each(|(i, out)| {
            matmul_serial(out, b.cols, a.rows_at(i * TALL_BLOCK, out.len() / b.cols), b, accumulate);
        });
        return;
    }
    let work = out.len() * a.cols;
    // SAFETY: `out` holds a.rows x b.cols values, row-major.
    unsafe { run(out.as_mut_ptr(), b.cols, a, b, accumulate, parallelism(work)) }
}

/// The same on the calling thread alone, with rows of `out` that are `stride` apart: for code that is parallel outside.
pub(super) fn matmul_serial(out: &mut [f32], stride: usize, a: Mat<'_>, b: Mat<'_>, accumulate: bool) {
    assert!(
        stride >= b.cols && (a.rows == 0 || (a.rows - 1) * stride + b.cols <= out.len()),
        "the output has the product's size"
    );
    // SAFETY: the last element written lies inside `out`, as just checked.
    unsafe { run(out.as_mut_ptr(), stride, a, b, accumulate, Parallelism::None) }
}

/// # Safety
/// `out` is valid for writes at `row * stride + col` for all rows of `a` and columns of `b`, and for reads there if
/// `accumulate`.
unsafe fn run(out: *mut f32, stride: usize, a: Mat<'_>, b: Mat<'_>, accumulate: bool, parallelism: Parallelism) {
    assert_eq!(a.cols, b.rows, "inner dimensions agree");
    assert!(a.fits() && b.fits(), "the views lie inside their slices");
    // SAFETY: the caller vouches for `out`; `fits` was checked for the inputs.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out,
            1,
            stride as isize,
            accumulate,
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
        let (m, k, n) = (16 * TALL_BLOCK + 77, 9, 5);
        let values = |count: usize| (0..count).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect::<Vec<_>>();
        let (a, b) = (values(m * k), values(k * n));
        for a in [Mat::new(&a, m, k), Mat::new(&a, k, m).t()] {
            let b = Mat::new(&b, k, n);
            assert!(is_tall(a, b));
            let found = matmul(a, b);
            let mut twice = found.clone();
            matmul_into(&mut twice, a, b, true);
            for row in (0..m).step_by(61) {
                for col in 0..n {
                    let at = |i: usize| a.data[row * a.row_stride + i * a.col_stride] * b.data[i * n + col];
                    let truth: f32 = (0..k).map(at).sum();
                    assert!((found[row * n + col] - truth).abs() < 1e-5, "{row}, {col}");
                    assert!((twice[row * n + col] - 2.0 * truth).abs() < 2e-5, "{row}, {col}");
                }
            }
        }
    }
}
