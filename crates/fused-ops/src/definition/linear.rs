//! `y = x·wᵀ + b`.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::{cast, factor, wide};
use crate::Precision;

pub(crate) fn forward<B: Backend>(
    x: Tensor<B, 2>,
    w: Tensor<B, 2>,
    b: Option<Tensor<B, 1>>,
    precision: Precision,
) -> Tensor<B, 2> {
    let y = factor(x, precision).matmul(factor(w, precision).transpose());
    match b {
        Some(b) => y + factor(b, precision).unsqueeze(),
        None => y,
    }
}

pub(crate) fn backward<B: Backend>(
    x: Tensor<B, 2>,
    w: Tensor<B, 2>,
    g: Tensor<B, 2>,
    precision: Precision,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let x_type = x.dtype();
    let g = factor(g, precision);
    let gx = g.clone().matmul(factor(w, precision));
    let gw = g.transpose().matmul(factor(x, precision));
    (cast(gx, x_type), wide(gw))
}
