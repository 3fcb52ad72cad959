//! The model's sizes, by hand or by Pythia name. (From a Hugging Face `config.json`: `huggingface`.)

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
    /// Longest sequence. With [`rope_scaling`](Self::rope_scaling) sequences may be longer: see
    /// [`longest`](Self::longest).
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
    /// How rotary frequencies are changed for sequences longer than those of pretraining. (Left out where there is none, so that
    /// digests of a configuration are what they were before there was the field.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
}

/// A change of the rotary frequencies f_i = b^(−2i/r), as Hugging Face's `rope_parameters`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum RopeScaling {
    /// Positions are squeezed: f_i / factor, at every length.
    Linear {
        /// Above 0.
        factor: f64,
    },
    /// Dynamic NTK: beyond `max_positions` P the base b grows with the length n of the sequence in hand,
    /// b·(factor·n/P − (factor − 1))^(r/(r − 2)). Up to P nothing changes.
    Dynamic {
        /// Above 0.
        factor: f64,
    },
}

impl RopeScaling {
    fn factor(self) -> f64 {
        let (Self::Linear { factor } | Self::Dynamic { factor }) = self;
        factor
    }
}

/// The most positions of any model, and the longest sequence of one whose frequencies are scaled.
const MOST_POSITIONS: usize = 1 << 20;
/// The most parameters of a model: what counts of them and of their bytes hold.
const MOST_PARAMETERS: u128 = 1 << 44;

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
            rope_scaling: None,
        }
    }

    /// The most tokens of a sequence: `max_positions`, and with scaled frequencies, which are made for more, 2²⁰.
    pub fn longest(&self) -> usize {
        if self.rope_scaling.is_some() { MOST_POSITIONS } else { self.max_positions }
    }

    /// Whether the rotary angles of a position depend on the length of its sequence, at lengths up to this one.
    pub(crate) fn changes_with_length(&self, time: usize) -> bool {
        matches!(self.rope_scaling, Some(RopeScaling::Dynamic { .. })) && time > self.max_positions
    }

    /// The rotary frequencies for sequences of so many tokens, R/2 of them: in f32, as Hugging Face.
    pub fn rotary_frequencies(&self, time: usize) -> Vec<f32> {
        let dims = self.rotary_width();
        let base = match self.rope_scaling {
            Some(RopeScaling::Dynamic { factor }) if time > self.max_positions => {
                let longer = factor * time as f64 / self.max_positions as f64 - (factor - 1.0);
                self.rotary_base * longer.powf(dims as f64 / (dims as f64 - 2.0))
            }
            _ => self.rotary_base,
        };
        let divisor = match self.rope_scaling {
            Some(RopeScaling::Linear { factor }) => factor as f32,
            _ => 1.0,
        };
        (0..dims.div_ceil(2)).map(|i| 1.0 / (base as f32).powf((2 * i) as f32 / dims as f32) / divisor).collect()
    }

    /// D, features of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads.max(1)
    }

    /// R, rotating features of a head: the whole part r of D·`rotary_pct`, and one more where that is odd, as Hugging Face.
    pub fn rotary_dims(&self) -> usize {
        self.rotary_width().next_multiple_of(2)
    }

    /// r, which frequencies are made of.
    fn rotary_width(&self) -> usize {
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
            let limit = if field == "max_positions" { MOST_POSITIONS } else { 1 << 24 };
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
        if self.rotary_dims() > self.head_dim() {
            let why =
                format!("makes {} features rotate, in pairs; a head has {}", self.rotary_width(), self.head_dim());
            return Err(Error::config("rotary_pct", self.rotary_pct, why));
        }
        if !(self.rotary_base.is_finite() && self.rotary_base > 0.0) {
            return Err(Error::config("rotary_base", self.rotary_base, "must be positive"));
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps > 0.0) {
            return Err(Error::config("layer_norm_eps", self.layer_norm_eps, "must be positive"));
        }
        if let Some(scaling) = self.rope_scaling {
            let factor = scaling.factor();
            if !(factor.is_finite() && factor > 0.0) {
                return Err(Error::config("rope_scaling.factor", factor, "must be positive"));
            }
            if matches!(scaling, RopeScaling::Dynamic { .. }) && self.rotary_width() == 2 {
                let why = "makes 2 features of a head rotate: dynamic scaling is not defined for them";
                return Err(Error::config("rotary_pct", self.rotary_pct, why));
            }
        }
        let parameters = self.parameters();
        if parameters > MOST_PARAMETERS {
            let limit = format!(
                "must not exceed {MOST_PARAMETERS}: lower hidden_size, num_layers, intermediate_size or vocab_size"
            );
            return Err(Error::config("number of parameters", parameters, limit));
        }
        Ok(())
    }

    /// All parameters, whatever the sizes.
    pub(crate) fn parameters(&self) -> u128 {
        let [v, c, l, ff] =
            [self.vocab_size, self.hidden_size, self.num_layers, self.intermediate_size].map(|size| size as u128);
        let tables = if self.tie_embeddings { 1 } else { 2 };
        l * (4 * c * c + 2 * c * ff + 9 * c + ff) + 2 * c + tables * v * c
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(config: &GptNeoXConfig, scaling: RopeScaling) -> GptNeoXConfig {
        GptNeoXConfig { rope_scaling: Some(scaling), ..config.clone() }
    }

    #[test]
    fn frequencies_change_beyond_the_positions_only() {
        let base = GptNeoXConfig { max_positions: 64, ..GptNeoXConfig::of_size(50, 64, 1, 2) };
        let plain = base.rotary_frequencies(64);
        assert_eq!(plain, [1.0, 0.1, 0.01, 0.001].map(|f: f32| f).as_slice());
        let linear = scaled(&base, RopeScaling::Linear { factor: 4.0 });
        assert_eq!(linear.rotary_frequencies(1), plain.iter().map(|f| f / 4.0).collect::<Vec<_>>());
        let dynamic = scaled(&base, RopeScaling::Dynamic { factor: 4.0 });
        assert_eq!(dynamic.rotary_frequencies(64), plain);
        let longer = dynamic.rotary_frequencies(128);
        // b' = 10000 · 5^(8/6), f_3 = b'^(−6/8) = 10000^(−3/4) / 5.
        assert!((longer[3] - 2e-4).abs() < 1e-9 && longer[0] == 1.0, "{longer:?}");
        assert!(dynamic.changes_with_length(65) && !dynamic.changes_with_length(64) && !linear.changes_with_length(65));
        assert_eq!((base.longest(), dynamic.longest()), (64, 1 << 20));
    }

    /// A study's digests hold the configuration.
    #[test]
    fn a_configuration_without_scaling_is_written_as_before() {
        let text = serde_json::to_string(&GptNeoXConfig::pythia("14m").unwrap()).unwrap();
        assert!(!text.contains("rope_scaling"), "{text}");
        let scaled = scaled(&GptNeoXConfig::pythia("14m").unwrap(), RopeScaling::Linear { factor: 2.0 });
        let text = serde_json::to_string(&scaled).unwrap();
        assert!(text.contains(r#""rope_scaling":{"type":"linear","factor":2.0}"#), "{text}");
        assert_eq!(serde_json::from_str::<GptNeoXConfig>(&text).unwrap(), scaled);
    }

    #[test]
    fn limits_are_named() {
        let base = GptNeoXConfig::pythia("14m").unwrap();
        let cases = [
            (GptNeoXConfig { num_heads: 3, ..base.clone() }, "num_heads = 3 must divide hidden_size 128"),
            (GptNeoXConfig { rotary_pct: 1.5, ..base.clone() }, "rotary_pct = 1.5 must be from 0 to 1"),
            (
                GptNeoXConfig { hidden_size: 15, num_heads: 5, rotary_pct: 1.0, ..base.clone() },
                "makes 3 features rotate",
            ),
            (GptNeoXConfig { vocab_size: 0, ..base.clone() }, "vocab_size = 0 must be from 1"),
            (scaled(&base, RopeScaling::Linear { factor: 0.0 }), "rope_scaling.factor = 0 must be positive"),
            (
                GptNeoXConfig { rotary_pct: 0.0625, ..scaled(&base, RopeScaling::Dynamic { factor: 2.0 }) },
                "dynamic scaling is not defined",
            ),
            (
                GptNeoXConfig { hidden_size: 1 << 24, num_heads: 1 << 10, num_layers: 1 << 24, ..base.clone() },
                "number of parameters = ",
            ),
        ];
        for (config, expected) in cases {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        assert!(GptNeoXConfig::pythia("7b").unwrap_err().to_string().contains("14m, 31m"));
    }
}
