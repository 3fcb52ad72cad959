//! Fast paths for flex: slices in, fresh vectors out, packed-gemm for the products, rayon for the rest.
//!
//! Every reduction is cut into pieces of a fixed size, so that results do not depend on the number of threads. No
//! fused multiply-add is used outside the products, so that they depend little on the processor.

mod adamw;
mod attention;
mod elementwise;
mod head;
mod math;
mod norm;
mod reduce;
mod softmax;

use burn::tensor::ops::{FloatTensor, FloatTensorOps, IntTensor};
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{Flex, FlexTensor, Layout};
use packed_gemm::{Mat, Start, multiply, product};

use crate::{AdamWStep, AttentionShape, FusedOps, Gelu, KeptAttention, Precision, Slot, Updated};

/// Elements a task works on. Fixed, so that sums do not depend on the number of threads.
const PIECE: usize = 1 << 15;

/// The tensor in row-major order; drops its argument, so that the result is unshared where it can be.
fn contiguous(t: FlexTensor) -> FlexTensor {
    if t.is_contiguous() { t } else { t.to_contiguous() }
}

fn slice(t: &FlexTensor) -> &[f32] {
    t.as_slice::<f32>().expect("a contiguous f32 tensor: `contiguous` ran, and these operations take f32")
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::from(shape)), DType::F32)
}

/// The values as i64, whatever integer type the tensor has.
fn integers(t: FlexTensor) -> Vec<i64> {
    contiguous(t).into_data().iter::<i64>().collect()
}

/// Positions of a sequence; negative ones are the first.
fn positions(t: FlexTensor) -> Vec<usize> {
    integers(t).into_iter().map(|i| usize::try_from(i).unwrap_or(0)).collect()
}

fn dims2(t: &FlexTensor) -> [usize; 2] {
    let shape = t.layout().shape();
    [shape[0], shape[1]]
}

/// The row-major tensor, rounded to what the precision holds.
fn factor(t: FlexTensor, precision: Precision) -> FlexTensor {
    let mut t = contiguous(t);
    if precision == Precision::Bf16 {
        math::round(storage_mut(&mut t), precision);
    }
    t
}

/// The one value of a tensor of shape `[1]`.
fn scalar(t: &FlexTensor) -> f32 {
    slice(t)[0]
}

impl FusedOps for Flex {
    fn as_factor(t: FloatTensor<Self>, precision: Precision) -> FloatTensor<Self> {
        factor(t, precision)
    }

    fn sum_rows(t: FloatTensor<Self>) -> FloatTensor<Self> {
        let t = contiguous(t);
        let columns = dims2(&t)[1];
        tensor(reduce::column_sums(slice(&t), columns), [columns])
    }

    fn fused_embedding_backward(ids: IntTensor<Self>, g: FloatTensor<Self>, rows: usize) -> FloatTensor<Self> {
        let (ids, g) = (positions(ids), contiguous(g));
        let c = dims2(&g)[1];
        tensor(elementwise::scatter_rows(&ids, slice(&g), rows, c), [rows, c])
    }

    fn residual_sum(a: FloatTensor<Self>, b: Option<FloatTensor<Self>>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (mut a, b, x) = (contiguous(a), b.map(contiguous), contiguous(x));
        elementwise::add_all(storage_mut(&mut a), b.as_ref().map(slice), slice(&x));
        a
    }

    fn fused_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: Option<FloatTensor<Self>>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let (x, w, b) = (factor(x, precision), factor(w, precision), b.map(|b| factor(b, precision)));
        let ([n, i], [o, _]) = (dims2(&x), dims2(&w));
        let (x, w) = (Mat::new(slice(&x), n, i), Mat::new(slice(&w), o, i));
        let mut y = match &b {
            Some(b) => {
                let mut y = vec![0f32; n * o];
                product(&mut y, o, x, w.t(), Start::Row(slice(b)));
                y
            }
            None => multiply(x, w.t()),
        };
        math::round(&mut y, precision);
        tensor(y, [n, o])
    }

    fn fused_linear_backward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        g: FloatTensor<Self>,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [x, w, g] = [x, w, g].map(|t| factor(t, precision));
        let ([n, i], [o, _]) = (dims2(&x), dims2(&w));
        let gm = Mat::new(slice(&g), n, o);
        let mut gx = multiply(gm, Mat::new(slice(&w), o, i));
        let mut gw = multiply(gm.t(), Mat::new(slice(&x), n, i));
        math::round(&mut gx, precision);
        math::round(&mut gw, precision);
        (tensor(gx, [n, i]), tensor(gw, [o, i]))
    }

    fn fused_gelu(x: FloatTensor<Self>, kind: Gelu) -> FloatTensor<Self> {
        let x = contiguous(x);
        tensor(elementwise::gelu(slice(&x), kind), dims2(&x))
    }

    fn fused_gelu_backward(x: FloatTensor<Self>, g: FloatTensor<Self>, kind: Gelu) -> FloatTensor<Self> {
        let (x, g) = (contiguous(x), contiguous(g));
        tensor(elementwise::gelu_backward(slice(&x), slice(&g), kind), dims2(&x))
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let (x, gamma, beta) = (contiguous(x), contiguous(gamma), contiguous(beta));
        let mut y = norm::forward(slice(&x), slice(&gamma), slice(&beta), eps as f32);
        math::round(&mut y, precision);
        tensor(y, dims2(&x))
    }

    fn fused_layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        g: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (x, gamma, g) = (contiguous(x), contiguous(gamma), contiguous(g));
        let [n, c] = dims2(&x);
        let (gx, ggamma, gbeta) = norm::backward(slice(&x), slice(&gamma), slice(&g), eps as f32);
        (tensor(gx, [n, c]), tensor(ggamma, [c]), tensor(gbeta, [c]))
    }

    fn causal_attention(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        starts: Option<IntTensor<Self>>,
        shape: AttentionShape,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let (qkv, cos, sin) = (contiguous(qkv), contiguous(cos), contiguous(sin));
        let starts = starts.map(positions);
        let (qkv, cos, sin, starts) = (slice(&qkv), slice(&cos), slice(&sin), starts.as_deref());
        let out = attention::forward(attention::Inputs { qkv, cos, sin, starts, shape, precision });
        tensor(out, [shape.batch * shape.time, shape.heads * shape.head_dim])
    }

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
        let (qkv, cos, sin, g) = (contiguous(qkv), contiguous(cos), contiguous(sin), contiguous(g));
        let starts = starts.map(positions);
        let (qkv, cos, sin, starts) = (slice(&qkv), slice(&cos), slice(&sin), starts.as_deref());
        let inputs = attention::Inputs { qkv, cos, sin, starts, shape, precision };
        let out = attention::backward(inputs, slice(&g));
        tensor(out, [shape.batch * shape.time, shape.heads * 3 * shape.head_dim])
    }

    fn token_losses(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let (x, w, targets) = (factor(x, precision), factor(w, precision), integers(targets));
        let ([n, c], [v, _]) = (dims2(&x), dims2(&w));
        let (x, w) = (Mat::new(slice(&x), n, c), Mat::new(slice(&w), v, c));
        tensor(head::losses(x, w, &targets, precision), [n])
    }

    fn token_losses_and_gradients(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        scale: f64,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (x, w, targets) = (factor(x, precision), factor(w, precision), integers(targets));
        let ([n, c], [v, _]) = (dims2(&x), dims2(&w));
        let (x, w) = (Mat::new(slice(&x), n, c), Mat::new(slice(&w), v, c));
        let (losses, gx, gw) = head::losses_and_gradients(x, w, &targets, scale as f32, precision);
        (tensor(losses, [n]), tensor(gx, [n, c]), tensor(gw, [v, c]))
    }

    fn scale_by(t: FloatTensor<Self>, factor: FloatTensor<Self>) -> FloatTensor<Self> {
        match factor.as_slice::<f32>() {
            // The usual case: the loss is differentiated as it is.
            Some([1.0]) => t,
            _ => Self::float_mul(t, Self::float_reshape(factor, Shape::from([1, 1]))),
        }
    }

    fn sum_squares(tensors: Vec<FloatTensor<Self>>, _device: &Self::Device) -> FloatTensor<Self> {
        let squares = tensors.into_iter().map(|t| reduce::sum_squares(slice(&contiguous(t))));
        tensor(vec![squares.sum()], [1])
    }

    fn clip_factor(squares: FloatTensor<Self>, loss: FloatTensor<Self>, most: f64) -> FloatTensor<Self> {
        let (squares, loss) = (scalar(&squares), scalar(&loss));
        let factor = (most / (f64::from(squares).sqrt() + 1e-6)).min(1.0) as f32;
        tensor(vec![if squares.is_finite() && loss.is_finite() { factor } else { f32::NAN }], [1])
    }

    fn adamw(
        slots: Vec<Slot<FloatTensor<Self>>>,
        factor: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (Vec<Updated<FloatTensor<Self>>>, FloatTensor<Self>) {
        let factor = scalar(&factor);
        let mut change = 0.0;
        let new = slots.into_iter().map(|slot| {
            let g = contiguous(slot.g);
            let [mut p, mut m, mut v] = [slot.p, slot.m, slot.v].map(contiguous);
            if factor.is_finite() {
                let [p, m, v] = [&mut p, &mut m, &mut v].map(storage_mut);
                change += adamw::update(p, slice(&g), m, v, factor, step.factors(slot.weight_decay, slot.lr_ratio));
            }
            Updated { p, m, v }
        });
        (new.collect(), tensor(vec![change], [1]))
    }
}

/// The values for writing: in place where nobody else holds them, otherwise a copy.
fn storage_mut(t: &mut FlexTensor) -> &mut [f32] {
    let (from, len) = (t.layout().start_offset(), t.layout().num_elements());
    &mut t.storage_mut::<f32>()[from..from + len]
}
