//! AdamW: one pass over parameter, gradient and moments.

use multiversion::multiversion;
use rayon::prelude::*;

use super::PIECE;
use super::math::fold_lanes;
use crate::types::AdamWFactors;

/// One AdamW update in place, in one pass over the four arrays: Σ (change of p)².
///
/// # Panics
/// Where the arrays differ in length: what is longer would be left as it is.
pub(super) fn update(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], factor: f32, k: AdamWFactors) -> f32 {
    let lengths = [g.len(), m.len(), v.len()];
    assert_eq!(lengths, [p.len(); 3], "gradient and moments are as long as their parameter");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AdamWStep;

    /// What is longer would be left as it is.
    #[test]
    #[should_panic(expected = "gradient and moments are as long as their parameter")]
    fn lengths_that_differ_are_refused() {
        let factors = AdamWStep { lr: 0.1, beta1: 0.9, beta2: 0.9, eps: 1e-8, update: 1 }.factors(0.0, 1.0);
        update(&mut [1.0, 2.0], &[1.0], &mut [0.0; 2], &mut [0.0; 2], 1.0, factors);
    }
}
