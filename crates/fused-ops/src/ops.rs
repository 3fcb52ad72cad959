//! The operations. Their generic definitions lie in `definition`, one file each.

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor};

use crate::block::{self, BlockContext, BlockParameters};
use crate::definition::attention::Rotary;
use crate::definition::{adamw, attention, float, gelu, head, linear, norm, prim};
use crate::{AdamWStep, AttentionShape, Gelu, Precision, Updated};

/// The document starts `[B, T]` as a tensor.
fn int<B: Backend>(starts: IntTensor<B>) -> Tensor<B, 2, Int> {
    Tensor::from_primitive(starts)
}

/// A backend with this crate's operations. The default bodies define them.
///
/// Parameters, and the input of norms and losses, are f32. What [`Precision::Bf16`] computes may come out as bf16, and
/// every operation takes that back in. The `*_backward` functions take the forward's inputs and the gradient of its
/// output; they are what an [`Autodiff`](burn::backend::Autodiff) node calls on its inner backend.
pub trait FusedOps: Backend {
    /// `y = x·wᵀ + b`.
    ///
    /// # Shapes
    /// x `[N, I]`, w `[O, I]`, b `[O]` → `[N, O]`
    fn fused_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: Option<FloatTensor<Self>>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        prim(linear::forward::<Self>(float(x), float(w), b.map(float), precision))
    }

    /// Gradients of x, w and b (the last is summed over the rows; callers without a bias drop it).
    fn fused_linear_backward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        g: FloatTensor<Self>,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (gx, gw, gb) = linear::backward::<Self>(float(x), float(w), float(g), precision);
        (prim(gx), prim(gw), prim(gb))
    }

    /// The activation, element by element; of x's type.
    fn fused_gelu(x: FloatTensor<Self>, kind: Gelu) -> FloatTensor<Self> {
        prim(gelu::forward::<Self>(float(x), kind))
    }

    /// Gradient of x.
    fn fused_gelu_backward(x: FloatTensor<Self>, g: FloatTensor<Self>, kind: Gelu) -> FloatTensor<Self> {
        prim(gelu::backward::<Self>(float(x), float(g), kind))
    }

    /// `(x − mean)/√(var + eps)·gamma + beta` over the last dimension.
    ///
    /// # Shapes
    /// x `[N, C]`, gamma and beta `[C]` → `[N, C]`
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        prim(norm::forward::<Self>(float(x), float(gamma), float(beta), eps))
    }

    /// Gradients of x, gamma and beta.
    fn fused_layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        g: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (gx, ggamma, gbeta) = norm::backward::<Self>(float(x), float(gamma), float(g), eps);
        (prim(gx), prim(ggamma), prim(gbeta))
    }

    /// Causal self-attention on packed, unrotated q, k, v with rotary embedding in halves (GPT-NeoX).
    ///
    /// With `starts` a position attends to those from its start to itself: the start of its document, for a mask at
    /// document boundaries. (A start beyond the position itself counts as the position.)
    ///
    /// # Shapes
    /// qkv `[B·T, H·3·D]`, cos and sin `[≥ T, R/2]`, starts `[B, T]` → `[B·T, H·D]`
    fn causal_attention(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        starts: Option<IntTensor<Self>>,
        shape: AttentionShape,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let rotary = Rotary { cos: float(cos), sin: float(sin) };
        prim(attention::forward::<Self>(float(qkv), &rotary, starts.map(int), shape, precision))
    }

    /// Gradient of the packed qkv; the probabilities are computed again rather than kept.
    fn causal_attention_backward(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        starts: Option<IntTensor<Self>>,
        g: FloatTensor<Self>,
        shape: AttentionShape,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let rotary = Rotary { cos: float(cos), sin: float(sin) };
        prim(attention::backward::<Self>(float(qkv), &rotary, starts.map(int), float(g), shape, precision))
    }

    /// A whole transformer block, `[B·T, C]` → `[B·T, C]`. With `recompute` training keeps only its input and runs it
    /// again in the backward pass (activation checkpointing): the same values, less memory, a third more work.
    fn transformer_block(
        x: FloatTensor<Self>,
        parameters: BlockParameters<FloatTensor<Self>>,
        context: BlockContext<Self>,
        recompute: bool,
    ) -> FloatTensor<Self> {
        let _ = recompute; // Without gradients there is nothing to keep.
        block::forward::<Self>(x, &parameters, &context)
    }

    /// Negative log-likelihood of each row's target under `softmax(x·wᵀ)`, in nats; 0 where the target is negative.
    ///
    /// # Shapes
    /// x `[N, C]`, w `[V, C]`, targets `[N]` → `[N]`
    fn token_losses(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        prim(head::losses::<Self>(float(x), float(w), Tensor::from_primitive(targets), precision))
    }

    /// [`token_losses`](Self::token_losses), and the gradients of `scale · Σ losses` for x and w.
    ///
    /// Chunked over the rows, so that `[N, V]` logits are never all alive.
    fn token_losses_and_gradients(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        scale: f64,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let targets = Tensor::from_primitive(targets);
        let (losses, gx, gw) = head::losses_and_gradients::<Self>(float(x), float(w), targets, scale, precision);
        (prim(losses), prim(gx), prim(gw))
    }

    /// The sum of `scale ·` [`token_losses`](Self::token_losses) (differentiable, `[1]`), and the losses themselves
    /// (a constant, `[N]`).
    fn head_loss(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        scale: f64,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let losses = float::<Self, 1>(Self::token_losses(x, w, targets, precision));
        (prim(losses.clone().sum() * scale), prim(losses))
    }

    /// `t·factor` for a factor of shape `[1]`.
    fn scale_by(t: FloatTensor<Self>, factor: FloatTensor<Self>) -> FloatTensor<Self> {
        prim(float::<Self, 2>(t) * float::<Self, 1>(factor).unsqueeze())
    }

    /// `Σ t²` as `[1]`; `t` is of any rank.
    fn sum_squares(t: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_sum(Self::float_mul(t.clone(), t))
    }

    /// One update of a parameter and its moments, of any rank: the new ones and `Σ (change of p)²` as `[1]`.
    fn adamw(
        p: FloatTensor<Self>,
        g: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        step: AdamWStep,
    ) -> Updated<FloatTensor<Self>> {
        adamw::update::<Self>(p, g, m, v, step)
    }
}

/// What trains: an autodiff backend with the fused operations on both levels. One bound in place of three.
pub trait TrainingBackend: burn::tensor::backend::AutodiffBackend<InnerBackend: FusedOps> + FusedOps {}

impl<AB> TrainingBackend for AB where AB: burn::tensor::backend::AutodiffBackend<InnerBackend: FusedOps> + FusedOps {}
