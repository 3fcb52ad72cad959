//! What the operations take besides tensors.

/// Which form of the Gaussian error linear unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gelu {
    /// `x·Φ(x)` (Hugging Face's `gelu`; Pythia).
    Exact,
    /// `x/2·(1 + tanh(√(2/π)(x + 0.044715x³)))` (`gelu_fast`, `gelu_new`).
    Tanh,
}

/// What matrix products are computed in. Parameters, norms, softmax and losses are f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// Factors and results of matrix products are rounded to bf16, sums are f32 (mixed precision, as PyTorch's
    /// autocast). Between products, activations are bf16 where the backend stores it; `flex` keeps rounded f32. Inside
    /// attention `flex`, and kernels that fuse it, keep the scores and their gradients in f32, as flash attention does:
    /// closer to f32 than the generic definition, which rounds them.
    Bf16,
}

/// What computes, where sizes depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A CPU's cores.
    Cpu,
    /// A GPU, or what acts as one.
    Gpu,
}

/// Rows of logits that the loss of `rows` rows keeps alive at once: as few equal chunks as there can be of at most 64 MiB of
/// logits (but at least 64 rows) and 1024 rows; on a GPU 2²⁸ logits and 8192 rows. (Each chunk passes once over the output
/// matrix and its gradient: the larger the chunk, the fewer passes.)
pub fn loss_rows(rows: usize, vocabulary: usize, place: Place) -> usize {
    let (logits, most) = match place {
        Place::Cpu => (1 << 24, 1024),
        Place::Gpu => (1 << 28, 8192),
    };
    equal_chunks(rows, (logits / vocabulary.max(1)).clamp(64, most))
}

/// Whether flash attention, which CUDA has with products in bf16, is written for heads of so many features, of which so many rotate.
pub fn flash_attention_takes(head_dim: usize, rotary_dims: usize) -> bool {
    let rotates = rotary_dims == 8 || rotary_dims.is_multiple_of(16);
    (16..=128).contains(&head_dim) && head_dim.is_multiple_of(16) && rotates && rotary_dims <= head_dim
}

/// Rows that a unit of a GPU adds up in the first pass of a sum over `rows` rows. A second pass, of one launch, adds up what these
/// blocks of rows came to: about a thousand of them, so that the first one has units enough to fill a GPU.
pub fn summed_rows(rows: usize) -> usize {
    rows.div_ceil(1024).max(16)
}

/// A device's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Not in use by any process.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// Rows of a chunk, where as few chunks of at most `most` rows as there can be are equally large.
fn equal_chunks(rows: usize, most: usize) -> usize {
    let chunks = rows.div_ceil(most).max(1);
    rows.div_ceil(chunks).next_multiple_of(16).clamp(1, rows.max(1))
}

/// The sizes of a packed attention input `[B·T, H·3·D]` whose rows are `[head, (q, k, v), D]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// B, sequences.
    pub batch: usize,
    /// T, positions of a sequence.
    pub time: usize,
    /// H, heads.
    pub heads: usize,
    /// D, features of a head.
    pub head_dim: usize,
    /// R, how many leading features of each head rotate (even, at most D).
    pub rotary_dims: usize,
}

impl AttentionShape {
    /// What scores are multiplied by: 1/√D.
    pub(crate) fn scale(&self) -> f64 {
        1.0 / (self.head_dim as f64).sqrt()
    }
}

/// What attention's forward pass leaves for its backward pass, where a backend's kernels read it.
#[derive(Debug, Clone)]
pub struct KeptAttention<T> {
    /// The result, `[B·T, H·D]`.
    pub out: T,
    /// The logarithms of each row's sum of exponentials, `[B, H, T]`, f32.
    pub log_sums: T,
}

/// A parameter in training, of any rank: what one update reads.
#[derive(Debug, Clone)]
pub struct Slot<T> {
    /// The parameter.
    pub p: T,
    /// Its gradient.
    pub g: T,
    /// Its first moment.
    pub m: T,
    /// Its second moment.
    pub v: T,
    /// Its decoupled weight decay.
    pub weight_decay: f64,
    /// Its learning rate, as a multiple of the step's.
    pub lr_ratio: f64,
}

/// A parameter and its moments after an update.
#[derive(Debug, Clone)]
pub struct Updated<T> {
    /// The parameter.
    pub p: T,
    /// Its first moment.
    pub m: T,
    /// Its second moment.
    pub v: T,
}

/// One AdamW update with decoupled decay, as `torch.optim.AdamW`:
/// `p ← p(1 − lr·decay)`, then `p ← p − lr/bias1 · m / (√v/√bias2 + eps)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate of this update.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// t, the number of this update, from 1.
    pub update: u64,
}

/// An [`AdamWStep`] as the f32 factors of one pass, all but the factor on the gradient.
#[cfg(any(feature = "flex", feature = "cuda", feature = "vulkan"))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamWFactors {
    pub(crate) beta1: f32,
    pub(crate) rest1: f32,
    pub(crate) beta2: f32,
    pub(crate) rest2: f32,
    pub(crate) keep: f32,
    pub(crate) rate: f32,
    pub(crate) root: f32,
    pub(crate) eps: f32,
}

impl AdamWStep {
    /// `(1 − β₁ᵗ, 1 − β₂ᵗ)`.
    pub fn bias_corrections(&self) -> (f64, f64) {
        let t = i32::try_from(self.update).unwrap_or(i32::MAX);
        (1.0 - self.beta1.powi(t), 1.0 - self.beta2.powi(t))
    }

    /// The factors for a parameter of this decay and this multiple of the learning rate.
    #[cfg(any(feature = "flex", feature = "cuda", feature = "vulkan"))]
    pub(crate) fn factors(&self, weight_decay: f64, lr_ratio: f64) -> AdamWFactors {
        let (bias1, bias2) = self.bias_corrections();
        let lr = self.lr * lr_ratio;
        AdamWFactors {
            beta1: self.beta1 as f32,
            rest1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            rest2: (1.0 - self.beta2) as f32,
            keep: (1.0 - lr * weight_decay) as f32,
            rate: (lr / bias1) as f32,
            root: (1.0 / bias2.sqrt()) as f32,
            eps: self.eps as f32,
        }
    }
}
