//! Output projection and cross-entropy over chunks of rows: `[N, V]` logits are never all alive.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, activation};

use super::{cast, factor, wide};
use crate::{FusedOps, Precision};

pub(crate) fn chunks<B: FusedOps>(rows: usize, vocabulary: usize) -> impl Iterator<Item = (usize, usize)> {
    let step = B::loss_rows(rows, vocabulary).max(1);
    (0..rows).step_by(step).map(move |from| (from, (from + step).min(rows)))
}

pub(crate) fn losses<B: FusedOps>(
    x: Tensor<B, 2>,
    w: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    precision: Precision,
) -> Tensor<B, 1> {
    let (x, w) = (factor(x, precision), factor(w, precision));
    let losses = chunks::<B>(x.dims()[0], w.dims()[0])
        .map(|(from, to)| {
            let lp = log_probabilities(x.clone().narrow(0, from, to - from), w.clone());
            let (keep, t) = kept_targets(targets.clone().narrow(0, from, to - from));
            lp.gather(1, t.unsqueeze_dim(1)).neg().squeeze_dim::<1>(1) * keep
        })
        .collect();
    Tensor::cat(losses, 0)
}

pub(crate) fn losses_and_gradients<B: FusedOps>(
    x: Tensor<B, 2>,
    w: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    scale: f64,
    precision: Precision,
) -> (Tensor<B, 1>, Tensor<B, 2>, Tensor<B, 2>) {
    let x_type = x.dtype();
    let (vocabulary, mut gw) = (w.dims()[0], wide(w.zeros_like()));
    let (x, w) = (factor(x, precision), factor(w, precision));
    let (mut losses, mut gx) = (Vec::new(), Vec::new());
    for (from, to) in chunks::<B>(x.dims()[0], vocabulary) {
        let rows = x.clone().narrow(0, from, to - from);
        let (keep, t) = kept_targets(targets.clone().narrow(0, from, to - from));
        let lp = log_probabilities(rows.clone(), w.clone());
        losses.push(lp.clone().gather(1, t.clone().unsqueeze_dim(1)).neg().squeeze_dim::<1>(1) * keep.clone());
        let hot = t.one_hot::<2>(vocabulary).float();
        let g = factor((lp.exp() - hot) * (keep * scale).unsqueeze_dim(1), precision);
        gx.push(cast(g.clone().matmul(w.clone()), x_type));
        gw = gw + wide(g.transpose().matmul(rows));
    }
    (Tensor::cat(losses, 0), Tensor::cat(gx, 0), gw)
}

fn log_probabilities<B: Backend>(x: Tensor<B, 2>, w: Tensor<B, 2>) -> Tensor<B, 2> {
    activation::log_softmax(wide(x.matmul(w.transpose())), 1)
}

/// 1.0 where the target counts, else 0.0; and the targets with the others replaced by a valid index.
fn kept_targets<B: Backend>(targets: Tensor<B, 1, Int>) -> (Tensor<B, 1>, Tensor<B, 1, Int>) {
    let keep = targets.clone().greater_equal_elem(0).float();
    (keep, targets.clamp_min(0))
}
