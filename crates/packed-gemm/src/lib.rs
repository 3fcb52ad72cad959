//! Products of f32 matrices on a CPU's cores, with factors that can be packed once and used again.
//!
//! With AVX-512 they are this crate's own: training multiplies a few hundred rows with large matrices, and there packing a
//! matrix costs a seventh of a general product. Each factor is packed once, the smaller one before, the larger one piece by
//! piece while it is in use, transposed 16 × 16 values at a time where its rows lie the other way. On other processors the
//! `gemm` crate computes, and a packed factor is the matrix itself.
//!
//! A result does not depend on the number of threads: each element's sum has the same order.
//!
//! ```
//! use packed_gemm::{Mat, Start, product};
//!
//! let (a, b) = (Mat::new(&[1.0, 2.0, 3.0, 4.0], 2, 2), Mat::new(&[1.0, 0.0, 2.0, 1.0], 2, 2));
//! let mut out = [0.0; 4];
//! product(&mut out, 2, a, b, Start::Zero);
//! assert_eq!(out, [5.0, 2.0, 11.0, 4.0]);
//! product(&mut out, 2, a, b.t(), Start::Sum);
//! assert_eq!(out, [6.0, 6.0, 14.0, 14.0]);
//! ```

mod avx512;
mod general;
mod mat;
mod packed;

pub use mat::Mat;
pub use packed::{Left, Right};

/// What the elements of a product are before anything is added to them.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// Zero: what the output holds is not read.
    Zero,
    /// What the output holds.
    Sum,
    /// The same row for all, `[columns]`.
    Row(&'a [f32]),
}

/// `a·b`, row-major, on all cores of the current rayon pool.
///
/// # Panics
/// Where the shapes do not fit each other.
pub fn multiply(a: Mat<'_>, b: Mat<'_>) -> Vec<f32> {
    check_factors(a, b);
    let len = a.rows.checked_mul(b.cols).expect("a product that fits into memory");
    let mut out = Vec::with_capacity(len);
    let to = Out { data: out.as_mut_ptr(), stride: b.cols };
    // SAFETY: the capacity is a.rows rows of b.cols values, and nothing is read from it. All of them are written.
    unsafe {
        run(to, a, b, First::Zero, true);
        out.set_len(len);
    }
    out
}

/// `out = start + a·b`, row-major with rows `stride` apart, on all cores of the current rayon pool.
///
/// # Panics
/// Where the shapes do not fit each other or `out`.
pub fn product(out: &mut [f32], stride: usize, a: Mat<'_>, b: Mat<'_>, start: Start<'_>) {
    into(out, stride, a, b, start, true);
}

/// [`product`] on the calling thread alone.
///
/// # Panics
/// As [`product`].
pub fn product_serial(out: &mut [f32], stride: usize, a: Mat<'_>, b: Mat<'_>, start: Start<'_>) {
    into(out, stride, a, b, start, false);
}

fn into(out: &mut [f32], stride: usize, a: Mat<'_>, b: Mat<'_>, start: Start<'_>, parallel: bool) {
    check_factors(a, b);
    let last = a.rows.saturating_sub(1).saturating_mul(stride).saturating_add(b.cols);
    assert!(stride >= b.cols && (a.rows == 0 || b.cols == 0 || last <= out.len()), "the output has the product's size");
    let first = match start {
        Start::Zero => First::Zero,
        Start::Sum => First::Sum,
        Start::Row(row) => {
            assert_eq!(row.len(), b.cols, "the first row has the product's columns");
            First::Row(row.as_ptr())
        }
    };
    // SAFETY: the output holds a.rows rows of b.cols values, `stride` apart, as just checked; so does a first row b.cols.
    unsafe { run(Out { data: out.as_mut_ptr(), stride }, a, b, first, parallel) }
}

fn check_factors(a: Mat<'_>, b: Mat<'_>) {
    assert_eq!(a.cols, b.rows, "inner dimensions agree");
    assert!(a.fits() && b.fits(), "the views lie inside their slices");
}

/// # Safety
/// `out` is valid for writes of a.rows rows of b.cols values, and for reads there where the start is a sum; a first row holds
/// b.cols values. The factors were checked.
unsafe fn run(out: Out, a: Mat<'_>, b: Mat<'_>, first: First, parallel: bool) {
    if a.rows == 0 || b.cols == 0 {
        return;
    }
    let work = a.rows.saturating_mul(b.cols).saturating_mul(a.cols);
    let parallel = parallel && work >= PARALLEL_FROM && rayon::current_num_threads() > 1;
    // SAFETY: as the caller vouches.
    unsafe {
        if avx512::is_available() {
            avx512::product(out, a, b, first, parallel);
        } else {
            general::product(out, a, b, first, parallel);
        }
    }
}

/// Below this many multiply-adds a second thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 18;

/// An output that several tasks write disjoint parts of.
#[derive(Clone, Copy)]
struct Out {
    data: *mut f32,
    stride: usize,
}

impl Out {
    /// Where a row begins.
    ///
    /// # Safety
    /// The row is one of the output's.
    unsafe fn row(self, row: usize) -> *mut f32 {
        // SAFETY: as the caller vouches.
        unsafe { self.data.add(row * self.stride) }
    }
}

// SAFETY: tasks write disjoint tiles, and whoever made it waits for all of them.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

/// A [`Start`] without its lifetime.
#[derive(Clone, Copy)]
enum First {
    Zero,
    Sum,
    Row(*const f32),
}

// SAFETY: the row is only read, and outlives the product.
unsafe impl Send for First {}
// SAFETY: as above.
unsafe impl Sync for First {}

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
