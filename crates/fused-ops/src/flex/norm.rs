//! LayerNorm, forward and backward in one pass over the rows each.

use multiversion::multiversion;
use rayon::prelude::*;

use super::elementwise::add_assign;
use super::math::lane_sum;

/// Rows a task works on. Fixed, so that the gradients of gamma and beta do not depend on the number of threads.
const ROWS: usize = 64;

pub(super) fn forward(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32) -> Vec<f32> {
    let c = gamma.len();
    let mut y = vec![0f32; x.len()];
    y.par_chunks_mut(ROWS * c).zip(x.par_chunks(ROWS * c)).for_each(|(y, x)| rows_forward(y, x, gamma, beta, eps));
    y
}

#[inline(always)]
fn mean_and_rstd(row: &[f32], eps: f32) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = lane_sum(row.iter().copied()) / n;
    let var = lane_sum(row.iter().map(|v| (v - mean) * (v - mean))) / n;
    (mean, 1.0 / (var + eps).sqrt())
}

#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl", "x86_64+avx2"))]
fn rows_forward(y: &mut [f32], x: &[f32], gamma: &[f32], beta: &[f32], eps: f32) {
    let c = gamma.len();
    for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
        let (mean, rstd) = mean_and_rstd(x, eps);
        for (((y, &x), &gamma), &beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
            *y = (x - mean) * rstd * gamma + beta;
        }
    }
}

/// Gradients of x, gamma, beta.
pub(super) fn backward(x: &[f32], gamma: &[f32], g: &[f32], eps: f32) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let c = gamma.len();
    let mut gx = vec![0f32; x.len()];
    let partial: Vec<(Vec<f32>, Vec<f32>)> = gx
        .par_chunks_mut(ROWS * c)
        .zip(x.par_chunks(ROWS * c).zip(g.par_chunks(ROWS * c)))
        .map(|(gx, (x, g))| {
            let (mut ggamma, mut gbeta) = (vec![0f32; c], vec![0f32; c]);
            rows_backward(gx, x, gamma, g, eps, &mut ggamma, &mut gbeta);
            (ggamma, gbeta)
        })
        .collect();
    let (mut ggamma, mut gbeta) = (vec![0f32; c], vec![0f32; c]);
    for (a, b) in &partial {
        add_assign(&mut ggamma, a);
        add_assign(&mut gbeta, b);
    }
    (gx, ggamma, gbeta)
}

#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl", "x86_64+avx2"))]
fn rows_backward(gx: &mut [f32], x: &[f32], gamma: &[f32], g: &[f32], eps: f32, ggamma: &mut [f32], gbeta: &mut [f32]) {
    let c = gamma.len();
    let n = c as f32;
    for ((gx, x), g) in gx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(g.chunks_exact(c)) {
        let (mean, rstd) = mean_and_rstd(x, eps);
        let level = lane_sum(g.iter().zip(gamma).map(|(g, w)| g * w)) / n;
        let along = lane_sum(g.iter().zip(gamma).zip(x).map(|((g, w), x)| g * w * ((x - mean) * rstd))) / n;
        for i in 0..c {
            let xhat = (x[i] - mean) * rstd;
            gx[i] = (g[i] * gamma[i] - level - xhat * along) * rstd;
            ggamma[i] += g[i] * xhat;
            gbeta[i] += g[i];
        }
    }
}
