//! Sums and activations, element by element: one threaded pass each.

use multiversion::multiversion;
use rayon::prelude::*;

use super::PIECE;
use super::math::{erf_and_gauss, tanh};
use crate::Gelu;

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

pub(super) fn add_assign(sum: &mut [f32], row: &[f32]) {
    for (s, r) in sum.iter_mut().zip(row) {
        *s += r;
    }
}
