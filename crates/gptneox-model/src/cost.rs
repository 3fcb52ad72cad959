//! What a configuration costs: parameters, floating-point operations, memory.

use fused_ops::{Place, Precision};
use serde::Serialize;

use crate::{Compute, GptNeoXConfig};

/// How many parameters a configuration has. Of Pythia's:
///
/// | size | total | without embeddings |
/// |---|---|---|
/// | 14m | 14 067 712 | 1 189 888 |
/// | 31m | 30 494 720 | 4 739 072 |
/// | 70m | 70 426 624 | 18 915 328 |
/// | 160m | 162 322 944 | 85 056 000 |
/// | 410m | 405 334 016 | 302 311 424 |
/// | 1b | 1 011 781 632 | 805 736 448 |
/// | 1.4b | 1 414 647 808 | 1 208 602 624 |
/// | 2.8b | 2 775 208 960 | 2 517 652 480 |
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

/// Bytes that training holds at its peak, on a backend whose attention keeps no scores (`flex`).
///
/// With P parameters, N tokens of a micro-batch, L blocks of width C and feed-forward width F, V words:
/// parameters, gradients 4P each, AdamW's moments 8P; for the backward pass each block keeps its input, two
/// normalised inputs, q, k, v, the mixed values, and the feed-forward layer before and after the activation:
/// N·(7C + 2F) numbers (8C where the residual is sequential); with recomputation its input alone, and one block's rest
/// at a time; in bf16 on a CPU the rounded weights beside all of it; on a GPU without flash attention for these heads four tensors of a
/// tile of scores; the loss keeps a chunk of logits and the gradient of its input. Measurements beside it lie in `docs/results`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TrainingMemory {
    /// The parameters.
    pub parameters: u64,
    /// Their gradients.
    pub gradients: u64,
    /// AdamW's two moments.
    pub optimizer: u64,
    /// What blocks keep for the backward pass.
    pub activations: u64,
    /// The loss's chunk of logits and gradient.
    pub loss: u64,
}

impl TrainingMemory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.parameters + self.gradients + self.optimizer + self.activations + self.loss
    }
}

impl GptNeoXConfig {
    /// Memory of training with micro-batches of so many tokens.
    pub fn training_memory(&self, micro_tokens: usize, compute: Compute, place: Place) -> TrainingMemory {
        let count = self.parameter_count().total;
        let (n, c, f) = (micro_tokens as u64, self.hidden_size as u64, self.intermediate_size as u64);
        let rounded = compute.precision == Precision::Bf16;
        // What lies between matrix products is bf16 on a GPU; flex keeps it as f32 that was rounded, and so the weights too.
        let product = if rounded && place == Place::Gpu { 2 } else { 4 };
        let factors = if rounded && place == Place::Cpu { 4 * self.parameter_count().without_embeddings } else { 0 };
        let residual = if self.parallel_residual { 1 } else { 2 };
        let block = n * (4 * residual * c + product * (6 * c + 2 * f));
        let layers = self.num_layers as u64;
        let blocks = if compute.recompute { layers * n * 4 * c + block } else { layers * block };
        // On a GPU a block's gradients lie beside what it kept: that goes back to a pool only once it was read.
        let blocks = if place == Place::Gpu { blocks + block } else { blocks };
        // The final norm's input and output.
        let activations = blocks + factors + 2 * n * 4 * c + self.scores(n, product, compute.precision, place);
        let logits = if place == Place::Gpu { product } else { 4 };
        let rows = fused_ops::loss_rows(micro_tokens, self.vocab_size, place) as u64;
        let loss = logits * rows * self.vocab_size as u64 + 4 * n * c;
        TrainingMemory { parameters: 4 * count, gradients: 4 * count, optimizer: 8 * count, activations, loss }
    }

    /// Bytes of attention's scores that are alive at once: forward and backward keep up to four tensors of a tile of them.
    fn scores(&self, tokens: u64, product: u64, precision: Precision, place: Place) -> u64 {
        let flash = fused_ops::flash_attention_takes(self.head_dim(), self.rotary_dims());
        if place == Place::Cpu || precision == Precision::Bf16 && flash {
            return 0;
        }
        let all = tokens.saturating_mul((self.num_heads * self.max_positions) as u64);
        4 * product * all.min(fused_ops::SCORES_AT_ONCE as u64)
    }

    /// Bytes of keys and values that generation keeps for each token.
    pub fn cache_bytes_per_token(&self) -> u64 {
        8 * (self.num_layers * self.hidden_size) as u64
    }

    /// Exact parameter counts (those of a configuration beyond its limits stop at the largest number).
    pub fn parameter_count(&self) -> ParameterCount {
        let all = u64::try_from(self.parameters()).unwrap_or(u64::MAX);
        let tables = if self.tie_embeddings { 1 } else { 2 };
        let embeddings = (self.vocab_size as u64).saturating_mul(self.hidden_size as u64).saturating_mul(tables);
        ParameterCount { total: all, without_embeddings: all.saturating_sub(embeddings) }
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
            ("14m", 14_067_712, 1_189_888),
            ("31m", 30_494_720, 4_739_072),
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

    #[test]
    fn memory_is_counted_as_documented() {
        let config = GptNeoXConfig::pythia("70m").unwrap();
        let full = config.training_memory(512, Compute::default(), Place::Cpu);
        assert_eq!(full.parameters + full.gradients + full.optimizer, 16 * 70_426_624);
        assert_eq!(full.activations, 4 * 512 * (6 * (7 * 512 + 2 * 2048) + 2 * 512));
        let recompute = config.training_memory(512, Compute { recompute: true, ..Compute::default() }, Place::Cpu);
        assert_eq!(recompute.activations, 4 * 512 * (6 * 512 + (7 * 512 + 2 * 2048) + 2 * 512));
        let low = config.training_memory(512, Compute { precision: Precision::Bf16, recompute: false }, Place::Cpu);
        // Rounded numbers take as much room on a CPU, and the rounded weights take theirs.
        assert_eq!(low.activations, full.activations + 4 * 18_915_328);
        let gpu =
            |precision| config.training_memory(512, Compute { precision, recompute: false }, Place::Gpu).activations;
        assert!(gpu(Precision::Bf16) < gpu(Precision::F32));
        assert_eq!(config.cache_bytes_per_token(), 2 * 6 * 512 * 4);
    }
}
