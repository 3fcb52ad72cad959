//! The operations as functions of `Tensor`s.

use burn::tensor::{Int, Tensor};

use crate::definition::{float, prim};
use crate::{AdamWStep, AttentionShape, FusedOps, Gelu, Precision, Slot};

/// See [`FusedOps::fused_linear`].
pub fn linear<B: FusedOps>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
    precision: Precision,
) -> Tensor<B, 2> {
    float(B::fused_linear(prim(x), prim(weight), bias.map(prim), precision))
}

/// See [`FusedOps::fused_gelu`].
pub fn gelu<B: FusedOps>(x: Tensor<B, 2>, kind: Gelu) -> Tensor<B, 2> {
    float(B::fused_gelu(prim(x), kind))
}

/// See [`FusedOps::fused_layer_norm`].
pub fn layer_norm<B: FusedOps>(
    x: Tensor<B, 2>,
    gamma: Tensor<B, 1>,
    beta: Tensor<B, 1>,
    eps: f64,
    precision: Precision,
) -> Tensor<B, 2> {
    float(B::fused_layer_norm(prim(x), prim(gamma), prim(beta), eps, precision))
}

/// See [`FusedOps::fused_embedding`].
pub fn embedding<B: FusedOps>(table: Tensor<B, 2>, ids: Tensor<B, 1, Int>) -> Tensor<B, 2> {
    float(B::fused_embedding(prim(table), ids.into_primitive()))
}

/// See [`FusedOps::causal_attention`]. `cos`, `sin` and `starts` get no gradient.
pub fn causal_attention<B: FusedOps>(
    qkv: Tensor<B, 2>,
    cos: Tensor<B, 2>,
    sin: Tensor<B, 2>,
    starts: Option<Tensor<B, 2, Int>>,
    shape: AttentionShape,
    precision: Precision,
) -> Tensor<B, 2> {
    let starts = starts.map(Tensor::into_primitive);
    float(B::causal_attention(prim(qkv), prim(cos), prim(sin), starts, shape, precision))
}

/// See [`FusedOps::token_losses`].
pub fn token_losses<B: FusedOps>(
    x: Tensor<B, 2>,
    head: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    precision: Precision,
) -> Tensor<B, 1> {
    float(B::token_losses(prim(x), prim(head), targets.into_primitive(), precision))
}

/// What [`head_loss`] returns.
#[derive(Debug, Clone)]
pub struct HeadLoss<B: FusedOps> {
    /// `scale · Σ losses`, differentiable, `[1]`.
    pub scaled_sum: Tensor<B, 1>,
    /// Each row's loss in nats, a constant, `[N]`; 0 where the target is negative.
    pub tokens: Tensor<B, 1>,
}

/// See [`FusedOps::head_loss`]. Pass `scale` = 1 / (targets of the whole optimiser step) for a mean.
pub fn head_loss<B: FusedOps>(
    x: Tensor<B, 2>,
    head: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    scale: f64,
    precision: Precision,
) -> HeadLoss<B> {
    let (sum, tokens) = B::head_loss(prim(x), prim(head), targets.into_primitive(), scale, precision);
    HeadLoss { scaled_sum: float(sum), tokens: float(tokens) }
}

/// See [`FusedOps::transposed_product`].
pub fn transposed_product<B: FusedOps>(a: Tensor<B, 2>, b: Tensor<B, 2>) -> Tensor<B, 2> {
    float(B::transposed_product(prim(a), prim(b)))
}

/// See [`FusedOps::sum_squares`].
pub fn sum_squares<B: FusedOps, const D: usize>(t: Tensor<B, D>) -> Tensor<B, 1> {
    let device = t.device();
    float(B::sum_squares(vec![prim(t)], &device))
}

/// [`FusedOps::adamw`] of one parameter: p, m and v after it, and `Σ (change of p)²`.
pub fn adamw<B: FusedOps, const D: usize>(
    [p, g, m, v]: [Tensor<B, D>; 4],
    weight_decay: f64,
    factor: Tensor<B, 1>,
    step: AdamWStep,
) -> ([Tensor<B, D>; 3], Tensor<B, 1>) {
    let slot = Slot { p: prim(p), g: prim(g), m: prim(m), v: prim(v), weight_decay, lr_ratio: 1.0 };
    let (mut new, change) = B::adamw(vec![slot], prim(factor), step);
    let new = new.pop().expect("one slot in, one out");
    ([new.p, new.m, new.v].map(float), float(change))
}
