//! Products with AVX-512.
//!
//! A left factor is cut into panels of [`LEFT`] rows, a right one into panels of [`RIGHT`] columns; a panel holds the values
//! of one k after the other, padded with zeros. The kernel multiplies two panels over [`DEPTH`] values of k at a time:
//! 12 × 32 sums in 24 registers, two loads and twelve broadcasts for 24 multiply-adds.
//!
//! A product:
//! 1. The smaller factor is packed whole.
//! 2. For each panel of the larger one, or for each piece of them that a task takes: it is packed, and multiplied with all
//!    panels of the other, while it lies in the first two caches.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

use crate::{First, Mat, Out};

/// Rows of a panel of the left factor.
pub(crate) const LEFT: usize = 12;
/// Columns of a panel of the right factor: two registers.
pub(crate) const RIGHT: usize = 16 * REGISTERS;
/// Registers of a row of sums.
const REGISTERS: usize = 2;
/// Values of k that are summed in registers. (Sums of longer products are added in the output.)
const DEPTH: usize = 512;
/// Values of k that are packed at once.
const SLICE: usize = 1024;
/// Fewest panels of the smaller factor that a task multiplies with one of the larger.
const FEWEST: usize = 8;

pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        let found = std::is_x86_feature_detected!("avx512f");
        #[cfg(not(target_arch = "x86_64"))]
        let found = false;
        found
    })
}

impl First {
    /// Of the tile that begins at this column.
    fn at(self, column: usize) -> Self {
        match self {
            // SAFETY: the row has as many values as the output has columns, and the column is one of them.
            Self::Row(row) => Self::Row(unsafe { row.add(column) }),
            other => other,
        }
    }
}

thread_local! {
    /// Room for one panel of the larger factor, and for the smaller one of serial products.
    static ROOM: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Long sums slice by slice, so that packed slices stay in a cache.
///
/// # Safety
/// As [`run`](crate::run), with AVX-512; neither side of the output is zero.
pub(crate) unsafe fn product(out: Out, a: Mat<'_>, b: Mat<'_>, mut first: First, parallel: bool) {
    for from in (0..a.cols.max(1)).step_by(SLICE) {
        let to = (from + SLICE).min(a.cols);
        let (a, b) = (a.t().row_range(from, to).t(), b.row_range(from, to));
        // SAFETY: as the caller vouches; the slices are as long as each other.
        unsafe { Slice { out, first, a, b }.multiply(parallel) };
        first = First::Sum;
    }
}

/// `out = first + a·b` for some values of k.
#[derive(Clone, Copy)]
struct Slice<'a> {
    out: Out,
    first: First,
    a: Mat<'a>,
    b: Mat<'a>,
}

impl Slice<'_> {
    /// # Safety
    /// As [`run`](crate::run), with AVX-512; neither side of the output is zero.
    unsafe fn multiply(self, parallel: bool) {
        let (m, n, k) = (self.a.rows, self.b.cols, self.a.cols);
        // The left factor is the smaller one: its panels are made first, and those of the right one on the way.
        let left_first = m <= n;
        let small_len = if left_first { panels_len(m, k, LEFT) } else { panels_len(n, k, RIGHT) };
        let (panels, width, others, unit) = if left_first {
            (n.div_ceil(RIGHT), m, m.div_ceil(LEFT), LEFT)
        } else {
            (m.div_ceil(LEFT), n, n.div_ceil(RIGHT), RIGHT)
        };
        // Taken out of this thread's room: a task that this thread runs while it waits has its own.
        let mut room = ROOM.with_borrow_mut(|(_, small)| std::mem::take(small));
        grow(&mut room, small_len);
        let small = &mut room[..small_len];
        if left_first {
            pack_all(small, self.a.t(), LEFT, parallel);
        } else {
            pack_all(small, self.b, RIGHT, parallel);
        }
        let small = &*small;
        // SAFETY: as the caller vouches; tasks are of different panels or of different ranges.
        let run = |i: usize, range: Range<usize>| unsafe {
            ROOM.with_borrow_mut(|(panel, _)| {
                if left_first { self.by_right(small, i, range, panel) } else { self.by_left(small, i, range, panel) }
            });
        };
        if parallel {
            // Pieces of a panel's work, so that there are some tasks for each thread even where there are few panels.
            let wanted = (8 * rayon::current_num_threads()).div_ceil(panels);
            let pieces = wanted.clamp(1, others.div_ceil(FEWEST));
            let piece = others.div_ceil(pieces) * unit;
            (0..panels * pieces).into_par_iter().for_each(|task| {
                let (i, from) = (task / pieces, task % pieces * piece);
                run(i, from.min(width)..(from + piece).min(width));
            });
        } else {
            (0..panels).for_each(|i| run(i, 0..width));
        }
        ROOM.with_borrow_mut(|(_, small)| *small = room);
    }

    /// The columns of one panel of the right factor, for some rows, which begin at a panel of the left one.
    ///
    /// # Safety
    /// AVX-512; the rows and columns are the output's, and no other task writes them.
    unsafe fn by_right(self, left: &[f32], i: usize, rows: Range<usize>, room: &mut Vec<f32>) {
        let (k, column) = (self.a.cols, i * RIGHT);
        let width = RIGHT.min(self.b.cols - column);
        grow(room, k * RIGHT);
        let panel = &mut room[..k * RIGHT];
        pack_panel(panel, self.b, column, width, RIGHT);
        for (from, depth) in depths(k) {
            let first = if from == 0 { self.first.at(column) } else { First::Sum };
            for row in rows.clone().step_by(LEFT) {
                let size = (LEFT.min(rows.end - row), width);
                let left = &left[(row / LEFT * k + from) * LEFT..];
                // SAFETY: as the caller vouches.
                unsafe { tile(self.out, (row, column), size, left, &panel[from * RIGHT..], depth, first) };
            }
        }
    }

    /// The rows of one panel of the left factor, for some columns, which begin at a panel of the right one.
    ///
    /// # Safety
    /// As [`by_right`](Self::by_right).
    unsafe fn by_left(self, right: &[f32], i: usize, columns: Range<usize>, room: &mut Vec<f32>) {
        let (k, row) = (self.a.cols, i * LEFT);
        let height = LEFT.min(self.a.rows - row);
        grow(room, k * LEFT);
        let panel = &mut room[..k * LEFT];
        pack_panel(panel, self.a.t(), row, height, LEFT);
        for (from, depth) in depths(k) {
            for column in columns.clone().step_by(RIGHT) {
                let first = if from == 0 { self.first.at(column) } else { First::Sum };
                let right = &right[(column / RIGHT * k + from) * RIGHT..];
                let size = (height, RIGHT.min(columns.end - column));
                // SAFETY: as the caller vouches.
                unsafe { tile(self.out, (row, column), size, &panel[from * LEFT..], right, depth, first) };
            }
        }
    }
}

/// Where each run of at most [`DEPTH`] values of k begins, and how many it has; one of none where there are none.
fn depths(k: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..k.max(1)).step_by(DEPTH).map(move |from| (from, DEPTH.min(k - from)))
}

/// `out = left·right` of packed factors, row-major `[m, n]`, on the calling thread.
pub(crate) fn multiply(out: &mut [f32], stride: usize, left: &[f32], right: &[f32], (m, n, k): (usize, usize, usize)) {
    let last = (m - 1).saturating_mul(stride).saturating_add(n);
    assert!(last <= out.len(), "the output has the product's size");
    let out = Out { data: out.as_mut_ptr(), stride };
    for (from, depth) in depths(k) {
        let first = if from == 0 { First::Zero } else { First::Sum };
        for column in (0..n).step_by(RIGHT) {
            let right = &right[(column / RIGHT * k + from) * RIGHT..];
            for row in (0..m).step_by(LEFT) {
                let size = (LEFT.min(m - row), RIGHT.min(n - column));
                let left = &left[(row / LEFT * k + from) * LEFT..];
                // SAFETY: the output holds m rows of n values, as just checked, and is this thread's; AVX-512 is there, since
                // factors are packed only then.
                unsafe { tile(out, (row, column), size, left, right, depth, first) };
            }
        }
    }
}

fn grow(room: &mut Vec<f32>, len: usize) {
    if room.len() < len {
        room.resize(len, 0.0);
    }
}

fn panels_len(width: usize, k: usize, unit: usize) -> usize {
    width.div_ceil(unit) * unit * k
}

/// All panels of a left factor.
pub(crate) fn pack_left(a: Mat<'_>) -> Vec<f32> {
    let mut panels = vec![0.0; panels_len(a.rows, a.cols, LEFT)];
    pack_all(&mut panels, a.t(), LEFT, false);
    panels
}

/// All panels of a right factor.
pub(crate) fn pack_right(b: Mat<'_>) -> Vec<f32> {
    let mut panels = vec![0.0; panels_len(b.cols, b.rows, RIGHT)];
    pack_all(&mut panels, b, RIGHT, false);
    panels
}

/// Packs the columns of `b` `[K, N]` in panels of `unit` columns.
fn pack_all(panels: &mut [f32], b: Mat<'_>, unit: usize, parallel: bool) {
    let size = b.rows * unit;
    if size == 0 {
        return;
    }
    let pack = |(i, panel): (usize, &mut [f32])| pack_panel(panel, b, i * unit, unit.min(b.cols - i * unit), unit);
    if parallel {
        panels.par_chunks_mut(size).enumerate().for_each(pack);
    } else {
        panels.chunks_mut(size).enumerate().for_each(pack);
    }
}

/// Packs the columns `from..from + count` of `b`: `panel[k * unit + c] = b[k, from + c]`, zero beyond `count`.
fn pack_panel(panel: &mut [f32], b: Mat<'_>, from: usize, count: usize, unit: usize) {
    assert!(panel.len() >= b.rows * unit && from + count <= b.cols && count <= unit && unit <= RIGHT, "a panel's room");
    if b.rows == 0 || count == 0 {
        return;
    }
    assert!(b.fits(), "the view lies inside its slice");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: AVX-512 is there, since this module is used at all; the panel has room for b.rows times `unit` values, and the
    // columns and rows are the view's, which lies inside its slice.
    unsafe {
        let data = b.data.as_ptr().add(from * b.col_stride);
        if b.col_stride == 1 {
            x86::copy_rows(panel.as_mut_ptr(), unit, data, b.row_stride, b.rows, count);
        } else if b.row_stride == 1 {
            x86::transpose_rows(panel.as_mut_ptr(), unit, data, b.col_stride, b.rows, count);
        } else {
            for k in 0..b.rows {
                for c in 0..unit {
                    let value = if c < count { *data.add(k * b.row_stride + c * b.col_stride) } else { 0.0 };
                    *panel.as_mut_ptr().add(k * unit + c) = value;
                }
            }
        }
    }
}

/// One tile of the output: `first + Σₖ left·right` over `depth` values of k.
///
/// # Safety
/// AVX-512; the tile lies inside the output, and no other task writes it; a first row holds its columns.
unsafe fn tile(
    out: Out,
    (row, column): (usize, usize),
    (height, width): (usize, usize),
    left: &[f32],
    right: &[f32],
    depth: usize,
    first: First,
) {
    assert!(left.len() >= depth * LEFT && right.len() >= depth * RIGHT, "panels of the depth");
    assert!((1..=LEFT).contains(&height) && (1..=RIGHT).contains(&width), "a tile of the kernel's size");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as the caller vouches; the panels hold `depth` values of k, as just checked.
    unsafe {
        let to = out.row(row).add(column);
        let kernels = [
            x86::kernel::<1>,
            x86::kernel::<2>,
            x86::kernel::<3>,
            x86::kernel::<4>,
            x86::kernel::<5>,
            x86::kernel::<6>,
            x86::kernel::<7>,
            x86::kernel::<8>,
            x86::kernel::<9>,
            x86::kernel::<10>,
            x86::kernel::<11>,
            x86::kernel::<12>,
        ];
        kernels[height - 1](to, out.stride, width, left.as_ptr(), right.as_ptr(), depth, first);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (out, row, column, first);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{First, LEFT, REGISTERS, RIGHT};

    /// The first `count` of 16 lanes.
    fn lanes(count: usize) -> __mmask16 {
        if count >= 16 { 0xffff } else { (1u16 << count) - 1 }
    }

    /// # Safety
    /// AVX-512F. `left` and `right` hold `depth` times a panel's width; `out` can be written for H rows, `stride` apart, of
    /// `width` values, and read there where `first` is a sum; a first row holds `width` values.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn kernel<const H: usize>(
        out: *mut f32,
        stride: usize,
        width: usize,
        left: *const f32,
        right: *const f32,
        depth: usize,
        first: First,
    ) {
        // SAFETY: as the caller vouches.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); REGISTERS]; H];
            let (mut a, mut b) = (left, right);
            for _ in 0..depth {
                let columns: [__m512; REGISTERS] = std::array::from_fn(|i| _mm512_loadu_ps(b.add(16 * i)));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let value = _mm512_set1_ps(*a.add(r));
                    for (sum, columns) in sums.iter_mut().zip(columns) {
                        *sum = _mm512_fmadd_ps(value, columns, *sum);
                    }
                }
                a = a.add(LEFT);
                b = b.add(RIGHT);
            }
            let masks: [__mmask16; REGISTERS] = std::array::from_fn(|i| lanes(width.saturating_sub(16 * i)));
            for (r, sums) in sums.iter().enumerate() {
                for half in 0..REGISTERS {
                    let to = out.add(r * stride).wrapping_add(16 * half);
                    let before = match first {
                        First::Zero => _mm512_setzero_ps(),
                        First::Sum => _mm512_maskz_loadu_ps(masks[half], to),
                        First::Row(row) => _mm512_maskz_loadu_ps(masks[half], row.wrapping_add(16 * half)),
                    };
                    _mm512_mask_storeu_ps(to, masks[half], _mm512_add_ps(before, sums[half]));
                }
            }
        }
    }

    /// `panel[k * unit + c] = data[k * stride + c]`, zero from `count` on.
    ///
    /// # Safety
    /// AVX-512F; `panel` can be written for rows × unit values, `data` read at all those places.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn copy_rows(
        panel: *mut f32,
        unit: usize,
        data: *const f32,
        stride: usize,
        rows: usize,
        count: usize,
    ) {
        let read: [__mmask16; REGISTERS] = std::array::from_fn(|i| lanes(count.saturating_sub(16 * i)));
        let write: [__mmask16; REGISTERS] = std::array::from_fn(|i| lanes(unit.saturating_sub(16 * i)));
        for k in 0..rows {
            for half in 0..unit.div_ceil(16) {
                // SAFETY: masked to what the caller vouches for.
                unsafe {
                    let values = _mm512_maskz_loadu_ps(read[half], data.add(k * stride).wrapping_add(16 * half));
                    _mm512_mask_storeu_ps(panel.add(k * unit).wrapping_add(16 * half), write[half], values);
                }
            }
        }
    }

    /// `panel[k * unit + c] = data[c * stride + k]`, zero from `count` on.
    ///
    /// # Safety
    /// As [`copy_rows`].
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn transpose_rows(
        panel: *mut f32,
        unit: usize,
        data: *const f32,
        stride: usize,
        rows: usize,
        count: usize,
    ) {
        for first in (0..unit).step_by(16) {
            let (columns, here) = (16.min(unit - first), count.saturating_sub(first).min(16));
            let write = lanes(columns);
            for from in (0..rows).step_by(16) {
                let depth = 16.min(rows - from);
                let read = lanes(depth);
                // SAFETY: masked to what the caller vouches for; rows beyond `here` are not read.
                unsafe {
                    let mut square = [_mm512_setzero_ps(); 16];
                    for (c, row) in square.iter_mut().enumerate().take(here) {
                        *row = _mm512_maskz_loadu_ps(read, data.add((first + c) * stride + from));
                    }
                    let square = transposed(square);
                    for (k, row) in square.iter().enumerate().take(depth) {
                        _mm512_mask_storeu_ps(panel.add((from + k) * unit + first), write, *row);
                    }
                }
            }
        }
    }

    /// 16 rows of 16 values, transposed: pairs of rows, then of pairs, then the quarters of registers are put in place.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn transposed(rows: [__m512; 16]) -> [__m512; 16] {
        let mut pairs = rows;
        for i in (0..16).step_by(2) {
            pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
            pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
        }
        let pd = |x: __m512| _mm512_castps_pd(x);
        let mut fours = pairs;
        for i in (0..16).step_by(4) {
            fours[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(pairs[i]), pd(pairs[i + 2])));
            fours[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(pairs[i]), pd(pairs[i + 2])));
            fours[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(pairs[i + 1]), pd(pairs[i + 3])));
            fours[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(pairs[i + 1]), pd(pairs[i + 3])));
        }
        // In fours[4i + j] quarter L holds column 4L + j of rows 4i … 4i + 3.
        let mut out = fours;
        for j in 0..4 {
            let even = [
                _mm512_shuffle_f32x4(fours[j], fours[4 + j], 0x88),
                _mm512_shuffle_f32x4(fours[8 + j], fours[12 + j], 0x88),
            ];
            let odd = [
                _mm512_shuffle_f32x4(fours[j], fours[4 + j], 0xdd),
                _mm512_shuffle_f32x4(fours[8 + j], fours[12 + j], 0xdd),
            ];
            out[j] = _mm512_shuffle_f32x4(even[0], even[1], 0x88);
            out[8 + j] = _mm512_shuffle_f32x4(even[0], even[1], 0xdd);
            out[4 + j] = _mm512_shuffle_f32x4(odd[0], odd[1], 0x88);
            out[12 + j] = _mm512_shuffle_f32x4(odd[0], odd[1], 0xdd);
        }
        out
    }
}
