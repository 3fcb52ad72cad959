//! A safe face for `gemm`: strided views that are checked once, products into fresh or given storage.

use gemm::Parallelism;

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

    /// Rows `from..to` of a row-major view.
    pub(super) fn row_range(self, from: usize, to: usize) -> Self {
        assert!(self.col_stride == 1 && from <= to && to <= self.rows, "a range of rows of a row-major view");
        Self { data: &self.data[from * self.row_stride..], rows: to - from, ..self }
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

/// `a·b`, row-major, on all cores.
pub(super) fn matmul(a: Mat<'_>, b: Mat<'_>) -> Vec<f32> {
    let n = a.rows * b.cols;
    let mut out = Vec::with_capacity(n);
    let work = n * a.cols;
    if a.cols == 0 {
        out.resize(n, 0.0);
        return out;
    }
    // SAFETY: the capacity is `n`, and `run` with `accumulate = false` writes every one of the `n` values.
    unsafe {
        run(out.as_mut_ptr(), b.cols, a, b, false, parallelism(work));
        out.set_len(n);
    }
    out
}

/// `out = a·b`, or `out += a·b`, row-major, on all cores.
pub(super) fn matmul_into(out: &mut [f32], a: Mat<'_>, b: Mat<'_>, accumulate: bool) {
    assert_eq!(out.len(), a.rows * b.cols, "the output has the product's size");
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
