//! The layers. Field names are Hugging Face's, so that a parameter's path is its name in a checkpoint.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use fused_ops::{AttentionShape, FusedOps, causal_attention, gelu, layer_norm, linear};

use crate::GptNeoXConfig;

/// y = x·wᵀ + b with w `[O, I]`, Hugging Face's layout.
#[derive(Module, Debug)]
pub(crate) struct Linear<B: FusedOps> {
    pub(crate) weight: Param<Tensor<B, 2>>,
    pub(crate) bias: Param<Tensor<B, 1>>,
}

/// A matrix without bias: `[V, C]`.
#[derive(Module, Debug)]
pub(crate) struct Table<B: FusedOps> {
    pub(crate) weight: Param<Tensor<B, 2>>,
}

#[derive(Module, Debug)]
pub(crate) struct LayerNorm<B: FusedOps> {
    pub(crate) weight: Param<Tensor<B, 1>>,
    pub(crate) bias: Param<Tensor<B, 1>>,
}

#[derive(Module, Debug)]
pub(crate) struct Attention<B: FusedOps> {
    pub(crate) query_key_value: Linear<B>,
    pub(crate) dense: Linear<B>,
}

#[derive(Module, Debug)]
pub(crate) struct Mlp<B: FusedOps> {
    pub(crate) dense_h_to_4h: Linear<B>,
    pub(crate) dense_4h_to_h: Linear<B>,
}

#[derive(Module, Debug)]
pub(crate) struct Block<B: FusedOps> {
    pub(crate) input_layernorm: LayerNorm<B>,
    pub(crate) post_attention_layernorm: LayerNorm<B>,
    pub(crate) attention: Attention<B>,
    pub(crate) mlp: Mlp<B>,
}

/// The rotary tables, cos and sin `[T_max, R/2]`.
#[derive(Debug, Clone)]
pub(crate) struct Rotary<B: FusedOps> {
    pub(crate) cos: Tensor<B, 2>,
    pub(crate) sin: Tensor<B, 2>,
}

fn parameter<B: FusedOps, const D: usize>(shape: [usize; D], device: &B::Device) -> Param<Tensor<B, D>> {
    Param::from_tensor(Tensor::zeros(shape, device))
}

impl<B: FusedOps> Linear<B> {
    fn zeros(inputs: usize, outputs: usize, device: &B::Device) -> Self {
        Self { weight: parameter([outputs, inputs], device), bias: parameter([outputs], device) }
    }

    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        linear(x, self.weight.val(), Some(self.bias.val()))
    }
}

impl<B: FusedOps> Table<B> {
    pub(crate) fn zeros(rows: usize, cols: usize, device: &B::Device) -> Self {
        Self { weight: parameter([rows, cols], device) }
    }
}

impl<B: FusedOps> LayerNorm<B> {
    pub(crate) fn zeros(channels: usize, device: &B::Device) -> Self {
        Self { weight: parameter([channels], device), bias: parameter([channels], device) }
    }

    pub(crate) fn forward(&self, x: Tensor<B, 2>, eps: f64) -> Tensor<B, 2> {
        layer_norm(x, self.weight.val(), self.bias.val(), eps)
    }
}

impl<B: FusedOps> Block<B> {
    pub(crate) fn zeros(config: &GptNeoXConfig, device: &B::Device) -> Self {
        let (c, ff) = (config.hidden_size, config.intermediate_size);
        Self {
            input_layernorm: LayerNorm::zeros(c, device),
            post_attention_layernorm: LayerNorm::zeros(c, device),
            attention: Attention {
                query_key_value: Linear::zeros(c, 3 * c, device),
                dense: Linear::zeros(c, c, device),
            },
            mlp: Mlp { dense_h_to_4h: Linear::zeros(c, ff, device), dense_4h_to_h: Linear::zeros(ff, c, device) },
        }
    }

    /// `[B·T, C]` → `[B·T, C]`.
    pub(crate) fn forward(
        &self,
        x: Tensor<B, 2>,
        rotary: &Rotary<B>,
        batch: usize,
        time: usize,
        config: &GptNeoXConfig,
    ) -> Tensor<B, 2> {
        let eps = config.layer_norm_eps;
        let shape = AttentionShape {
            batch,
            time,
            heads: config.num_heads,
            head_dim: config.head_dim(),
            rotary_dims: config.rotary_dims(),
        };
        let attention = |x: Tensor<B, 2>| {
            let qkv = self.attention.query_key_value.forward(x);
            let mixed = causal_attention(qkv, rotary.cos.clone(), rotary.sin.clone(), shape);
            self.attention.dense.forward(mixed)
        };
        let mlp = |x: Tensor<B, 2>| {
            let wide = gelu(self.mlp.dense_h_to_4h.forward(x), config.gelu());
            self.mlp.dense_4h_to_h.forward(wide)
        };
        let attended = attention(self.input_layernorm.forward(x.clone(), eps));
        if config.parallel_residual {
            let fed = mlp(self.post_attention_layernorm.forward(x.clone(), eps));
            fed + attended + x
        } else {
            let y = attended + x;
            mlp(self.post_attention_layernorm.forward(y.clone(), eps)) + y
        }
    }
}

impl<B: FusedOps> Rotary<B> {
    /// Angles in f32, as Hugging Face: position × base^(−2i/R).
    pub(crate) fn new(config: &GptNeoXConfig, device: &B::Device) -> Self {
        let (time, dims) = (config.max_positions, config.rotary_dims());
        let half = dims / 2;
        let frequencies: Vec<f32> =
            (0..half).map(|i| 1.0 / (config.rotary_base as f32).powf((2 * i) as f32 / dims as f32)).collect();
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = (0..time).flat_map(|t| frequencies.iter().map(move |w| f(t as f32 * w))).collect();
            // A backend without empty tensors still needs a column when nothing rotates.
            let (values, cols) = if half == 0 { (vec![0.0; time], 1) } else { (values, half) };
            Tensor::from_data(burn::tensor::TensorData::new(values, [time, cols]), device)
        };
        Self { cos: table(f32::cos), sin: table(f32::sin) }
    }
}
