//! The model: embedding, blocks, final norm, output matrix.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use fused_ops::{FusedOps, HeadLoss, head_loss, linear, token_losses};

use crate::layers::{Block, LayerNorm, Rotary, Table};
use crate::{Error, GptNeoXConfig, Observer, Site};

/// GPT-NeoX for causal language modelling.
///
/// Token ids must be below the vocabulary size and sequences no longer than `max_positions`: what feeds the model
/// checks that once, not every call.
#[derive(Module, Debug)]
pub struct GptNeoX<B: FusedOps> {
    gpt_neox: Body<B>,
    embed_out: Option<Table<B>>,
    #[module(skip)]
    config: GptNeoXConfig,
}

#[derive(Module, Debug)]
struct Body<B: FusedOps> {
    embed_in: Table<B>,
    layers: Vec<Block<B>>,
    final_layer_norm: LayerNorm<B>,
    rotary_cos: Tensor<B, 2>,
    rotary_sin: Tensor<B, 2>,
}

impl<B: FusedOps> GptNeoX<B> {
    /// A model with zero parameters, to be filled by a loader.
    ///
    /// # Errors
    /// A config outside its limits.
    pub fn zeros(config: &GptNeoXConfig, device: &B::Device) -> Result<Self, Error> {
        config.validate()?;
        let table = || Table::zeros(config.vocab_size, config.hidden_size, device);
        let rotary = Rotary::new(config, device);
        Ok(Self {
            gpt_neox: Body {
                embed_in: table(),
                layers: (0..config.num_layers).map(|_| Block::zeros(config, device)).collect(),
                final_layer_norm: LayerNorm::zeros(config.hidden_size, device),
                rotary_cos: rotary.cos,
                rotary_sin: rotary.sin,
            },
            embed_out: (!config.tie_embeddings).then(table),
            config: config.clone(),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &GptNeoXConfig {
        &self.config
    }

    /// The hidden states after the final LayerNorm.
    ///
    /// # Shapes
    /// ids `[B, T]` → `[B·T, C]`
    pub fn hidden(&self, ids: Tensor<B, 2, Int>, observer: &mut impl Observer<B>) -> Tensor<B, 2> {
        let [batch, time] = ids.dims();
        let rotary = Rotary { cos: self.gpt_neox.rotary_cos.clone(), sin: self.gpt_neox.rotary_sin.clone() };
        let mut x = burn::tensor::module::embedding(self.gpt_neox.embed_in.weight.val(), ids)
            .reshape([batch * time, self.config.hidden_size]);
        observer.observe(Site::Embed, &x);
        for (i, block) in self.gpt_neox.layers.iter().enumerate() {
            x = block.forward(x, &rotary, batch, time, &self.config);
            observer.observe(Site::Block(i), &x);
        }
        let x = self.gpt_neox.final_layer_norm.forward(x, self.config.layer_norm_eps);
        observer.observe(Site::FinalNorm, &x);
        x
    }

    /// Next-token logits.
    ///
    /// # Shapes
    /// ids `[B, T]` → `[B, T, V]`
    pub fn logits(&self, ids: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let [batch, time] = ids.dims();
        let hidden = self.hidden(ids, &mut ());
        linear(hidden, self.head(), None).reshape([batch, time, self.config.vocab_size])
    }

    /// `scale · Σ` of the token losses in nats, differentiable, and each token's loss.
    ///
    /// # Shapes
    /// ids and targets `[B, T]`, a negative target counts nothing → `[1]` and `[B·T]`
    pub fn loss(&self, ids: Tensor<B, 2, Int>, targets: Tensor<B, 2, Int>, scale: f64) -> HeadLoss<B> {
        let hidden = self.hidden(ids, &mut ());
        head_loss(hidden, self.head(), targets.flatten::<1>(0, 1), scale)
    }

    /// Each token's loss in nats, 0 where the target is negative.
    ///
    /// # Shapes
    /// ids and targets `[B, T]` → `[B·T]`
    pub fn token_losses(&self, ids: Tensor<B, 2, Int>, targets: Tensor<B, 2, Int>) -> Tensor<B, 1> {
        let hidden = self.hidden(ids, &mut ());
        token_losses(hidden, self.head(), targets.flatten::<1>(0, 1))
    }

    /// The output matrix `[V, C]`.
    fn head(&self) -> Tensor<B, 2> {
        self.embed_out.as_ref().unwrap_or(&self.gpt_neox.embed_in).weight.val()
    }
}
