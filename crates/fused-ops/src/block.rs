//! GPT-NeoX's transformer block as one operation, composed of the others, with its backward pass.

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};

use crate::{AttentionShape, FusedOps, Gelu, KeptAttention, Precision};

/// The block's parameters, each layer's as `[weight, bias]`.
#[derive(Debug, Clone)]
pub struct BlockParameters<T> {
    /// LayerNorm before attention, `[C]` each.
    pub norm1: [T; 2],
    /// `[3C, C]`, `[3C]`.
    pub query_key_value: [T; 2],
    /// Attention's output, `[C, C]`, `[C]`.
    pub dense: [T; 2],
    /// LayerNorm before the feed-forward layer, `[C]` each.
    pub norm2: [T; 2],
    /// `[F, C]`, `[F]`.
    pub widen: [T; 2],
    /// `[C, F]`, `[C]`.
    pub narrow: [T; 2],
}

/// Gamma and beta of both norms of a block.
pub type Norms<T> = [[T; 2]; 2];

/// The residual stream between blocks.
///
/// Training may put with it what the next block begins with, so it goes into the very block whose norms
/// [`transformer_block`](FusedOps::transformer_block) was told as `next`, with the same settings.
#[derive(Debug, Clone)]
pub struct Stream<T> {
    /// `[B·T, C]`, f32.
    x: T,
    /// What the next block begins with, where the one before made it: both of its norms of x.
    normed: Option<[T; 2]>,
}

impl<T> Stream<T> {
    /// A stream before its first block.
    pub fn new(x: T) -> Self {
        Self { x, normed: None }
    }

    /// The values, `[B·T, C]`, f32.
    pub fn x(&self) -> &T {
        &self.x
    }

    /// The values, without what was made for a next block.
    pub fn into_x(self) -> T {
        self.x
    }

    pub(crate) fn map<U>(self, of_x: impl FnOnce(T) -> U, of_normed: impl Fn(T) -> U) -> Stream<U> {
        Stream { x: of_x(self.x), normed: self.normed.map(|normed| normed.map(of_normed)) }
    }
}

impl<T> BlockParameters<T> {
    /// All twelve, in the order of the fields.
    pub(crate) fn into_array(self) -> [T; 12] {
        let ([a, b], [c, d], [e, f]) = (self.norm1, self.query_key_value, self.dense);
        let ([g, h], [i, j], [k, l]) = (self.norm2, self.widen, self.narrow);
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    /// The inverse of [`into_array`](Self::into_array).
    pub(crate) fn from_array([a, b, c, d, e, f, g, h, i, j, k, l]: [T; 12]) -> Self {
        Self { norm1: [a, b], query_key_value: [c, d], dense: [e, f], norm2: [g, h], widen: [i, j], narrow: [k, l] }
    }
}

/// How a block computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockSettings {
    /// The attention's sizes.
    pub attention: AttentionShape,
    /// Added to the variance in LayerNorm.
    pub eps: f64,
    /// The activation.
    pub gelu: Gelu,
    /// `x + attention(norm1(x)) + mlp(norm2(x))` instead of one after the other.
    pub parallel_residual: bool,
    /// What matrix products are computed in.
    pub precision: Precision,
}

/// What a block reads besides its input and parameters; none of it gets a gradient.
#[derive(Debug, Clone)]
pub struct BlockContext<B: Backend> {
    /// `[≥ T, R/2]`.
    pub cos: FloatTensor<B>,
    /// `[≥ T, R/2]`.
    pub sin: FloatTensor<B>,
    /// The first position that each position attends to, `[B, T]`.
    pub starts: Option<IntTensor<B>>,
    /// How it computes.
    pub settings: BlockSettings,
}

/// What a block's backward pass reads besides its input and parameters.
#[derive(Debug, Clone)]
pub(crate) struct Kept<B: Backend> {
    factors: Factors<FloatTensor<B>>,
    normed1: FloatTensor<B>,
    qkv: FloatTensor<B>,
    mixed: FloatTensor<B>,
    attention: Option<KeptAttention<FloatTensor<B>>>,
    /// The input of the second norm, where it is not the block's.
    between: Option<FloatTensor<B>>,
    normed2: FloatTensor<B>,
    wide: FloatTensor<B>,
    activated: FloatTensor<B>,
}

/// The weights in the type of products: made once for the forward and the backward pass.
#[derive(Debug, Clone)]
struct Factors<T> {
    query_key_value: T,
    dense: T,
    widen: T,
    narrow: T,
}

fn factors<B: FusedOps>(p: &BlockParameters<FloatTensor<B>>, precision: Precision) -> Factors<FloatTensor<B>> {
    let of = |[w, _]: &[FloatTensor<B>; 2]| B::as_factor(w.clone(), precision);
    Factors { query_key_value: of(&p.query_key_value), dense: of(&p.dense), widen: of(&p.widen), narrow: of(&p.narrow) }
}

fn add<B: FusedOps>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    B::residual_sum(a, None, b)
}

/// What attention came to, and what its backward pass reads.
type Attended<T> = (T, Option<KeptAttention<T>>);

/// What a forward pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// Its result: all else is dropped as soon as it was used.
    Result,
    /// Its result, and a second pass for gradients, with the same arithmetic: on a CPU, the same bits.
    SecondPass,
    /// A backward pass, which reads what it keeps.
    Gradients,
}

/// The forward pass with an attention of the caller's, `[B·T, 3C]` → `[B·T, C]`, and what a backward pass reads of it.
///
/// 1. attended = dense(attention(qkv(norm1(x))))
/// 2. fed = narrow(gelu(widen(norm2(y)))), where y is x, or attended + x in the sequential form
/// 3. fed + attended + x, and the next block's norms of it, if that is asked for
fn run<B: FusedOps>(
    Stream { x, normed }: Stream<FloatTensor<B>>,
    p: &BlockParameters<FloatTensor<B>>,
    next: Option<Norms<FloatTensor<B>>>,
    settings: BlockSettings,
    attend: impl FnOnce(FloatTensor<B>) -> Attended<FloatTensor<B>>,
    purpose: For,
) -> (Stream<FloatTensor<B>>, Option<Kept<B>>) {
    let keeping = purpose == For::Gradients;
    let BlockSettings { eps, gelu, parallel_residual, precision, .. } = settings;
    let w = factors::<B>(p, precision);
    let linear =
        |x, w: &FloatTensor<B>, [_, b]: &[FloatTensor<B>; 2]| B::fused_linear(x, w.clone(), Some(b.clone()), precision);
    let norm =
        |x, [gamma, beta]: &[FloatTensor<B>; 2]| B::fused_layer_norm(x, gamma.clone(), beta.clone(), eps, precision);
    let keep = |t: &FloatTensor<B>| keeping.then(|| t.clone());
    // Both norms at once where they read the same; for the result alone one after the other, which keeps less.
    let both = || B::fused_layer_norms(x.clone(), [p.norm1.clone(), p.norm2.clone()], eps, precision);
    let (normed, second) = if purpose != For::Result && parallel_residual {
        let [first, second] = normed.unwrap_or_else(both);
        (first, Some(second))
    } else {
        (norm(x.clone(), &p.norm1), None)
    };
    let normed1 = keep(&normed);
    let packed = linear(normed, &w.query_key_value, &p.query_key_value);
    let qkv = keep(&packed);
    let (attended, attention) = attend(packed);
    let mixed = keep(&attended);
    let attended = linear(attended, &w.dense, &p.dense);
    let (y, attended) = match parallel_residual {
        true => (x, Some(attended)),
        false => (add::<B>(attended, x), None),
    };
    let normed = second.unwrap_or_else(|| norm(y.clone(), &p.norm2));
    let normed2 = keep(&normed);
    let hidden = linear(normed, &w.widen, &p.widen);
    let wide = keep(&hidden);
    let hidden = B::fused_gelu(hidden, gelu);
    let activated = keep(&hidden);
    let fed = linear(hidden, &w.narrow, &p.narrow);
    let between = if parallel_residual { None } else { keep(&y) };
    let out = match (attended, next) {
        (Some(attended), Some(next)) if purpose != For::Result => {
            let (x, normed) = B::residual_sum_and_norms(fed, attended, y, next, eps, precision);
            Stream { x, normed: Some(normed) }
        }
        (attended, _) => Stream::new(B::residual_sum(fed, attended, y)),
    };
    let all = (normed1, qkv, mixed, normed2, wide, activated);
    let kept = match all {
        (Some(normed1), Some(qkv), Some(mixed), Some(normed2), Some(wide), Some(activated)) => {
            Some(Kept { factors: w, normed1, qkv, mixed, attention, between, normed2, wide, activated })
        }
        _ => None,
    };
    (out, kept)
}

/// The block's output; with `again`, gradients will be asked of a second pass.
pub(crate) fn forward<B: FusedOps>(
    stream: Stream<FloatTensor<B>>,
    p: &BlockParameters<FloatTensor<B>>,
    next: Option<Norms<FloatTensor<B>>>,
    c: &BlockContext<B>,
    again: bool,
) -> Stream<FloatTensor<B>> {
    let BlockSettings { attention: shape, precision, .. } = c.settings;
    let (cos, sin, starts) = (c.cos.clone(), c.sin.clone(), c.starts.clone());
    let attend = |qkv| (B::causal_attention(qkv, cos, sin, starts, shape, precision), None);
    run::<B>(stream, p, next, c.settings, attend, if again { For::SecondPass } else { For::Result }).0
}

/// The block's output with an attention of the caller's, `[B·T, 3C]` → `[B·T, C]`: one that remembers earlier positions, say.
/// Without gradients.
pub fn block_with_attention<B: FusedOps>(
    x: FloatTensor<B>,
    parameters: &BlockParameters<FloatTensor<B>>,
    settings: BlockSettings,
    attend: impl FnOnce(FloatTensor<B>) -> FloatTensor<B>,
) -> FloatTensor<B> {
    run::<B>(Stream::new(x), parameters, None, settings, |qkv| (attend(qkv), None), For::Result).0.x
}

/// The block's output, and what its backward pass reads.
pub(crate) fn forward_keeping<B: FusedOps>(
    stream: Stream<FloatTensor<B>>,
    p: &BlockParameters<FloatTensor<B>>,
    next: Option<Norms<FloatTensor<B>>>,
    c: &BlockContext<B>,
) -> (Stream<FloatTensor<B>>, Kept<B>) {
    let BlockSettings { attention: shape, precision, .. } = c.settings;
    let (cos, sin, starts) = (c.cos.clone(), c.sin.clone(), c.starts.clone());
    let attend = |qkv| B::causal_attention_keeping(qkv, cos, sin, starts, shape, precision);
    let (out, kept) = run::<B>(stream, p, next, c.settings, attend, For::Gradients);
    (out, kept.expect("kept where it is asked for"))
}

/// Gradients of the input and of each parameter.
///
/// 1. From the output back through the feed-forward layer to the second norm's output; in the sequential form on to its input.
/// 2. What reaches the attention's output: the output's gradient, in the sequential form with that of step 1.
/// 3. Through dense, attention and qkv to the first norm's output.
/// 4. To the input: through both norms at once, in the sequential form through the first.
pub(crate) fn backward<B: FusedOps>(
    x: FloatTensor<B>,
    p: &BlockParameters<FloatTensor<B>>,
    c: &BlockContext<B>,
    kept: Kept<B>,
    g: FloatTensor<B>,
) -> (FloatTensor<B>, BlockParameters<FloatTensor<B>>) {
    let BlockSettings { attention: shape, eps, gelu, parallel_residual, precision } = c.settings;
    let Kept { factors: w, normed1, qkv, mixed, attention, between, normed2, wide, activated } = kept;
    let norm_back = |x, [gamma, _]: &[FloatTensor<B>; 2], g| {
        let (gx, gw, gb) = B::fused_layer_norm_backward(x, gamma.clone(), g, eps);
        (gx, [gw, gb])
    };
    // What a bias gets is summed where the gradient is rounded or made, so that it is not read again; qkv's is summed apart.
    let (g_fed, narrow_bias) = B::as_factor_with_sum(g.clone(), precision);
    let (g_activated, narrow) = B::fused_linear_backward(activated, w.narrow, g_fed.clone(), precision);
    let (g_wide, widen_bias) = B::fused_gelu_backward_with_sum(wide, g_activated, gelu, precision);
    let (g_normed2, widen) = B::fused_linear_backward(normed2, w.widen, g_wide, precision);
    let through_attention = |g_attended| {
        let (g_mixed, dense) = B::fused_linear_backward(mixed, w.dense, g_attended, precision);
        let (cos, sin, starts) = (c.cos.clone(), c.sin.clone(), c.starts.clone());
        let g_qkv = B::causal_attention_backward(qkv, cos, sin, starts, attention, g_mixed, shape, precision);
        let (g_normed1, gw, gb) = B::fused_biased_linear_backward(normed1, w.query_key_value, g_qkv, precision);
        (g_normed1, [gw, gb], dense)
    };
    let (gx, [norm1, norm2], query_key_value, dense) = if parallel_residual {
        let (g_normed1, query_key_value, dense) = through_attention(g_fed);
        let gammas = [p.norm1[0].clone(), p.norm2[0].clone()];
        let (gx, norms) = B::fused_layer_norms_backward(x, gammas, [g_normed1, g_normed2], g, eps);
        // Both branches add to the same stream.
        (gx, norms, query_key_value, [dense, narrow_bias.clone()])
    } else {
        let (g_between, norm2) = norm_back(between.unwrap_or_else(|| x.clone()), &p.norm2, g_normed2);
        let gy = add::<B>(g, g_between);
        let (g_attended, dense_bias) = B::as_factor_with_sum(gy.clone(), precision);
        let (g_normed1, query_key_value, dense) = through_attention(g_attended);
        let (gx, norm1) = norm_back(x, &p.norm1, g_normed1);
        (add::<B>(gy, gx), [norm1, norm2], query_key_value, [dense, dense_bias])
    };
    let (widen, narrow) = ([widen, widen_bias], [narrow, narrow_bias]);
    (gx, BlockParameters { norm1, query_key_value, dense, norm2, widen, narrow })
}
