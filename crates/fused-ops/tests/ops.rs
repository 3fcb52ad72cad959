//! Each operation on flex (fast path) against ndarray (generic body), forward and backward; backward against finite
//! differences; thread count and optimiser against plain arithmetic.
#![allow(clippy::unwrap_used, reason = "tests")]

use burn::backend::Autodiff;
use burn::tensor::{Int, Tensor, TensorData};
use fused_ops::backends::{Flex, NdArray};
use fused_ops::{
    AdamWStep, AttentionShape, FusedOps, Gelu, adamw, causal_attention, gelu, head_loss, layer_norm, linear,
    sum_squares,
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
    Attention(AttentionShape),
    Head,
}

impl Op {
    fn inputs(self) -> Inputs {
        match self {
            Op::Linear => vec![input(&[70, 9], 1), input(&[5, 9], 2), input(&[5], 3)],
            Op::Gelu(_) => vec![input(&[6, 11], 4)],
            Op::Norm => vec![input(&[67, 12], 5), input(&[12], 6), input(&[12], 7)],
            Op::Attention(s) => vec![input(&[s.batch * s.time, s.heads * 3 * s.head_dim], 8)],
            Op::Head => vec![input(&[21, 6], 9), input(&[33, 6], 10)],
        }
    }

    fn run<B: FusedOps>(self, inputs: &[Tensor<B, 2>]) -> Tensor<B, 2> {
        let device = inputs[0].device();
        let row = |i: usize| inputs[i].clone().reshape([-1]);
        match self {
            Op::Linear => linear(inputs[0].clone(), inputs[1].clone(), Some(row(2))),
            Op::Gelu(kind) => gelu(inputs[0].clone(), kind),
            Op::Norm => layer_norm(inputs[0].clone(), row(1), row(2), 1e-5),
            Op::Attention(s) => {
                let half = s.rotary_dims / 2;
                let angles =
                    Tensor::<B, 1>::from_data(TensorData::new(values(s.time * half, 20), [s.time * half]), &device)
                        .reshape([s.time, half]);
                causal_attention(inputs[0].clone(), angles.clone().cos(), angles.sin(), s)
            }
            Op::Head => {
                let targets: Vec<i32> = (0..21).map(|i| if i % 4 == 3 { -1 } else { (i * 7) % 33 }).collect();
                let targets = Tensor::<B, 1, Int>::from_data(TensorData::new(targets, [21]), &device);
                head_loss(inputs[0].clone(), inputs[1].clone(), targets, 0.25).scaled_sum.reshape([1, 1])
            }
        }
    }
}

const ATTENTION: AttentionShape = AttentionShape { batch: 2, time: 70, heads: 3, head_dim: 8, rotary_dims: 4 };

fn all() -> Vec<Op> {
    let full = AttentionShape { batch: 1, time: 5, heads: 2, head_dim: 4, rotary_dims: 4 };
    vec![
        Op::Linear,
        Op::Gelu(Gelu::Exact),
        Op::Gelu(Gelu::Tanh),
        Op::Norm,
        Op::Attention(ATTENTION),
        Op::Attention(full),
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

#[test]
fn fast_path_equals_the_definition() {
    for op in all() {
        let inputs = op.inputs();
        let (fast, fast_grads) = evaluate::<Flex>(op, &inputs);
        let (plain, plain_grads) = evaluate::<NdArray>(op, &inputs);
        assert_close(&fast, &plain, 3e-6, &format!("{op:?}"));
        for (i, (a, b)) in fast_grads.iter().zip(&plain_grads).enumerate() {
            assert_close(a, b, 1e-5, &format!("gradient {i} of {op:?}"));
        }
    }
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
fn ignored_targets_give_no_gradient() {
    let (_, grads) = evaluate::<Flex>(Op::Head, &Op::Head.inputs());
    for row in (3..21).step_by(4) {
        assert!(grads[0][row * 6..(row + 1) * 6].iter().all(|g| *g == 0.0));
    }
}

fn adamw_on<B: FusedOps>() {
    let device = Default::default();
    let t = |salt: u32| Tensor::<B, 1>::from_data(TensorData::new(values(100, salt), [100]), &device);
    let (mut p, mut m, mut v) = (t(1), t(0).zeros_like(), t(0).zeros_like());
    let mut truth: Vec<[f64; 3]> = values(100, 1).into_iter().map(|p| [f64::from(p), 0.0, 0.0]).collect();
    for update in 1..=5u64 {
        let step =
            AdamWStep { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, update, grad_scale: 0.5 };
        (p, m, v) = adamw(p, t(update as u32 + 1), m, v, step);
        for (state, g) in truth.iter_mut().zip(values(100, update as u32 + 1)) {
            let [p, m, v] = state;
            let g = 0.5 * f64::from(g);
            *p *= 1.0 - 0.01 * 0.1;
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.95 * *v + 0.05 * g * g;
            let t = update as i32;
            *p -= 0.01 / (1.0 - 0.9f64.powi(t)) * *m / ((*v / (1.0 - 0.95f64.powi(t))).sqrt() + 1e-8);
        }
    }
    let p = p.into_data().to_vec::<f32>().unwrap();
    assert_close(&p, &truth.iter().map(|s| s[0] as f32).collect::<Vec<_>>(), 1e-6, "parameters");
    let norm = sum_squares(t(1)).into_scalar();
    let truth: f64 = values(100, 1).iter().map(|v| f64::from(*v).powi(2)).sum();
    let norm: f32 = burn::tensor::ElementConversion::elem(norm);
    assert!((f64::from(norm) - truth).abs() < 1e-5 * truth);
}

#[test]
fn adamw_is_torchs() {
    adamw_on::<Flex>();
    adamw_on::<NdArray>();
}
