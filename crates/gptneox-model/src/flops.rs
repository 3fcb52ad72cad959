//! What a configuration costs: parameters and floating-point operations.

use serde::Serialize;

use crate::GptNeoXConfig;

/// How many parameters a configuration has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ParameterCount {
    /// All of them.
    pub total: u64,
    /// Without the input embedding and the output matrix.
    pub without_embeddings: u64,
}

/// Floating-point operations of training on one token (forward and backward, recomputation not counted).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TrainingFlops {
    /// 6 × the parameters that are multiplied (all but the input embedding, which is a lookup).
    pub matmul: f64,
    /// 12·L·C·T: attention scores and mixing in full, not halved for the causal mask.
    pub attention: f64,
}

impl TrainingFlops {
    /// Both parts.
    pub fn total(&self) -> f64 {
        self.matmul + self.attention
    }
}

impl GptNeoXConfig {
    /// Exact parameter counts.
    pub fn parameter_count(&self) -> ParameterCount {
        let (v, c, l, ff) =
            (self.vocab_size as u64, self.hidden_size as u64, self.num_layers as u64, self.intermediate_size as u64);
        let attention = 3 * c * c + 3 * c + c * c + c;
        let mlp = ff * c + ff + c * ff + c;
        let body = l * (attention + mlp + 4 * c) + 2 * c;
        let tables = if self.tie_embeddings { 1 } else { 2 };
        ParameterCount { total: body + tables * v * c, without_embeddings: body }
    }

    /// Operations per trained token at sequence length `time`. A forward pass alone costs a third.
    pub fn training_flops(&self, time: usize) -> TrainingFlops {
        let multiplied = self.parameter_count().without_embeddings + (self.vocab_size * self.hidden_size) as u64;
        TrainingFlops {
            matmul: 6.0 * multiplied as f64,
            attention: 12.0 * (self.num_layers * self.hidden_size * time) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pythia_counts_are_the_published_ones() {
        // Model cards: total and non-embedding parameters.
        let published = [
            ("70m", 70_426_624, 18_915_328),
            ("160m", 162_322_944, 85_056_000),
            ("410m", 405_334_016, 302_311_424),
            ("1b", 1_011_781_632, 805_736_448),
            ("1.4b", 1_414_647_808, 1_208_602_624),
            ("2.8b", 2_775_208_960, 2_517_652_480),
        ];
        for (size, total, without_embeddings) in published {
            let count = GptNeoXConfig::pythia(size).unwrap().parameter_count();
            assert_eq!(count, ParameterCount { total, without_embeddings }, "{size}");
        }
    }
}
