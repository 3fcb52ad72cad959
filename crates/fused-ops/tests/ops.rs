//! Each operation on flex (fast path) against ndarray (generic body), forward and backward; backward against finite
//! differences; thread count and optimiser against plain arithmetic.
#![allow(clippy::unwrap_used, reason = "tests")]

use Precision::F32;
use burn::backend::Autodiff;
use burn::tensor::{Int, Tensor, TensorData};
use fused_ops::backends::{Flex, NdArray};
use fused_ops::{
    AdamWStep, AttentionShape, BlockContext, BlockParameters, BlockSettings, FusedOps, Gelu, Precision, Stream, adamw,
    cached_attention, causal_attention, embedding, gelu, head_loss, layer_norm, linear, sum_squares, token_losses,
};

type Inputs = Vec<(Vec<usize>, Vec<f32>)>;

/// Deterministic values in about ±2.
fn values(n: usize, salt: u32) -> Vec<f32> {
    (0..n as u32)
        .map(|i| {
            let x = (i.wrapping_mul(2_654_435_761) ^ salt.wrapping_mul(40_503)).wrapping_mul(2_246_822_519);
            ((x >> 8) as f32 / (1 << 24) as f32 - 0.5) * 4.0
        })
        .collect()
}

fn input(shape: &[usize], salt: u32) -> (Vec<usize>, Vec<f32>) {
    (shape.to_vec(), values(shape.iter().product(), salt))
}

/// The operations under test: rank-2 and rank-1 inputs in, a rank-2 output.
#[derive(Clone, Copy, Debug)]
enum Op {
    Linear,
    Gelu(Gelu),
    Norm,
    Embedding,
    Attention(AttentionShape),
    /// Attention that does not cross document boundaries.
    Documents(AttentionShape),
    Block {
        parallel_residual: bool,
        recompute: bool,
        /// So many in a row, of the same weights; each with its norms made by the one before, or not.
        blocks: usize,
        ahead: bool,
    },
    Head,
}

/// Where documents begin in each of two sequences, and the first position of each position's document.
fn starts(s: AttentionShape) -> Vec<i32> {
    let begins = |b: usize, t: usize| if b == 0 { t == 3 || t == 66 || t == 67 } else { t % 31 == 30 };
    (0..s.batch * s.time)
        .map(|i| (0..=i % s.time).rev().find(|t| *t == 0 || begins(i / s.time, *t)).unwrap() as i32)
        .collect()
}

fn ints<B: FusedOps, const D: usize>(values: Vec<i32>, shape: [usize; D]) -> Tensor<B, D, Int> {
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

/// Tables of arbitrary angles, `[time, R/2]`.
fn rotary<B: FusedOps>(time: usize, s: AttentionShape) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let half = s.rotary_dims / 2;
    let angles = TensorData::new(values(time * half, 20), [time * half]);
    let angles = Tensor::<B, 1>::from_data(angles, &Default::default()).reshape([time, half]);
    (angles.clone().cos(), angles.sin())
}

impl Op {
    fn inputs(self) -> Inputs {
        match self {
            Op::Linear => vec![input(&[70, 9], 1), input(&[5, 9], 2), input(&[5], 3)],
            Op::Gelu(_) => vec![input(&[6, 11], 4)],
            Op::Norm => vec![input(&[67, 12], 5), input(&[12], 6), input(&[12], 7)],
            Op::Attention(s) | Op::Documents(s) => vec![input(&[s.batch * s.time, s.heads * 3 * s.head_dim], 8)],
            Op::Block { .. } => {
                let (c, f) = (24, 40);
                let mut inputs = vec![input(&[140, c], 30)];
                let shapes = [vec![c], vec![c], vec![3 * c, c], vec![3 * c], vec![c, c], vec![c]];
                let more = [vec![c], vec![c], vec![f, c], vec![f], vec![c, f], vec![c]];
                for (i, shape) in shapes.iter().chain(&more).enumerate() {
                    let (shape, v) = input(shape, 31 + i as u32);
                    inputs.push((shape, v.into_iter().map(|v| v * 0.2).collect()));
                }
                inputs
            }
            Op::Embedding => vec![input(&[19, 7], 12)],
            Op::Head => vec![input(&[21, 6], 9), input(&[33, 6], 10)],
        }
    }

    fn run<B: FusedOps>(self, inputs: &[Tensor<B, 2>]) -> Tensor<B, 2> {
        let row = |i: usize| inputs[i].clone().reshape([-1]);
        match self {
            Op::Linear => linear(inputs[0].clone(), inputs[1].clone(), Some(row(2)), F32),
            Op::Gelu(kind) => gelu(inputs[0].clone(), kind),
            Op::Norm => layer_norm(inputs[0].clone(), row(1), row(2), 1e-5, F32),
            Op::Embedding => embedding(inputs[0].clone(), ints(EMBEDDED.to_vec(), [EMBEDDED.len()])),
            Op::Attention(s) => {
                // Tables may be longer than the sequence.
                let (cos, sin) = rotary(s.time + 3, s);
                causal_attention(inputs[0].clone(), cos, sin, None, s, F32)
            }
            Op::Documents(s) => {
                let (cos, sin) = rotary(s.time, s);
                let starts = Some(ints(starts(s), [s.batch, s.time]));
                causal_attention(inputs[0].clone(), cos, sin, starts, s, F32)
            }
            Op::Block { parallel_residual, recompute, blocks, ahead } => {
                let (cos, sin) = rotary(ATTENTION.time, ATTENTION);
                let float = |t: Tensor<B, 2>| t.into_primitive().tensor();
                let vector = |i: usize| row(i).into_primitive().tensor();
                let matrix = |i: usize| float(inputs[i].clone());
                let parameters = BlockParameters {
                    norm1: [vector(1), vector(2)],
                    query_key_value: [matrix(3), vector(4)],
                    dense: [matrix(5), vector(6)],
                    norm2: [vector(7), vector(8)],
                    widen: [matrix(9), vector(10)],
                    narrow: [matrix(11), vector(12)],
                };
                let settings = BlockSettings {
                    attention: ATTENTION,
                    eps: 1e-5,
                    gelu: Gelu::Exact,
                    parallel_residual,
                    precision: F32,
                };
                let context = BlockContext { cos: float(cos), sin: float(sin), starts: None, settings };
                let mut stream = Stream::new(matrix(0));
                for i in 1..=blocks {
                    let next = (ahead && i < blocks).then(|| [parameters.norm1.clone(), parameters.norm2.clone()]);
                    stream = B::transformer_block(stream, parameters.clone(), next, context.clone(), recompute);
                }
                Tensor::from_primitive(burn::tensor::TensorPrimitive::Float(stream.into_x()))
            }
            Op::Head => {
                let targets: Vec<i32> = (0..21).map(|i| if i % 4 == 3 { -1 } else { (i * 7) % 33 }).collect();
                head_loss(inputs[0].clone(), inputs[1].clone(), ints(targets, [21]), 0.25, F32)
                    .scaled_sum
                    .reshape([1, 1])
            }
        }
    }
}

/// Ids that come once, often, in runs, and never.
const EMBEDDED: [i32; 14] = [3, 3, 0, 18, 3, 7, 7, 7, 3, 0, 12, 3, 5, 3];
const ATTENTION: AttentionShape = AttentionShape { batch: 2, time: 70, heads: 3, head_dim: 8, rotary_dims: 4 };

fn all() -> Vec<Op> {
    let full = AttentionShape { batch: 1, time: 5, heads: 2, head_dim: 4, rotary_dims: 4 };
    let block = |parallel_residual, recompute| Op::Block { parallel_residual, recompute, blocks: 1, ahead: false };
    let blocks = |parallel_residual, recompute| Op::Block { parallel_residual, recompute, blocks: 2, ahead: true };
    vec![
        Op::Linear,
        Op::Gelu(Gelu::Exact),
        Op::Gelu(Gelu::Tanh),
        Op::Norm,
        Op::Embedding,
        Op::Attention(ATTENTION),
        Op::Attention(full),
        Op::Documents(ATTENTION),
        block(true, false),
        block(true, true),
        block(false, false),
        block(false, true),
        blocks(true, false),
        blocks(true, true),
        blocks(false, false),
        Op::Head,
    ]
}

/// The output, and each input's gradient of `Σ output·weights`.
fn evaluate<B: FusedOps>(op: Op, inputs: &Inputs) -> (Vec<f32>, Vec<Vec<f32>>) {
    let device = Default::default();
    let tensors: Vec<Tensor<Autodiff<B>, 2>> = inputs
        .iter()
        .map(|(shape, v)| {
            let shape = if shape.len() == 1 { [1, shape[0]] } else { [shape[0], shape[1]] };
            Tensor::from_data(TensorData::new(v.clone(), shape), &device).require_grad()
        })
        .collect();
    let out = op.run(&tensors);
    let [n, m] = out.dims();
    let weights = Tensor::from_data(TensorData::new(values(n * m, 99), [n, m]), &device);
    let grads = (out.clone() * weights).sum().backward();
    let grads = tensors.iter().map(|t| t.grad(&grads).unwrap().into_data().to_vec::<f32>().unwrap()).collect();
    (out.into_data().to_vec().unwrap(), grads)
}

fn assert_close(a: &[f32], b: &[f32], tolerance: f32, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = b.iter().fold(1e-3f32, |s, v| s.max(v.abs()));
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x - y).abs() <= tolerance * scale, "{what}[{i}]: {x} and {y}");
    }
}

fn compare_with_the_definition<B: FusedOps>() {
    for op in all() {
        let inputs = op.inputs();
        let (fast, fast_grads) = evaluate::<B>(op, &inputs);
        let (plain, plain_grads) = evaluate::<NdArray>(op, &inputs);
        assert_close(&fast, &plain, 3e-6, &format!("{op:?}"));
        for (i, (a, b)) in fast_grads.iter().zip(&plain_grads).enumerate() {
            assert_close(a, b, 1e-5, &format!("gradient {i} of {op:?}"));
        }
    }
}

#[test]
fn fast_path_equals_the_definition() {
    compare_with_the_definition::<Flex>();
}

/// Needs a Vulkan driver; Mesa's software one will do.
#[cfg(feature = "vulkan")]
#[test]
fn gpu_kernels_equal_the_definition() {
    compare_with_the_definition::<fused_ops::backends::Vulkan>();
    adamw_on::<fused_ops::backends::Vulkan>();
    sums_on::<fused_ops::backends::Vulkan>();
}

#[test]
fn backward_equals_finite_differences() {
    for op in all() {
        let inputs = op.inputs();
        let (_, grads) = evaluate::<Flex>(op, &inputs);
        let objective = |inputs: &Inputs| -> f64 {
            let (out, _) = evaluate::<Flex>(op, inputs);
            let weights = values(out.len(), 99);
            out.iter().zip(weights).map(|(o, w)| f64::from(*o) * f64::from(w)).sum()
        };
        for (which, grad) in grads.iter().enumerate() {
            let largest = grad.iter().fold(0f32, |a, v| a.max(v.abs()));
            for at in (0..grad.len()).step_by(grad.len() / 7 + 1) {
                let shifted = |by: f32| {
                    let mut moved = inputs.clone();
                    moved[which].1[at] += by;
                    objective(&moved)
                };
                let h = 1e-2f32;
                let slope = (shifted(h) - shifted(-h)) / (2.0 * f64::from(h));
                let error = (slope - f64::from(grad[at])).abs();
                assert!(
                    error < 0.01 * f64::from(largest) + 2e-3,
                    "{op:?} input {which}[{at}]: {slope} and {}",
                    grad[at]
                );
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| all().into_iter().map(|op| evaluate::<Flex>(op, &op.inputs())).collect::<Vec<_>>())
    };
    assert_eq!(run(1), run(2));
    assert_eq!(run(1), run(5));
}

#[test]
fn recomputing_a_block_and_making_its_norms_ahead_change_no_bit() {
    for parallel_residual in [true, false] {
        let run = |recompute, ahead| {
            let op = Op::Block { parallel_residual, recompute, blocks: 3, ahead };
            evaluate::<Flex>(op, &op.inputs())
        };
        let plain = run(false, false);
        for (recompute, ahead) in [(true, false), (false, true), (true, true)] {
            let what = format!("parallel_residual = {parallel_residual}, recompute = {recompute}, ahead = {ahead}");
            assert!(run(recompute, ahead) == plain, "{what}");
        }
    }
}

#[test]
fn documents_are_computed_as_if_they_stood_alone() {
    // One document from position 66 on: the same as a sequence of its own, because rotation is relative.
    let s = AttentionShape { batch: 1, time: 70, heads: 3, head_dim: 8, rotary_dims: 4 };
    let qkv = values(70 * 72, 8);
    let angle: Vec<f32> = (0..70 * 2).map(|i| (i / 2) as f32 * if i % 2 == 0 { 1.0 } else { 0.01 }).collect();
    let device = Default::default();
    let angle = Tensor::<Flex, 2>::from_data(TensorData::new(angle, [70, 2]), &device);
    let run = |qkv: &[f32], s: AttentionShape, starts: Option<Vec<i32>>| {
        let qkv = Tensor::<Flex, 2>::from_data(TensorData::new(qkv.to_vec(), [s.time, 72]), &device);
        let starts = starts.map(|v| ints(v, [1, s.time]));
        let out = causal_attention(qkv, angle.clone().cos(), angle.clone().sin(), starts, s, F32);
        out.into_data().to_vec::<f32>().unwrap()
    };
    let whole = run(&qkv, s, Some((0..70).map(|t| if t < 66 { 0 } else { 66 }).collect()));
    let alone = run(&qkv[66 * 72..], AttentionShape { time: 4, ..s }, None);
    assert_close(&whole[66 * 24..], &alone, 2e-5, "the last document");
    assert_close(&whole[..66 * 24], &run(&qkv, s, None)[..66 * 24], 1e-6, "the first document");
    // A start beyond the position, or before the sequence, is no way out of the sequence.
    let wild = run(&qkv, s, Some((0..70).map(|t| if t % 2 == 0 { 1000 } else { -5 }).collect()));
    assert!(wild.iter().all(|v| v.is_finite()));
}

#[test]
fn cached_attention_equals_attention() {
    fn check<B: FusedOps>() {
        let s = AttentionShape { batch: 2, time: 70, heads: 3, head_dim: 8, rotary_dims: 4 };
        let device = Default::default();
        let qkv = Tensor::<B, 2>::from_data(TensorData::new(values(140 * 72, 8), [140, 72]), &device);
        let (cos, sin) = rotary::<B>(70, s);
        let whole = causal_attention(qkv.clone(), cos.clone(), sin.clone(), None, s, F32).reshape([2, 70, 24]);
        let (mut past, mut parts, mut from) = (None, Vec::new(), 0);
        for time in [1, 40, 1, 1, 27] {
            let part = qkv.clone().reshape([2, 70, 72]).narrow(1, from, time).reshape([2 * time, 72]);
            let shape = AttentionShape { time, ..s };
            let (out, kept) = cached_attention(part, cos.clone(), sin.clone(), past, shape, F32);
            parts.push(out.reshape([2, time, 24]));
            from += time;
            assert_eq!(kept.positions(), from);
            past = Some(kept);
        }
        let parts: Vec<f32> = Tensor::cat(parts, 1).into_data().to_vec().unwrap();
        assert_close(&parts, &whole.into_data().to_vec::<f32>().unwrap(), 2e-6, "outputs");
    }
    check::<Flex>();
    check::<NdArray>();
}

#[test]
fn bf16_products_round_their_factors_and_results() {
    let device = Default::default();
    let t = |shape: [usize; 2], salt| {
        Tensor::<Flex, 2>::from_data(TensorData::new(values(shape[0] * shape[1], salt), shape), &device)
    };
    let rounded = |v: f32| half::bf16::from_f32(v).to_f32();
    let (n, i, o) = (33, 40, 17);
    let y = linear(t([n, i], 1), t([o, i], 2), None, Precision::Bf16).into_data().to_vec::<f32>().unwrap();
    let (x, w) = (values(n * i, 1), values(o * i, 2));
    for row in 0..n {
        for col in 0..o {
            let exact: f64 =
                (0..i).map(|k| f64::from(rounded(x[row * i + k])) * f64::from(rounded(w[col * i + k]))).sum();
            let found = y[row * o + col];
            assert_eq!(found, rounded(found));
            assert!((f64::from(found) - exact).abs() <= exact.abs() / 256.0 + 1e-5, "{found} and {exact}");
        }
    }
    // The other operations stay within bf16's resolution of their f32 values, and are not the same.
    let s = ATTENTION;
    let attention = |precision| {
        let (cos, sin) = rotary::<Flex>(s.time, s);
        let out = causal_attention(t([140, 72], 8), cos, sin, None, s, precision);
        out.into_data().to_vec::<f32>().unwrap()
    };
    let losses = |precision| {
        let out = token_losses(t([21, 6], 9), t([33, 6], 10), ints((0..21).collect(), [21]), precision);
        out.into_data().to_vec::<f32>().unwrap()
    };
    for (low, full) in [(attention(Precision::Bf16), attention(F32)), (losses(Precision::Bf16), losses(F32))] {
        assert_ne!(low, full);
        assert_close(&low, &full, 0.03, "bf16");
    }
}

#[test]
fn ignored_targets_give_no_gradient() {
    let (_, grads) = evaluate::<Flex>(Op::Head, &Op::Head.inputs());
    for row in (3..21).step_by(4) {
        assert!(grads[0][row * 6..(row + 1) * 6].iter().all(|g| *g == 0.0));
    }
}

/// Sums over many rows, of whole numbers: exact in any order.
fn sums_on<B: FusedOps>() {
    let device = Default::default();
    let whole = |n: usize| values(n, 50).into_iter().map(|v| (v * 4.0).round()).collect::<Vec<f32>>();
    let matrix = |v: &[f32], c: usize| {
        Tensor::<B, 2>::from_data(TensorData::new(v.to_vec(), [v.len() / c, c]), &device).into_primitive().tensor()
    };
    let data = |t| Tensor::<B, 1>::from_primitive(burn::tensor::TensorPrimitive::Float(t)).into_data();
    let matrix_data = |t| Tensor::<B, 2>::from_primitive(burn::tensor::TensorPrimitive::Float(t)).into_data();
    for (rows, c) in [(1, 3), (64, 8), (65, 12), (700, 1), (4097, 4), (5000, 7)] {
        let x = whole(rows * c);
        let sums: Vec<f32> = (0..c).map(|j| x.iter().skip(j).step_by(c).sum()).collect();
        assert_eq!(data(B::sum_rows(matrix(&x, c))).to_vec::<f32>().unwrap(), sums, "{rows} rows of {c}");
        let (factor, found) = B::as_factor_with_sum(matrix(&x, c), F32);
        assert_eq!(data(found).to_vec::<f32>().unwrap(), sums);
        assert_eq!(matrix_data(factor).to_vec::<f32>().unwrap(), x);

        for kind in [Gelu::Exact, Gelu::Tanh] {
            let (gx, found) = B::fused_gelu_backward_with_sum(matrix(&x, c), matrix(&x, c), kind, F32);
            let gx = matrix_data(gx).to_vec::<f32>().unwrap();
            assert_close(
                &gx,
                &matrix_data(B::fused_gelu_backward(matrix(&x, c), matrix(&x, c), kind)).to_vec::<f32>().unwrap(),
                0.0,
                "gelu",
            );
            let sums: Vec<f32> =
                (0..c).map(|j| gx.iter().skip(j).step_by(c).map(|v| f64::from(*v)).sum::<f64>() as f32).collect();
            assert_close(&data(found).to_vec::<f32>().unwrap(), &sums, 1e-5, "sums of gelu's gradient");
        }
    }
    // Ids that come in one segment of positions or in all of them, once and often, in runs, and never; more ids than a grid is wide.
    for (rows, c, vocabulary) in [(1, 3, 300), (65, 12, 300), (700, 1, 300), (5000, 8, 300), (70_000, 2, 40_000)] {
        let x = whole(rows * c);
        let ids: Vec<i32> = (0..rows as i32)
            .map(|i| match i % 5 {
                0 => 299,
                1 => 7 + i / 600,
                2 => (i * 37) % (vocabulary as i32 - 10),
                _ => 13 + i / 20 % 3,
            })
            .collect();
        let mut table = vec![0f32; vocabulary * c];
        for (row, id) in ids.iter().enumerate() {
            for j in 0..c {
                table[*id as usize * c + j] += x[row * c + j];
            }
        }
        let ids = ints::<B, 1>(ids, [rows]).into_primitive();
        let found = B::fused_embedding_backward(ids, matrix(&x, c), vocabulary);
        assert!(matrix_data(found).to_vec::<f32>().unwrap() == table, "{rows} positions");
    }
}

#[test]
fn sums_over_many_rows_are_exact() {
    sums_on::<Flex>();
    sums_on::<NdArray>();
}

fn adamw_on<B: FusedOps>() {
    let device = Default::default();
    let t = |salt: u32| Tensor::<B, 1>::from_data(TensorData::new(values(100, salt), [100]), &device);
    let (mut p, mut m, mut v) = (t(1), t(0).zeros_like(), t(0).zeros_like());
    let mut truth: Vec<[f64; 3]> = values(100, 1).into_iter().map(|p| [f64::from(p), 0.0, 0.0]).collect();
    for update in 1..=5u64 {
        let step = AdamWStep { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, update };
        let factor = |f: f32| Tensor::<B, 1>::from_floats([f], &device);
        for skipped in [f32::NAN, f32::INFINITY] {
            let before = [p.clone(), m.clone(), v.clone()].map(|t| t.into_data().to_vec::<f32>().unwrap());
            let g = Tensor::from_floats([f32::NAN; 100], &device);
            let ([p2, m2, v2], change) = adamw([p.clone(), g, m.clone(), v.clone()], 0.1, factor(skipped), step);
            assert_eq!([p2, m2, v2].map(|t| t.into_data().to_vec::<f32>().unwrap()), before);
            assert_eq!(change.into_data().to_vec::<f32>().unwrap(), [0.0]);
        }
        let change;
        ([p, m, v], change) = adamw([p, t(update as u32 + 1), m, v], 0.1, factor(0.5), step);
        let mut moved = 0.0;
        for (state, g) in truth.iter_mut().zip(values(100, update as u32 + 1)) {
            let [p, m, v] = state;
            let before = *p;
            let g = 0.5 * f64::from(g);
            *p *= 1.0 - 0.01 * 0.1;
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.95 * *v + 0.05 * g * g;
            let t = update as i32;
            *p -= 0.01 / (1.0 - 0.9f64.powi(t)) * *m / ((*v / (1.0 - 0.95f64.powi(t))).sqrt() + 1e-8);
            moved += (*p - before).powi(2);
        }
        let change: f32 = burn::tensor::ElementConversion::elem(change.into_scalar());
        assert!((f64::from(change) / moved - 1.0).abs() < 1e-4, "{change} {moved}");
    }
    let p = p.into_data().to_vec::<f32>().unwrap();
    assert_close(&p, &truth.iter().map(|s| s[0] as f32).collect::<Vec<_>>(), 1e-6, "parameters");
    let norm = sum_squares(t(1)).into_scalar();
    let truth: f64 = values(100, 1).iter().map(|v| f64::from(*v).powi(2)).sum();
    let norm: f32 = burn::tensor::ElementConversion::elem(norm);
    assert!((f64::from(norm) - truth).abs() < 1e-5 * truth);
    let clip = |squares: f32, loss: f32| {
        let one = |v: f32| Tensor::<B, 1>::from_floats([v], &device).into_primitive().tensor();
        let factor = B::clip_factor(one(squares), one(loss), 1.0);
        Tensor::<B, 1>::from_primitive(burn::tensor::TensorPrimitive::Float(factor))
            .into_data()
            .to_vec::<f32>()
            .unwrap()[0]
    };
    assert!((clip(4.0, 1.0) - 0.5).abs() < 1e-6 && clip(0.25, 1.0) == 1.0);
    for (squares, loss) in [(f32::NAN, 1.0), (f32::INFINITY, 1.0), (1.0, f32::NAN), (1.0, f32::NEG_INFINITY)] {
        assert!(clip(squares, loss).is_nan(), "{squares} {loss}");
    }
}

#[test]
fn adamw_is_torchs() {
    adamw_on::<Flex>();
    adamw_on::<NdArray>();
}
