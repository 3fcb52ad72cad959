//! LayerNorm over the last dimension, in f32.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

pub(crate) fn forward<B: Backend>(x: Tensor<B, 2>, gamma: Tensor<B, 1>, beta: Tensor<B, 1>, eps: f64) -> Tensor<B, 2> {
    let (xhat, _) = normalised(x, eps);
    xhat * gamma.unsqueeze() + beta.unsqueeze()
}

pub(crate) fn backward<B: Backend>(
    x: Tensor<B, 2>,
    gamma: Tensor<B, 1>,
    g: Tensor<B, 2>,
    eps: f64,
) -> (Tensor<B, 2>, Tensor<B, 1>, Tensor<B, 1>) {
    let (xhat, sd) = normalised(x, eps);
    let g = super::wide(g);
    let ggamma = (g.clone() * xhat.clone()).sum_dim(0).squeeze_dim::<1>(0);
    let gbeta = g.clone().sum_dim(0).squeeze_dim::<1>(0);
    let gy = g * gamma.unsqueeze();
    let along = (gy.clone() * xhat.clone()).mean_dim(1);
    ((gy.clone() - gy.mean_dim(1) - xhat * along) / sd, ggamma, gbeta)
}

/// The normalised rows and √(var + eps) `[N, 1]`. (Divided by, because some backends approximate `recip`.)
fn normalised<B: Backend>(x: Tensor<B, 2>, eps: f64) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let centred = x.clone() - x.mean_dim(1);
    let sd = (centred.clone() * centred.clone()).mean_dim(1).add_scalar(eps).sqrt();
    (centred / sd.clone(), sd)
}
