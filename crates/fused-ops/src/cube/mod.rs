//! Fast paths for CubeCL's backends (CUDA, Vulkan): one kernel for what lies between two matrix products, which are the
//! runtime's own where it has some ([`Accelerator`]), else burn's.
//!
//! In kernels, E is the type that products are computed in, f32 or bf16; everything else is computed in f32. Row
//! kernels reduce in a fixed order: the same bits in every run.

mod adamw;
mod attention;
mod embedding;
mod gelu;
mod loss;
mod norm;
pub(crate) mod product;
mod reduce;
mod residual;
mod rotate;
mod softmax;

use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{DType, Int, IntDType, Shape, Tensor, TensorMetadata as _};
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::{AddressType, CubeCount, CubeDim};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

use self::product::{Epilogue, Product};
use crate::definition::attention::merge_heads;
use crate::definition::head::chunks;
use crate::definition::{cast, factor, float, prim, wide};
use crate::{
    AdamWStep, AttentionShape, DeviceMemory, FusedOps, Gelu, KeptAttention, Norms, Place, Precision, Slot, Updated,
};

/// A CubeCL runtime, and what it can do besides kernels that are written for all of them.
pub(crate) trait Accelerator: CubeRuntime {
    /// Whether it may give the sums of a product's rows with it.
    fn gives_row_sums() -> bool {
        false
    }

    /// `out = a·b`, and what an epilogue asks for; or `out += a·b`. False where it cannot, and nothing of worth is written.
    fn product(
        _product: &Product<Self>,
        _out: &CubeTensor<Self>,
        _epilogue: Epilogue<'_, Self>,
        _accumulate: bool,
    ) -> bool {
        false
    }

    /// The device's memory.
    fn memory(_device: &Self::Device) -> Option<DeviceMemory> {
        None
    }

    /// Attention by a kernel of its own, and what its backward pass reads; none where there is no kernel for the shape.
    /// All contiguous, `qkv` in the type of products.
    fn attention(_x: &Attention<Self>) -> Option<KeptAttention<CubeTensor<Self>>> {
        None
    }

    /// The gradient of qkv, where [`attention`](Self::attention) made what was kept.
    fn attention_backward(
        _x: &Attention<Self>,
        _kept: &KeptAttention<CubeTensor<Self>>,
        _g: CubeTensor<Self>,
    ) -> CubeTensor<Self> {
        unreachable!("a runtime without the forward pass keeps nothing for a backward pass")
    }
}

#[cfg(feature = "vulkan")]
impl Accelerator for burn_cubecl::cubecl::wgpu::WgpuRuntime {}

/// The inputs of attention, as [`FusedOps::causal_attention`] takes them; starts are i32.
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "read by a runtime with a kernel of its own"))]
pub(crate) struct Attention<R: CubeRuntime> {
    pub(crate) qkv: CubeTensor<R>,
    pub(crate) cos: CubeTensor<R>,
    pub(crate) sin: CubeTensor<R>,
    pub(crate) starts: Option<CubeTensor<R>>,
    pub(crate) shape: AttentionShape,
}

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
pub(crate) fn empty<R: CubeRuntime>(like: &CubeTensor<R>, shape: Shape, dtype: DType) -> CubeTensor<R> {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

/// A tensor that nobody else sees, for writing in place.
fn own<R: CubeRuntime>(t: CubeTensor<R>) -> CubeTensor<R> {
    let t = into_contiguous(t);
    // CUDA's copies may have gaps between rows.
    if t.can_mut() { t } else { into_contiguous(t.copy()) }
}

/// One unit an element.
fn elements<R: CubeRuntime>(t: &CubeTensor<R>, count: usize) -> (CubeCount, CubeDim) {
    // Nothing to do still needs a grid that a device takes.
    let count = count.max(1);
    let dim = CubeDim::new(&t.client, count);
    (calculate_cube_count_elemwise(&t.client, count, dim), dim)
}

/// Elements that a unit reads at once: 16 bytes of the widest of some types, where rows of `columns` allow it.
fn vector<R: CubeRuntime>(t: &CubeTensor<R>, columns: usize, dtypes: &[DType]) -> usize {
    let widest = dtypes.iter().map(DType::size).max().unwrap_or(4);
    let most = (16 / widest).min(t.client.properties().hardware.max_vector_size);
    [8, 4, 2].into_iter().find(|n| *n <= most && columns.is_multiple_of(*n)).unwrap_or(1)
}

/// What places in the largest of the tensors are counted in: 32 bits unless it, or its last cube, goes beyond.
fn address<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> AddressType {
    /// More units than the last cube has beyond the tensor's end.
    const SPARE: usize = 1 << 27;
    let most = tensors.iter().map(|t| t.shape().num_elements()).max().unwrap_or(0);
    AddressType::from_len(most + SPARE)
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

/// The tensor in row-major order and f32.
fn in_f32<B, R, const D: usize>(t: CubeTensor<R>) -> CubeTensor<R>
where
    B: FusedOps<FloatTensorPrimitive = CubeTensor<R>>,
    R: CubeRuntime,
{
    into_contiguous(prim(wide::<B, D>(float(t))))
}

/// What kernels read integers as, in row-major order.
fn to_i32<B: FusedOps, const D: usize>(t: IntTensor<B>) -> Tensor<B, D, Int> {
    let t = if t.dtype() == DType::I32 { t } else { B::int_cast(t, IntDType::I32) };
    Tensor::from_primitive(t)
}

/// The type that the precision's products read.
fn product_type(precision: Precision) -> DType {
    if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 }
}

impl<R, F, I, BT> FusedOps for CubeBackend<R, F, I, BT>
where
    R: Accelerator,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn sum_rows(t: FloatTensor<Self>) -> FloatTensor<Self> {
        reduce::sum_rows(known::<Self, R>(t))
    }

    fn as_factor_with_sum(t: FloatTensor<Self>, precision: Precision) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let t = known::<Self, R>(t);
        if t.dtype == product_type(precision) {
            return (t.clone(), reduce::sum_rows(t));
        }
        reduce::rounded_and_sum_of_rows(in_f32::<Self, R, 2>(t), product_type(precision))
    }

    fn fused_embedding_backward(ids: IntTensor<Self>, g: FloatTensor<Self>, rows: usize) -> FloatTensor<Self> {
        let g = in_f32::<Self, R, 2>(g);
        let ids = into_contiguous(to_i32::<Self, 1>(ids).into_primitive());
        embedding::backward(ids, g, rows)
    }

    fn residual_sum(a: FloatTensor<Self>, b: Option<FloatTensor<Self>>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let a = known::<Self, R>(a);
        let b = b.map(|b| into_contiguous(prim(cast::<Self, 2>(float(b), a.dtype))));
        residual::sum(a, b, known::<Self, R>(x))
    }

    fn fused_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: Option<FloatTensor<Self>>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let [x, w] = [x, w].map(|t| Self::as_factor(t, precision));
        let b = b.map(|b| into_contiguous(prim(factor::<Self, 1>(float(b), precision))));
        let dtype = x.dtype;
        Product::with_transposed(x, w).run::<Self>(dtype, b)
    }

    fn fused_linear_backward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        g: FloatTensor<Self>,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let x_type = x.dtype;
        let [x, w, g] = [x, w, g].map(|t| Self::as_factor(t, precision));
        let gx = Product::new(g.clone(), w).run::<Self>(x_type, None);
        (gx, Product::of_transposed(g, x).run::<Self>(DType::F32, None))
    }

    fn fused_biased_linear_backward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        g: FloatTensor<Self>,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let x_type = x.dtype;
        let [x, w, g] = [x, w, g].map(|t| Self::as_factor(t, precision));
        let gx = Product::new(g.clone(), w).run::<Self>(x_type, None);
        let (gw, gb) = Product::of_transposed(g.clone(), x).run_with_row_sums::<Self>(DType::F32);
        (gx, gw, gb.unwrap_or_else(|| reduce::sum_rows(into_contiguous(g))))
    }

    fn fused_gelu(x: FloatTensor<Self>, kind: Gelu) -> FloatTensor<Self> {
        gelu::forward(known::<Self, R>(x), kind)
    }

    fn fused_gelu_backward(x: FloatTensor<Self>, g: FloatTensor<Self>, kind: Gelu) -> FloatTensor<Self> {
        let x = known::<Self, R>(x);
        let g = into_contiguous(prim(cast::<Self, 2>(float(g), x.dtype)));
        gelu::backward(x, g, kind).0
    }

    fn fused_gelu_backward_with_sum(
        x: FloatTensor<Self>,
        g: FloatTensor<Self>,
        kind: Gelu,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let x = known::<Self, R>(x);
        if x.dtype != product_type(precision) {
            return Self::as_factor_with_sum(Self::fused_gelu_backward(x, g, kind), precision);
        }
        let g = into_contiguous(prim(cast::<Self, 2>(float(g), x.dtype)));
        let (gx, sums) = gelu::backward(x, g, kind);
        (gx, reduce::last_sum(sums))
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let affine = [gamma, beta].map(in_f32::<Self, R, 1>);
        norm::forward(in_f32::<Self, R, 2>(x), affine, None, eps as f32, product_type(precision)).0
    }

    fn fused_layer_norms(
        x: FloatTensor<Self>,
        parameters: Norms<FloatTensor<Self>>,
        eps: f64,
        precision: Precision,
    ) -> [FloatTensor<Self>; 2] {
        let [first, second] = parameters.map(|affine| affine.map(in_f32::<Self, R, 1>));
        let (x, dtype) = (in_f32::<Self, R, 2>(x), product_type(precision));
        let (first, second) = norm::forward(x, first, Some(second), eps as f32, dtype);
        [first, second.expect("two norms were asked for")]
    }

    fn residual_sum_and_norms(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        x: FloatTensor<Self>,
        parameters: Norms<FloatTensor<Self>>,
        eps: f64,
        precision: Precision,
    ) -> (FloatTensor<Self>, [FloatTensor<Self>; 2]) {
        let dtype = product_type(precision);
        if a.dtype != dtype || b.dtype != dtype || !norm::sums_too(&x) {
            let sum = Self::residual_sum(a, Some(b), x);
            return (sum.clone(), Self::fused_layer_norms(sum, parameters, eps, precision));
        }
        let [a, b] = [a, b].map(into_contiguous);
        let parameters = parameters.map(|affine| affine.map(in_f32::<Self, R, 1>));
        norm::sum_and_norms([a, b], in_f32::<Self, R, 2>(x), parameters, eps as f32)
    }

    fn fused_layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        g: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (x, gamma) = (in_f32::<Self, R, 2>(x), in_f32::<Self, R, 1>(gamma));
        let (gx, gradients) = norm::backward(x, gamma, known::<Self, R>(g), None, eps as f32);
        let [ggamma, gbeta] = gradients.try_into().expect("two gradients of one norm");
        (gx, ggamma, gbeta)
    }

    fn fused_layer_norms_backward(
        x: FloatTensor<Self>,
        gammas: [FloatTensor<Self>; 2],
        gs: [FloatTensor<Self>; 2],
        beside: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, [[FloatTensor<Self>; 2]; 2]) {
        let [gamma, second_gamma] = gammas.map(in_f32::<Self, R, 1>);
        let [x, beside] = [x, beside].map(in_f32::<Self, R, 2>);
        let [g, second_g] = gs.map(known::<Self, R>);
        let second_g = into_contiguous(prim(cast::<Self, 2>(float(second_g), g.dtype)));
        let second = norm::Second { gamma: second_gamma, g: second_g, beside };
        let (gx, gradients) = norm::backward(x, gamma, g, Some(second), eps as f32);
        let [a, b, c, d] = gradients.try_into().expect("four gradients of two norms");
        (gx, [[a, b], [c, d]])
    }

    fn causal_attention(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        starts: Option<IntTensor<Self>>,
        shape: AttentionShape,
        precision: Precision,
    ) -> FloatTensor<Self> {
        Self::causal_attention_keeping(qkv, cos, sin, starts, shape, precision).0
    }

    fn causal_attention_keeping(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        starts: Option<IntTensor<Self>>,
        s: AttentionShape,
        precision: Precision,
    ) -> (FloatTensor<Self>, Option<KeptAttention<FloatTensor<Self>>>) {
        let dtype = qkv.dtype;
        let x = attention_inputs::<Self, R>(qkv, cos, sin, starts, s, precision);
        if let Some(kept) = R::attention(&x) {
            return (prim(cast::<Self, 2>(float(kept.out.clone()), dtype)), Some(kept));
        }
        let heads = rotate::split(x.qkv, x.cos, x.sin, s, precision).map(|t| attention::Heads::new(t, s));
        let mixed = attention::forward::<Self, R>(&heads, x.starts.as_ref(), s, crate::SCORES_AT_ONCE);
        (prim(cast(merge_heads::<Self>(float(mixed), s), dtype)), None)
    }

    fn causal_attention_backward(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        starts: Option<IntTensor<Self>>,
        kept: Option<KeptAttention<FloatTensor<Self>>>,
        g: FloatTensor<Self>,
        s: AttentionShape,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let dtype = qkv.dtype;
        let x = attention_inputs::<Self, R>(qkv, cos, sin, starts, s, precision);
        let g = factor(float::<Self, 2>(g), precision);
        if let Some(kept) = kept {
            let gqkv = R::attention_backward(&x, &kept, into_contiguous(prim(g)));
            return prim(cast::<Self, 2>(float(gqkv), dtype));
        }
        let heads =
            rotate::split(x.qkv, x.cos.clone(), x.sin.clone(), s, precision).map(|t| attention::Heads::new(t, s));
        let g = g.reshape([s.batch, s.time, s.heads, s.head_dim]).swap_dims(1, 2);
        let g = attention::Heads::new(prim(g), s);
        let gradients = attention::backward::<Self, R>(&heads, x.starts.as_ref(), &g, s, crate::SCORES_AT_ONCE);
        rotate::join(gradients, x.cos, x.sin, s, dtype)
    }

    fn transposed_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let [a, b] = [a, b].map(in_f32::<Self, R, 2>);
        Product::of_transposed(a, b).run::<Self>(DType::F32, None)
    }

    fn device_memory(device: &Self::Device) -> Option<DeviceMemory> {
        R::memory(device)
    }

    fn loss_rows(rows: usize, vocabulary: usize) -> usize {
        crate::loss_rows(rows, vocabulary, Place::Gpu)
    }

    fn token_losses(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let (x, w) = (factor(float::<Self, 2>(x), precision), Self::as_factor(w, precision));
        let targets = to_i32::<Self, 1>(targets);
        let losses = chunks::<Self>(x.dims()[0], dims2(&w)[0])
            .map(|(from, to)| {
                let part = prim(x.clone().narrow(0, from, to - from));
                let logits = Product::with_transposed(part, w.clone()).run::<Self>(w.dtype, None);
                let targets = into_contiguous(targets.clone().narrow(0, from, to - from).into_primitive());
                float::<Self, 1>(loss::of_rows(logits, targets, None).0)
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
        let (x, w) = (factor(float::<Self, 2>(x), precision), Self::as_factor(w, precision));
        let targets = to_i32::<Self, 1>(targets);
        let (mut losses, mut gx, mut gw) = (Vec::new(), Vec::new(), None);
        for (from, to) in chunks::<Self>(x.dims()[0], dims2(&w)[0]) {
            let part = prim(x.clone().narrow(0, from, to - from));
            let logits = Product::with_transposed(part.clone(), w.clone()).run::<Self>(w.dtype, None);
            let targets = into_contiguous(targets.clone().narrow(0, from, to - from).into_primitive());
            let (loss, g) = loss::of_rows(logits, targets, Some(scale as f32));
            losses.push(float::<Self, 1>(loss));
            gx.push(float::<Self, 2>(Product::new(g.clone(), w.clone()).run::<Self>(x_type, None)));
            let of_weights = Product::of_transposed(g, part);
            gw = Some(match gw {
                Some(sum) => of_weights.add_to::<Self>(sum),
                None => of_weights.run::<Self>(DType::F32, None),
            });
        }
        let gw = gw.unwrap_or_else(|| prim(wide(float::<Self, 2>(w).zeros_like())));
        (prim(Tensor::cat(losses, 0)), prim(Tensor::cat(gx, 0)), gw)
    }

    fn sum_squares(tensors: Vec<FloatTensor<Self>>, device: &Self::Device) -> FloatTensor<Self> {
        if tensors.is_empty() {
            return prim(Tensor::<Self, 1>::zeros([1], device));
        }
        reduce::sum_squares(tensors.into_iter().map(f32_of_any_rank::<Self, R>).collect())
    }

    fn clip_factor(squares: FloatTensor<Self>, loss: FloatTensor<Self>, most: f64) -> FloatTensor<Self> {
        adamw::clip_factor(squares, loss, most)
    }

    fn adamw(
        slots: Vec<Slot<FloatTensor<Self>>>,
        factor: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (Vec<Updated<FloatTensor<Self>>>, FloatTensor<Self>) {
        if slots.is_empty() {
            return (Vec::new(), prim(float::<Self, 1>(factor).zeros_like()));
        }
        let slots: Vec<_> = slots
            .into_iter()
            .map(|s| Slot { p: own(s.p), g: f32_of_any_rank::<Self, R>(s.g), m: own(s.m), v: own(s.v), ..s })
            .collect();
        let change = adamw::update(&slots, &factor, step);
        (slots.into_iter().map(|s| Updated { p: s.p, m: s.m, v: s.v }).collect(), change)
    }
}

/// A tensor of any rank in row-major order and f32.
fn f32_of_any_rank<B, R>(t: CubeTensor<R>) -> CubeTensor<R>
where
    B: FusedOps<FloatTensorPrimitive = CubeTensor<R>>,
    R: CubeRuntime,
{
    into_contiguous(if t.dtype == DType::F32 { t } else { B::float_cast(t, burn::tensor::FloatDType::F32) })
}

fn attention_inputs<B, R>(
    qkv: CubeTensor<R>,
    cos: CubeTensor<R>,
    sin: CubeTensor<R>,
    starts: Option<IntTensor<B>>,
    shape: AttentionShape,
    precision: Precision,
) -> Attention<R>
where
    B: FusedOps<FloatTensorPrimitive = CubeTensor<R>, IntTensorPrimitive = CubeTensor<R>>,
    R: CubeRuntime,
{
    let starts = starts.map(|t| into_contiguous(to_i32::<B, 2>(t).into_primitive()));
    let [cos, sin] = [cos, sin].map(in_f32::<B, R, 2>);
    Attention { qkv: into_contiguous(B::as_factor(qkv, precision)), cos, sin, starts, shape }
}
