//! Factors that are packed once and used in several products.

use crate::avx512::{self, LEFT, RIGHT};
use crate::{Mat, Start, product_serial};

/// A left factor, `[M, K]`, packed.
#[derive(Debug)]
pub struct Left<'a> {
    mat: Mat<'a>,
    panels: Vec<f32>,
}

/// A right factor, `[K, N]`, packed.
#[derive(Debug)]
pub struct Right<'a> {
    mat: Mat<'a>,
    panels: Vec<f32>,
}

impl<'a> Left<'a> {
    /// Packs a matrix, on the calling thread.
    ///
    /// # Panics
    /// Where the view does not lie inside its slice.
    pub fn new(mat: Mat<'a>) -> Self {
        assert!(mat.fits(), "the view lies inside its slice");
        let panels = if avx512::is_available() { avx512::pack_left(mat) } else { Vec::new() };
        Self { mat, panels }
    }
}

impl<'a> Right<'a> {
    /// Packs a matrix, on the calling thread.
    ///
    /// # Panics
    /// Where the view does not lie inside its slice.
    pub fn new(mat: Mat<'a>) -> Self {
        assert!(mat.fits(), "the view lies inside its slice");
        let panels = if avx512::is_available() { avx512::pack_right(mat) } else { Vec::new() };
        Self { mat, panels }
    }
}

impl Left<'_> {
    /// Rows of a panel: ranges of rows begin at multiples of it.
    pub const PANEL: usize = LEFT;

    /// `out = a[from..from+m] · b[.., ..n]`, row-major `[m, n]`, on the calling thread.
    ///
    /// # Panics
    /// Where `from` is no multiple of [`PANEL`](Self::PANEL), or the shapes do not fit.
    pub fn times(&self, out: &mut [f32], (from, m): (usize, usize), right: &Right<'_>, n: usize) {
        assert!(from.is_multiple_of(LEFT) && from + m <= self.mat.rows, "rows of the factor, from a panel on");
        assert!(n <= right.mat.cols && self.mat.cols == right.mat.rows, "shapes that fit");
        assert_eq!(out.len(), m * n, "an output of the product's size");
        if m == 0 || n == 0 {
            return;
        }
        if self.panels.is_empty() {
            let b = Mat { cols: n, ..right.mat };
            return product_serial(out, n, self.mat.row_range(from, from + m), b, Start::Zero);
        }
        let k = self.mat.cols;
        let left = &self.panels[from / LEFT * k * LEFT..];
        avx512::multiply(out, n, left, &right.panels[..n.div_ceil(RIGHT) * k * RIGHT], (m, n, k));
    }
}
