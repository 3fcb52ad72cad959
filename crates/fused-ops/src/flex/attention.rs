//! Causal attention, one task per (sequence, head), in blocks of query rows; the probabilities are not kept.

use rayon::prelude::*;

use super::gemm::{Mat, matmul_serial};
use super::head::softmax_prefix;
use crate::AttentionShape;

/// Query rows of a block: scores of a block cover only the columns up to its last row.
const BLOCK: usize = 64;

/// The q, k and v of one head, `[T, D]` each, q and k rotated.
struct Head {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

/// `[B·T, H·3·D]` → `[B·T, H·D]`.
pub(super) fn forward(qkv: &[f32], cos: &[f32], sin: &[f32], s: AttentionShape) -> Vec<f32> {
    let (t, d) = (s.time, s.head_dim);
    let heads = per_head(s, |b, h| {
        let Head { q, k, v } = Head::load(qkv, cos, sin, s, b, h);
        let mut out = vec![0f32; t * d];
        let mut scores = vec![0f32; BLOCK * t];
        for from in (0..t).step_by(BLOCK) {
            let to = (from + BLOCK).min(t);
            probabilities(&mut scores, &q, &k, from, to, s);
            let p = Mat::new(&scores[..(to - from) * to], to - from, to);
            matmul_serial(&mut out[from * d..to * d], d, p, Mat::new(&v[..to * d], to, d), false);
        }
        out
    });
    interleave(&heads, s, d)
}

/// Gradient of the packed qkv.
pub(super) fn backward(qkv: &[f32], cos: &[f32], sin: &[f32], g: &[f32], s: AttentionShape) -> Vec<f32> {
    let (t, d, width) = (s.time, s.head_dim, s.heads * s.head_dim);
    let scale = 1.0 / (d as f32).sqrt();
    let heads = per_head(s, |b, h| {
        let Head { q, k, v } = Head::load(qkv, cos, sin, s, b, h);
        let mut go = Vec::with_capacity(t * d);
        for row in g[b * t * width..(b + 1) * t * width].chunks_exact(width) {
            go.extend_from_slice(&row[h * d..(h + 1) * d]);
        }
        let (mut gq, mut gk, mut gv) = (vec![0f32; t * d], vec![0f32; t * d], vec![0f32; t * d]);
        let (mut p, mut gp) = (vec![0f32; BLOCK * t], vec![0f32; BLOCK * t]);
        for from in (0..t).step_by(BLOCK) {
            let to = (from + BLOCK).min(t);
            let rows = to - from;
            probabilities(&mut p, &q, &k, from, to, s);
            let p = &mut p[..rows * to];
            let gp = &mut gp[..rows * to];
            let go = Mat::new(&go[from * d..to * d], rows, d);
            matmul_serial(&mut gv[..to * d], d, Mat::new(p, rows, to).t(), go, true);
            matmul_serial(gp, to, go, Mat::new(&v[..to * d], to, d).t(), false);
            for (p, gp) in p.chunks_exact_mut(to).zip(gp.chunks_exact(to)) {
                let centre: f32 = super::math::lane_sum(p.iter().zip(gp).map(|(p, g)| p * g));
                for (p, g) in p.iter_mut().zip(gp) {
                    *p *= (g - centre) * scale;
                }
            }
            let gs = Mat::new(p, rows, to);
            matmul_serial(&mut gq[from * d..to * d], d, gs, Mat::new(&k[..to * d], to, d), false);
            matmul_serial(&mut gk[..to * d], d, gs.t(), Mat::new(&q[from * d..to * d], rows, d), true);
        }
        rotate(&mut gq, cos, sin, s, -1.0);
        rotate(&mut gk, cos, sin, s, -1.0);
        let mut packed = Vec::with_capacity(3 * t * d);
        for row in 0..t {
            for part in [&gq, &gk, &gv] {
                packed.extend_from_slice(&part[row * d..(row + 1) * d]);
            }
        }
        packed
    });
    interleave(&heads, s, 3 * d)
}

/// Runs `f(b, h)` for every head of every sequence.
fn per_head(s: AttentionShape, f: impl Fn(usize, usize) -> Vec<f32> + Sync) -> Vec<Vec<f32>> {
    (0..s.batch * s.heads).into_par_iter().map(|i| f(i / s.heads, i % s.heads)).collect()
}

/// Heads of `[T, width]` each → rows of all heads side by side.
fn interleave(heads: &[Vec<f32>], s: AttentionShape, width: usize) -> Vec<f32> {
    let row = s.heads * width;
    let mut out = vec![0f32; s.batch * s.time * row];
    out.par_chunks_mut(s.time * row).zip(heads.par_chunks(s.heads)).for_each(|(out, heads)| {
        for (t, out) in out.chunks_exact_mut(row).enumerate() {
            for (out, head) in out.chunks_exact_mut(width).zip(heads) {
                out.copy_from_slice(&head[t * width..(t + 1) * width]);
            }
        }
    });
    out
}

/// Rows `from..to` of the causal probabilities, `[to − from, to]`, into the front of `out`.
fn probabilities(out: &mut [f32], q: &[f32], k: &[f32], from: usize, to: usize, s: AttentionShape) {
    let d = s.head_dim;
    let out = &mut out[..(to - from) * to];
    let q = Mat::new(&q[from * d..to * d], to - from, d);
    matmul_serial(out, to, q, Mat::new(&k[..to * d], to, d).t(), false);
    let scale = 1.0 / (d as f32).sqrt();
    for (i, row) in out.chunks_exact_mut(to).enumerate() {
        softmax_prefix(row, from + i + 1, scale);
    }
}

impl Head {
    fn load(qkv: &[f32], cos: &[f32], sin: &[f32], s: AttentionShape, b: usize, h: usize) -> Self {
        let (t, d) = (s.time, s.head_dim);
        let row = s.heads * 3 * d;
        let part = |which: usize| {
            let mut out = Vec::with_capacity(t * d);
            for values in qkv[b * t * row..(b + 1) * t * row].chunks_exact(row) {
                let at = (h * 3 + which) * d;
                out.extend_from_slice(&values[at..at + d]);
            }
            out
        };
        let (mut q, mut k, v) = (part(0), part(1), part(2));
        rotate(&mut q, cos, sin, s, 1.0);
        rotate(&mut k, cos, sin, s, 1.0);
        Self { q, k, v }
    }
}

/// Rotates the pairs (i, i + R/2) of each row by its position's angle times `direction` (±1).
fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32], s: AttentionShape, direction: f32) {
    let half = s.rotary_dims / 2;
    if half == 0 {
        return;
    }
    for (t, row) in x.chunks_exact_mut(s.head_dim).enumerate() {
        let (cos, sin) = (&cos[t * half..(t + 1) * half], &sin[t * half..(t + 1) * half]);
        let (a, b) = row.split_at_mut(half);
        for (((a, b), &cos), &sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
            let sin = sin * direction;
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}
