//! AdamW on primitives, so that parameters of any rank go through one body.

use burn::tensor::ops::FloatTensor;
use burn::tensor::{Shape, TensorMetadata as _};

use super::float;
use crate::{AdamWStep, FusedOps, Slot, Updated};

pub(crate) fn update<B: FusedOps>(
    slots: Vec<Slot<FloatTensor<B>>>,
    factor: FloatTensor<B>,
    step: AdamWStep,
) -> (Vec<Updated<FloatTensor<B>>>, FloatTensor<B>) {
    let device = B::float_device(&factor);
    let (new, moves): (Vec<_>, Vec<_>) = slots.into_iter().map(|slot| one::<B>(slot, factor.clone(), step)).unzip();
    (new, B::sum_squares(moves, &device))
}

/// The parameter after its update, and how it moved.
fn one<B: FusedOps>(
    slot: Slot<FloatTensor<B>>,
    factor: FloatTensor<B>,
    step: AdamWStep,
) -> (Updated<FloatTensor<B>>, FloatTensor<B>) {
    let Slot { p, g, m, v, weight_decay, lr_ratio } = slot;
    let lr = step.lr * lr_ratio;
    let (shape, rank) = (p.shape(), p.rank());
    let mul = |t, s: f64| B::float_mul_scalar(t, s.into());
    let factor = B::float_expand(B::float_reshape(factor, Shape::from(vec![1; rank])), shape);
    let count = factor.shape().num_elements();
    let finite = float::<B, 1>(B::float_reshape(factor.clone(), Shape::from([count]))).is_finite();
    let finite = B::bool_reshape(finite.into_primitive(), factor.shape());
    let either = |new, old| B::float_mask_where(old, finite.clone(), new);
    let g = B::float_mul(g, factor);
    let (bias1, bias2) = step.bias_corrections();
    let new_m = B::float_add(mul(m.clone(), step.beta1), mul(g.clone(), 1.0 - step.beta1));
    let g2 = B::float_mul(g.clone(), g);
    let new_v = B::float_add(mul(v.clone(), step.beta2), mul(g2, 1.0 - step.beta2));
    let root = mul(B::float_sqrt(new_v.clone()), 1.0 / bias2.sqrt());
    let delta = B::float_div(new_m.clone(), B::float_add_scalar(root, step.eps.into()));
    let new = B::float_sub(mul(p.clone(), 1.0 - lr * weight_decay), mul(delta, lr / bias1));
    let new = either(new, p.clone());
    let moved = B::float_sub(new.clone(), p);
    (Updated { p: new, m: either(new_m, m), v: either(new_v, v) }, moved)
}
