//! f32 and f64: what products are computed in.

use multiversion::multiversion;
use packed_gemm::{Left, Mat, Right};
use rayon::prelude::*;

/// f32 or f64.
pub trait Real: Copy + Send + Sync + Default + 'static + sealed::Sealed {
    /// What [`pack`](Self::pack) makes.
    type Factors<'a>: Send + Sync;
    /// What is left of a difference of sums, relative to them, that is rounding alone.
    const NOISE: f64;
    /// Widened.
    fn to_f64(self) -> f64;
    /// Rounded.
    fn from_f64(value: f64) -> Self;
    /// `sums += values`
    fn add_to(sums: &mut [f64], values: &[Self]);
    /// The factors of products of layers for some pairs of them, made ready once.
    fn pack<'a>(layers: &[Rows<'a, Self>], pairs: &[(usize, usize)]) -> Self::Factors<'a>;
    /// `out = X_a[:, from..from+m]ᵀ · X_b[:, ..n]`, row-major `[m, n]`, on the calling thread.
    fn transposed_product(
        out: &mut [Self],
        factors: &Self::Factors<'_>,
        pair: (usize, usize),
        rows: (usize, usize),
        n: usize,
    );
    /// Appends `(row − shift)·scale` to `kept`, adds it to `sums`, and gives Σ of its squares.
    fn take(kept: &mut Vec<Self>, row: &[Self], shift: &[Self], scale: Option<&[f64]>, sums: &mut [f64]) -> f64;
}

/// Layers packed as the left and the right side of products, where a pair has them there.
pub struct Packed<'a> {
    left: Vec<Option<Left<'a>>>,
    right: Vec<Option<Right<'a>>>,
}

impl Real for f32 {
    type Factors<'a> = Packed<'a>;
    const NOISE: f64 = 1e-6;
    fn pack<'a>(layers: &[Rows<'a, Self>], pairs: &[(usize, usize)]) -> Packed<'a> {
        let mat = |i: usize| Mat::new(layers[i].values, layers[i].count(), layers[i].width);
        let all = 0..layers.len();
        let left = |i: usize| pairs.iter().any(|(a, _)| *a == i).then(|| Left::new(mat(i).t()));
        let right = |i: usize| pairs.iter().any(|(_, b)| *b == i).then(|| Right::new(mat(i)));
        let (left, right) = rayon::join(
            || all.clone().into_par_iter().map(left).collect(),
            || all.clone().into_par_iter().map(right).collect(),
        );
        Packed { left, right }
    }
    fn transposed_product(
        out: &mut [Self],
        factors: &Packed<'_>,
        (a, b): (usize, usize),
        rows: (usize, usize),
        n: usize,
    ) {
        let packed = "the layers of a pair were packed";
        factors.left[a].as_ref().expect(packed).times(out, rows, factors.right[b].as_ref().expect(packed), n);
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn from_f64(value: f64) -> Self {
        value as Self
    }
    fn add_to(sums: &mut [f64], values: &[Self]) {
        add_f32(sums, values);
    }
    fn take(kept: &mut Vec<Self>, row: &[Self], shift: &[Self], scale: Option<&[f64]>, sums: &mut [f64]) -> f64 {
        take_f32(kept, row, shift, scale, sums)
    }
}

impl Real for f64 {
    type Factors<'a> = Vec<Rows<'a, Self>>;
    const NOISE: f64 = 1e-13;
    fn pack<'a>(layers: &[Rows<'a, Self>], _: &[(usize, usize)]) -> Vec<Rows<'a, Self>> {
        layers.to_vec()
    }
    fn transposed_product(
        out: &mut [Self],
        factors: &Vec<Rows<'_, Self>>,
        (a, b): (usize, usize),
        (from, m): (usize, usize),
        n: usize,
    ) {
        transposed_product(out, factors[a], from, m, factors[b], n);
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn from_f64(value: f64) -> Self {
        value
    }
    fn add_to(sums: &mut [f64], values: &[Self]) {
        add_f64(sums, values);
    }
    fn take(kept: &mut Vec<Self>, row: &[Self], shift: &[Self], scale: Option<&[f64]>, sums: &mut [f64]) -> f64 {
        take_f64(kept, row, shift, scale, sums)
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn add_f32(sums: &mut [f64], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(s, v)| *s += f64::from(*v));
}

#[multiversion(targets("x86_64+avx2"))]
fn add_f64(sums: &mut [f64], values: &[f64]) {
    sums.iter_mut().zip(values).for_each(|(s, v)| *s += v);
}

#[multiversion(targets("x86_64+avx2"))]
fn take_f32(kept: &mut Vec<f32>, row: &[f32], shift: &[f32], scale: Option<&[f64]>, sums: &mut [f64]) -> f64 {
    take_row(kept, row, shift, scale, sums)
}

#[multiversion(targets("x86_64+avx2"))]
fn take_f64(kept: &mut Vec<f64>, row: &[f64], shift: &[f64], scale: Option<&[f64]>, sums: &mut [f64]) -> f64 {
    take_row(kept, row, shift, scale, sums)
}

#[inline(always)]
fn take_row<T: Real>(kept: &mut Vec<T>, row: &[T], shift: &[T], scale: Option<&[f64]>, sums: &mut [f64]) -> f64 {
    let at = kept.len();
    kept.extend(row.iter().zip(shift).map(|(x, s)| T::from_f64(x.to_f64() - s.to_f64())));
    let kept = &mut kept[at..];
    if let Some(scale) = scale {
        kept.iter_mut().zip(scale).for_each(|(x, s)| *x = T::from_f64(x.to_f64() * s));
    }
    let mut lanes = [0f64; 8];
    for (kept, sums) in kept.chunks(8).zip(sums.chunks_mut(8)) {
        for ((x, sum), lane) in kept.iter().zip(sums).zip(&mut lanes) {
            let x = x.to_f64();
            *lane += x * x;
            *sum += x;
        }
    }
    lanes.iter().sum()
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// Rows of examples, row-major.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) width: usize,
}

impl<'a, T: Real> Rows<'a, T> {
    pub(crate) fn new(values: &'a [T], width: usize) -> Self {
        assert!(width > 0 && values.len().is_multiple_of(width), "whole rows of a positive width");
        Self { values, width }
    }

    pub(crate) fn count(self) -> usize {
        self.values.len() / self.width
    }
}

/// `out = X[:, from..from+m]ᵀ · Y[:, ..n]`, row-major `[m, n]`, on the calling thread.
pub(crate) fn transposed_product<T: Real>(
    out: &mut [T],
    x: Rows<'_, T>,
    from: usize,
    m: usize,
    y: Rows<'_, T>,
    n: usize,
) {
    let k = x.count();
    assert!(k == y.count() && from + m <= x.width && n <= y.width, "shapes that fit");
    let left = Factor { values: &x.values[from.min(x.values.len())..], row_stride: 1, column_stride: x.width };
    product(out, (m, n, k), left, Factor { values: y.values, row_stride: y.width, column_stride: 1 });
}

/// `out = X·Yᵀ`, row-major `[rows of X, rows of Y]`, on the calling thread.
pub(crate) fn gram_product<T: Real>(out: &mut [T], x: Rows<'_, T>, y: Rows<'_, T>) {
    let k = x.width;
    assert!(k == y.width, "shapes that fit");
    let left = Factor { values: x.values, row_stride: k, column_stride: 1 };
    product(out, (x.count(), y.count(), k), left, Factor { values: y.values, row_stride: 1, column_stride: k });
}

/// A strided matrix.
struct Factor<'a, T> {
    values: &'a [T],
    row_stride: usize,
    column_stride: usize,
}

impl<T> Factor<'_, T> {
    fn holds(&self, rows: usize, columns: usize) -> bool {
        (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.values.len()
    }
}

/// `out = left · right`, row-major `[m, n]`.
fn product<T: Real>(out: &mut [T], (m, n, k): (usize, usize, usize), left: Factor<'_, T>, right: Factor<'_, T>) {
    assert!(out.len() == m * n, "an output of the product's size");
    if m == 0 || n == 0 || k == 0 {
        out.fill(T::default());
        return;
    }
    assert!(left.holds(m, k) && right.holds(k, n), "factors that lie inside their slices");
    // SAFETY: both factors lie inside their slices and the output holds m rows of n values, as just checked.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            left.values.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            T::from_f64(1.0),
            T::from_f64(1.0),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_by_hand() {
        let x = [1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0];
        let rows = Rows::new(&x, 3);
        let mut out = [0.0; 2];
        // Column 1 of X with columns 0 and 1 of X.
        transposed_product(&mut out, rows, 1, 1, rows, 2);
        assert_eq!(out, [2.0 * 1.0 + 5.0 * 4.0, 2.0 * 2.0 + 5.0 * 5.0]);
        let mut gram = [0.0; 4];
        gram_product(&mut gram, rows, rows);
        assert_eq!(gram, [14.0, 32.0, 32.0, 77.0]);
    }
}
