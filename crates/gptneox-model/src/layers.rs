//! The layers. Field names are Hugging Face's, so that a parameter's path is its name in a checkpoint.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorPrimitive};
use fused_ops::{
    AttentionShape, BlockContext, BlockParameters, BlockSettings, FusedOps, KeyValues, Precision, Stream,
    block_with_attention, cached_attention, layer_norm,
};

use crate::parameters::Source;
use crate::{Compute, Error, GptNeoXConfig};

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

/// The rotary tables, cos and sin `[T_max, R/2]`: constants, no parameters.
#[derive(Module, Debug)]
pub(crate) struct Rotary<B: FusedOps> {
    pub(crate) cos: Tensor<B, 2>,
    pub(crate) sin: Tensor<B, 2>,
}

impl<B: FusedOps> Linear<B> {
    fn new(inputs: usize, outputs: usize, source: &mut Source<'_, B>) -> Result<Self, Error> {
        Ok(Self { weight: source.parameter("weight", [outputs, inputs])?, bias: source.parameter("bias", [outputs])? })
    }

    fn pair(&self) -> [B::FloatTensorPrimitive; 2] {
        [primitive(self.weight.val()), primitive(self.bias.val())]
    }
}

impl<B: FusedOps> Table<B> {
    pub(crate) fn new(rows: usize, cols: usize, source: &mut Source<'_, B>) -> Result<Self, Error> {
        Ok(Self { weight: source.parameter("weight", [rows, cols])? })
    }
}

impl<B: FusedOps> LayerNorm<B> {
    pub(crate) fn new(channels: usize, source: &mut Source<'_, B>) -> Result<Self, Error> {
        Ok(Self { weight: source.parameter("weight", [channels])?, bias: source.parameter("bias", [channels])? })
    }

    pub(crate) fn forward(&self, x: Tensor<B, 2>, eps: f64, precision: Precision) -> Tensor<B, 2> {
        layer_norm(x, self.weight.val(), self.bias.val(), eps, precision)
    }

    fn pair(&self) -> [B::FloatTensorPrimitive; 2] {
        [primitive(self.weight.val()), primitive(self.bias.val())]
    }
}

impl<B: FusedOps> Block<B> {
    pub(crate) fn new(config: &GptNeoXConfig, source: &mut Source<'_, B>) -> Result<Self, Error> {
        let (c, ff) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            input_layernorm: source.within("input_layernorm", |s| LayerNorm::new(c, s))?,
            post_attention_layernorm: source.within("post_attention_layernorm", |s| LayerNorm::new(c, s))?,
            attention: source.within("attention", |s| {
                Ok(Attention {
                    query_key_value: s.within("query_key_value", |s| Linear::new(c, 3 * c, s))?,
                    dense: s.within("dense", |s| Linear::new(c, c, s))?,
                })
            })?,
            mlp: source.within("mlp", |s| {
                Ok(Mlp {
                    dense_h_to_4h: s.within("dense_h_to_4h", |s| Linear::new(c, ff, s))?,
                    dense_4h_to_h: s.within("dense_4h_to_h", |s| Linear::new(ff, c, s))?,
                })
            })?,
        })
    }

    /// `starts` `[B, T]` is the first position that each position attends to; `next` is the block that takes the result, if any.
    pub(crate) fn forward(
        &self,
        stream: Stream<B::FloatTensorPrimitive>,
        next: Option<&Self>,
        rotary: &Rotary<B>,
        starts: Option<Tensor<B, 2, Int>>,
        settings: BlockSettings,
        recompute: bool,
    ) -> Stream<B::FloatTensorPrimitive> {
        let context = BlockContext {
            cos: primitive(rotary.cos.clone()),
            sin: primitive(rotary.sin.clone()),
            starts: starts.map(Tensor::into_primitive),
            settings,
        };
        let next = next.map(|block| [block.input_layernorm.pair(), block.post_attention_layernorm.pair()]);
        B::transformer_block(stream, self.parameters(), next, context, recompute)
    }

    /// The next positions' outputs, with the keys and values of those before them. Without gradients.
    pub(crate) fn extend(
        &self,
        x: Tensor<B, 2>,
        rotary: &Rotary<B>,
        past: Option<KeyValues<B>>,
        settings: BlockSettings,
    ) -> (Tensor<B, 2>, KeyValues<B>) {
        let BlockSettings { attention: shape, precision, .. } = settings;
        let mut kept = None;
        let attend = |qkv| {
            let qkv = tensor(qkv);
            let (mixed, all) = cached_attention(qkv, rotary.cos.clone(), rotary.sin.clone(), past, shape, precision);
            kept = Some(all);
            primitive(mixed)
        };
        let out = block_with_attention::<B>(primitive(x), &self.parameters(), settings, attend);
        (tensor(out), kept.expect("a block attends once"))
    }

    fn parameters(&self) -> BlockParameters<B::FloatTensorPrimitive> {
        BlockParameters {
            norm1: self.input_layernorm.pair(),
            query_key_value: self.attention.query_key_value.pair(),
            dense: self.attention.dense.pair(),
            norm2: self.post_attention_layernorm.pair(),
            widen: self.mlp.dense_h_to_4h.pair(),
            narrow: self.mlp.dense_4h_to_h.pair(),
        }
    }
}

/// How the blocks of a model compute on `[batch, time]` tokens.
pub(crate) fn settings(config: &GptNeoXConfig, compute: Compute, batch: usize, time: usize) -> BlockSettings {
    let attention = AttentionShape {
        batch,
        time,
        heads: config.num_heads,
        head_dim: config.head_dim(),
        rotary_dims: config.rotary_dims(),
    };
    BlockSettings {
        attention,
        eps: config.layer_norm_eps,
        gelu: config.gelu(),
        parallel_residual: config.parallel_residual,
        precision: compute.precision,
    }
}

pub(crate) fn primitive<B: FusedOps, const D: usize>(t: Tensor<B, D>) -> B::FloatTensorPrimitive {
    t.into_primitive().tensor()
}

pub(crate) fn tensor<B: FusedOps>(t: B::FloatTensorPrimitive) -> Tensor<B, 2> {
    Tensor::from_primitive(TensorPrimitive::Float(t))
}

impl<B: FusedOps> Rotary<B> {
    /// The tables for all positions of a model.
    pub(crate) fn new(config: &GptNeoXConfig, device: &B::Device) -> Self {
        Self::of_length(config, config.max_positions, device)
    }

    /// Those for a sequence: these, or ones made for it where it is longer than the model's positions.
    pub(crate) fn for_length(&self, config: &GptNeoXConfig, time: usize) -> Self {
        if time <= config.max_positions { self.clone() } else { Self::of_length(config, time, &self.cos.device()) }
    }

    /// Angles in f32, as Hugging Face: position × frequency.
    fn of_length(config: &GptNeoXConfig, time: usize, device: &B::Device) -> Self {
        let frequencies = config.rotary_frequencies(time);
        let half = frequencies.len();
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = (0..time).flat_map(|t| frequencies.iter().map(move |w| f(t as f32 * w))).collect();
            // A backend without empty tensors still needs a column when nothing rotates.
            let (values, cols) = if half == 0 { (vec![0.0; time], 1) } else { (values, half) };
            Tensor::from_data(burn::tensor::TensorData::new(values, [time, cols]), device)
        };
        Self { cos: table(f32::cos), sin: table(f32::sin) }
    }
}
