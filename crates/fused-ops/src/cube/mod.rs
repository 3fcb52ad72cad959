//! Fast paths for CubeCL's backends (CUDA, Vulkan): burn's matrix products, and one kernel for what lies between two.
//!
//! In kernels, E is the type that products are computed in, f32 or bf16; everything else is computed in f32. Row
//! kernels reduce in a fixed order: the same bits in every run.

mod adamw;
mod gelu;
mod loss;
mod norm;
mod reduce;
mod rotate;
mod softmax;

use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{DType, Int, IntDType, Shape, Tensor, TensorMetadata as _};
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

use crate::definition::attention::merge_heads;
use crate::definition::head::chunks;
use crate::definition::{cast, factor, float, prim, wide};
use crate::{AdamWStep, AttentionShape, FusedOps, Gelu, Precision, Updated};

/// Runs code for an element type: bf16, else f32.
macro_rules! by_type {
    ($E:ident, $dtype:expr => $body:expr) => {
        if $dtype == burn::tensor::DType::BF16 {
            type $E = half::bf16;
            $body
        } else {
            type $E = f32;
            $body
        }
    };
}
use by_type;

/// A new tensor on another's device, its content undefined.
fn empty<R: CubeRuntime>(like: &CubeTensor<R>, shape: Shape, dtype: DType) -> CubeTensor<R> {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

/// A tensor that nobody else sees, for writing in place.
fn own<R: CubeRuntime>(t: CubeTensor<R>) -> CubeTensor<R> {
    let t = into_contiguous(t);
    if t.can_mut() { t } else { t.copy() }
}

/// One unit an element.
fn elements<R: CubeRuntime>(t: &CubeTensor<R>, count: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&t.client, count);
    (calculate_cube_count_elemwise(&t.client, count, dim), dim)
}

fn dims2<R: CubeRuntime>(t: &CubeTensor<R>) -> [usize; 2] {
    t.shape().dims::<2>()
}

/// The tensor in row-major order, in f32 unless it is bf16.
fn known<B, R>(t: CubeTensor<R>) -> CubeTensor<R>
where
    B: FusedOps<FloatTensorPrimitive = CubeTensor<R>>,
    R: CubeRuntime,
{
    into_contiguous(if t.dtype == DType::BF16 { t } else { prim(wide::<B, 2>(float(t))) })
}

/// What kernels read integers as.
fn to_i32<B: FusedOps, const D: usize>(t: IntTensor<B>) -> Tensor<B, D, Int> {
    let t = if t.dtype() == DType::I32 { t } else { B::int_cast(t, IntDType::I32) };
    Tensor::from_primitive(t)
}

impl<R, F, I, BT> FusedOps for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn fused_gelu(x: FloatTensor<Self>, kind: Gelu) -> FloatTensor<Self> {
        gelu::forward(known::<Self, R>(x), kind)
    }

    fn fused_gelu_backward(x: FloatTensor<Self>, g: FloatTensor<Self>, kind: Gelu) -> FloatTensor<Self> {
        let x = known::<Self, R>(x);
        let g = into_contiguous(prim(cast::<Self, 2>(float(g), x.dtype)));
        gelu::backward(x, g, kind)
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        norm::forward(into_contiguous(x), into_contiguous(gamma), into_contiguous(beta), eps as f32)
    }

    fn fused_layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        g: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let g = into_contiguous(prim(wide::<Self, 2>(float(g))));
        let (gx, sums) = norm::backward(into_contiguous(x), into_contiguous(gamma), g, eps as f32);
        let c = dims2(&gx)[1];
        let sums = float::<Self, 2>(sums).sum_dim(0).reshape([2, c]);
        let part = |i: usize| prim(sums.clone().narrow(0, i, 1).reshape([c]));
        (gx, part(0), part(1))
    }

    fn causal_attention(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        starts: Option<IntTensor<Self>>,
        s: AttentionShape,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let dtype = qkv.dtype;
        let [q, k, v] = rotate::split(qkv, cos, sin, s, precision).map(float::<Self, 4>);
        let scores = prim(q.matmul(k.swap_dims(2, 3)));
        let starts = starts.map(|t| to_i32::<Self, 2>(t).into_primitive());
        let p = float::<Self, 4>(softmax::forward(scores, starts, s));
        prim(cast(merge_heads(p.matmul(v), s), dtype))
    }

    fn causal_attention_backward(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        starts: Option<IntTensor<Self>>,
        g: FloatTensor<Self>,
        s: AttentionShape,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let dtype = qkv.dtype;
        let [q, k, v] = rotate::split(qkv, cos.clone(), sin.clone(), s, precision).map(float::<Self, 4>);
        let g = factor(float::<Self, 2>(g), precision).reshape([s.batch, s.time, s.heads, s.head_dim]).swap_dims(1, 2);
        let scores = prim(q.clone().matmul(k.clone().swap_dims(2, 3)));
        let gp = prim(g.clone().matmul(v.swap_dims(2, 3)));
        let starts = starts.map(|t| to_i32::<Self, 2>(t).into_primitive());
        let (p, gs) = softmax::backward(scores, starts, gp, s);
        let (p, gs) = (float::<Self, 4>(p), float::<Self, 4>(gs));
        let gv = p.swap_dims(2, 3).matmul(g);
        let gq = gs.clone().matmul(k);
        let gk = gs.swap_dims(2, 3).matmul(q);
        rotate::join([gq, gk, gv].map(prim), cos, sin, s, dtype)
    }

    fn token_losses(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let (x, w) = (factor(float::<Self, 2>(x), precision), factor(float::<Self, 2>(w), precision));
        let targets = to_i32::<Self, 1>(targets);
        let losses = chunks(x.dims()[0], w.dims()[0])
            .map(|(from, to)| {
                let logits = x.clone().narrow(0, from, to - from).matmul(w.clone().transpose());
                let targets = into_contiguous(targets.clone().narrow(0, from, to - from).into_primitive());
                float::<Self, 1>(loss::of_rows(prim(logits), targets, None).0)
            })
            .collect();
        prim(Tensor::cat(losses, 0))
    }

    fn token_losses_and_gradients(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        scale: f64,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let x_type = x.dtype;
        let (x, w) = (factor(float::<Self, 2>(x), precision), factor(float::<Self, 2>(w), precision));
        let targets = to_i32::<Self, 1>(targets);
        let (mut losses, mut gx, mut gw) = (Vec::new(), Vec::new(), None);
        for (from, to) in chunks(x.dims()[0], w.dims()[0]) {
            let part = x.clone().narrow(0, from, to - from);
            let logits = prim(part.clone().matmul(w.clone().transpose()));
            let targets = into_contiguous(targets.clone().narrow(0, from, to - from).into_primitive());
            let (loss, g) = loss::of_rows(logits, targets, Some(scale as f32));
            let g = float::<Self, 2>(g);
            losses.push(float::<Self, 1>(loss));
            gx.push(cast(g.clone().matmul(w.clone()), x_type));
            let part = wide(g.transpose().matmul(part));
            gw = Some(match gw {
                Some(sum) => sum + part,
                None => part,
            });
        }
        let gw = gw.unwrap_or_else(|| wide(w.zeros_like()));
        (prim(Tensor::cat(losses, 0)), prim(Tensor::cat(gx, 0)), prim(gw))
    }

    fn adamw(
        p: FloatTensor<Self>,
        g: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        step: AdamWStep,
    ) -> Updated<FloatTensor<Self>> {
        let [p, g, m, v] = [p, g, m, v].map(own);
        adamw::update(&p, &g, &m, &v, step.into());
        Updated { p, m, v, change: Self::sum_squares(g) }
    }
}
