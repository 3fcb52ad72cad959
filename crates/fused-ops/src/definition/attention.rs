//! Causal self-attention with rotary embedding in halves, on packed q, k, v.

use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor, activation};

use super::{cast, factor, wide};
use crate::{AttentionShape, Precision};

/// The rotary tables, `[T, R/2]`, of at least the sequence's positions.
pub(crate) struct Rotary<B: Backend> {
    pub(crate) cos: Tensor<B, 2>,
    pub(crate) sin: Tensor<B, 2>,
}

/// `starts` `[B, T]`: the first position that each position attends to.
pub(crate) fn forward<B: Backend>(
    qkv: Tensor<B, 2>,
    rotary: &Rotary<B>,
    starts: Option<Tensor<B, 2, Int>>,
    s: AttentionShape,
    precision: Precision,
) -> Tensor<B, 2> {
    let dtype = qkv.dtype();
    let [q, k, v] = split_qkv(qkv, s);
    let [q, k] = [q, k].map(|x| factor(rotate(wide(x), rotary, 0, s), precision));
    let outside = forbidden(starts, s, &q.device());
    let p = probabilities(q, k, outside, s);
    cast(merge_heads(factor(p, precision).matmul(factor(v, precision)), s), dtype)
}

/// Gradient of the packed qkv; the probabilities are computed again rather than kept.
pub(crate) fn backward<B: Backend>(
    qkv: Tensor<B, 2>,
    rotary: &Rotary<B>,
    starts: Option<Tensor<B, 2, Int>>,
    g: Tensor<B, 2>,
    s: AttentionShape,
    precision: Precision,
) -> Tensor<B, 2> {
    let dtype = qkv.dtype();
    let [q, k, v] = split_qkv(qkv, s);
    let [q, k] = [q, k].map(|x| factor(rotate(wide(x), rotary, 0, s), precision));
    let v = factor(v, precision);
    let outside = forbidden(starts, s, &q.device());
    let p = probabilities(q.clone(), k.clone(), outside, s);
    let g = factor(g, precision).reshape([s.batch, s.time, s.heads, s.head_dim]).swap_dims(1, 2);
    let gv = factor(p.clone(), precision).swap_dims(2, 3).matmul(g.clone());
    let gp = wide(g.matmul(v.swap_dims(2, 3)));
    let centre = (p.clone() * gp.clone()).sum_dim(3);
    let gs = factor(p * (gp - centre) * s.scale(), precision);
    // The inverse rotation is the rotation by the opposite angle.
    let back = Rotary { cos: rotary.cos.clone(), sin: rotary.sin.clone().neg() };
    let gq = rotate(wide(gs.clone().matmul(k)), &back, 0, s);
    let gk = rotate(wide(gs.swap_dims(2, 3).matmul(q)), &back, 0, s);
    let packed = Tensor::<B, 4>::cat(vec![gq, gk, wide(gv)], 3); // [B, H, T, 3·D]
    cast(packed.swap_dims(1, 2).reshape([s.batch * s.time, s.heads * 3 * s.head_dim]), dtype)
}

/// `[B·T, H·3·D]` → q, k, v, each `[B, H, T, D]`.
pub(crate) fn split_qkv<B: Backend>(qkv: Tensor<B, 2>, s: AttentionShape) -> [Tensor<B, 4>; 3] {
    let packed = qkv.reshape([s.batch, s.time, s.heads, 3 * s.head_dim]).swap_dims(1, 2);
    [0, 1, 2].map(|part| packed.clone().narrow(3, part * s.head_dim, s.head_dim))
}

/// `[B, H, T, D]` → `[B·T, H·D]`.
pub(crate) fn merge_heads<B: Backend>(x: Tensor<B, 4>, s: AttentionShape) -> Tensor<B, 2> {
    x.swap_dims(1, 2).reshape([s.batch * s.time, s.heads * s.head_dim])
}

/// Rotates the pairs (i, i + R/2) of the first R features by the angle of their position, the first of which is
/// `offset`.
pub(crate) fn rotate<B: Backend>(
    x: Tensor<B, 4>,
    rotary: &Rotary<B>,
    offset: usize,
    s: AttentionShape,
) -> Tensor<B, 4> {
    let half = s.rotary_dims / 2;
    if half == 0 {
        return x;
    }
    let table = |t: &Tensor<B, 2>| t.clone().narrow(0, offset, s.time).unsqueeze::<4>();
    let (cos, sin) = (table(&rotary.cos), table(&rotary.sin));
    let a = x.clone().narrow(3, 0, half);
    let b = x.clone().narrow(3, half, half);
    let mut parts = vec![a.clone() * cos.clone() - b.clone() * sin.clone(), b * cos + a * sin];
    if s.rotary_dims < s.head_dim {
        parts.push(x.narrow(3, s.rotary_dims, s.head_dim - s.rotary_dims));
    }
    Tensor::cat(parts, 3)
}

/// True where a position (row) does not attend to another (column): `[1, 1, T, T]`, `[B, 1, T, T]` with starts.
fn forbidden<B: Backend>(
    starts: Option<Tensor<B, 2, Int>>,
    s: AttentionShape,
    device: &B::Device,
) -> Tensor<B, 4, Bool> {
    let future = Tensor::<B, 2, Bool>::tril_mask([s.time, s.time], 0, device).unsqueeze::<4>();
    let Some(starts) = starts else { return future };
    let columns = Tensor::<B, 1, Int>::arange(0..s.time as i64, device).unsqueeze::<4>();
    // A position always attends to itself, whatever its start.
    let own = Tensor::<B, 1, Int>::arange(0..s.time as i64, device).reshape([1, 1, s.time, 1]);
    let starts = starts.reshape([s.batch, 1, s.time, 1]);
    let starts = starts.clone().mask_where(starts.greater(own.clone()), own.repeat_dim(0, s.batch));
    columns.lower(starts).bool_or(future)
}

/// Softmax of the scaled scores over the allowed positions, in f32. `[B, H, T, T]`
fn probabilities<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    forbidden: Tensor<B, 4, Bool>,
    s: AttentionShape,
) -> Tensor<B, 4> {
    let scores = wide(q.matmul(k.swap_dims(2, 3))) * s.scale();
    activation::softmax(scores.mask_fill(forbidden, f32::NEG_INFINITY), 3)
}
