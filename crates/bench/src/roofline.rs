//! What a training step on a GPU must at least move and compute, kernel by kernel: bytes, operations and launches, and how long
//! they take at best. Nothing is measured here.

use gptneox_model::GptNeoXConfig;
use serde::Serialize;

/// What a GPU can do at most.
#[derive(Debug, Clone, Copy)]
pub struct Gpu {
    /// Its name.
    pub name: &'static str,
    /// bf16 operations a second, dense.
    pub operations: f64,
    /// Bytes a second of its memory.
    pub bandwidth: f64,
}

/// NVIDIA's data sheets: H100 and H200, SXM.
pub const GPUS: [Gpu; 2] = [
    Gpu { name: "h100", operations: 989e12, bandwidth: 3.35e12 },
    Gpu { name: "h200", operations: 989e12, bandwidth: 4.8e12 },
];

/// What kernels were seen to reach of a GPU's limits (docs/results/2026-11-27-gpu, an H200, a step of 160m): what is expected of a
/// kernel is its least time, divided by this. Other GPUs and heads of other sizes may reach more or less, and launches take no time here.
const REACHED: [(Kind, f64); 4] =
    [(Kind::Product, 0.62), (Kind::AttentionForward, 0.24), (Kind::AttentionBackward, 0.21), (Kind::Memory, 0.75)];

/// What limits a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A product of matrices.
    Product,
    /// Flash attention.
    AttentionForward,
    /// Its backward pass.
    AttentionBackward,
    /// Anything else.
    Memory,
}

/// How a step is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Design {
    /// A kernel for each norm and for the residual sum; flash attention for heads of 64 features only.
    SeparateNorms,
    /// The two norms of a block at once, with the residual sum before them; sums for biases where gradients are made or rounded; flash
    /// attention for heads up to 128.
    Now,
}

/// All calls of a kernel in a training step of one micro-batch.
#[derive(Debug, Clone, Serialize)]
pub struct Kernel {
    /// What it does.
    pub name: &'static str,
    /// What limits it.
    pub kind: Kind,
    /// Launches.
    pub launches: u64,
    /// Bytes read and written, each number once a launch.
    pub bytes: f64,
    /// Operations of products, those that a causal mask spares not counted.
    pub operations: f64,
}

impl Kernel {
    /// Seconds that a GPU needs at least.
    pub fn least(&self, gpu: Gpu) -> f64 {
        (self.bytes / gpu.bandwidth).max(self.operations / gpu.operations)
    }

    /// Seconds, if it reaches of the GPU's limits what kernels of its kind were seen to reach.
    pub fn expected(&self, gpu: Gpu) -> f64 {
        let reached = |kind| REACHED.iter().find(|(k, _)| *k == kind).map_or(1.0, |(_, share)| *share);
        let memory = self.bytes / gpu.bandwidth / reached(Kind::Memory);
        memory.max(self.operations / gpu.operations / reached(self.kind))
    }
}

/// The sizes of a step, as numbers that do not overflow.
struct Sizes {
    /// Tokens.
    n: f64,
    time: f64,
    /// Features, of the model and of the feed-forward layer.
    c: f64,
    f: f64,
    vocabulary: f64,
    /// Scores of a layer.
    scores: f64,
    /// Tiles of them.
    tiles: u64,
    layers: u64,
}

/// The kernels of a training step in bf16: forward, backward, clipping and AdamW, nothing recomputed.
pub fn kernels(model: &GptNeoXConfig, batch: usize, time: usize, design: Design) -> Vec<Kernel> {
    let n = (batch * time) as f64;
    let scores = n * (model.num_heads * time) as f64;
    let s = Sizes {
        n,
        time: time as f64,
        c: model.hidden_size as f64,
        f: model.intermediate_size as f64,
        vocabulary: model.vocab_size as f64,
        scores,
        tiles: match design {
            Design::SeparateNorms => 1,
            Design::Now => fused_ops::score_tiles(batch * model.num_heads, time, fused_ops::SCORES_AT_ONCE) as u64,
        },
        layers: model.num_layers as u64,
    };
    let head = model.head_dim();
    let rotary = model.rotary_dims();
    let fused = match design {
        Design::SeparateNorms => head == 64 && rotary.is_multiple_of(16),
        Design::Now => fused_ops::flash_attention_takes(head, rotary),
    };
    let mut all = Vec::new();
    all.extend(block_products(&s, design));
    all.extend(if fused { flash_attention(&s) } else { attention_by_products(&s) });
    all.extend(block_memory(&s, design));
    all.extend(ends(&s, model, batch * time, design));
    all
}

/// Bytes written and read again, in f32, for each number of `n` rows that are summed.
fn partial(n: f64) -> f64 {
    8.0 / fused_ops::summed_rows(n as usize) as f64
}

fn kernel(name: &'static str, kind: Kind, launches: u64, bytes: f64, operations: f64) -> Kernel {
    Kernel { name, kind, launches, bytes, operations }
}

/// The four linear layers of every block.
fn block_products(s: &Sizes, design: Design) -> Vec<Kernel> {
    let Sizes { n, c, f, layers, .. } = *s;
    let l = layers as f64;
    let weights = 4.0 * c * c + 2.0 * c * f;
    // In and out of qkv, dense, widen, narrow: C 3C, C C, C F, F C.
    let inputs = 3.0 * c + f;
    let outputs = 5.0 * c + f;
    let operations = 2.0 * n * weights * l;
    let (of_biases, summed) = match design {
        Design::SeparateNorms => (8, 2.0 * n * outputs),
        // Those of qkv. The others are summed where they are made.
        Design::Now => (if n > 1024.0 { 2 } else { 1 }, n * 3.0 * c * (2.0 + partial(n))),
    };
    vec![
        kernel("linear, forward", Kind::Product, 4 * layers, l * 2.0 * (n * (inputs + outputs) + weights), operations),
        kernel(
            "linear, gradient of x",
            Kind::Product,
            4 * layers,
            l * 2.0 * (n * (inputs + outputs) + weights),
            operations,
        ),
        kernel(
            "linear, gradient of w",
            Kind::Product,
            4 * layers,
            l * (2.0 * n * (inputs + outputs) + 4.0 * weights),
            operations,
        ),
        kernel("linear, gradient of b", Kind::Memory, of_biases * layers, l * summed, 0.0),
        kernel("weights and biases in bf16", Kind::Memory, 8 * layers, l * 6.0 * weights, 0.0),
    ]
}

fn flash_attention(s: &Sizes) -> Vec<Kernel> {
    let Sizes { n, time, c, layers, .. } = *s;
    let l = layers as f64;
    // A product over the pairs that the mask leaves.
    let product = n * time * c;
    vec![
        kernel("rotation of q and k", Kind::Memory, 2 * layers, l * 2.0 * 8.0 * n * c, 0.0),
        kernel("attention, forward", Kind::AttentionForward, layers, l * 8.0 * n * c, l * 2.0 * product),
        kernel("attention, sums of out and gradient", Kind::Memory, layers, l * 4.0 * n * c, 0.0),
        // Five products of use; the two kernels compute seven.
        kernel("attention, backward", Kind::AttentionBackward, 2 * layers, l * 22.0 * n * c, l * 5.0 * product),
    ]
}

fn attention_by_products(s: &Sizes) -> Vec<Kernel> {
    let Sizes { n, time, c, scores, tiles, layers, .. } = *s;
    let l = layers as f64;
    // The mask is not used: every pair.
    let product = 2.0 * n * time * c;
    // Out, and the gradients of q, k and v.
    let together = if tiles > 1 { 4 * layers } else { 0 };
    vec![
        kernel("heads apart and rotated, and back", Kind::Memory, 5 * layers, l * 44.0 * n * c, 0.0),
        kernel("results of tiles put together", Kind::Memory, together, together as f64 * 4.0 * n * c, 0.0),
        kernel(
            "attention's products, forward",
            Kind::Product,
            2 * tiles * layers,
            l * (8.0 * n * c + 4.0 * scores),
            l * 2.0 * product,
        ),
        kernel("softmax", Kind::Memory, tiles * layers, l * 4.0 * scores, 0.0),
        kernel(
            "attention's products, backward",
            Kind::Product,
            5 * tiles * layers,
            l * (20.0 * n * c + 10.0 * scores),
            l * 5.0 * product,
        ),
        kernel("softmax, backward", Kind::Memory, tiles * layers, l * 8.0 * scores, 0.0),
    ]
}

/// Norms, activation and the residual stream of every block.
fn block_memory(s: &Sizes, design: Design) -> Vec<Kernel> {
    let Sizes { n, c, f, layers, .. } = *s;
    let l = layers as f64;
    let gelu = kernel("gelu", Kind::Memory, layers, l * 4.0 * n * f, 0.0);
    match design {
        Design::SeparateNorms => vec![
            kernel("norms", Kind::Memory, 2 * layers, l * 2.0 * 6.0 * n * c, 0.0),
            kernel("norms, backward", Kind::Memory, 3 * 2 * layers, l * 2.0 * 16.0 * n * c, 0.0),
            kernel("sum of gradients", Kind::Memory, layers, l * 16.0 * n * c, 0.0),
            gelu,
            kernel("gelu, backward", Kind::Memory, layers, l * 6.0 * n * f, 0.0),
            kernel("residual sum", Kind::Memory, layers, l * 12.0 * n * c, 0.0),
            kernel("gradient in bf16", Kind::Memory, layers, l * 6.0 * n * c, 0.0),
        ],
        Design::Now => {
            let partial = partial(n);
            let backward = l * n * c * (24.0 + 4.0 * partial);
            vec![
                kernel("both norms, of the first block", Kind::Memory, 1, 8.0 * n * c, 0.0),
                kernel(
                    "residual sum and both norms",
                    Kind::Memory,
                    layers.saturating_sub(1),
                    (l - 1.0) * 16.0 * n * c,
                    0.0,
                ),
                kernel("residual sum, of the last block", Kind::Memory, 1, 12.0 * n * c, 0.0),
                kernel("both norms, backward, and the sum of gradients", Kind::Memory, 3 * layers, backward, 0.0),
                gelu,
                kernel("gelu, backward, and the sum for b", Kind::Memory, 2 * layers, l * n * f * (6.0 + partial), 0.0),
                kernel(
                    "gradient in bf16, and the sum for b",
                    Kind::Memory,
                    2 * layers,
                    l * n * c * (6.0 + partial),
                    0.0,
                ),
            ]
        }
    }
}

/// Embedding, last norm, loss and update.
fn ends(s: &Sizes, model: &GptNeoXConfig, tokens: usize, design: Design) -> Vec<Kernel> {
    let Sizes { n, c, vocabulary, layers, .. } = *s;
    let p = model.parameter_count().total as f64;
    let tensors = 12 * layers + 4;
    // (Groups are also cut where tensors are read in other widths, which Pythia's are not.)
    let updates = if design == Design::Now { tensors.div_ceil(8) } else { tensors };
    let chunks = tokens.div_ceil(fused_ops::loss_rows(tokens, model.vocab_size, fused_ops::Place::Gpu)) as u64;
    let (logits, table) = (n * vocabulary, vocabulary * c);
    let sums = if design == Design::Now { partial(n) } else { 0.0 };
    let passes = chunks as f64 * table;
    vec![
        kernel("embedding", Kind::Memory, 1, 8.0 * n * c, 0.0),
        embedding_backward(s, tokens, design),
        kernel("last norm, and its backward", Kind::Memory, 4, (22.0 + 2.0 * sums) * n * c, 0.0),
        kernel("output matrix in bf16", Kind::Memory, 1, 6.0 * table, 0.0),
        kernel("logits", Kind::Product, chunks, 2.0 * (logits + n * c + passes), 2.0 * logits * c),
        kernel("loss and gradient of logits", Kind::Memory, chunks, 4.0 * logits, 0.0),
        kernel("head, gradient of x", Kind::Product, chunks, 2.0 * (logits + n * c + passes), 2.0 * logits * c),
        kernel("head, gradient of w", Kind::Product, chunks, 2.0 * (logits + n * c) + 8.0 * passes, 2.0 * logits * c),
        kernel("gradients of the head put together and scaled", Kind::Memory, 3, 8.0 * n * c + 8.0 * table, 0.0),
        kernel("norm of gradients, clip factor", Kind::Memory, updates + 2, 4.0 * p, 0.0),
        kernel("AdamW", Kind::Memory, updates + 1, 28.0 * p, 0.0),
        // Each norm's two gradients out of one tensor; the head's input in bf16; ids and targets; the loss's sum, scale and seed; what
        // chunks came to, and what a step reports, into one tensor.
        kernel(
            "copies, and what is done with the loss",
            Kind::Memory,
            4 * layers + 13 + 2 * (chunks - 1),
            6.0 * n * c,
            0.0,
        ),
    ]
}

fn embedding_backward(s: &Sizes, tokens: usize, design: Design) -> Kernel {
    let Sizes { n, c, vocabulary, .. } = *s;
    let written = 8.0 * n * c + 4.0 * vocabulary * c;
    let (launches, bytes) = match design {
        // Zeros, and then what occurs. (Each position looked at each other one besides, which no byte tells.)
        Design::SeparateNorms => (6, written),
        // And a table of positions, zeroed and read: an id's in each segment.
        Design::Now => (5, written + 8.0 * vocabulary * tokens.div_ceil(tokens.isqrt().max(256)) as f64),
    };
    kernel("embedding, backward", Kind::Memory, launches, bytes, 0.0)
}

/// A step's totals on a GPU.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Total {
    /// Launches.
    pub launches: u64,
    /// Bytes.
    pub bytes: f64,
    /// Milliseconds at best.
    pub least_ms: f64,
    /// Milliseconds that are expected.
    pub expected_ms: f64,
    /// Utilisation where a step takes as long as expected, attention counted in full.
    pub expected_mfu: f64,
}

/// The sum over all kernels.
pub fn total(kernels: &[Kernel], model: &GptNeoXConfig, batch: usize, time: usize, gpu: Gpu) -> Total {
    let sum = |of: &dyn Fn(&Kernel) -> f64| kernels.iter().map(of).sum::<f64>();
    let expected = sum(&|k| k.expected(gpu));
    let counted = model.training_flops(time).total() * (batch * time) as f64;
    Total {
        launches: kernels.iter().map(|k| k.launches).sum(),
        bytes: sum(&|k| k.bytes),
        least_ms: 1e3 * sum(&|k| k.least(gpu)),
        expected_ms: 1e3 * expected,
        expected_mfu: counted / expected / gpu.operations,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// The products are those that utilisation counts.
    #[test]
    fn operations_are_the_models() {
        for size in ["70m", "160m", "410m", "1b"] {
            let model = GptNeoXConfig::pythia(size).unwrap();
            let (batch, time) = (4, 2048);
            for design in [Design::SeparateNorms, Design::Now] {
                let kernels = kernels(&model, batch, time, design);
                let of = |names: &[&str]| -> f64 {
                    kernels.iter().filter(|k| names.iter().any(|n| k.name.starts_with(n))).map(|k| k.operations).sum()
                };
                let flops = model.training_flops(time);
                let tokens = (batch * time) as f64;
                // Weights only: the count of parameters has biases and norms, a few thousandths.
                let products = of(&["linear", "logits", "head"]) / tokens;
                assert!((products / flops.matmul - 1.0).abs() < 3e-3, "{size}: {products} {}", flops.matmul);
                let attention = of(&["attention"]) / tokens;
                let share = if model.head_dim() == 64 { 7.0 / 12.0 } else { 14.0 / 12.0 };
                assert!((attention / flops.attention - share).abs() < 1e-12, "{size}");
            }
        }
    }

    /// Counted by hand from the block's and the step's code.
    #[test]
    fn launches() {
        let model = GptNeoXConfig::pythia("160m").unwrap();
        let of = |design| kernels(&model, 16, 2048, design).iter().map(|k| k.launches).sum::<u64>();
        // A block: 12 products, 8 casts, 6 of attention, GELU, residual sum with norms (the first block's norms are one more).
        // Its backward pass: 2 for each of qkv's bias, GELU, the gradient's cast; norms 3. Before: 8 sums of biases; GELU's backward,
        // a cast; norms 2 + 6 + 1.
        let chunks = 32_768_u64.div_ceil(fused_ops::loss_rows(32_768, 50_304, fused_ops::Place::Gpu) as u64);
        let ends = 1 + 6 + 1 + 4 * chunks + 3;
        // Gradients of norms out of one tensor, and what the other test counts.
        let copies = 4 * 12 + 13 + 2 * (chunks - 1);
        assert_eq!(of(Design::Now), 12 * (20 + 6 + 2 + 9) + 1 + ends - 1 + 4 + 2 * 19 + 3 + copies);
        assert_eq!(of(Design::SeparateNorms), 12 * (28 + 6 + 4 + 9) + ends + 4 + 2 * 148 + 3 + copies);
    }

    /// As many as the CUDA path queues on a driver that counts (.ci/stub).
    #[test]
    fn launches_are_those_that_are_queued() {
        let model = GptNeoXConfig::of_size(512, 64, 2, 2);
        // Heads of 32 features, all of them fused.
        assert_eq!(kernels(&model, 2, 48, Design::Now).iter().map(|k| k.launches).sum::<u64>(), 123);
    }

    #[test]
    fn a_step_moves_less_than_it_did() {
        let model = GptNeoXConfig::pythia("160m").unwrap();
        let of = |design| total(&kernels(&model, 16, 2048, design), &model, 16, 2048, GPUS[1]);
        let (before, now) = (of(Design::SeparateNorms), of(Design::Now));
        assert!(now.bytes < before.bytes && now.launches < before.launches);
        assert!(now.least_ms < now.expected_ms);
    }
}
