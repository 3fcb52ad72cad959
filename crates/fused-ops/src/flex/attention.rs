//! Causal attention, one task per (sequence, head), in blocks of query rows; the probabilities are not kept.

use std::ops::Range;

use packed_gemm::{Mat, Start, product_serial};
use rayon::prelude::*;

use super::math::{lane_sum, round};
use super::softmax::softmax_range;
use crate::{AttentionShape, Precision};

/// Query rows of a block: scores of a block cover only the columns that one of its rows attends to.
const BLOCK: usize = 64;

/// What all heads read.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    /// `[B·T, H·3·D]`.
    pub(super) qkv: &'a [f32],
    /// `[≥ T, R/2]`.
    pub(super) cos: &'a [f32],
    /// `[≥ T, R/2]`.
    pub(super) sin: &'a [f32],
    /// `[B, T]`, or none.
    pub(super) starts: Option<&'a [usize]>,
    pub(super) shape: AttentionShape,
    pub(super) precision: Precision,
}

/// The q, k and v of one head, `[T, D]` each, q and k rotated; and the first column of each row.
struct Head<'a> {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    starts: Option<&'a [usize]>,
    head_dim: usize,
    precision: Precision,
}

/// A block of query rows, and the columns that they attend to.
struct Block {
    rows: Range<usize>,
    cols: Range<usize>,
}

/// `[B·T, H·3·D]` → `[B·T, H·D]`.
pub(super) fn forward(x: Inputs<'_>) -> Vec<f32> {
    let (t, d) = (x.shape.time, x.shape.head_dim);
    let heads = per_head(x.shape, |b, h| {
        let head = Head::load(x, b, h);
        let mut out = vec![0f32; t * d];
        let mut scores = vec![0f32; BLOCK * t];
        for block in head.blocks(t) {
            let p = head.probabilities(&mut scores, &block);
            let out = &mut out[block.rows.start * d..block.rows.end * d];
            product_serial(out, d, block.mat(p), mat(&head.v, &block.cols, d), Start::Zero);
        }
        round(&mut out, x.precision);
        out
    });
    interleave(&heads, x.shape, d)
}

/// Gradient of the packed qkv.
pub(super) fn backward(x: Inputs<'_>, g: &[f32]) -> Vec<f32> {
    let s = x.shape;
    let (t, d, width) = (s.time, s.head_dim, s.heads * s.head_dim);
    let scale = s.scale() as f32;
    let heads = per_head(s, |b, h| {
        let head = Head::load(x, b, h);
        let mut go = Vec::with_capacity(t * d);
        for row in g[b * t * width..(b + 1) * t * width].chunks_exact(width) {
            go.extend_from_slice(&row[h * d..(h + 1) * d]);
        }
        round(&mut go, x.precision);
        let (mut gq, mut gk, mut gv) = (vec![0f32; t * d], vec![0f32; t * d], vec![0f32; t * d]);
        let (mut p, mut gp) = (vec![0f32; BLOCK * t], vec![0f32; BLOCK * t]);
        for block in head.blocks(t) {
            let Block { rows, cols } = &block;
            let p = head.probabilities(&mut p, &block);
            let gp = &mut gp[..p.len()];
            let go = mat(&go, rows, d);
            product_serial(&mut gv[cols.start * d..cols.end * d], d, block.mat(p).t(), go, Start::Sum);
            product_serial(gp, cols.len(), go, mat(&head.v, cols, d).t(), Start::Zero);
            for (p, gp) in p.chunks_exact_mut(cols.len()).zip(gp.chunks_exact(cols.len())) {
                let centre: f32 = lane_sum(p.iter().zip(gp).map(|(p, g)| p * g));
                for (p, g) in p.iter_mut().zip(gp) {
                    *p *= (g - centre) * scale;
                }
            }
            round(p, x.precision);
            let gs = block.mat(p);
            product_serial(&mut gq[rows.start * d..rows.end * d], d, gs, mat(&head.k, cols, d), Start::Zero);
            product_serial(&mut gk[cols.start * d..cols.end * d], d, gs.t(), mat(&head.q, rows, d), Start::Sum);
        }
        rotate(&mut gq, x.cos, x.sin, s, -1.0);
        rotate(&mut gk, x.cos, x.sin, s, -1.0);
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

/// Some rows of a `[T, D]` matrix.
fn mat<'a>(values: &'a [f32], rows: &Range<usize>, d: usize) -> Mat<'a> {
    Mat::new(&values[rows.start * d..rows.end * d], rows.len(), d)
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

impl Block {
    fn mat<'a>(&self, values: &'a [f32]) -> Mat<'a> {
        Mat::new(values, self.rows.len(), self.cols.len())
    }
}

impl<'a> Head<'a> {
    fn load(x: Inputs<'a>, b: usize, h: usize) -> Self {
        let s = x.shape;
        let (t, d) = (s.time, s.head_dim);
        let row = s.heads * 3 * d;
        let part = |which: usize| {
            let mut out = Vec::with_capacity(t * d);
            for values in x.qkv[b * t * row..(b + 1) * t * row].chunks_exact(row) {
                let at = (h * 3 + which) * d;
                out.extend_from_slice(&values[at..at + d]);
            }
            out
        };
        let (mut q, mut k, mut v) = (part(0), part(1), part(2));
        rotate(&mut q, x.cos, x.sin, s, 1.0);
        rotate(&mut k, x.cos, x.sin, s, 1.0);
        for values in [&mut q, &mut k, &mut v] {
            round(values, x.precision);
        }
        let starts = x.starts.map(|starts| &starts[b * t..(b + 1) * t]);
        Self { q, k, v, starts, head_dim: d, precision: x.precision }
    }

    /// The first column that a row attends to; at most the row itself.
    fn start(&self, row: usize) -> usize {
        self.starts.map_or(0, |starts| starts[row].min(row))
    }

    fn blocks(&self, time: usize) -> impl Iterator<Item = Block> {
        (0..time).step_by(BLOCK).map(move |from| {
            let rows = from..(from + BLOCK).min(time);
            let first = rows.clone().map(|row| self.start(row)).min().unwrap_or(0);
            Block { cols: first..rows.end, rows }
        })
    }

    /// A block's probabilities, `[rows, cols]`, in the front of `out`.
    fn probabilities<'b>(&self, out: &'b mut [f32], block: &Block) -> &'b mut [f32] {
        let (d, Block { rows, cols }) = (self.head_dim, block);
        let out = &mut out[..rows.len() * cols.len()];
        product_serial(out, cols.len(), mat(&self.q, rows, d), mat(&self.k, cols, d).t(), Start::Zero);
        let scale = 1.0 / (d as f32).sqrt();
        for (row, scores) in rows.clone().zip(out.chunks_exact_mut(cols.len())) {
            softmax_range(scores, self.start(row) - cols.start..row + 1 - cols.start, scale);
        }
        round(out, self.precision);
        out
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
