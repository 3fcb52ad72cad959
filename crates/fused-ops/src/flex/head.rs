//! Output projection and cross-entropy together, over chunks of rows: `[N, V]` logits are never all alive.

use packed_gemm::{Mat, Start, multiply, product};
use rayon::prelude::*;

use super::math::round;
use super::softmax::exp_in_place;
use crate::{Place, Precision, loss_rows};

/// Each row's negative log-likelihood; 0 where the target is negative.
pub(super) fn losses(x: Mat<'_>, w: Mat<'_>, targets: &[i64], precision: Precision) -> Vec<f32> {
    let mut out = vec![0f32; x.rows()];
    for_chunks(x, w, precision, |from, to, logits| {
        out[from..to]
            .par_iter_mut()
            .zip(logits.par_chunks_mut(w.rows()))
            .zip(&targets[from..to])
            .for_each(|((loss, row), &target)| *loss = row_loss(row, target, None));
    });
    out
}

/// The losses, and the gradients of `scale · Σ losses` for x and w.
pub(super) fn losses_and_gradients(
    x: Mat<'_>,
    w: Mat<'_>,
    targets: &[i64],
    scale: f32,
    precision: Precision,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut out = vec![0f32; x.rows()];
    let mut gx = vec![0f32; x.rows() * x.cols()];
    let mut gw = if x.rows() == 0 { vec![0f32; w.rows() * w.cols()] } else { Vec::new() };
    let cols = x.cols();
    for_chunks(x, w, precision, |from, to, logits| {
        out[from..to].par_iter_mut().zip(logits.par_chunks_mut(w.rows())).zip(&targets[from..to]).for_each(
            |((loss, row), &target)| {
                *loss = row_loss(row, target, Some(scale));
                round(row, precision);
            },
        );
        let g = Mat::new(logits, to - from, w.rows());
        product(&mut gx[from * cols..to * cols], cols, g, w, Start::Zero);
        let rows = x.row_range(from, to);
        if from == 0 {
            gw = multiply(g.t(), rows);
        } else {
            product(&mut gw, cols, g.t(), rows, Start::Sum);
        }
    });
    (out, gx, gw)
}

/// Calls `f(from, to, logits)` for each chunk of rows.
fn for_chunks(x: Mat<'_>, w: Mat<'_>, precision: Precision, mut f: impl FnMut(usize, usize, &mut [f32])) {
    let rows = loss_rows(x.rows(), w.rows(), Place::Cpu);
    let mut buffer = vec![0f32; rows * w.rows()];
    for from in (0..x.rows()).step_by(rows) {
        let to = (from + rows).min(x.rows());
        let logits = &mut buffer[..(to - from) * w.rows()];
        product(logits, w.rows(), x.row_range(from, to), w.t(), Start::Zero);
        round(logits, precision);
        f(from, to, logits);
    }
}

/// The loss of one row of logits. With a scale the row becomes its own gradient, `(softmax − onehot)·scale`.
fn row_loss(row: &mut [f32], target: i64, scale: Option<f32>) -> f32 {
    let Ok(target) = usize::try_from(target) else {
        if scale.is_some() {
            row.fill(0.0);
        }
        return 0.0;
    };
    let at = row[target];
    let (max, sum) = exp_in_place(row);
    if let Some(scale) = scale {
        let factor = scale / sum;
        for v in row.iter_mut() {
            *v *= factor;
        }
        row[target] -= scale;
    }
    max + sum.ln() - at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rows_have_no_losses_and_no_gradients() {
        let weights = [1f32; 6];
        let (x, w) = (Mat::new(&[], 0, 3), Mat::new(&weights, 2, 3));
        assert!(losses(x, w, &[], Precision::F32).is_empty());
        let (losses, gx, gw) = losses_and_gradients(x, w, &[], 1.0, Precision::F32);
        assert_eq!((losses, gx, gw), (vec![], vec![], vec![0.0; 6]));
    }
}
