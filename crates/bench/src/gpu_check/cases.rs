//! Every operation and its gradients on a backend beside a CPU's in f32, over odd and even shapes, masks and zero rows.

use burn::backend::Autodiff;
use burn::tensor::{Int, Tensor, TensorData, TensorPrimitive};
use data_mixer::stream_key;
use fused_ops::{
    self, AdamWStep, AttentionShape, BlockContext, BlockParameters, BlockSettings, FusedOps, Gelu, Precision, Stream,
    TrainingBackend, backends,
};
use midtrain::{Backend, OnBackend};
use serde_json::{Value, json};

/// Largest ‖found − truth‖ / ‖truth‖ of a result: sums of some thousand f32 values in another order, and bf16's rounding
/// of factors and results.
const F32: f64 = 2e-5;
const BF16: f64 = 2.5e-2;

/// An operation and its sizes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Case {
    /// N, I, O.
    Linear(usize, usize, usize),
    Gelu(usize, usize, Gelu),
    /// N, C.
    Norm(usize, usize),
    /// With starts of documents.
    Attention(AttentionShape, bool),
    /// N, V, C; all ids the same.
    Embedding(usize, usize, usize, bool),
    /// N, V, C; every so many-th target is left out.
    Head(usize, usize, usize, usize),
    /// With parallel branches; so many in a row, of the same weights.
    Block(AttentionShape, bool, usize),
    /// N, C; with a third summand.
    Residual(usize, usize, bool),
}

const fn attention(batch: usize, time: usize, heads: usize, head_dim: usize, rotary_dims: usize) -> AttentionShape {
    AttentionShape { batch, time, heads, head_dim, rotary_dims }
}

const CASES: &[Case] = &[
    Case::Linear(33, 40, 17),
    Case::Linear(257, 512, 384),
    Case::Linear(1, 64, 8),
    Case::Linear(130, 511, 129),
    Case::Gelu(6, 11, Gelu::Exact),
    Case::Gelu(100, 1028, Gelu::Exact),
    Case::Gelu(17, 64, Gelu::Tanh),
    Case::Norm(67, 12),
    Case::Norm(300, 768),
    Case::Norm(5, 2049),
    Case::Norm(1, 8),
    Case::Attention(attention(2, 200, 3, 64, 16), false),
    Case::Attention(attention(2, 200, 3, 64, 16), true),
    Case::Attention(attention(1, 1, 1, 64, 16), false),
    Case::Attention(attention(1, 129, 2, 64, 64), true),
    Case::Attention(attention(1, 77, 2, 64, 0), true),
    Case::Attention(attention(2, 130, 3, 32, 8), true),
    Case::Attention(attention(1, 65, 2, 48, 16), false),
    Case::Attention(attention(1, 130, 1, 80, 16), true),
    Case::Attention(attention(1, 200, 2, 96, 32), false),
    Case::Attention(attention(1, 130, 2, 96, 32), true),
    Case::Attention(attention(2, 200, 2, 128, 32), false),
    Case::Attention(attention(1, 65, 3, 128, 0), true),
    Case::Attention(attention(2, 70, 3, 8, 4), false),
    Case::Attention(attention(2, 70, 3, 8, 4), true),
    Case::Attention(attention(1, 65, 1, 256, 64), false),
    Case::Embedding(700, 90, 33, false),
    Case::Embedding(1025, 50, 64, true),
    Case::Embedding(1, 3, 5, false),
    Case::Embedding(70_000, 40_000, 4, false),
    Case::Head(300, 1003, 48, 4),
    Case::Head(64, 512, 64, 1),
    Case::Head(7, 33, 6, 1_000_000),
    Case::Block(attention(2, 70, 2, 64, 16), true, 1),
    Case::Block(attention(2, 70, 2, 64, 16), false, 1),
    Case::Block(attention(1, 31, 3, 8, 4), true, 1),
    Case::Block(attention(2, 70, 2, 64, 16), true, 2),
    Case::Block(attention(1, 31, 3, 8, 4), false, 2),
    Case::Residual(129, 77, true),
    Case::Residual(64, 64, false),
];

/// Values in about ±`size`, the same on every machine.
fn values(count: usize, salt: u64, size: f32) -> Vec<f32> {
    let unit = |i| (stream_key(salt, "gpu-check values", i) >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
    (0..count as u64).map(|i| unit(i) * size).collect()
}

fn matrix<B: FusedOps>(rows: usize, cols: usize, salt: u64, size: f32, device: &B::Device) -> Tensor<B, 2> {
    Tensor::from_data(TensorData::new(values(rows * cols, salt, size), [rows, cols]), device)
}

fn ints<B: FusedOps, const D: usize>(values: Vec<i32>, shape: [usize; D], device: &B::Device) -> Tensor<B, D, Int> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn below(salt: u64, i: usize, limit: usize) -> i32 {
    (stream_key(salt, "gpu-check ids", i as u64) % limit as u64) as i32
}

/// Starts of documents of any kind: ascending, and now and then beyond the position or before the sequence.
fn starts(s: AttentionShape) -> Vec<i32> {
    let start = |i: usize| {
        let t = i % s.time;
        match below(7, i, 17) {
            0 => t as i32 + 5,
            1 => -1000,
            2 => -3,
            _ => (t / 37 * 37) as i32,
        }
    };
    (0..s.batch * s.time).map(start).collect()
}

impl Case {
    /// Rows, columns and size of each input that has a gradient.
    fn inputs(self) -> Vec<(usize, usize, f32)> {
        match self {
            Case::Linear(n, i, o) => vec![(n, i, 1.0), (o, i, 0.2), (1, o, 1.0)],
            Case::Gelu(n, c, _) => vec![(n, c, 3.0)],
            Case::Norm(n, c) => vec![(n, c, 2.0), (1, c, 1.0), (1, c, 1.0)],
            Case::Attention(s, _) => vec![(s.batch * s.time, s.heads * 3 * s.head_dim, 1.0)],
            Case::Embedding(_, v, c, _) => vec![(v, c, 1.0)],
            Case::Head(n, v, c, _) => vec![(n, c, 1.0), (v, c, 0.5)],
            Case::Block(s, ..) => {
                let c = s.heads * s.head_dim;
                let w = 1.0 / (c as f32).sqrt();
                let (norm, bias) = ((1, c, 1.0), |n| (1, n, 0.1));
                vec![
                    (s.batch * s.time, c, 1.0),
                    norm,
                    norm,
                    (3 * c, c, w),
                    bias(3 * c),
                    (c, c, w),
                    bias(c),
                    norm,
                    norm,
                    (2 * c, c, w),
                    bias(2 * c),
                    (c, 2 * c, w),
                    bias(c),
                ]
            }
            Case::Residual(n, c, three) => vec![(n, c, 1.0); if three { 3 } else { 2 }],
        }
    }

    fn run<B: FusedOps>(self, x: &[Tensor<B, 2>], precision: Precision) -> Tensor<B, 2> {
        let device = x[0].device();
        let row = |i: usize| x[i].clone().reshape([-1]);
        let prim = |t: Tensor<B, 2>| t.into_primitive().tensor();
        match self {
            Case::Linear(..) => fused_ops::linear(x[0].clone(), x[1].clone(), Some(row(2)), precision),
            Case::Gelu(_, _, kind) => fused_ops::gelu(x[0].clone(), kind),
            Case::Norm(..) => fused_ops::layer_norm(x[0].clone(), row(1), row(2), 1e-5, precision),
            Case::Attention(s, documents) => {
                let (cos, sin) = rotary(s, &device);
                let starts = documents.then(|| ints(starts(s), [s.batch, s.time], &device));
                fused_ops::causal_attention(x[0].clone(), cos, sin, starts, s, precision)
            }
            Case::Embedding(n, v, _, same) => {
                let ids = (0..n).map(|i| if same { 1 } else { below(3, i, v) }).collect();
                fused_ops::embedding(x[0].clone(), ints(ids, [n], &device))
            }
            Case::Head(n, v, _, every) => {
                let target = |i: usize| if i % every == every - 1 { -1 } else { below(5, i, v) };
                let targets = ints((0..n).map(target).collect(), [n], &device);
                fused_ops::head_loss(x[0].clone(), x[1].clone(), targets, 0.25, precision).scaled_sum.reshape([1, 1])
            }
            Case::Block(s, parallel_residual, blocks) => {
                let (cos, sin) = rotary(s, &device);
                let vector = |i: usize| row(i).into_primitive().tensor();
                let weight = |i: usize| prim(x[i].clone());
                let parameters = BlockParameters {
                    norm1: [vector(1), vector(2)],
                    query_key_value: [weight(3), vector(4)],
                    dense: [weight(5), vector(6)],
                    norm2: [vector(7), vector(8)],
                    widen: [weight(9), vector(10)],
                    narrow: [weight(11), vector(12)],
                };
                let settings =
                    BlockSettings { attention: s, eps: 1e-5, gelu: Gelu::Exact, parallel_residual, precision };
                let context = BlockContext { cos: prim(cos), sin: prim(sin), starts: None, settings };
                let mut stream = Stream::new(prim(x[0].clone()));
                for i in 1..=blocks {
                    let next = (i < blocks).then(|| [parameters.norm1.clone(), parameters.norm2.clone()]);
                    stream = B::transformer_block(stream, parameters.clone(), next, context.clone(), false);
                }
                Tensor::from_primitive(TensorPrimitive::Float(stream.into_x()))
            }
            Case::Residual(_, _, three) => {
                let third = three.then(|| prim(x[2].clone()));
                let out = B::residual_sum(prim(x[0].clone()), third, prim(x[1].clone()));
                Tensor::from_primitive(TensorPrimitive::Float(out))
            }
        }
    }

    /// The output, and the gradient of `Σ output·weights` for each input.
    fn evaluate<AB: TrainingBackend>(self, precision: Precision) -> Result<Vec<Vec<f32>>, String> {
        let device = AB::Device::default();
        let inputs = self.inputs().into_iter().enumerate();
        let x: Vec<Tensor<AB, 2>> = inputs
            .map(|(i, (rows, cols, size))| matrix(rows, cols, 20 + i as u64, size, &device).require_grad())
            .collect();
        let out = self.run(&x, precision);
        let [n, m] = out.dims();
        let weights = matrix::<AB>(n, m, 99, 1.0, &device);
        let wide = |t: Tensor<AB, 2>| t.cast(burn::tensor::DType::F32);
        let grads = (wide(out.clone()) * weights).sum().backward();
        let mut all = vec![host(wide(out))?];
        for x in &x {
            all.push(host(x.grad(&grads).ok_or("an input without a gradient")?)?);
        }
        match fused_ops::device::failure() {
            Some(reason) => Err(reason),
            None => Ok(all),
        }
    }
}

fn rotary<B: FusedOps>(s: AttentionShape, device: &B::Device) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let angles = matrix::<B>(s.time + 3, (s.rotary_dims / 2).max(1), 11, 3.0, device);
    (angles.clone().cos(), angles.sin())
}

fn host<B: FusedOps, const D: usize>(t: Tensor<B, D>) -> Result<Vec<f32>, String> {
    t.into_data().convert::<f32>().into_vec().map_err(|e| format!("{e:?}"))
}

/// ‖found − truth‖ / ‖truth‖; not a number where one of them is not.
pub(crate) fn relative(found: &[f32], truth: &[f32]) -> f64 {
    if found.len() != truth.len() {
        return f64::NAN;
    }
    let square = |v: f64| v * v;
    let error: f64 = found.iter().zip(truth).map(|(a, b)| square(f64::from(a - b))).sum();
    let size: f64 = truth.iter().map(|b| square(f64::from(*b))).sum();
    (error / size.max(1e-30)).sqrt()
}

/// The greatest error; not a number where one of them is not.
pub(crate) fn greatest(errors: impl Iterator<Item = f64>) -> f64 {
    errors.fold(0.0, |worst, error| if worst.is_nan() || error <= worst { worst } else { error })
}

pub(crate) fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

struct Compare(bool);

impl OnBackend for Compare {
    type Output = Result<Vec<Value>, String>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let (precision, limit) = if self.0 { (Precision::Bf16, BF16) } else { (Precision::F32, F32) };
        let mut lines: Vec<Value> = CASES
            .iter()
            .map(|case| {
                let errors = case.evaluate::<AB>(precision).and_then(|found| {
                    let truth = case.evaluate::<Autodiff<backends::Flex>>(Precision::F32)?;
                    Ok(found.iter().zip(&truth).map(|(a, b)| relative(a, b)).collect::<Vec<_>>())
                });
                match errors {
                    Ok(errors) => {
                        let worst = greatest(errors.iter().copied());
                        json!({ "case": format!("{case:?}"), "errors": errors, "worst": worst, "failed": worst.is_nan() || worst > limit })
                    }
                    Err(error) => json!({ "case": format!("{case:?}"), "failed": true, "error": error }),
                }
            })
            .collect();
        if !self.0 {
            lines.push(optimizer::<AB>());
        }
        Ok(lines)
    }
}

/// AdamW, the clip factor and the sum of squares over tensors of several sizes, beside a CPU's, and twice the same bits.
fn optimizer<AB: TrainingBackend>() -> Value {
    fn updated<B: FusedOps>() -> Result<Vec<Vec<f32>>, String> {
        let device = B::Device::default();
        let prim = |rows, salt: u64, size| matrix::<B>(rows, 7, salt, size, &device).into_primitive().tensor();
        let float = |t| Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(t));
        // More than a launch takes, and of sizes that are read one, two and four at a time.
        let slots: Vec<_> = [1, 700, 20_000, 4, 2, 8, 12, 16, 20, 4000, 24, 28, 32, 3, 5]
            .into_iter()
            .enumerate()
            .map(|(i, rows)| {
                let salt = 10 * i as u64;
                let v = matrix::<B>(rows, 7, salt + 3, 1.0, &device).powi_scalar(2).into_primitive().tensor();
                let (p, g, m) = (prim(rows, salt, 1.0), prim(rows, salt + 1, 0.1), prim(rows, salt + 2, 0.1));
                let (weight_decay, lr_ratio) = (0.01 * i as f64, 1.0 + 0.1 * i as f64);
                fused_ops::Slot { p, g, m, v, weight_decay, lr_ratio }
            })
            .collect();
        let squares = B::sum_squares(slots.iter().map(|s| s.g.clone()).collect(), &device);
        let loss = Tensor::<B, 1>::ones([1], &device).into_primitive().tensor();
        let factor = B::clip_factor(squares.clone(), loss, 1.0);
        let step = AdamWStep { lr: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, update: 3 };
        // Every second parameter is held elsewhere too, where it must not change.
        let held: Vec<_> = slots.iter().step_by(2).map(|s| s.p.clone()).collect();
        let (new, change) = B::adamw(slots, factor.clone(), step);
        let mut all = vec![host(float(squares))?, host(float(factor))?, host(float(change))?];
        for t in new.into_iter().flat_map(|u| [u.p, u.m, u.v]).chain(held) {
            all.push(host(Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(t)))?);
        }
        Ok(all)
    }
    let compared = || -> Result<(f64, bool), String> {
        let (found, again) = (updated::<AB::InnerBackend>()?, updated::<AB::InnerBackend>()?);
        let truth = updated::<backends::Flex>()?;
        let worst = greatest(found.iter().zip(&truth).map(|(a, b)| relative(a, b)));
        Ok((worst, same_bits(&found.concat(), &again.concat())))
    };
    match compared() {
        Ok((worst, same)) => {
            json!({ "case": "AdamW", "worst": worst, "same_bits": same, "failed": worst.is_nan() || worst > F32 || !same })
        }
        Err(error) => json!({ "case": "AdamW", "failed": true, "error": error }),
    }
}

/// Attention with more than 2³² scores, in many tiles of the same size: the last of many sequences is the first one again, and
/// must come out the same, forward and backward.
struct Large {
    batch: usize,
    shape: AttentionShape,
}

impl OnBackend for Large {
    type Output = Result<Value, String>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let device = AB::Device::default();
        let s = AttentionShape { batch: self.batch, ..self.shape };
        let width = s.heads * 3 * s.head_dim;
        // Sequences that differ from each other; the first one stands at the end too.
        let one = |salt: u64| matrix::<AB::InnerBackend>(s.time, width, salt, 1.0, &device);
        let first = one(1);
        let middle = one(2).repeat(&[s.batch - 2, 1]);
        let x = Tensor::cat(vec![first.clone(), middle, first], 0);
        let (cos, sin) = rotary::<AB>(s, &device);
        let x = Tensor::<AB, 2>::from_inner(x).require_grad();
        let out = fused_ops::causal_attention(x.clone(), cos, sin, None, s, Precision::Bf16);
        let g = matrix::<AB>(s.time, s.heads * s.head_dim, 3, 1.0, &device).repeat(&[s.batch, 1]);
        let grads = (out.clone().cast(burn::tensor::DType::F32) * g).sum().backward();
        let gx = x.grad(&grads).ok_or("no gradient")?;
        let last = (s.batch - 1) * s.time;
        let out = out.inner().cast(burn::tensor::DType::F32);
        let pair = |t: Tensor<AB::InnerBackend, 2>| -> Result<bool, String> {
            let [a, b] = [0, last].map(|from| host(t.clone().narrow(0, from, s.time)));
            let (a, b) = (a?, b?);
            Ok(same_bits(&a, &b) && a.iter().all(|v| v.is_finite()) && a.iter().any(|v| *v != 0.0))
        };
        let (forward, backward) = (pair(out)?, pair(gx)?);
        if let Some(reason) = fused_ops::device::failure() {
            return Err(reason);
        }
        let elements = s.batch * s.heads * s.time * s.time;
        Ok(json!({
            "case": format!("{s:?}"), "elements": elements, "same_forward": forward, "same_backward": backward,
            "failed": !(forward && backward),
        }))
    }
}

/// See [`Large`]; small on what only simulates a GPU.
pub(crate) fn large(backend: Backend, tiny: bool) -> Result<Value, String> {
    // (Of a size that no kernel fuses; 33 tiles of 32 heads.)
    let shape = attention(0, if tiny { 64 } else { 2048 }, 8, 24, 8);
    backend.on(Large { batch: if tiny { 3 } else { 132 }, shape }).map_err(|e| e.to_string())?
}

/// All cases on a backend: how many failed, the worst error, and each.
pub(crate) fn compare(backend: Backend, bf16: bool) -> Result<Value, String> {
    let lines = backend.on(Compare(bf16)).map_err(|e| e.to_string())??;
    let failed = lines.iter().filter(|l| l["failed"] == true).count();
    let worst = lines.iter().filter_map(|l| l["worst"].as_f64()).fold(0.0, f64::max);
    Ok(json!({ "cases": lines.len(), "failures": failed, "failed": failed > 0, "worst": worst, "lines": lines }))
}
