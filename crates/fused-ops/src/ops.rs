//! The operations. Their generic definitions lie in `definition`, one file each.

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor};

use crate::block::{self, BlockContext, BlockParameters, Norms, Stream};
use crate::definition::attention::Rotary;
use crate::definition::{adamw, attention, factor, float, gelu, head, linear, norm, prim};
use crate::{AdamWStep, AttentionShape, DeviceMemory, Gelu, KeptAttention, Place, Precision, Slot, Updated};

/// The document starts `[B, T]` as a tensor.
fn int<B: Backend>(starts: IntTensor<B>) -> Tensor<B, 2, Int> {
    Tensor::from_primitive(starts)
}

/// A backend with this crate's operations. The default bodies define them.
///
/// Parameters, their gradients, and the input of norms and losses, are f32. What [`Precision::Bf16`] computes may come
/// out as bf16, and every operation takes that back in. The `*_backward` functions take the forward's inputs and the
/// gradient of its output; they are what an [`Autodiff`](burn::backend::Autodiff) node calls on its inner backend.
pub trait FusedOps: Backend {
    /// A matrix in the type of products: what linear operations turn their factors into, for one that is used again.
    fn as_factor(t: FloatTensor<Self>, precision: Precision) -> FloatTensor<Self> {
        prim(factor(float::<Self, 2>(t), precision))
    }

    /// The sum of a matrix's rows, in f32: the gradient of a bias, from that of what it was added to.
    ///
    /// # Shapes
    /// t `[N, C]` → `[C]`
    fn sum_rows(t: FloatTensor<Self>) -> FloatTensor<Self> {
        prim(crate::definition::wide(float::<Self, 2>(t)).sum_dim(0).squeeze_dim::<1>(0))
    }

    /// [A matrix in the type of products](Self::as_factor), and [the sum of its rows](Self::sum_rows) as they are in that type.
    fn as_factor_with_sum(t: FloatTensor<Self>, precision: Precision) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let t = Self::as_factor(t, precision);
        (t.clone(), Self::sum_rows(t))
    }

    /// The rows of a table `[V, C]` at the ids `[N]`, which lie below V: `[N, C]`.
    fn fused_embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        Self::float_select(table, 0, ids)
    }

    /// Gradient of the table of `rows` rows: each row is the sum of `g`'s rows at its id, in their order.
    ///
    /// # Shapes
    /// ids `[N]`, g `[N, C]` → `[V, C]`
    fn fused_embedding_backward(ids: IntTensor<Self>, g: FloatTensor<Self>, rows: usize) -> FloatTensor<Self> {
        let g = float::<Self, 2>(g);
        let table = Tensor::<Self, 2>::zeros([rows, g.dims()[1]], &g.device());
        Self::float_select_add(prim(table), 0, ids, prim(g))
    }

    /// `a + x`, or `(a + b) + x`: the residual stream after a block, in f32. All of the same shape.
    fn residual_sum(a: FloatTensor<Self>, b: Option<FloatTensor<Self>>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let wide = |t| crate::definition::wide(float::<Self, 2>(t));
        let a = b.into_iter().fold(wide(a), |a, b| a + wide(b));
        prim(a + wide(x))
    }

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

    /// Gradients of x, of its type, and of w, in f32.
    fn fused_linear_backward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        g: FloatTensor<Self>,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (gx, gw) = linear::backward::<Self>(float(x), float(w), float(g), precision);
        (prim(gx), prim(gw))
    }

    /// [`fused_linear_backward`](Self::fused_linear_backward), and the gradient of the bias, in f32.
    fn fused_biased_linear_backward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        g: FloatTensor<Self>,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (g, gb) = Self::as_factor_with_sum(g, precision);
        let (gx, gw) = Self::fused_linear_backward(x, w, g, precision);
        (gx, gw, gb)
    }

    /// The activation, element by element; of x's type.
    fn fused_gelu(x: FloatTensor<Self>, kind: Gelu) -> FloatTensor<Self> {
        prim(gelu::forward::<Self>(float(x), kind))
    }

    /// Gradient of x.
    fn fused_gelu_backward(x: FloatTensor<Self>, g: FloatTensor<Self>, kind: Gelu) -> FloatTensor<Self> {
        prim(gelu::backward::<Self>(float(x), float(g), kind))
    }

    /// Gradient of x as a factor of the precision, and [the sum of its rows](Self::sum_rows): what the linear operation before an
    /// activation goes on with.
    fn fused_gelu_backward_with_sum(
        x: FloatTensor<Self>,
        g: FloatTensor<Self>,
        kind: Gelu,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        Self::as_factor_with_sum(Self::fused_gelu_backward(x, g, kind), precision)
    }

    /// `(x − mean)/√(var + eps)·gamma + beta` over the last dimension, computed in f32; the result is a factor of the
    /// precision.
    ///
    /// # Shapes
    /// x `[N, C]`, gamma and beta `[C]` → `[N, C]`
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
        precision: Precision,
    ) -> FloatTensor<Self> {
        prim(factor(norm::forward::<Self>(float(x), float(gamma), float(beta), eps), precision))
    }

    /// Gradients of x, gamma and beta, in f32.
    fn fused_layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        g: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (gx, ggamma, gbeta) = norm::backward::<Self>(float(x), float(gamma), float(g), eps);
        (prim(gx), prim(ggamma), prim(gbeta))
    }

    /// Two [layer norms](Self::fused_layer_norm) of the same input, gamma and beta each: what a block with parallel branches
    /// begins with.
    fn fused_layer_norms(
        x: FloatTensor<Self>,
        parameters: Norms<FloatTensor<Self>>,
        eps: f64,
        precision: Precision,
    ) -> [FloatTensor<Self>; 2] {
        parameters.map(|[gamma, beta]| Self::fused_layer_norm(x.clone(), gamma, beta, eps, precision))
    }

    /// [The residual sum](Self::residual_sum) of all three, and [both norms](Self::fused_layer_norms) of it.
    fn residual_sum_and_norms(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        x: FloatTensor<Self>,
        parameters: Norms<FloatTensor<Self>>,
        eps: f64,
        precision: Precision,
    ) -> (FloatTensor<Self>, [FloatTensor<Self>; 2]) {
        let sum = Self::residual_sum(a, Some(b), x);
        (sum.clone(), Self::fused_layer_norms(sum, parameters, eps, precision))
    }

    /// From the gradients of [two norms' results](Self::fused_layer_norms) and what reaches x beside them: the gradient of x,
    /// `(beside + first) + second`, and those of gamma and beta of each norm. All f32.
    fn fused_layer_norms_backward(
        x: FloatTensor<Self>,
        gammas: [FloatTensor<Self>; 2],
        gs: [FloatTensor<Self>; 2],
        beside: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, [[FloatTensor<Self>; 2]; 2]) {
        let [g, second_g] = gs;
        let [gamma, second_gamma] = gammas;
        let (gx, a, b) = Self::fused_layer_norm_backward(x.clone(), gamma, g, eps);
        let (second_gx, c, d) = Self::fused_layer_norm_backward(x, second_gamma, second_g, eps);
        (Self::residual_sum(beside, Some(gx), second_gx), [[a, b], [c, d]])
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

    /// [`causal_attention`](Self::causal_attention), and what its backward pass may read instead of computing it again.
    fn causal_attention_keeping(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        starts: Option<IntTensor<Self>>,
        shape: AttentionShape,
        precision: Precision,
    ) -> (FloatTensor<Self>, Option<KeptAttention<FloatTensor<Self>>>) {
        (Self::causal_attention(qkv, cos, sin, starts, shape, precision), None)
    }

    /// Gradient of the packed qkv; the probabilities are computed again rather than kept.
    #[allow(clippy::too_many_arguments, reason = "the forward pass's inputs, what it kept, and the gradient")]
    fn causal_attention_backward(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        starts: Option<IntTensor<Self>>,
        _kept: Option<KeptAttention<FloatTensor<Self>>>,
        g: FloatTensor<Self>,
        shape: AttentionShape,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let rotary = Rotary { cos: float(cos), sin: float(sin) };
        prim(attention::backward::<Self>(float(qkv), &rotary, starts.map(int), float(g), shape, precision))
    }

    /// A whole transformer block, from residual stream to residual stream. With `recompute` training keeps only its input and runs
    /// it again in the backward pass (activation checkpointing): the same values, less memory, a third more work.
    ///
    /// `next` are the norms of the block that takes the result, if one follows: training makes them together with the residual sum
    /// where both have parallel branches, so that the sum is not read again, with the same arithmetic (on a CPU: the same bits).
    fn transformer_block(
        stream: Stream<FloatTensor<Self>>,
        parameters: BlockParameters<FloatTensor<Self>>,
        next: Option<Norms<FloatTensor<Self>>>,
        context: BlockContext<Self>,
        recompute: bool,
    ) -> Stream<FloatTensor<Self>> {
        let _ = (next, recompute); // Without gradients there is nothing to keep, and the norms are made when they are used.
        block::forward::<Self>(stream, &parameters, None, &context, false)
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

    /// `aᵀ·b` in f32. (On CUDA in full where cuBLASLt is there; kernels of CubeCL may take f32 as TF32.)
    ///
    /// # Shapes
    /// a `[N, M]`, b `[N, K]` → `[M, K]`
    fn transposed_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        prim(float::<Self, 2>(a).transpose().matmul(float::<Self, 2>(b)))
    }

    /// The device's memory, where it has one of its own and tells.
    fn device_memory(_device: &Self::Device) -> Option<DeviceMemory> {
        None
    }

    /// Rows of logits that the loss of `rows` rows keeps alive at once.
    fn loss_rows(rows: usize, vocabulary: usize) -> usize {
        crate::loss_rows(rows, vocabulary, Place::Cpu)
    }

    /// `Σ t²` over all elements of all tensors, of any rank, as `[1]`. The same bits in every run.
    fn sum_squares(tensors: Vec<FloatTensor<Self>>, device: &Self::Device) -> FloatTensor<Self> {
        let squares = |t: FloatTensor<Self>| float::<Self, 1>(Self::float_sum(Self::float_mul(t.clone(), t)));
        let sum = tensors.into_iter().map(squares).reduce(|a, b| a + b);
        prim(sum.unwrap_or_else(|| Tensor::zeros([1], device)))
    }

    /// The factor on gradients that brings their norm, the root of `squares`, down to `most`; not a number where
    /// `squares` or `loss` is not finite. All of shape `[1]`.
    fn clip_factor(squares: FloatTensor<Self>, loss: FloatTensor<Self>, most: f64) -> FloatTensor<Self> {
        let (squares, loss) = (float::<Self, 1>(squares), float::<Self, 1>(loss));
        let factor = ((squares.clone().sqrt() + 1e-6).recip() * most).clamp_max(1.0);
        // Zero where both are finite, and not a number where one is not.
        prim(factor + (squares.clone() - squares) + (loss.clone() - loss))
    }

    /// One AdamW update of every slot, its gradients times `factor` `[1]`, and `Σ (change of p)²` over all of them as
    /// `[1]`. A factor that is not finite leaves everything as it is (a change of 0).
    fn adamw(
        slots: Vec<Slot<FloatTensor<Self>>>,
        factor: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (Vec<Updated<FloatTensor<Self>>>, FloatTensor<Self>) {
        adamw::update::<Self>(slots, factor, step)
    }
}

/// What trains: an autodiff backend with the fused operations on both levels. One bound in place of three.
pub trait TrainingBackend: burn::tensor::backend::AutodiffBackend<InnerBackend: FusedOps> + FusedOps {}

impl<AB> TrainingBackend for AB where AB: burn::tensor::backend::AutodiffBackend<InnerBackend: FusedOps> + FusedOps {}
