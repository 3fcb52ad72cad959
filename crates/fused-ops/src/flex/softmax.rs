//! Exponentials of a row, and its softmax: what the loss and attention have in common.

use std::ops::Range;

use multiversion::multiversion;

use super::math::{exp, fold_lanes};

/// Replaces each value by `exp(value − max)`; returns the maximum and the sum.
#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn exp_in_place(row: &mut [f32]) -> (f32, f32) {
    let mut peaks = [f32::NEG_INFINITY; 16];
    let chunks = row.chunks_exact(16);
    let mut max = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for chunk in chunks {
        for (peak, &v) in peaks.iter_mut().zip(chunk) {
            *peak = if v > *peak { v } else { *peak };
        }
    }
    max = peaks.into_iter().fold(max, f32::max);
    let mut lanes = [0f32; 16];
    let mut chunks = row.chunks_exact_mut(16);
    for chunk in &mut chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *v = exp(*v - max);
            *lane += *v;
        }
    }
    for (lane, v) in lanes.iter_mut().zip(chunks.into_remainder()) {
        *v = exp(*v - max);
        *lane += *v;
    }
    (max, fold_lanes(lanes))
}

/// Softmax of a range of the scaled values in place, the rest set to zero.
#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn softmax_range(row: &mut [f32], range: Range<usize>, scale: f32) {
    row[..range.start].fill(0.0);
    row[range.end..].fill(0.0);
    let row = &mut row[range];
    let mut max = f32::NEG_INFINITY;
    for v in row.iter_mut() {
        *v *= scale;
        max = if *v > max { *v } else { max };
    }
    let mut lanes = [0f32; 16];
    let mut chunks = row.chunks_exact_mut(16);
    for chunk in &mut chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *v = exp(*v - max);
            *lane += *v;
        }
    }
    for (lane, v) in lanes.iter_mut().zip(chunks.into_remainder()) {
        *v = exp(*v - max);
        *lane += *v;
    }
    let inverse = 1.0 / fold_lanes(lanes);
    for v in row {
        *v *= inverse;
    }
}
