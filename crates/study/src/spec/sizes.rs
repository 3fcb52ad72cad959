//! Several sizes of the model in one study.

use gptneox_model::GptNeoXConfig;
use schedule::Convention;
use serde::{Deserialize, Serialize};

use super::{LrChoice, StudySpec};

/// Another size of the model: arms, data, sets and seeds are the study's; what is not named is as for its first size.
///
/// ```toml
/// [[sizes]]
/// model_name = "large"
/// lr_peak = 6e-4
/// model = { vocab_size = 8192, hidden_size = 320, num_layers = 6, num_heads = 5, … }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeSpec {
    /// What tables call it.
    pub model_name: String,
    /// The model's sizes; the vocabulary is the study's.
    pub model: GptNeoXConfig,
    /// Most tokens of a micro-batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_tokens: Option<usize>,
    /// Highest learning rate of pretraining.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_peak: Option<f64>,
    /// How pretraining's curve numbers steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convention: Option<Convention>,
    /// How fine-tuning rates are chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<LrChoice>,
}

impl SizeSpec {
    /// What one study has other than a study of another size.
    pub(crate) fn between(own: &StudySpec, first: &StudySpec) -> Self {
        fn other<T: PartialEq + Clone>(own: &T, first: &T) -> Option<T> {
            (own != first).then(|| own.clone())
        }
        Self {
            model_name: own.model_name.clone(),
            model: own.model.clone(),
            micro_tokens: other(&own.pretrain.micro_tokens, &first.pretrain.micro_tokens),
            lr_peak: other(&own.pretrain.lr_peak, &first.pretrain.lr_peak),
            convention: other(&own.pretrain.convention, &first.pretrain.convention),
            lr: other(&own.sft.lr, &first.sft.lr),
        }
    }

    /// The study at this size alone.
    pub(crate) fn alone(&self, study: &StudySpec) -> StudySpec {
        let mut spec = StudySpec { sizes: Vec::new(), ..study.clone() };
        spec.model_name.clone_from(&self.model_name);
        spec.model = self.model.clone();
        spec.pretrain.micro_tokens = self.micro_tokens.unwrap_or(spec.pretrain.micro_tokens);
        spec.pretrain.lr_peak = self.lr_peak.unwrap_or(spec.pretrain.lr_peak);
        spec.pretrain.convention = self.convention.unwrap_or(spec.pretrain.convention);
        spec.sft.lr = self.lr.clone().unwrap_or(spec.sft.lr);
        spec
    }
}
