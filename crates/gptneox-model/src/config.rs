//! The model's sizes, by hand, by Pythia name, or from a Hugging Face `config.json`.

use fused_ops::Gelu;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The sizes of GPT-NeoX. Plain data; [`GptNeoX::init`](crate::GptNeoX::init) and the loaders check it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GptNeoXConfig {
    /// V, rows of the embedding and of the output matrix.
    pub vocab_size: usize,
    /// C.
    pub hidden_size: usize,
    /// L.
    pub num_layers: usize,
    /// H; divides C.
    pub num_heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Longest sequence.
    pub max_positions: usize,
    /// Share of each head's features that rotate.
    pub rotary_pct: f64,
    /// Base of the rotary frequencies.
    pub rotary_base: f64,
    /// Added to the variance in LayerNorm.
    pub layer_norm_eps: f64,
    /// `x + attention(norm1(x)) + mlp(norm2(x))` instead of one after the other.
    pub parallel_residual: bool,
    /// The tanh form of GELU instead of the exact one.
    pub tanh_gelu: bool,
    /// The output matrix is the embedding.
    pub tie_embeddings: bool,
}

/// The names [`GptNeoXConfig::pythia`] takes.
pub const PYTHIA_SIZES: [&str; 8] = ["14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b"];

impl GptNeoXConfig {
    /// A published Pythia size (Biderman et al. 2023; 14m and 31m from their model cards), vocabulary padded to 50 304.
    ///
    /// # Errors
    /// A name that is not in [`PYTHIA_SIZES`].
    pub fn pythia(size: &str) -> Result<Self, Error> {
        let (hidden_size, num_layers, num_heads) = match size {
            "14m" => (128, 6, 4),
            "31m" => (256, 6, 8),
            "70m" => (512, 6, 8),
            "160m" => (768, 12, 12),
            "410m" => (1024, 24, 16),
            "1b" => (2048, 16, 8),
            "1.4b" => (2048, 24, 16),
            "2.8b" => (2560, 32, 32),
            _ => return Err(Error::UnknownSize { given: size.to_owned() }),
        };
        Ok(Self::of_size(50_304, hidden_size, num_layers, num_heads))
    }

    /// Pythia's architecture at any size: V, C, L, H; feed-forward layers of 4C.
    pub fn of_size(vocab_size: usize, hidden_size: usize, num_layers: usize, num_heads: usize) -> Self {
        Self {
            vocab_size,
            hidden_size,
            num_layers,
            num_heads,
            intermediate_size: 4 * hidden_size,
            max_positions: 2048,
            rotary_pct: 0.25,
            rotary_base: 10_000.0,
            layer_norm_eps: 1e-5,
            parallel_residual: true,
            tanh_gelu: false,
            tie_embeddings: false,
        }
    }

    /// D, features of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads.max(1)
    }

    /// R, rotating features of a head: the whole part of D·`rotary_pct`, as Hugging Face.
    pub fn rotary_dims(&self) -> usize {
        (self.head_dim() as f64 * self.rotary_pct) as usize
    }

    pub(crate) fn gelu(&self) -> Gelu {
        if self.tanh_gelu { Gelu::Tanh } else { Gelu::Exact }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// Names the first field outside its limits.
    pub fn validate(&self) -> Result<(), Error> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_layers", self.num_layers),
            ("num_heads", self.num_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_positions", self.max_positions),
        ];
        for (field, value) in sizes {
            let limit = if field == "max_positions" { 1 << 20 } else { 1 << 24 };
            if !(1..=limit).contains(&value) {
                return Err(Error::config(field, value, format!("must be from 1 to {limit}")));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_heads) {
            return Err(Error::config(
                "num_heads",
                self.num_heads,
                format!("must divide hidden_size {}", self.hidden_size),
            ));
        }
        if !(0.0..=1.0).contains(&self.rotary_pct) {
            return Err(Error::config("rotary_pct", self.rotary_pct, "must be from 0 to 1"));
        }
        if !self.rotary_dims().is_multiple_of(2) {
            let why =
                format!("makes {} of {} features rotate; an even number must", self.rotary_dims(), self.head_dim());
            return Err(Error::config("rotary_pct", self.rotary_pct, why));
        }
        if !(self.rotary_base.is_finite() && self.rotary_base > 0.0) {
            return Err(Error::config("rotary_base", self.rotary_base, "must be positive"));
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps > 0.0) {
            return Err(Error::config("layer_norm_eps", self.layer_norm_eps, "must be positive"));
        }
        Ok(())
    }
}

/// The fields of a Hugging Face `config.json` that matter, in the old (`rotary_pct`) and the new
/// (`rope_parameters`) spelling. Others are kept out of the way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HuggingFaceConfig {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    layer_norm_eps: f64,
    #[serde(default = "yes")]
    use_parallel_residual: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    hidden_act: String,
    #[serde(default = "yes")]
    attention_bias: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotary_pct: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotary_emb_base: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rope_parameters: Option<RopeParameters>,
    /// The type that the weights are stored in (newer files call it `dtype`).
    #[serde(default, alias = "dtype", skip_serializing_if = "Option::is_none")]
    torch_dtype: Option<String>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    bos_token_id: Option<u32>,
    #[serde(default)]
    eos_token_id: Option<u32>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct RopeParameters {
    #[serde(default = "default_rope_type")]
    rope_type: String,
    rope_theta: f64,
    partial_rotary_factor: Option<f64>,
}

fn yes() -> bool {
    true
}

fn default_rope_type() -> String {
    "default".to_owned()
}

impl TryFrom<HuggingFaceConfig> for GptNeoXConfig {
    type Error = Error;

    fn try_from(hf: HuggingFaceConfig) -> Result<Self, Error> {
        if hf.model_type != "gpt_neox" {
            return Err(Error::config("model_type", hf.model_type, "must be gpt_neox"));
        }
        if !hf.attention_bias {
            return Err(Error::config("attention_bias", false, "is not supported: GPT-NeoX's projections have biases"));
        }
        let tanh_gelu = match hf.hidden_act.as_str() {
            "gelu" => false,
            "gelu_fast" | "gelu_new" | "gelu_pytorch_tanh" => true,
            other => {
                let known = "must be gelu, gelu_fast, gelu_new or gelu_pytorch_tanh";
                return Err(Error::config("hidden_act", other, known));
            }
        };
        let rope = hf.rope_parameters;
        if let Some(rope) = rope.as_ref().filter(|rope| rope.rope_type != "default") {
            return Err(Error::config("rope_parameters.rope_type", &rope.rope_type, "must be default"));
        }
        let config = Self {
            vocab_size: hf.vocab_size,
            hidden_size: hf.hidden_size,
            num_layers: hf.num_hidden_layers,
            num_heads: hf.num_attention_heads,
            intermediate_size: hf.intermediate_size,
            max_positions: hf.max_position_embeddings,
            // Hugging Face's own defaults for absent fields.
            rotary_pct: hf.rotary_pct.or(rope.as_ref().and_then(|r| r.partial_rotary_factor)).unwrap_or(0.25),
            rotary_base: hf.rotary_emb_base.or(rope.as_ref().map(|r| r.rope_theta)).unwrap_or(10_000.0),
            layer_norm_eps: hf.layer_norm_eps,
            parallel_residual: hf.use_parallel_residual,
            tanh_gelu,
            tie_embeddings: hf.tie_word_embeddings,
        };
        config.validate()?;
        Ok(config)
    }
}

impl From<&GptNeoXConfig> for HuggingFaceConfig {
    /// The old spelling, which every version of transformers reads.
    fn from(config: &GptNeoXConfig) -> Self {
        Self {
            model_type: "gpt_neox".to_owned(),
            vocab_size: config.vocab_size,
            hidden_size: config.hidden_size,
            num_hidden_layers: config.num_layers,
            num_attention_heads: config.num_heads,
            intermediate_size: config.intermediate_size,
            max_position_embeddings: config.max_positions,
            layer_norm_eps: config.layer_norm_eps,
            use_parallel_residual: config.parallel_residual,
            tie_word_embeddings: config.tie_embeddings,
            hidden_act: if config.tanh_gelu { "gelu_fast" } else { "gelu" }.to_owned(),
            attention_bias: true,
            rotary_pct: Some(config.rotary_pct),
            rotary_emb_base: Some(config.rotary_base),
            rope_parameters: None,
            torch_dtype: None,
            architectures: vec!["GPTNeoXForCausalLM".to_owned()],
            bos_token_id: Some(0),
            eos_token_id: Some(0),
        }
    }
}

impl HuggingFaceConfig {
    /// The same with the type of the stored weights.
    pub(crate) fn stored_as(self, torch_dtype: &str) -> Self {
        Self { torch_dtype: Some(torch_dtype.to_owned()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_named() {
        let base = GptNeoXConfig::pythia("14m").unwrap();
        let cases = [
            (GptNeoXConfig { num_heads: 3, ..base.clone() }, "num_heads = 3 must divide hidden_size 128"),
            (GptNeoXConfig { rotary_pct: 1.5, ..base.clone() }, "rotary_pct = 1.5 must be from 0 to 1"),
            (GptNeoXConfig { rotary_pct: 0.1, ..base.clone() }, "an even number must"),
            (GptNeoXConfig { vocab_size: 0, ..base }, "vocab_size = 0 must be from 1"),
        ];
        for (config, expected) in cases {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        assert!(GptNeoXConfig::pythia("7b").unwrap_err().to_string().contains("14m, 31m"));
    }
}
