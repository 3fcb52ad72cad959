//! Reductions: the sum over rows, and the sum of squares.

use multiversion::multiversion;
use rayon::prelude::*;

use super::PIECE;
use super::elementwise::add_assign;
use super::math::fold_lanes;

/// Rows a task sums.
const ROWS: usize = 64;

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
