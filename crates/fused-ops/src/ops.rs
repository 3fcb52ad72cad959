//! The operations and their generic definitions.

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor, TensorPrimitive, activation};

/// Which form of the Gaussian error linear unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gelu {
    /// `x·Φ(x)` (Hugging Face's `gelu`; Pythia).
    Exact,
    /// `x/2·(1 + tanh(√(2/π)(x + 0.044715x³)))` (`gelu_fast`, `gelu_new`).
    Tanh,
}

/// The sizes of a packed attention input `[B·T, H·3·D]` whose rows are `[head, (q, k, v), D]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// B, sequences.
    pub batch: usize,
    /// T, positions of a sequence.
    pub time: usize,
    /// H, heads.
    pub heads: usize,
    /// D, features of a head.
    pub head_dim: usize,
    /// R, how many leading features of each head rotate (even, at most D).
    pub rotary_dims: usize,
}

/// One AdamW update with decoupled decay, as `torch.optim.AdamW`:
/// `p ← p(1 − lr·decay)`, then `p ← p − lr/bias1 · m / (√v/√bias2 + eps)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate of this update.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay of this parameter.
    pub weight_decay: f64,
    /// t, the number of this update, from 1.
    pub update: u64,
    /// Factor on the gradient (the global-norm clip).
    pub grad_scale: f64,
}

impl AdamWStep {
    /// `(1 − β₁ᵗ, 1 − β₂ᵗ)`.
    pub fn bias_corrections(&self) -> (f64, f64) {
        let t = i32::try_from(self.update).unwrap_or(i32::MAX);
        (1.0 - self.beta1.powi(t), 1.0 - self.beta2.powi(t))
    }
}

pub(crate) fn float<B: Backend, const D: usize>(t: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(t))
}

pub(crate) fn prim<B: Backend, const D: usize>(t: Tensor<B, D>) -> FloatTensor<B> {
    t.into_primitive().tensor()
}

/// A backend with this crate's operations. The default bodies define them.
///
/// Every tensor is f32 unless said otherwise. The `*_backward` functions take the forward's inputs and the gradient of
/// its output. They are what an [`Autodiff`](burn::backend::Autodiff) node calls on its inner backend.
pub trait FusedOps: Backend {
    /// `y = x·wᵀ + b`.
    ///
    /// # Shapes
    /// x `[N, I]`, w `[O, I]`, b `[O]` → `[N, O]`
    fn fused_linear(x: FloatTensor<Self>, w: FloatTensor<Self>, b: Option<FloatTensor<Self>>) -> FloatTensor<Self> {
        let y = float::<Self, 2>(x).matmul(float::<Self, 2>(w).transpose());
        prim(match b {
            Some(b) => y + float::<Self, 1>(b).unsqueeze(),
            None => y,
        })
    }

    /// Gradients of x, w and b (the last is summed over the rows; callers without a bias drop it).
    fn fused_linear_backward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        g: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let g = float::<Self, 2>(g);
        let gx = g.clone().matmul(float::<Self, 2>(w));
        let gw = g.clone().transpose().matmul(float::<Self, 2>(x));
        (prim(gx), prim(gw), prim(g.sum_dim(0).squeeze_dim::<1>(0)))
    }

    /// The activation, element by element.
    fn fused_gelu(x: FloatTensor<Self>, kind: Gelu) -> FloatTensor<Self> {
        let x = float::<Self, 2>(x);
        prim(match kind {
            Gelu::Exact => activation::gelu(x),
            Gelu::Tanh => activation::gelu_approximate(x),
        })
    }

    /// Gradient of x. (burn's own backward of the exact form is the tanh form's derivative on some backends.)
    fn fused_gelu_backward(x: FloatTensor<Self>, g: FloatTensor<Self>, kind: Gelu) -> FloatTensor<Self> {
        let x = float::<Self, 2>(x);
        let slope = match kind {
            Gelu::Exact => {
                let cdf = ((x.clone() * std::f32::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
                let pdf = (x.clone().powi_scalar(2) * -0.5).exp() * 0.398_942_3;
                cdf + x * pdf
            }
            Gelu::Tanh => {
                const ROOT: f32 = 0.797_884_6; // √(2/π)
                let x2 = x.clone().powi_scalar(2);
                let th = ((x.clone() * (x2.clone() * 0.044_715 + 1.0)) * ROOT).tanh();
                let sech2 = th.clone().powi_scalar(2).neg() + 1.0;
                (th + 1.0) * 0.5 + x * sech2 * (x2 * (3.0 * 0.044_715) + 1.0) * (0.5 * ROOT)
            }
        };
        prim(float::<Self, 2>(g) * slope)
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
        let (xhat, _) = normalised(float::<Self, 2>(x), eps);
        prim(xhat * float::<Self, 1>(gamma).unsqueeze() + float::<Self, 1>(beta).unsqueeze())
    }

    /// Gradients of x, gamma and beta.
    fn fused_layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        g: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (xhat, sd) = normalised(float::<Self, 2>(x), eps);
        let g = float::<Self, 2>(g);
        let ggamma = (g.clone() * xhat.clone()).sum_dim(0).squeeze_dim::<1>(0);
        let gbeta = g.clone().sum_dim(0).squeeze_dim::<1>(0);
        let gy = g * float::<Self, 1>(gamma).unsqueeze();
        let along = (gy.clone() * xhat.clone()).mean_dim(1);
        let gx = (gy.clone() - gy.mean_dim(1) - xhat * along) / sd;
        (prim(gx), prim(ggamma), prim(gbeta))
    }

    /// Causal self-attention on packed, unrotated q, k, v with rotary embedding in halves (GPT-NeoX).
    ///
    /// # Shapes
    /// qkv `[B·T, H·3·D]`, cos and sin `[T, R/2]` → `[B·T, H·D]`
    fn causal_attention(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        let [q, k, v] = split_qkv(float::<Self, 2>(qkv), shape);
        let (cos, sin) = (float::<Self, 2>(cos), float::<Self, 2>(sin));
        let q = rotate(q, &cos, &sin, shape);
        let k = rotate(k, &cos, &sin, shape);
        let out = causal_probabilities(q, k, shape).matmul(v);
        prim(out.swap_dims(1, 2).reshape([shape.batch * shape.time, shape.heads * shape.head_dim]))
    }

    /// Gradient of the packed qkv; the probabilities are computed again rather than kept.
    fn causal_attention_backward(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        g: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        let AttentionShape { batch, time, heads, head_dim, .. } = shape;
        let [q, k, v] = split_qkv(float::<Self, 2>(qkv), shape);
        let (cos, sin) = (float::<Self, 2>(cos), float::<Self, 2>(sin));
        let q = rotate(q, &cos, &sin, shape);
        let k = rotate(k, &cos, &sin, shape);
        let p = causal_probabilities(q.clone(), k.clone(), shape);
        let g = float::<Self, 2>(g).reshape([batch, time, heads, head_dim]).swap_dims(1, 2);
        let gv = p.clone().swap_dims(2, 3).matmul(g.clone());
        let gp = g.matmul(v.swap_dims(2, 3));
        let centre = (p.clone() * gp.clone()).sum_dim(3);
        let gs = p * (gp - centre) * (1.0 / (head_dim as f64).sqrt());
        // The inverse rotation is the rotation by the opposite angle.
        let back = sin.neg();
        let gq = rotate(gs.clone().matmul(k), &cos, &back, shape);
        let gk = rotate(gs.swap_dims(2, 3).matmul(q), &cos, &back, shape);
        let packed = Tensor::stack::<5>(vec![gq, gk, gv], 3); // [B, H, T, 3, D]
        prim(packed.swap_dims(1, 2).reshape([batch * time, heads * 3 * head_dim]))
    }

    /// Negative log-likelihood of each row's target under `softmax(x·wᵀ)`, in nats; 0 where the target is negative.
    ///
    /// # Shapes
    /// x `[N, C]`, w `[V, C]`, targets `[N]` → `[N]`
    fn token_losses(x: FloatTensor<Self>, w: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self> {
        let (x, w) = (float::<Self, 2>(x), float::<Self, 2>(w));
        let targets = Tensor::<Self, 1, Int>::from_primitive(targets);
        let losses = row_chunks(x.dims()[0])
            .map(|(from, to)| {
                let logits = x.clone().narrow(0, from, to - from).matmul(w.clone().transpose());
                let t = targets.clone().narrow(0, from, to - from);
                let (keep, t) = kept_targets(t);
                let lp = activation::log_softmax(logits, 1).gather(1, t.unsqueeze_dim(1));
                lp.neg().squeeze_dim::<1>(1) * keep
            })
            .collect();
        prim(Tensor::cat(losses, 0))
    }

    /// [`token_losses`](Self::token_losses), and the gradients of `scale · Σ losses` for x and w.
    ///
    /// Chunked over the rows, so that `[N, V]` logits are never all alive.
    fn token_losses_and_gradients(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        scale: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (x, w) = (float::<Self, 2>(x), float::<Self, 2>(w));
        let targets = Tensor::<Self, 1, Int>::from_primitive(targets);
        let vocabulary = w.dims()[0];
        let (mut losses, mut gx, mut gw) = (Vec::new(), Vec::new(), w.zeros_like());
        for (from, to) in row_chunks(x.dims()[0]) {
            let rows = x.clone().narrow(0, from, to - from);
            let (keep, t) = kept_targets(targets.clone().narrow(0, from, to - from));
            let lp = activation::log_softmax(rows.clone().matmul(w.clone().transpose()), 1);
            losses.push(lp.clone().gather(1, t.clone().unsqueeze_dim(1)).neg().squeeze_dim::<1>(1) * keep.clone());
            let hot = t.one_hot::<2>(vocabulary).float();
            let g = (lp.exp() - hot) * (keep * scale).unsqueeze_dim(1);
            gx.push(g.clone().matmul(w.clone()));
            gw = gw + g.transpose().matmul(rows);
        }
        (prim(Tensor::cat(losses, 0)), prim(Tensor::cat(gx, 0)), prim(gw))
    }

    /// The sum of `scale ·` [`token_losses`](Self::token_losses) (differentiable, `[1]`), and the losses themselves
    /// (a constant, `[N]`).
    fn head_loss(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        scale: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let losses = float::<Self, 1>(Self::token_losses(x, w, targets));
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

    /// One update of a parameter and its moments, of any rank: the new `(p, m, v)`.
    fn adamw(
        p: FloatTensor<Self>,
        g: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let mul = |t, s: f64| Self::float_mul_scalar(t, s.into());
        let g = mul(g, step.grad_scale);
        let (bias1, bias2) = step.bias_corrections();
        let m = Self::float_add(mul(m, step.beta1), mul(g.clone(), 1.0 - step.beta1));
        let g2 = Self::float_mul(g.clone(), g);
        let v = Self::float_add(mul(v, step.beta2), mul(g2, 1.0 - step.beta2));
        let root = mul(Self::float_sqrt(v.clone()), 1.0 / bias2.sqrt());
        let delta = Self::float_div(m.clone(), Self::float_add_scalar(root, step.eps.into()));
        let p = Self::float_sub(mul(p, 1.0 - step.lr * step.weight_decay), mul(delta, step.lr / bias1));
        (p, m, v)
    }
}

/// Rows of logits alive at once in the generic loss.
const LOSS_ROWS: usize = 1024;

fn row_chunks(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(LOSS_ROWS).map(move |from| (from, (from + LOSS_ROWS).min(rows)))
}

/// 1.0 where the target counts, else 0.0; and the targets with the others replaced by a valid index.
fn kept_targets<B: Backend>(targets: Tensor<B, 1, Int>) -> (Tensor<B, 1>, Tensor<B, 1, Int>) {
    let keep = targets.clone().greater_equal_elem(0).float();
    (keep, targets.clamp_min(0))
}

/// The normalised rows and √(var + eps) `[N, 1]`. (Divided by, because some backends approximate `recip`.)
fn normalised<B: Backend>(x: Tensor<B, 2>, eps: f64) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let centred = x.clone() - x.mean_dim(1);
    let sd = (centred.clone() * centred.clone()).mean_dim(1).add_scalar(eps).sqrt();
    (centred / sd.clone(), sd)
}

/// `[B·T, H·3·D]` → q, k, v, each `[B, H, T, D]`.
fn split_qkv<B: Backend>(qkv: Tensor<B, 2>, s: AttentionShape) -> [Tensor<B, 4>; 3] {
    let packed = qkv.reshape([s.batch, s.time, s.heads, 3 * s.head_dim]).swap_dims(1, 2);
    [0, 1, 2].map(|part| packed.clone().narrow(3, part * s.head_dim, s.head_dim))
}

/// Rotates the pairs (i, i + R/2) of the first R features by the angle of their position.
fn rotate<B: Backend>(x: Tensor<B, 4>, cos: &Tensor<B, 2>, sin: &Tensor<B, 2>, s: AttentionShape) -> Tensor<B, 4> {
    let half = s.rotary_dims / 2;
    if half == 0 {
        return x;
    }
    let cos = cos.clone().narrow(0, 0, s.time).unsqueeze::<4>();
    let sin = sin.clone().narrow(0, 0, s.time).unsqueeze::<4>();
    let a = x.clone().narrow(3, 0, half);
    let b = x.clone().narrow(3, half, half);
    let mut parts = vec![a.clone() * cos.clone() - b.clone() * sin.clone(), b * cos + a * sin];
    if s.rotary_dims < s.head_dim {
        parts.push(x.narrow(3, s.rotary_dims, s.head_dim - s.rotary_dims));
    }
    Tensor::cat(parts, 3)
}

/// Softmax of the scaled scores, each row over the positions up to its own. `[B, H, T, T]`
fn causal_probabilities<B: Backend>(q: Tensor<B, 4>, k: Tensor<B, 4>, s: AttentionShape) -> Tensor<B, 4> {
    let device = q.device();
    let scores = q.matmul(k.swap_dims(2, 3)) * (1.0 / (s.head_dim as f64).sqrt());
    let future = Tensor::<B, 2, burn::tensor::Bool>::tril_mask([s.time, s.time], 0, &device);
    activation::softmax(scores.mask_fill(future.unsqueeze::<4>(), f32::NEG_INFINITY), 3)
}
