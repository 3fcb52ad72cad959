//! Attention of new positions to all before them, whose keys and values are kept: what generation needs.

use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Tensor, activation};

use crate::definition::attention::{Rotary, merge_heads, rotate, split_qkv};
use crate::definition::{cast, factor, wide};
use crate::{AttentionShape, Precision};

/// Rotated keys, and values, of the positions so far: `[B, H, T, D]` each.
#[derive(Debug, Clone)]
pub struct KeyValues<B: Backend> {
    keys: Tensor<B, 4>,
    values: Tensor<B, 4>,
}

impl<B: Backend> KeyValues<B> {
    /// T, positions kept.
    pub fn positions(&self) -> usize {
        self.keys.dims()[2]
    }
}

/// Causal attention of the `shape.time` positions that follow those in `past`; they are kept too. Without gradients.
///
/// # Shapes
/// qkv `[B·T, H·3·D]`, cos and sin `[≥ past + T, R/2]` → `[B·T, H·D]`
pub fn cached_attention<B: Backend>(
    qkv: Tensor<B, 2>,
    cos: Tensor<B, 2>,
    sin: Tensor<B, 2>,
    past: Option<KeyValues<B>>,
    shape: AttentionShape,
    precision: Precision,
) -> (Tensor<B, 2>, KeyValues<B>) {
    let dtype = qkv.dtype();
    let rotary = Rotary { cos, sin };
    let before = past.as_ref().map_or(0, KeyValues::positions);
    let [q, k, v] = split_qkv(qkv, shape);
    let [q, k] = [q, k].map(|x| factor(rotate(wide(x), &rotary, before, shape), precision));
    let v = factor(v, precision);
    let (keys, values) = match past {
        Some(past) => (Tensor::cat(vec![past.keys, k], 2), Tensor::cat(vec![past.values, v], 2)),
        None => (k, v),
    };
    let mut scores = wide(q.matmul(keys.clone().swap_dims(2, 3))) * shape.scale();
    if shape.time > 1 {
        let future = [shape.time, before + shape.time];
        let future = Tensor::<B, 2, Bool>::tril_mask(future, before as i64, &scores.device());
        scores = scores.mask_fill(future.unsqueeze::<4>(), f32::NEG_INFINITY);
    }
    let mixed = factor(activation::softmax(scores, 3), precision).matmul(values.clone());
    (cast(merge_heads(mixed, shape), dtype), KeyValues { keys, values })
}
