//! Activations, column sums, the gradient norm and AdamW: one threaded pass each.

use multiversion::multiversion;
use rayon::prelude::*;

use super::math::{erf_and_gauss, fold_lanes, tanh};
use crate::Gelu;
use crate::types::AdamWFactors;

/// Elements a task works on. Fixed, so that sums do not depend on the number of threads.
const PIECE: usize = 1 << 15;
/// Rows a task sums.
const ROWS: usize = 64;

const ROOT_2_OVER_PI: f32 = 0.797_884_6;

/// A new vector whose pieces `fill` writes in parallel: `fill(start, piece)` writes every value of the piece.
fn map_pieces(len: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut out = vec![0f32; len];
    out.par_chunks_mut(PIECE).enumerate().for_each(|(i, piece)| fill(i * PIECE, piece));
    out
}

/// `a = (a + b) + x`, or `a + x`.
pub(super) fn add_all(a: &mut [f32], b: Option<&[f32]>, x: &[f32]) {
    a.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE)).enumerate().for_each(|(i, (a, x))| {
        if let Some(b) = b {
            add_assign(a, &b[i * PIECE..i * PIECE + a.len()]);
        }
        add_assign(a, x);
    });
}

/// A matrix of `rows` rows of `cols` values, each the sum of the rows of `g` whose id it is, in their order.
pub(super) fn scatter_rows(ids: &[usize], g: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = vec![0f32; rows * cols];
    if cols > 0 {
        for (id, g) in ids.iter().zip(g.chunks_exact(cols)) {
            add_assign(&mut out[id * cols..(id + 1) * cols], g);
        }
    }
    out
}

pub(super) fn gelu(x: &[f32], kind: Gelu) -> Vec<f32> {
    map_pieces(x.len(), |from, out| {
        let x = &x[from..from + out.len()];
        match kind {
            Gelu::Exact => gelu_exact(x, out),
            Gelu::Tanh => gelu_tanh(x, out),
        }
    })
}

pub(super) fn gelu_backward(x: &[f32], g: &[f32], kind: Gelu) -> Vec<f32> {
    map_pieces(x.len(), |from, out| {
        let (x, g) = (&x[from..from + out.len()], &g[from..from + out.len()]);
        match kind {
            Gelu::Exact => gelu_exact_backward(x, g, out),
            Gelu::Tanh => gelu_tanh_backward(x, g, out),
        }
    })
}

#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl", "x86_64+avx2"))]
fn gelu_exact(x: &[f32], out: &mut [f32]) {
    for (o, &x) in out.iter_mut().zip(x) {
        let (erf, _) = erf_and_gauss(x * std::f32::consts::FRAC_1_SQRT_2);
        *o = 0.5 * x * (1.0 + erf);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl", "x86_64+avx2"))]
fn gelu_exact_backward(x: &[f32], g: &[f32], out: &mut [f32]) {
    for ((o, &x), &g) in out.iter_mut().zip(x).zip(g) {
        let (erf, gauss) = erf_and_gauss(x * std::f32::consts::FRAC_1_SQRT_2);
        *o = g * (0.5 * (1.0 + erf) + x * gauss * 0.398_942_3);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl", "x86_64+avx2"))]
fn gelu_tanh(x: &[f32], out: &mut [f32]) {
    for (o, &x) in out.iter_mut().zip(x) {
        *o = 0.5 * x * (1.0 + tanh(ROOT_2_OVER_PI * (x + 0.044_715 * x * x * x)));
    }
}

#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl", "x86_64+avx2"))]
fn gelu_tanh_backward(x: &[f32], g: &[f32], out: &mut [f32]) {
    for ((o, &x), &g) in out.iter_mut().zip(x).zip(g) {
        let th = tanh(ROOT_2_OVER_PI * (x + 0.044_715 * x * x * x));
        let inner = ROOT_2_OVER_PI * (1.0 + 3.0 * 0.044_715 * x * x);
        *o = g * (0.5 * (1.0 + th) + 0.5 * x * (1.0 - th * th) * inner);
    }
}

/// Sum over the rows of a row-major matrix of `cols` columns.
pub(super) fn column_sums(values: &[f32], cols: usize) -> Vec<f32> {
    let partial: Vec<Vec<f32>> = values
        .par_chunks(ROWS * cols.max(1))
        .map(|rows| {
            let mut sum = vec![0f32; cols];
            for row in rows.chunks_exact(cols) {
                add_assign(&mut sum, row);
            }
            sum
        })
        .collect();
    let mut total = vec![0f32; cols];
    for part in &partial {
        add_assign(&mut total, part);
    }
    total
}

pub(super) fn add_assign(sum: &mut [f32], row: &[f32]) {
    for (s, r) in sum.iter_mut().zip(row) {
        *s += r;
    }
}

/// Σ x², each piece in f32 lanes, the pieces in f64.
pub(super) fn sum_squares(x: &[f32]) -> f32 {
    let pieces: Vec<f64> = x.par_chunks(PIECE).map(piece_sum_squares).collect();
    pieces.iter().sum::<f64>() as f32
}

#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl", "x86_64+avx2"))]
fn piece_sum_squares(x: &[f32]) -> f64 {
    let mut lanes = [0f32; 16];
    let chunks = x.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += v * v;
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(rest) {
        *lane += v * v;
    }
    f64::from(fold_lanes(lanes))
}

/// One AdamW update in place, in one pass over the four arrays: Σ (change of p)².
pub(super) fn adamw(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], factor: f32, k: AdamWFactors) -> f32 {
    let pieces: Vec<f64> = p
        .par_chunks_mut(PIECE)
        .zip(g.par_chunks(PIECE))
        .zip(m.par_chunks_mut(PIECE).zip(v.par_chunks_mut(PIECE)))
        .map(|((p, g), (m, v))| adamw_piece(p, g, m, v, factor, k))
        .collect();
    pieces.iter().sum::<f64>() as f32
}

#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl", "x86_64+avx2"))]
fn adamw_piece(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], factor: f32, k: AdamWFactors) -> f64 {
    let mut lanes = [0f32; 16];
    let (p, p_rest) = p.as_chunks_mut::<16>();
    let (g, g_rest) = g.as_chunks::<16>();
    let (m, m_rest) = m.as_chunks_mut::<16>();
    let (v, v_rest) = v.as_chunks_mut::<16>();
    for ((p, g), (m, v)) in p.iter_mut().zip(g).zip(m.iter_mut().zip(v)) {
        adamw_lanes(p, g, m, v, factor, k, &mut lanes);
    }
    adamw_lanes(p_rest, g_rest, m_rest, v_rest, factor, k, &mut lanes);
    f64::from(fold_lanes(lanes))
}

/// Up to 16 elements; each lane adds up its changes of p, squared.
#[inline(always)]
fn adamw_lanes(
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    factor: f32,
    k: AdamWFactors,
    lanes: &mut [f32; 16],
) {
    for ((((p, &g), m), v), lane) in p.iter_mut().zip(g).zip(m).zip(v).zip(lanes) {
        let g = g * factor;
        *m = *m * k.beta1 + g * k.rest1;
        *v = *v * k.beta2 + g * g * k.rest2;
        let new = *p * k.keep - k.rate * (*m / (v.sqrt() * k.root + k.eps));
        let change = new - *p;
        *lane += change * change;
        *p = new;
    }
}
