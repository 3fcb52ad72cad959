//! Device code. A row kernel gives each row a cube of [`THREADS`] units, which stride over its columns.
//!
//! E is the type that products are computed in, f32 or bf16; everything else is computed in f32.

#![allow(unstable_name_collisions, reason = "CubeCL's erf is a device function, which std's would not become")]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// Units of a cube in row kernels; a power of two.
pub(super) const THREADS: u32 = 256;
/// Rows that one unit sums in [`norm_backward_columns`].
pub(super) const ROWS: u32 = 64;

/// The sum over the cube's units, the same bits in every run; all units get it.
#[cube]
fn sum_of_cube(value: f32, shared: &mut SharedMemory<f32>) -> f32 {
    let unit = UNIT_POS_X as usize;
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let mut width = CUBE_DIM_X as usize / 2;
    while width > 0 {
        if unit < width {
            let other = shared[unit + width];
            shared[unit] += other;
        }
        sync_cube();
        width /= 2;
    }
    shared[0]
}

/// The greatest value of the cube's units; all units get it.
#[cube]
fn max_of_cube(value: f32, shared: &mut SharedMemory<f32>) -> f32 {
    let unit = UNIT_POS_X as usize;
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let mut width = CUBE_DIM_X as usize / 2;
    while width > 0 {
        if unit < width {
            let other = shared[unit + width];
            if other > shared[unit] {
                shared[unit] = other;
            }
        }
        sync_cube();
        width /= 2;
    }
    shared[0]
}

#[cube(launch)]
pub(super) fn gelu<E: Float>(x: &Array<E>, y: &mut Array<E>, #[comptime] is_tanh: bool) {
    if ABSOLUTE_POS < y.len() {
        let v = f32::cast_from(x[ABSOLUTE_POS]);
        let out = if is_tanh {
            0.5 * v * (1.0 + (0.797_884_6 * (v + 0.044_715 * v * v * v)).tanh())
        } else {
            0.5 * v * (1.0 + (v * 0.707_106_77).erf())
        };
        y[ABSOLUTE_POS] = E::cast_from(out);
    }
}

#[cube(launch)]
pub(super) fn gelu_backward<E: Float>(x: &Array<E>, g: &Array<E>, gx: &mut Array<E>, #[comptime] is_tanh: bool) {
    if ABSOLUTE_POS < gx.len() {
        let v = f32::cast_from(x[ABSOLUTE_POS]);
        let slope = if is_tanh {
            let th = (0.797_884_6 * (v + 0.044_715 * v * v * v)).tanh();
            0.5 * (1.0 + th) + 0.5 * v * (1.0 - th * th) * 0.797_884_6 * (1.0 + 0.134_145 * v * v)
        } else {
            0.5 * (1.0 + (v * 0.707_106_77).erf()) + v * 0.398_942_3 * (-0.5 * v * v).exp()
        };
        gx[ABSOLUTE_POS] = E::cast_from(f32::cast_from(g[ABSOLUTE_POS]) * slope);
    }
}

/// Mean and 1/√(var + eps) of the cube's row.
#[cube]
fn row_statistics(x: &Array<f32>, from: usize, columns: usize, eps: f32, shared: &mut SharedMemory<f32>) -> (f32, f32) {
    let n = f32::cast_from(columns as u32);
    let mut sum = f32::new(0.0);
    let mut c = UNIT_POS_X as usize;
    while c < columns {
        sum += x[from + c];
        c += CUBE_DIM_X as usize;
    }
    let mean = sum_of_cube(sum, shared) / n;
    let mut squares = f32::new(0.0);
    let mut c = UNIT_POS_X as usize;
    while c < columns {
        let d = x[from + c] - mean;
        squares += d * d;
        c += CUBE_DIM_X as usize;
    }
    let variance = sum_of_cube(squares, shared) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

#[cube(launch)]
pub(super) fn norm(x: &Array<f32>, gamma: &Array<f32>, beta: &Array<f32>, y: &mut Array<f32>, eps: f32, rows: u32) {
    let row = CUBE_POS as usize;
    if row >= rows as usize {
        terminate!();
    }
    let columns = gamma.len();
    let mut shared = SharedMemory::<f32>::new(256usize);
    let from = row * columns;
    let (mean, rstd) = row_statistics(x, from, columns, eps, &mut shared);
    let mut c = UNIT_POS_X as usize;
    while c < columns {
        y[from + c] = (x[from + c] - mean) * rstd * gamma[c] + beta[c];
        c += CUBE_DIM_X as usize;
    }
}

/// The gradient of x, and each row's mean and 1/√(var + eps) `[N, 2]`.
#[cube(launch)]
pub(super) fn norm_backward(
    x: &Array<f32>,
    gamma: &Array<f32>,
    g: &Array<f32>,
    gx: &mut Array<f32>,
    statistics: &mut Array<f32>,
    eps: f32,
    rows: u32,
) {
    let row = CUBE_POS as usize;
    if row >= rows as usize {
        terminate!();
    }
    let columns = gamma.len();
    let mut shared = SharedMemory::<f32>::new(256usize);
    let from = row * columns;
    let (mean, rstd) = row_statistics(x, from, columns, eps, &mut shared);
    let mut level = f32::new(0.0);
    let mut along = f32::new(0.0);
    let mut c = UNIT_POS_X as usize;
    while c < columns {
        let gy = g[from + c] * gamma[c];
        level += gy;
        along += gy * ((x[from + c] - mean) * rstd);
        c += CUBE_DIM_X as usize;
    }
    let n = f32::cast_from(columns as u32);
    let level = sum_of_cube(level, &mut shared) / n;
    let along = sum_of_cube(along, &mut shared) / n;
    let mut c = UNIT_POS_X as usize;
    while c < columns {
        let xhat = (x[from + c] - mean) * rstd;
        gx[from + c] = (g[from + c] * gamma[c] - level - xhat * along) * rstd;
        c += CUBE_DIM_X as usize;
    }
    if UNIT_POS_X == 0 {
        statistics[2 * row] = mean;
        statistics[2 * row + 1] = rstd;
    }
}

/// Sums of g·x̂ and of g over blocks of [`ROWS`] rows, `[blocks, 2, C]`: one unit a column of a block.
#[cube(launch)]
pub(super) fn norm_backward_columns(
    x: &Array<f32>,
    g: &Array<f32>,
    statistics: &Array<f32>,
    sums: &mut Array<f32>,
    columns: u32,
    rows: u32,
) {
    let (columns, rows) = (columns as usize, rows as usize);
    let block = ABSOLUTE_POS / columns;
    let column = ABSOLUTE_POS % columns;
    let from = block * 64;
    if from < rows {
        let mut along = f32::new(0.0);
        let mut level = f32::new(0.0);
        let mut row = from;
        while row < from + 64 && row < rows {
            let gradient = g[row * columns + column];
            along += gradient * ((x[row * columns + column] - statistics[2 * row]) * statistics[2 * row + 1]);
            level += gradient;
            row += 1;
        }
        sums[block * 2 * columns + column] = along;
        sums[block * 2 * columns + columns + column] = level;
    }
}

/// The first column that a row of scores attends to; at most the row's own.
#[cube]
fn first_column(starts: &Array<i32>, row: usize, time: usize, heads: usize, #[comptime] masked: bool) -> usize {
    let own = row % time;
    let mut first = own - own;
    if masked {
        let start = starts[row / (time * heads) * time + own];
        if start > 0 {
            first = start as usize;
        }
        if first > own {
            first = own;
        }
    }
    first
}

/// Softmax of scaled scores `[B·H·T, T]` over the columns from each row's start to its own position; 0 elsewhere.
#[cube(launch)]
pub(super) fn causal_softmax<E: Float>(
    scores: &Array<E>,
    starts: &Array<i32>,
    p: &mut Array<E>,
    scale: f32,
    time: u32,
    heads: u32,
    rows: u32,
    #[comptime] masked: bool,
) {
    let row = CUBE_POS as usize;
    if row >= rows as usize {
        terminate!();
    }
    let time = time as usize;
    let mut shared = SharedMemory::<f32>::new(256usize);
    let first = first_column(starts, row, time, heads as usize, masked);
    let last = row % time;
    let from = row * time;
    let mut max = f32::cast_from(scores[from + last]) * scale;
    let mut c = first + UNIT_POS_X as usize;
    while c < last {
        let v = f32::cast_from(scores[from + c]) * scale;
        if v > max {
            max = v;
        }
        c += CUBE_DIM_X as usize;
    }
    let max = max_of_cube(max, &mut shared);
    let mut sum = f32::new(0.0);
    let mut c = first + UNIT_POS_X as usize;
    while c <= last {
        sum += (f32::cast_from(scores[from + c]) * scale - max).exp();
        c += CUBE_DIM_X as usize;
    }
    let inverse = 1.0 / sum_of_cube(sum, &mut shared);
    let mut c = UNIT_POS_X as usize;
    while c < time {
        let mut v = f32::new(0.0);
        if c >= first && c <= last {
            v = (f32::cast_from(scores[from + c]) * scale - max).exp() * inverse;
        }
        p[from + c] = E::cast_from(v);
        c += CUBE_DIM_X as usize;
    }
}

/// [`causal_softmax`] again, and the gradient of the unscaled scores from that of the probabilities.
#[cube(launch)]
pub(super) fn causal_softmax_backward<E: Float>(
    scores: &Array<E>,
    starts: &Array<i32>,
    gp: &Array<E>,
    p: &mut Array<E>,
    gs: &mut Array<E>,
    scale: f32,
    time: u32,
    heads: u32,
    rows: u32,
    #[comptime] masked: bool,
) {
    let row = CUBE_POS as usize;
    if row >= rows as usize {
        terminate!();
    }
    let time = time as usize;
    let mut shared = SharedMemory::<f32>::new(256usize);
    let first = first_column(starts, row, time, heads as usize, masked);
    let last = row % time;
    let from = row * time;
    let mut max = f32::cast_from(scores[from + last]) * scale;
    let mut c = first + UNIT_POS_X as usize;
    while c < last {
        let v = f32::cast_from(scores[from + c]) * scale;
        if v > max {
            max = v;
        }
        c += CUBE_DIM_X as usize;
    }
    let max = max_of_cube(max, &mut shared);
    let mut sum = f32::new(0.0);
    let mut along = f32::new(0.0);
    let mut c = first + UNIT_POS_X as usize;
    while c <= last {
        let e = (f32::cast_from(scores[from + c]) * scale - max).exp();
        sum += e;
        along += e * f32::cast_from(gp[from + c]);
        c += CUBE_DIM_X as usize;
    }
    let inverse = 1.0 / sum_of_cube(sum, &mut shared);
    let centre = sum_of_cube(along, &mut shared) * inverse;
    let mut c = UNIT_POS_X as usize;
    while c < time {
        let mut v = f32::new(0.0);
        let mut gradient = f32::new(0.0);
        if c >= first && c <= last {
            v = (f32::cast_from(scores[from + c]) * scale - max).exp() * inverse;
            gradient = v * (f32::cast_from(gp[from + c]) - centre) * scale;
        }
        p[from + c] = E::cast_from(v);
        gs[from + c] = E::cast_from(gradient);
        c += CUBE_DIM_X as usize;
    }
}

/// Each row's loss; with `gradients` the logits become their own gradient, `(softmax − onehot)·scale`.
#[cube(launch)]
pub(super) fn row_losses<E: Float>(
    logits: &mut Array<E>,
    targets: &Array<i32>,
    losses: &mut Array<f32>,
    scale: f32,
    vocabulary: u32,
    rows: u32,
    #[comptime] gradients: bool,
) {
    let row = CUBE_POS as usize;
    if row >= rows as usize {
        terminate!();
    }
    let vocabulary = vocabulary as usize;
    let mut shared = SharedMemory::<f32>::new(256usize);
    let from = row * vocabulary;
    let target = targets[row];
    let mut max = f32::cast_from(logits[from]);
    let mut c = UNIT_POS_X as usize;
    while c < vocabulary {
        let v = f32::cast_from(logits[from + c]);
        if v > max {
            max = v;
        }
        c += CUBE_DIM_X as usize;
    }
    let max = max_of_cube(max, &mut shared);
    let mut sum = f32::new(0.0);
    let mut c = UNIT_POS_X as usize;
    while c < vocabulary {
        sum += (f32::cast_from(logits[from + c]) - max).exp();
        c += CUBE_DIM_X as usize;
    }
    let sum = sum_of_cube(sum, &mut shared);
    if UNIT_POS_X == 0 {
        let mut loss = f32::new(0.0);
        if target >= 0 {
            loss = max + sum.ln() - f32::cast_from(logits[from + target as usize]);
        }
        losses[row] = loss;
    }
    if gradients {
        // The loss reads a logit that its gradient replaces.
        sync_cube();
        let factor = scale / sum;
        let mut c = UNIT_POS_X as usize;
        while c < vocabulary {
            let mut v = f32::new(0.0);
            if target >= 0 {
                v = (f32::cast_from(logits[from + c]) - max).exp() * factor;
                if c == target as usize {
                    v -= scale;
                }
            }
            logits[from + c] = E::cast_from(v);
            c += CUBE_DIM_X as usize;
        }
    }
}

/// Packed `[B·T, H·3·D]` → q, k, v `[B, H, T, D]`, q and k rotated: one unit an element of each.
#[cube(launch)]
pub(super) fn split_and_rotate<I: Float, E: Float>(
    qkv: &Array<I>,
    cos: &Array<f32>,
    sin: &Array<f32>,
    q: &mut Array<E>,
    k: &mut Array<E>,
    v: &mut Array<E>,
    time: u32,
    heads: u32,
    #[comptime] head_dim: usize,
    #[comptime] half: usize,
) {
    if ABSOLUTE_POS < q.len() {
        let (time, heads) = (time as usize, heads as usize);
        let d = ABSOLUTE_POS % head_dim;
        let t = ABSOLUTE_POS / head_dim % time;
        let h = ABSOLUTE_POS / (head_dim * time) % heads;
        let b = ABSOLUTE_POS / (head_dim * time * heads);
        let from = ((b * time + t) * heads + h) * 3 * head_dim;
        let mut a = f32::cast_from(qkv[from + d]);
        let mut e = f32::cast_from(qkv[from + head_dim + d]);
        if d < 2 * half {
            // The pairs are (i, i + R/2).
            let mut pair = d + half;
            let mut sign = f32::new(-1.0);
            let mut angle = d;
            if d >= half {
                pair = d - half;
                sign = f32::new(1.0);
                angle = d - half;
            }
            let c = cos[t * half + angle];
            let s = sin[t * half + angle] * sign;
            a = a * c + f32::cast_from(qkv[from + pair]) * s;
            e = e * c + f32::cast_from(qkv[from + head_dim + pair]) * s;
        }
        q[ABSOLUTE_POS] = E::cast_from(a);
        k[ABSOLUTE_POS] = E::cast_from(e);
        v[ABSOLUTE_POS] = E::cast_from(f32::cast_from(qkv[from + 2 * head_dim + d]));
    }
}

/// The gradient of [`split_and_rotate`]: the inverse rotation is the rotation by the opposite angle.
#[cube(launch)]
pub(super) fn join_and_rotate_back<I: Float, E: Float>(
    gq: &Array<E>,
    gk: &Array<E>,
    gv: &Array<E>,
    cos: &Array<f32>,
    sin: &Array<f32>,
    gqkv: &mut Array<I>,
    time: u32,
    heads: u32,
    #[comptime] head_dim: usize,
    #[comptime] half: usize,
) {
    if ABSOLUTE_POS < gq.len() {
        let (time, heads) = (time as usize, heads as usize);
        let d = ABSOLUTE_POS % head_dim;
        let t = ABSOLUTE_POS / head_dim % time;
        let h = ABSOLUTE_POS / (head_dim * time) % heads;
        let b = ABSOLUTE_POS / (head_dim * time * heads);
        let row = ABSOLUTE_POS - d;
        let to = ((b * time + t) * heads + h) * 3 * head_dim;
        let mut a = f32::cast_from(gq[ABSOLUTE_POS]);
        let mut e = f32::cast_from(gk[ABSOLUTE_POS]);
        if d < 2 * half {
            let mut pair = d + half;
            let mut sign = f32::new(1.0);
            let mut angle = d;
            if d >= half {
                pair = d - half;
                sign = f32::new(-1.0);
                angle = d - half;
            }
            let c = cos[t * half + angle];
            let s = sin[t * half + angle] * sign;
            a = a * c + f32::cast_from(gq[row + pair]) * s;
            e = e * c + f32::cast_from(gk[row + pair]) * s;
        }
        gqkv[to + d] = I::cast_from(a);
        gqkv[to + head_dim + d] = I::cast_from(e);
        gqkv[to + 2 * head_dim + d] = I::cast_from(f32::cast_from(gv[ABSOLUTE_POS]));
    }
}

/// One AdamW update in place.
#[cube(launch)]
pub(super) fn adamw(
    p: &mut Array<f32>,
    g: &Array<f32>,
    m: &mut Array<f32>,
    v: &mut Array<f32>,
    grad: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    keep: f32,
    rate: f32,
    root: f32,
    eps: f32,
) {
    if ABSOLUTE_POS < p.len() {
        let gradient = g[ABSOLUTE_POS] * grad;
        let first = m[ABSOLUTE_POS] * beta1 + gradient * rest1;
        let second = v[ABSOLUTE_POS] * beta2 + gradient * gradient * rest2;
        m[ABSOLUTE_POS] = first;
        v[ABSOLUTE_POS] = second;
        p[ABSOLUTE_POS] = p[ABSOLUTE_POS] * keep - rate * (first / (second.sqrt() * root + eps));
    }
}
