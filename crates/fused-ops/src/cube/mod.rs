//! Fast paths for CubeCL's backends (CUDA, Vulkan): burn's matrix products, and one kernel for what lies between two.

mod kernels;

use burn::tensor::ops::{FloatTensor, IntTensor, IntTensorOps};
use burn::tensor::{DType, IntDType, Shape, Tensor, TensorMetadata as _};
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use half::bf16;

use crate::definition::{self, factor, float, prim, wide};
use crate::{AdamWStep, AttentionShape, FusedOps, Gelu, Precision, loss_rows};

/// Runs code for the element type of a tensor. Types that no operation here makes go through the definition.
macro_rules! by_type {
    ($dtype:expr, $E:ident => $body:expr, else $other:expr) => {
        match $dtype {
            DType::F32 => {
                type $E = f32;
                $body
            }
            DType::BF16 => {
                type $E = bf16;
                $body
            }
            _ => $other,
        }
    };
}

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

/// One cube a row.
fn rows(count: usize) -> (CubeCount, CubeDim) {
    let x = count.clamp(1, 1 << 15) as u32;
    (CubeCount::Static(x, (count as u32).div_ceil(x), 1), CubeDim::new_1d(kernels::THREADS))
}

fn dims2<R: CubeRuntime>(t: &CubeTensor<R>) -> [usize; 2] {
    t.shape().dims::<2>()
}

impl<R, F, I, BT> FusedOps for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn fused_gelu(x: FloatTensor<Self>, kind: Gelu) -> FloatTensor<Self> {
        let x = into_contiguous(x);
        by_type!(x.dtype, E => {
            let y = empty(&x, x.shape(), x.dtype);
            let (count, dim) = elements(&x, x.shape().num_elements());
            let client = x.client.clone();
            kernels::gelu::launch::<E, R>(
                &client, count, dim, x.into_array_arg(), y.clone().into_array_arg(), kind == Gelu::Tanh,
            );
            y
        }, else prim(definition::gelu::forward::<Self>(float(x), kind)))
    }

    fn fused_gelu_backward(x: FloatTensor<Self>, g: FloatTensor<Self>, kind: Gelu) -> FloatTensor<Self> {
        let dtype = x.dtype;
        let (x, g) = (into_contiguous(x), into_contiguous(prim(definition::cast::<Self, 2>(float(g), dtype))));
        by_type!(dtype, E => {
            let gx = empty(&x, x.shape(), dtype);
            let (count, dim) = elements(&x, x.shape().num_elements());
            let client = x.client.clone();
            kernels::gelu_backward::launch::<E, R>(
                &client, count, dim, x.into_array_arg(), g.into_array_arg(), gx.clone().into_array_arg(),
                kind == Gelu::Tanh,
            );
            gx
        }, else prim(definition::gelu::backward::<Self>(float(x), float(g), kind)))
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let (x, gamma, beta) = (into_contiguous(x), into_contiguous(gamma), into_contiguous(beta));
        let [n, _] = dims2(&x);
        let y = empty(&x, x.shape(), DType::F32);
        let (count, dim) = rows(n);
        let client = x.client.clone();
        let (x, gamma, beta) = (x.into_array_arg(), gamma.into_array_arg(), beta.into_array_arg());
        kernels::norm::launch::<R>(
            &client,
            count,
            dim,
            x,
            gamma,
            beta,
            y.clone().into_array_arg(),
            eps as f32,
            n as u32,
        );
        y
    }

    fn fused_layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        g: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let g = prim(wide::<Self, 2>(float(g)));
        let (x, gamma, g) = (into_contiguous(x), into_contiguous(gamma), into_contiguous(g));
        let [n, c] = dims2(&x);
        let gx = empty(&x, x.shape(), DType::F32);
        let statistics = empty(&x, Shape::from([n, 2]), DType::F32);
        let client = x.client.clone();
        let (count, dim) = rows(n);
        kernels::norm_backward::launch::<R>(
            &client,
            count,
            dim,
            x.clone().into_array_arg(),
            gamma.into_array_arg(),
            g.clone().into_array_arg(),
            gx.clone().into_array_arg(),
            statistics.clone().into_array_arg(),
            eps as f32,
            n as u32,
        );
        let blocks = n.div_ceil(kernels::ROWS as usize);
        let sums = empty(&x, Shape::from([blocks, 2 * c]), DType::F32);
        let (count, dim) = elements(&x, blocks * c);
        kernels::norm_backward_columns::launch::<R>(
            &client,
            count,
            dim,
            x.into_array_arg(),
            g.into_array_arg(),
            statistics.into_array_arg(),
            sums.clone().into_array_arg(),
            c as u32,
            n as u32,
        );
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
        let [q, k, v] = split::<R>(qkv, cos, sin, s, precision);
        let scores = prim(float::<Self, 4>(q).matmul(float::<Self, 4>(k).swap_dims(2, 3)));
        let p = softmax::<R>(scores, starts.map(to_i32::<Self>), s);
        let mixed = float::<Self, 4>(p).matmul(float(v));
        prim(definition::cast(definition::attention::merge_heads(mixed, s), dtype))
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
        let [q, k, v] = split::<R>(qkv, cos.clone(), sin.clone(), s, precision).map(float::<Self, 4>);
        let g = factor(float::<Self, 2>(g), precision).reshape([s.batch, s.time, s.heads, s.head_dim]).swap_dims(1, 2);
        let scores = prim(q.clone().matmul(k.clone().swap_dims(2, 3)));
        let gp = prim(g.clone().matmul(v.swap_dims(2, 3)));
        let (p, gs) = softmax_backward::<R>(scores, starts.map(to_i32::<Self>), gp, s);
        let gs = float::<Self, 4>(gs);
        let gv = float::<Self, 4>(p).swap_dims(2, 3).matmul(g);
        let gq = gs.clone().matmul(k);
        let gk = gs.swap_dims(2, 3).matmul(q);
        join::<R>([gq, gk, gv].map(prim), cos, sin, s, dtype)
    }

    fn token_losses(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let (x, w) = (factor(float::<Self, 2>(x), precision), factor(float::<Self, 2>(w), precision));
        let targets = to_i32::<Self>(targets);
        let losses = chunks(x.dims()[0], w.dims()[0])
            .map(|(from, to)| {
                let logits = x.clone().narrow(0, from, to - from).matmul(w.clone().transpose());
                float::<Self, 1>(row_losses::<Self, R>(prim(logits), &targets, from, None).0)
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
        let targets = to_i32::<Self>(targets);
        let (mut losses, mut gx, mut gw) = (Vec::new(), Vec::new(), None);
        for (from, to) in chunks(x.dims()[0], w.dims()[0]) {
            let part = x.clone().narrow(0, from, to - from);
            let logits = prim(part.clone().matmul(w.clone().transpose()));
            let (loss, g) = row_losses::<Self, R>(logits, &targets, from, Some(scale as f32));
            let g = float::<Self, 2>(g);
            losses.push(float::<Self, 1>(loss));
            gx.push(definition::cast(g.clone().matmul(w.clone()), x_type));
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
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [p, m, v] = [p, m, v].map(own);
        let g = into_contiguous(g);
        let (bias1, bias2) = step.bias_corrections();
        let (count, dim) = elements(&p, p.shape().num_elements());
        kernels::adamw::launch::<R>(
            &p.client,
            count,
            dim,
            p.clone().into_array_arg(),
            g.into_array_arg(),
            m.clone().into_array_arg(),
            v.clone().into_array_arg(),
            step.grad_scale as f32,
            step.beta1 as f32,
            (1.0 - step.beta1) as f32,
            step.beta2 as f32,
            (1.0 - step.beta2) as f32,
            (1.0 - step.lr * step.weight_decay) as f32,
            (step.lr / bias1) as f32,
            (1.0 / bias2.sqrt()) as f32,
            step.eps as f32,
        );
        (p, m, v)
    }
}

fn chunks(rows: usize, vocabulary: usize) -> impl Iterator<Item = (usize, usize)> {
    let step = loss_rows(rows, vocabulary);
    (0..rows).step_by(step).map(move |from| (from, (from + step).min(rows)))
}

fn to_i32<B: FusedOps>(t: IntTensor<B>) -> IntTensor<B>
where
    B: IntTensorOps<B>,
{
    if t.dtype() == DType::I32 { t } else { B::int_cast(t, IntDType::I32) }
}

/// q, k and v `[B, H, T, D]` in the type of products, q and k rotated.
fn split<R: CubeRuntime>(
    qkv: CubeTensor<R>,
    cos: CubeTensor<R>,
    sin: CubeTensor<R>,
    s: AttentionShape,
    precision: Precision,
) -> [CubeTensor<R>; 3] {
    let (qkv, cos, sin) = (into_contiguous(qkv), into_contiguous(cos), into_contiguous(sin));
    let dtype = if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
    let shape = Shape::from([s.batch, s.heads, s.time, s.head_dim]);
    let out = [0, 1, 2].map(|_| empty(&qkv, shape.clone(), dtype));
    let (count, dim) = elements(&qkv, shape.num_elements());
    let client = qkv.client.clone();
    macro_rules! launch {
        ($I:ty, $E:ty) => {
            kernels::split_and_rotate::launch::<$I, $E, R>(
                &client,
                count,
                dim,
                qkv.into_array_arg(),
                cos.into_array_arg(),
                sin.into_array_arg(),
                out[0].clone().into_array_arg(),
                out[1].clone().into_array_arg(),
                out[2].clone().into_array_arg(),
                s.time as u32,
                s.heads as u32,
                s.head_dim,
                s.rotary_dims / 2,
            )
        };
    }
    match (qkv.dtype, dtype) {
        (DType::BF16, DType::BF16) => launch!(bf16, bf16),
        (DType::BF16, _) => launch!(bf16, f32),
        (_, DType::BF16) => launch!(f32, bf16),
        _ => launch!(f32, f32),
    }
    out
}

/// The gradient of the packed input, in its type, from those of q, k and v.
fn join<R: CubeRuntime>(
    gradients: [CubeTensor<R>; 3],
    cos: CubeTensor<R>,
    sin: CubeTensor<R>,
    s: AttentionShape,
    dtype: DType,
) -> CubeTensor<R> {
    let [gq, gk, gv] = gradients.map(into_contiguous);
    let (cos, sin) = (into_contiguous(cos), into_contiguous(sin));
    let out = empty(&gq, Shape::from([s.batch * s.time, s.heads * 3 * s.head_dim]), dtype);
    let (count, dim) = elements(&gq, gq.shape().num_elements());
    let (client, inner) = (gq.client.clone(), gq.dtype);
    macro_rules! launch {
        ($I:ty, $E:ty) => {
            kernels::join_and_rotate_back::launch::<$I, $E, R>(
                &client,
                count,
                dim,
                gq.into_array_arg(),
                gk.into_array_arg(),
                gv.into_array_arg(),
                cos.into_array_arg(),
                sin.into_array_arg(),
                out.clone().into_array_arg(),
                s.time as u32,
                s.heads as u32,
                s.head_dim,
                s.rotary_dims / 2,
            )
        };
    }
    match (dtype, inner) {
        (DType::BF16, DType::BF16) => launch!(bf16, bf16),
        (DType::BF16, _) => launch!(bf16, f32),
        (_, DType::BF16) => launch!(f32, bf16),
        _ => launch!(f32, f32),
    }
    out
}

/// Stands in for starts where there are none; it is not read.
fn some_starts<R: CubeRuntime>(starts: Option<CubeTensor<R>>, like: &CubeTensor<R>) -> (CubeTensor<R>, bool) {
    match starts {
        Some(starts) => (into_contiguous(starts), true),
        None => (empty(like, Shape::from([1]), DType::I32), false),
    }
}

fn softmax<R: CubeRuntime>(scores: CubeTensor<R>, starts: Option<CubeTensor<R>>, s: AttentionShape) -> CubeTensor<R> {
    let scores = into_contiguous(scores);
    let (starts, masked) = some_starts(starts, &scores);
    let p = empty(&scores, scores.shape(), scores.dtype);
    let n = s.batch * s.heads * s.time;
    let (count, dim) = rows(n);
    let (client, dtype) = (scores.client.clone(), scores.dtype);
    macro_rules! launch {
        ($E:ty) => {
            kernels::causal_softmax::launch::<$E, R>(
                &client,
                count,
                dim,
                scores.into_array_arg(),
                starts.into_array_arg(),
                p.clone().into_array_arg(),
                s.scale() as f32,
                s.time as u32,
                s.heads as u32,
                n as u32,
                masked,
            )
        };
    }
    if dtype == DType::BF16 {
        launch!(bf16)
    } else {
        launch!(f32)
    }
    p
}

/// The probabilities, and the gradient of the unscaled scores.
fn softmax_backward<R: CubeRuntime>(
    scores: CubeTensor<R>,
    starts: Option<CubeTensor<R>>,
    gp: CubeTensor<R>,
    s: AttentionShape,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let (scores, gp) = (into_contiguous(scores), into_contiguous(gp));
    let (starts, masked) = some_starts(starts, &scores);
    let p = empty(&scores, scores.shape(), scores.dtype);
    let gs = empty(&scores, scores.shape(), scores.dtype);
    let n = s.batch * s.heads * s.time;
    let (count, dim) = rows(n);
    let (client, dtype) = (scores.client.clone(), scores.dtype);
    macro_rules! launch {
        ($E:ty) => {
            kernels::causal_softmax_backward::launch::<$E, R>(
                &client,
                count,
                dim,
                scores.into_array_arg(),
                starts.into_array_arg(),
                gp.into_array_arg(),
                p.clone().into_array_arg(),
                gs.clone().into_array_arg(),
                s.scale() as f32,
                s.time as u32,
                s.heads as u32,
                n as u32,
                masked,
            )
        };
    }
    if dtype == DType::BF16 {
        launch!(bf16)
    } else {
        launch!(f32)
    }
    (p, gs)
}

/// Each row's loss, of the targets from a row on; and what the logits became: their gradient, with a scale.
fn row_losses<B, R>(
    logits: CubeTensor<R>,
    targets: &IntTensor<B>,
    from: usize,
    scale: Option<f32>,
) -> (CubeTensor<R>, CubeTensor<R>)
where
    B: FusedOps<IntTensorPrimitive = CubeTensor<R>>,
    R: CubeRuntime,
{
    let logits = own(logits);
    let [n, vocabulary] = dims2(&logits);
    let targets = Tensor::<B, 1, burn::tensor::Int>::from_primitive(targets.clone()).narrow(0, from, n);
    let targets = into_contiguous(targets.into_primitive());
    let losses = empty(&logits, Shape::from([n]), DType::F32);
    let (count, dim) = rows(n);
    let client = logits.client.clone();
    macro_rules! launch {
        ($E:ty) => {
            kernels::row_losses::launch::<$E, R>(
                &client,
                count,
                dim,
                logits.clone().into_array_arg(),
                targets.into_array_arg(),
                losses.clone().into_array_arg(),
                scale.unwrap_or(0.0),
                vocabulary as u32,
                n as u32,
                scale.is_some(),
            )
        };
    }
    if logits.dtype == DType::BF16 {
        launch!(bf16)
    } else {
        launch!(f32)
    }
    (losses, logits)
}
