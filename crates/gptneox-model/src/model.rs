//! The model: embedding, blocks, final norm, output matrix.

use burn::module::Module;
use burn::tensor::{DType, Int, Tensor};
use fused_ops::{FusedOps, HeadLoss, KeyValues, Precision, Stream, embedding, head_loss, linear, token_losses};

use crate::layers::{Block, LayerNorm, Rotary, Table, primitive, settings, tensor};
use crate::parameters::Source;
use crate::{Compute, Error, GptNeoXConfig, Input, Observer, Site};

/// GPT-NeoX for causal language modelling.
///
/// Token ids must be below the vocabulary size and sequences no longer than
/// [`longest`](GptNeoXConfig::longest): what feeds the model checks that once, not every call.
#[derive(Module, Debug)]
pub struct GptNeoX<B: FusedOps> {
    gpt_neox: Body<B>,
    embed_out: Option<Table<B>>,
    #[module(skip)]
    config: GptNeoXConfig,
    #[module(skip)]
    compute: Compute,
}

#[derive(Module, Debug)]
struct Body<B: FusedOps> {
    embed_in: Table<B>,
    layers: Vec<Block<B>>,
    final_layer_norm: LayerNorm<B>,
    rotary: Rotary<B>,
}

impl<B: FusedOps> GptNeoX<B> {
    /// A model whose parameters are `values(name, shape)`: row-major, by the names of Hugging Face's checkpoints.
    /// Nothing is allocated for a parameter before its values are there.
    ///
    /// # Errors
    /// A config outside its limits; the first error of `values`; values of another count than the shape's.
    pub fn from_parameters(
        config: &GptNeoXConfig,
        device: &B::Device,
        values: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, Error>,
    ) -> Result<Self, Error> {
        config.validate()?;
        let mut values = values;
        let mut source = Source::new(&mut values, device);
        let (v, c) = (config.vocab_size, config.hidden_size);
        let gpt_neox = source.within("gpt_neox", |s| {
            Ok(Body {
                embed_in: s.within("embed_in", |s| Table::new(v, c, s))?,
                layers: (0..config.num_layers)
                    .map(|i| s.within(&format!("layers.{i}"), |s| Block::new(config, s)))
                    .collect::<Result<_, Error>>()?,
                final_layer_norm: s.within("final_layer_norm", |s| LayerNorm::new(c, s))?,
                rotary: Rotary::new(config, device),
            })
        })?;
        let embed_out =
            if config.tie_embeddings { None } else { Some(source.within("embed_out", |s| Table::new(v, c, s))?) };
        Ok(Self { gpt_neox, embed_out, config: config.clone(), compute: Compute::default() })
    }

    /// The same model, computing so.
    #[must_use]
    pub fn with_compute(self, compute: Compute) -> Self {
        Self { compute, ..self }
    }

    /// The device that holds its parameters.
    pub fn device(&self) -> B::Device {
        self.gpt_neox.embed_in.weight.val().device()
    }

    /// How it computes.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// The sizes.
    pub fn config(&self) -> &GptNeoXConfig {
        &self.config
    }

    /// The hidden states after the final LayerNorm.
    ///
    /// # Shapes
    /// ids `[B, T]` → `[B·T, C]`
    pub fn hidden(&self, input: impl Into<Input<B>>, observer: &mut impl Observer<B>) -> Tensor<B, 2> {
        let Input { ids, document_starts } = input.into();
        let [batch, time] = ids.dims();
        let settings = settings(&self.config, self.compute, batch, time);
        let rotary = self.gpt_neox.rotary.for_length(&self.config, time);
        let x = self.embed(ids);
        observer.observe(Site::Embed, &x);
        let mut stream = Stream::new(primitive(x));
        let layers = &self.gpt_neox.layers;
        for (i, block) in layers.iter().enumerate() {
            let starts = document_starts.clone();
            stream = block.forward(stream, layers.get(i + 1), &rotary, starts, settings, self.compute.recompute);
            observer.observe(Site::Block(i), &tensor(stream.x().clone()));
        }
        let x = self.final_norm(tensor(stream.into_x()));
        observer.observe(Site::FinalNorm, &x);
        x
    }

    /// `[B, T]` → `[B·T, C]`.
    fn embed(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 2> {
        embedding(self.gpt_neox.embed_in.weight.val(), ids.flatten::<1>(0, 1))
    }

    /// Next-token logits, f32.
    ///
    /// # Shapes
    /// ids `[B, T]` → `[B, T, V]`
    pub fn logits(&self, input: impl Into<Input<B>>) -> Tensor<B, 3> {
        let input = input.into();
        let [batch, time] = input.ids.dims();
        let hidden = self.hidden(input, &mut ());
        self.project(hidden).reshape([batch, time, self.config.vocab_size])
    }

    /// The logits of [`hidden`](Self::hidden)'s result, f32.
    ///
    /// # Shapes
    /// `[N, C]` → `[N, V]`
    pub fn project(&self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        let logits = linear(hidden, self.head(), None, self.compute.precision);
        if logits.dtype() == DType::F32 { logits } else { logits.cast(DType::F32) }
    }

    /// `scale · Σ` of the token losses in nats, differentiable, and each token's loss.
    ///
    /// # Shapes
    /// ids and targets `[B, T]`, a negative target counts nothing → `[1]` and `[B·T]`
    pub fn loss(&self, input: impl Into<Input<B>>, targets: Tensor<B, 2, Int>, scale: f64) -> HeadLoss<B> {
        let hidden = self.hidden(input, &mut ());
        head_loss(hidden, self.head(), targets.flatten::<1>(0, 1), scale, self.compute.precision)
    }

    /// Each token's loss in nats, 0 where the target is negative.
    ///
    /// # Shapes
    /// ids and targets `[B, T]` → `[B·T]`
    pub fn token_losses(&self, input: impl Into<Input<B>>, targets: Tensor<B, 2, Int>) -> Tensor<B, 1> {
        self.token_losses_of(self.hidden(input, &mut ()), targets)
    }

    /// [`token_losses`](Self::token_losses) from [`hidden`](Self::hidden)'s result.
    pub fn token_losses_of(&self, hidden: Tensor<B, 2>, targets: Tensor<B, 2, Int>) -> Tensor<B, 1> {
        token_losses(hidden, self.head(), targets.flatten::<1>(0, 1), self.compute.precision)
    }

    /// The logits after the last of `ids`, which follow those that the cache holds, `all` with it; they are added to it.
    ///
    /// # Shapes
    /// ids `[B, T]`, T ≥ 1 → `[B, V]`
    pub(crate) fn extend(
        &self,
        ids: Tensor<B, 2, Int>,
        cache: &mut [Option<KeyValues<B>>],
        all: usize,
    ) -> Tensor<B, 2> {
        let [batch, time] = ids.dims();
        let settings = settings(&self.config, self.compute, batch, time);
        let rotary = self.gpt_neox.rotary.for_length(&self.config, all);
        let mut x = self.embed(ids);
        for (block, past) in self.gpt_neox.layers.iter().zip(cache) {
            let (out, kept) = block.extend(x, &rotary, past.take(), settings);
            (x, *past) = (out, Some(kept));
        }
        let last = x.reshape([batch, time, self.config.hidden_size]).narrow(1, time - 1, 1).squeeze_dim::<2>(1);
        self.project(self.final_norm(last))
    }

    /// Hidden states are f32, so that what reads them sees them before they are rounded for a product.
    fn final_norm(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.gpt_neox.final_layer_norm.forward(x, self.config.layer_norm_eps, Precision::F32)
    }

    /// The output matrix `[V, C]`.
    fn head(&self) -> Tensor<B, 2> {
        self.embed_out.as_ref().unwrap_or(&self.gpt_neox.embed_in).weight.val()
    }
}
