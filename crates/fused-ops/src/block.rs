//! GPT-NeoX's transformer block as one operation, composed of the others, with its backward from its input alone.

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{DType, FloatDType, TensorMetadata as _};

use crate::{AttentionShape, FusedOps, Gelu, Precision};

/// The block's parameters, each layer's as `[weight, bias]`.
#[derive(Debug, Clone)]
pub struct BlockParameters<T> {
    /// LayerNorm before attention, `[C]` each.
    pub norm1: [T; 2],
    /// `[3C, C]`, `[3C]`.
    pub query_key_value: [T; 2],
    /// Attention's output, `[C, C]`, `[C]`.
    pub dense: [T; 2],
    /// LayerNorm before the feed-forward layer, `[C]` each.
    pub norm2: [T; 2],
    /// `[F, C]`, `[F]`.
    pub widen: [T; 2],
    /// `[C, F]`, `[C]`.
    pub narrow: [T; 2],
}

impl<T> BlockParameters<T> {
    /// All twelve, in the order of the fields.
    pub(crate) fn into_array(self) -> [T; 12] {
        let ([a, b], [c, d], [e, f]) = (self.norm1, self.query_key_value, self.dense);
        let ([g, h], [i, j], [k, l]) = (self.norm2, self.widen, self.narrow);
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    /// The inverse of [`into_array`](Self::into_array).
    pub(crate) fn from_array([a, b, c, d, e, f, g, h, i, j, k, l]: [T; 12]) -> Self {
        Self { norm1: [a, b], query_key_value: [c, d], dense: [e, f], norm2: [g, h], widen: [i, j], narrow: [k, l] }
    }
}

/// How a block computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockSettings {
    /// The attention's sizes.
    pub attention: AttentionShape,
    /// Added to the variance in LayerNorm.
    pub eps: f64,
    /// The activation.
    pub gelu: Gelu,
    /// `x + attention(norm1(x)) + mlp(norm2(x))` instead of one after the other.
    pub parallel_residual: bool,
    /// What matrix products are computed in.
    pub precision: Precision,
}

/// What a block reads besides its input and parameters; none of it gets a gradient.
#[derive(Debug, Clone)]
pub struct BlockContext<B: Backend> {
    /// `[≥ T, R/2]`.
    pub cos: FloatTensor<B>,
    /// `[≥ T, R/2]`.
    pub sin: FloatTensor<B>,
    /// The first position that each position attends to, `[B, T]`.
    pub starts: Option<IntTensor<B>>,
    /// How it computes.
    pub settings: BlockSettings,
}

/// The residual stream is f32.
fn wide<B: Backend>(t: FloatTensor<B>) -> FloatTensor<B> {
    if t.dtype() == DType::F32 { t } else { B::float_cast(t, FloatDType::F32) }
}

fn add<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    B::float_add(wide::<B>(a), wide::<B>(b))
}

fn linear<B: FusedOps>(x: FloatTensor<B>, [w, b]: &[FloatTensor<B>; 2], precision: Precision) -> FloatTensor<B> {
    B::fused_linear(x, w.clone(), Some(b.clone()), precision)
}

fn norm<B: FusedOps>(x: FloatTensor<B>, [w, b]: &[FloatTensor<B>; 2], eps: f64) -> FloatTensor<B> {
    B::fused_layer_norm(x, w.clone(), b.clone(), eps)
}

fn attention<B: FusedOps>(qkv: FloatTensor<B>, c: &BlockContext<B>) -> FloatTensor<B> {
    let BlockSettings { attention, precision, .. } = c.settings;
    B::causal_attention(qkv, c.cos.clone(), c.sin.clone(), c.starts.clone(), attention, precision)
}

pub(crate) fn forward<B: FusedOps>(
    x: FloatTensor<B>,
    p: &BlockParameters<FloatTensor<B>>,
    c: &BlockContext<B>,
) -> FloatTensor<B> {
    let BlockSettings { eps, gelu, parallel_residual, precision, .. } = c.settings;
    let mlp = |x: FloatTensor<B>| {
        let wide = linear::<B>(norm::<B>(x, &p.norm2, eps), &p.widen, precision);
        linear::<B>(B::fused_gelu(wide, gelu), &p.narrow, precision)
    };
    let qkv = linear::<B>(norm::<B>(x.clone(), &p.norm1, eps), &p.query_key_value, precision);
    let attended = linear::<B>(attention::<B>(qkv, c), &p.dense, precision);
    if parallel_residual {
        let fed = mlp(x.clone());
        add::<B>(add::<B>(fed, attended), x)
    } else {
        let y = add::<B>(attended, x);
        add::<B>(mlp(y.clone()), y)
    }
}

/// Gradients of the input and of each parameter, from the input: what lies between is computed again.
pub(crate) fn backward<B: FusedOps>(
    x: FloatTensor<B>,
    p: &BlockParameters<FloatTensor<B>>,
    c: &BlockContext<B>,
    g: FloatTensor<B>,
) -> (FloatTensor<B>, BlockParameters<FloatTensor<B>>) {
    let BlockSettings { attention: shape, eps, gelu, parallel_residual, precision } = c.settings;
    let back = |x, w: &FloatTensor<B>, g| {
        let (gx, gw, gb) = B::fused_linear_backward(x, w.clone(), g, precision);
        (gx, [gw, gb])
    };
    // Forward, keeping what the backward pass reads.
    let normed1 = norm::<B>(x.clone(), &p.norm1, eps);
    let qkv = linear::<B>(normed1.clone(), &p.query_key_value, precision);
    let mixed = attention::<B>(qkv.clone(), c);
    let y = if parallel_residual {
        x.clone()
    } else {
        add::<B>(linear::<B>(mixed.clone(), &p.dense, precision), x.clone())
    };
    let normed2 = norm::<B>(y.clone(), &p.norm2, eps);
    let wide = linear::<B>(normed2.clone(), &p.widen, precision);
    // The feed-forward layer.
    let (g_activated, narrow) = back(B::fused_gelu(wide.clone(), gelu), &p.narrow[0], g.clone());
    let (g_normed2, widen) = back(normed2, &p.widen[0], B::fused_gelu_backward(wide, g_activated, gelu));
    let (g_fed, gw, gb) = B::fused_layer_norm_backward(y, p.norm2[0].clone(), g_normed2, eps);
    let norm2 = [gw, gb];
    // What reaches the attention's output: in the sequential form by way of the feed-forward layer too.
    let gy = if parallel_residual { g } else { add::<B>(g, g_fed.clone()) };
    let (g_mixed, dense) = back(mixed, &p.dense[0], gy.clone());
    let (cos, sin, starts) = (c.cos.clone(), c.sin.clone(), c.starts.clone());
    let g_qkv = B::causal_attention_backward(qkv, cos, sin, starts, g_mixed, shape, precision);
    let (g_normed1, query_key_value) = back(normed1, &p.query_key_value[0], g_qkv);
    let (gx, gw, gb) = B::fused_layer_norm_backward(x, p.norm1[0].clone(), g_normed1, eps);
    let gradients = BlockParameters { norm1: [gw, gb], query_key_value, dense, norm2, widen, narrow };
    // Summed in the order in which the recorded operations would be.
    let gx = add::<B>(gy, gx);
    (if parallel_residual { add::<B>(gx, g_fed) } else { gx }, gradients)
}
