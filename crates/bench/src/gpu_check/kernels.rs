//! Each operation of a training step alone, at a model's sizes: milliseconds, bytes a second, operations a second.

use std::time::Instant;

use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Distribution, Int, Tensor, TensorData};
use data_mixer::stream_key;
use fused_ops::{AdamWStep, AttentionShape, FusedOps, Gelu, Precision, Slot, TrainingBackend};
use gptneox_model::GptNeoXConfig;
use midtrain::{Backend, OnBackend};
use serde_json::{Value, json};

use crate::Args;
use crate::child::{Limit, measure};

/// Seconds that an operation is repeated for.
const SECONDS: f64 = 0.08;

pub(crate) fn part(
    args: &Args,
    limit: &Limit,
    keep: &mut dyn FnMut(Value) -> Result<(), String>,
) -> Result<(), String> {
    let sizes: &[&str] = if args.tiny { &["70m"] } else { &["160m", "1b"] };
    for size in sizes {
        keep(measure(&format!("kernels:{size}"), args, limit)?)?;
    }
    Ok(())
}

struct Times {
    config: GptNeoXConfig,
    batch: usize,
    time: usize,
    precision: Precision,
}

/// The operations of a step of a size.
pub(crate) fn times(backend: Backend, size: &str, tiny: bool) -> Result<Value, String> {
    // A CPU stores no bf16.
    let precision = if backend == Backend::Cuda { Precision::Bf16 } else { Precision::F32 };
    let times = if tiny {
        Times { config: GptNeoXConfig::of_size(512, 64, 1, 1), batch: 2, time: 64, precision }
    } else {
        let config = GptNeoXConfig::pythia(size).map_err(|e| e.to_string())?;
        Times { config, batch: if size == "1b" { 4 } else { 16 }, time: 2048, precision }
    };
    let lines = backend.on(&times).map_err(|e| e.to_string())??;
    Ok(json!({ "cases": lines.len(), "lines": lines }))
}

impl OnBackend for &Times {
    type Output = Result<Vec<Value>, String>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let mut clock = Clock::<AB::InnerBackend> { device: Default::default(), lines: Vec::new() };
        self.all(&mut clock)?;
        Ok(clock.lines)
    }
}

/// Runs operations and writes down what they took.
struct Clock<B: FusedOps> {
    device: B::Device,
    lines: Vec<Value>,
}

impl<B: FusedOps> Clock<B> {
    fn sync(&self) -> Result<(), String> {
        B::sync(&self.device).map_err(|e| format!("{e:?}"))?;
        fused_ops::device::failure().map_or(Ok(()), Err)
    }

    /// Times an operation that moves `bytes` and does `operations`.
    fn time<T>(&mut self, name: &str, bytes: f64, operations: f64, mut run: impl FnMut() -> T) -> Result<(), String> {
        drop(run());
        drop(run());
        self.sync()?;
        let begun = Instant::now();
        drop(run());
        self.sync()?;
        let once = begun.elapsed().as_secs_f64();
        let times = ((SECONDS / once.max(1e-6)) as usize).clamp(3, 400);
        let begun = Instant::now();
        for _ in 0..times {
            drop(run());
        }
        self.sync()?;
        let seconds = begun.elapsed().as_secs_f64() / times as f64;
        self.lines.push(json!({
            "case": name, "ms": seconds * 1e3, "times": times, "gb_per_s": bytes / seconds / 1e9,
            "tflop_per_s": operations / seconds / 1e12, "mb": bytes / 1e6, "gflop": operations / 1e9,
        }));
        Ok(())
    }

    fn random<const D: usize>(&self, shape: [usize; D], dtype: DType) -> FloatTensor<B> {
        let t = Tensor::<B, D>::random(shape, Distribution::Uniform(-1.0, 1.0), &self.device);
        (if dtype == DType::F32 { t } else { t.cast(dtype) }).into_primitive().tensor()
    }

    fn ids(&self, count: usize, below: usize) -> Tensor<B, 1, Int> {
        let id = |i: usize| (stream_key(1, "gpu-check ids", i as u64) % below as u64) as i32;
        let ids: Vec<i32> = (0..count).map(id).collect();
        Tensor::from_data(TensorData::new(ids, [count]), &self.device)
    }
}

impl Times {
    fn all<B: FusedOps>(&self, clock: &mut Clock<B>) -> Result<(), String> {
        let Times { config: m, batch, time, precision } = self;
        let (p, n) = (*precision, batch * time);
        let (c, f, v) = (m.hidden_size, m.intermediate_size, m.vocab_size);
        let product = if p == Precision::Bf16 { DType::BF16 } else { DType::F32 };
        let e = if p == Precision::Bf16 { 2.0 } else { 4.0 };
        let size = |rows: usize, cols: usize| rows as f64 * cols as f64;
        let x = clock.random([n, c], DType::F32);

        for (name, i, o) in [("qkv", c, 3 * c), ("dense", c, c), ("widen", c, f), ("narrow", f, c)] {
            let (x, w) = (clock.random([n, i], product), clock.random([o, i], product));
            let (b, g) = (clock.random([o], DType::F32), clock.random([n, o], product));
            let bytes = e * (size(n, i) + size(o, i) + size(n, o));
            let operations = 2.0 * size(n, i) * o as f64;
            clock.time(&format!("{name}: linear"), bytes, operations, || {
                B::fused_linear(x.clone(), w.clone(), Some(b.clone()), p)
            })?;
            let backward = format!("{name}: linear, backward");
            if name == "qkv" {
                // The bias gets its gradient here; the others where their gradients are made.
                clock.time(
                    &format!("{backward}, with bias"),
                    2.0 * bytes + e * size(n, o),
                    2.0 * operations,
                    || B::fused_biased_linear_backward(x.clone(), w.clone(), g.clone(), p),
                )?;
            } else {
                clock.time(&backward, 2.0 * bytes, 2.0 * operations, || {
                    B::fused_linear_backward(x.clone(), w.clone(), g.clone(), p)
                })?;
            }
        }
        let w = clock.random([4 * c, c], DType::F32);
        clock.time("a weight as a factor [4C, C]", (4.0 + e) * size(4 * c, c), 0.0, || B::as_factor(w.clone(), p))?;

        let (gamma, beta) = (clock.random([c], DType::F32), clock.random([c], DType::F32));
        let g = clock.random([n, c], product);
        clock.time("norm", (4.0 + e) * size(n, c), 0.0, || {
            B::fused_layer_norm(x.clone(), gamma.clone(), beta.clone(), 1e-5, p)
        })?;
        clock.time("norm, backward", (8.0 + e) * size(n, c), 0.0, || {
            B::fused_layer_norm_backward(x.clone(), gamma.clone(), g.clone(), 1e-5)
        })?;
        let affine = [gamma.clone(), beta.clone()];
        clock.time("both norms", (4.0 + 2.0 * e) * size(n, c), 0.0, || {
            B::fused_layer_norms(x.clone(), [affine.clone(), affine.clone()], 1e-5, p)
        })?;
        clock.time("both norms, backward, and the sum of gradients", (12.0 + 2.0 * e) * size(n, c), 0.0, || {
            let gammas = [gamma.clone(), gamma.clone()];
            B::fused_layer_norms_backward(x.clone(), gammas, [g.clone(), g.clone()], x.clone(), 1e-5)
        })?;
        clock.time("residual sum", (8.0 + 2.0 * e) * size(n, c), 0.0, || {
            B::residual_sum(g.clone(), Some(g.clone()), x.clone())
        })?;
        clock.time("residual sum and both norms", (8.0 + 4.0 * e) * size(n, c), 0.0, || {
            let affine = [affine.clone(), affine.clone()];
            B::residual_sum_and_norms(g.clone(), g.clone(), x.clone(), affine, 1e-5, p)
        })?;
        let rounded = if p == Precision::Bf16 { e } else { 0.0 };
        clock.time("a gradient as a factor, and its sum", (4.0 + rounded) * size(n, c), 0.0, || {
            B::as_factor_with_sum(x.clone(), p)
        })?;
        let (wide, gw) = (clock.random([n, f], product), clock.random([n, f], product));
        clock.time("gelu", 2.0 * e * size(n, f), 0.0, || B::fused_gelu(wide.clone(), Gelu::Exact))?;
        clock.time("gelu, backward, and the sum of the gradient", 3.0 * e * size(n, f), 0.0, || {
            B::fused_gelu_backward_with_sum(wide.clone(), gw.clone(), Gelu::Exact, p)
        })?;
        drop((wide, gw));

        let s = AttentionShape {
            batch: *batch,
            time: *time,
            heads: m.num_heads,
            head_dim: m.head_dim(),
            rotary_dims: m.rotary_dims(),
        };
        let qkv = clock.random([n, 3 * c], product);
        let tables = [0, 1].map(|_| clock.random([*time, (s.rotary_dims / 2).max(1)], DType::F32));
        let [cos, sin] = tables;
        // Half of the pairs are masked: two products forward, five backward.
        let pair = 2.0 * size(n, c) * *time as f64 / 2.0;
        clock.time("attention", e * size(n, 4 * c), 2.0 * pair, || {
            B::causal_attention(qkv.clone(), cos.clone(), sin.clone(), None, s, p)
        })?;
        let (_, kept) = B::causal_attention_keeping(qkv.clone(), cos.clone(), sin.clone(), None, s, p);
        clock.time("attention, backward", e * size(n, 8 * c), 5.0 * pair, || {
            let (cos, sin) = (cos.clone(), sin.clone());
            B::causal_attention_backward(qkv.clone(), cos, sin, None, kept.clone(), g.clone(), s, p)
        })?;
        drop((qkv, kept));

        let table = clock.random([v, c], DType::F32);
        let ids = clock.ids(n, v).into_primitive();
        let gx = clock.random([n, c], DType::F32);
        clock.time("embedding", 8.0 * size(n, c), 0.0, || B::fused_embedding(table.clone(), ids.clone()))?;
        // The gradient is copied first, because it is used again here.
        clock.time("embedding, backward, and a copy", 16.0 * size(n, c) + 4.0 * size(v, c), 0.0, || {
            B::fused_embedding_backward(ids.clone(), gx.clone(), v)
        })?;
        let operations = 2.0 * size(n, c) * v as f64;
        let rows = n.min(B::loss_rows(n, v) * 2);
        let part = rows as f64 / n as f64;
        let few = clock.random([rows, c], DType::F32);
        let targets = clock.ids(rows, v).into_primitive();
        clock.time("head and loss of some rows", e * size(rows, v), part * operations, || {
            B::token_losses(few.clone(), table.clone(), targets.clone(), p)
        })?;
        clock.time(
            "head, loss and gradients of some rows",
            4.0 * e * size(rows, v),
            3.0 * part * operations,
            || B::token_losses_and_gradients(few.clone(), table.clone(), targets.clone(), 1e-4, p),
        )?;
        self.update(clock)
    }

    /// The norm and AdamW over tensors of the model's shapes.
    fn update<B: FusedOps>(&self, clock: &mut Clock<B>) -> Result<(), String> {
        let m = &self.config;
        let (c, f, v) = (m.hidden_size, m.intermediate_size, m.vocab_size);
        let layer = [[3 * c, c], [c, c], [f, c], [c, f], [1, 3 * c], [1, c], [1, f], [1, c], [4, c]];
        let shapes: Vec<[usize; 2]> =
            std::iter::repeat_n(layer, m.num_layers).flatten().chain([[v, c], [v, c], [2, c]]).collect();
        let parameters: f64 = shapes.iter().map(|[a, b]| (a * b) as f64).sum();
        let make = |clock: &Clock<B>| shapes.iter().map(|s| clock.random(*s, DType::F32)).collect::<Vec<_>>();
        let gradients = make(clock);
        let device = clock.device.clone();
        clock.time("sum of squares of all gradients", 4.0 * parameters, 0.0, || {
            B::sum_squares(gradients.clone(), &device)
        })?;
        let mut state: Vec<_> = shapes
            .iter()
            .map(|s| [0, 1, 2].map(|_| Tensor::<B, 2>::ones(*s, &device).into_primitive().tensor()))
            .collect();
        let factor = Tensor::<B, 1>::ones([1], &device).into_primitive().tensor();
        let step = AdamWStep { lr: 1e-4, beta1: 0.9, beta2: 0.95, eps: 1e-8, update: 10 };
        clock.time("AdamW of all parameters", 28.0 * parameters, 0.0, || {
            let slots = std::mem::take(&mut state).into_iter().zip(&gradients);
            let slots =
                slots.map(|([p, m, v], g)| Slot { p, g: g.clone(), m, v, weight_decay: 0.1, lr_ratio: 1.0 }).collect();
            let (new, change) = B::adamw(slots, factor.clone(), step);
            state = new.into_iter().map(|u| [u.p, u.m, u.v]).collect();
            change
        })
    }
}
