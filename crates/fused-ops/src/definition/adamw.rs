//! AdamW on primitives, so that parameters of any rank go through one body.

use burn::tensor::ops::FloatTensor;

use crate::{AdamWStep, FusedOps, Updated};

pub(crate) fn update<B: FusedOps>(
    p: FloatTensor<B>,
    g: FloatTensor<B>,
    m: FloatTensor<B>,
    v: FloatTensor<B>,
    step: AdamWStep,
) -> Updated<FloatTensor<B>> {
    let mul = |t, s: f64| B::float_mul_scalar(t, s.into());
    let g = mul(g, step.grad_scale);
    let (bias1, bias2) = step.bias_corrections();
    let m = B::float_add(mul(m, step.beta1), mul(g.clone(), 1.0 - step.beta1));
    let g2 = B::float_mul(g.clone(), g);
    let v = B::float_add(mul(v, step.beta2), mul(g2, 1.0 - step.beta2));
    let root = mul(B::float_sqrt(v.clone()), 1.0 / bias2.sqrt());
    let delta = B::float_div(m.clone(), B::float_add_scalar(root, step.eps.into()));
    let new = B::float_sub(mul(p.clone(), 1.0 - step.lr * step.weight_decay), mul(delta, step.lr / bias1));
    let change = B::sum_squares(B::float_sub(new.clone(), p));
    Updated { p: new, m, v, change }
}
