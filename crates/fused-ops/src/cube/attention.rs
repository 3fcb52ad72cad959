//! Attention by products and a softmax, for shapes that no kernel fuses. Scores are there in tiles, so that memory grows with
//! the length of a sequence, not with its square.

use std::ops::Range;

use burn::tensor::{DType, TensorMetadata as _};
use burn_cubecl::kernel::{into_contiguous, slice};
use burn_cubecl::tensor::CubeTensor;

use super::product::Product;
use super::reduce::reshaped;
use super::{Accelerator, softmax};
use crate::definition::{cast, float, prim};
use crate::{AttentionShape, FusedOps};

/// Scores of a tile, at most, unless a single row has more: 256 MiB in bf16.
pub(super) const TILE: usize = crate::SCORES_AT_ONCE;

/// A part of the scores: all rows of some heads (counted over all sequences), or some rows of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) heads: Range<usize>,
    pub(super) rows: Range<usize>,
}

/// As few equal parts of `0..count` as there can be of at most `most`.
fn parts(count: usize, most: usize) -> Vec<Range<usize>> {
    let size = count.div_ceil(count.div_ceil(most.max(1)).max(1)).max(1);
    // Of nothing too there is a part.
    (0..count.max(1)).step_by(size).map(|from| from..(from + size).min(count)).collect()
}

/// Tiles of at most so many scores, by their heads: whole heads, or rows of one where a head alone has more.
fn tiles(s: AttentionShape, most: usize) -> Vec<Vec<Tile>> {
    let of_head = s.time.saturating_mul(s.time).max(1);
    let rows = parts(s.time, if of_head <= most { s.time } else { most / s.time });
    let tile = |heads: &Range<usize>, rows: &Range<usize>| Tile { heads: heads.clone(), rows: rows.clone() };
    parts(s.batch * s.heads, most / of_head).iter().map(|h| rows.iter().map(|r| tile(h, r)).collect()).collect()
}

/// What attention multiplies, each `[B·H, T, D]`.
pub(super) struct Heads<R: Accelerator> {
    tensor: CubeTensor<R>,
}

impl<R: Accelerator> Heads<R> {
    /// From `[B, H, T, D]`.
    pub(super) fn new(t: CubeTensor<R>, s: AttentionShape) -> Self {
        Self { tensor: reshaped(into_contiguous(t), [s.batch * s.heads, s.time, s.head_dim]) }
    }

    /// Some rows of some heads.
    fn part(&self, heads: &Range<usize>, rows: &Range<usize>) -> CubeTensor<R> {
        let [all, time, head_dim] = self.tensor.shape().dims::<3>();
        if heads.len() == all && rows.len() == time {
            return self.tensor.clone();
        }
        // Dense in memory: all rows, or those of one head. (Strides alone would not say so of the latter.)
        let part = slice(self.tensor.clone(), &[heads.clone(), rows.clone(), 0..head_dim]);
        reshaped(part, [heads.len(), rows.len(), head_dim])
    }

    /// The queries of a tile.
    fn own(&self, tile: &Tile) -> CubeTensor<R> {
        self.part(&tile.heads, &tile.rows)
    }

    /// The keys that a tile's queries may attend to: all of their heads.
    fn other(&self, tile: &Tile) -> CubeTensor<R> {
        let [_, time, _] = self.tensor.shape().dims::<3>();
        self.part(&tile.heads, &(0..time))
    }
}

/// Results of tiles in their order, as `[B, H, T, D]`.
fn join<B, R>(mut results: Vec<CubeTensor<R>>, s: AttentionShape) -> CubeTensor<R>
where
    B: FusedOps<FloatTensorPrimitive = CubeTensor<R>>,
    R: Accelerator,
{
    let shape = [s.batch, s.heads, s.time, s.head_dim];
    if results.len() == 1 {
        return reshaped(into_contiguous(results.remove(0)), shape);
    }
    let rows = |t: CubeTensor<R>| {
        let count = t.shape().num_elements() / s.head_dim;
        reshaped(into_contiguous(t), [count, s.head_dim])
    };
    reshaped(into_contiguous(B::float_cat(results.into_iter().map(rows).collect(), 0)), shape)
}

/// `softmax(q·kᵀ)·v` of each head, `[B, H, T, D]`.
pub(super) fn forward<B, R>(
    [q, k, v]: &[Heads<R>; 3],
    starts: Option<&CubeTensor<R>>,
    s: AttentionShape,
    most: usize,
) -> CubeTensor<R>
where
    B: FusedOps<FloatTensorPrimitive = CubeTensor<R>>,
    R: Accelerator,
{
    let product = q.tensor.dtype;
    let of_tile = |tile: &Tile| {
        let scores = Product::with_transposed(q.own(tile), k.other(tile)).run::<B>(product, None);
        let p = softmax::forward(scores, starts.cloned(), tile, s);
        Product::new(p, v.other(tile)).run::<B>(product, None)
    };
    join::<B, R>(tiles(s, most).iter().flatten().map(of_tile).collect(), s)
}

/// The gradients of q, k and v, `[B, H, T, D]` each, from that of the result; probabilities are computed again.
///
/// Tiles of whole heads have gradients of their own; where a head has several, those of its keys are summed over them in f32.
pub(super) fn backward<B, R>(
    [q, k, v]: &[Heads<R>; 3],
    starts: Option<&CubeTensor<R>>,
    g: &Heads<R>,
    s: AttentionShape,
    most: usize,
) -> [CubeTensor<R>; 3]
where
    B: FusedOps<FloatTensorPrimitive = CubeTensor<R>>,
    R: Accelerator,
{
    let product = q.tensor.dtype;
    let [mut gq, mut gk, mut gv] = [Vec::new(), Vec::new(), Vec::new()];
    for tiles in tiles(s, most) {
        let summed = if tiles.len() == 1 { product } else { DType::F32 };
        let mut sums: Option<[CubeTensor<R>; 2]> = None;
        for tile in &tiles {
            let (own_q, own_g, other_k) = (q.own(tile), g.own(tile), k.other(tile));
            let scores = Product::with_transposed(own_q.clone(), other_k.clone()).run::<B>(product, None);
            let gp = Product::with_transposed(own_g.clone(), v.other(tile)).run::<B>(product, None);
            let (p, gs) = softmax::backward(scores, starts.cloned(), gp, tile, s);
            gq.push(Product::new(gs.clone(), other_k).run::<B>(product, None));
            let (of_k, of_v) = (Product::of_transposed(gs, own_q), Product::of_transposed(p, own_g));
            sums = Some(match sums {
                None => [of_k.run::<B>(summed, None), of_v.run::<B>(summed, None)],
                Some([k, v]) => [of_k.add_to::<B>(k), of_v.add_to::<B>(v)],
            });
        }
        let [k, v] = sums.expect("every head has a tile").map(|t| prim(cast::<B, 3>(float(t), product)));
        gk.push(k);
        gv.push(v);
    }
    [gq, gk, gv].map(|results| join::<B, R>(results, s))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(batch: usize, time: usize, heads: usize) -> AttentionShape {
        AttentionShape { batch, time, heads, head_dim: 16, rotary_dims: 0 }
    }

    #[test]
    fn tiles_cover_all_scores_once() {
        for (s, most) in [(shape(3, 10, 4), 250), (shape(2, 10, 3), 35), (shape(1, 7, 1), 1), (shape(2, 8, 2), 1 << 20)]
        {
            let all: Vec<Tile> = tiles(s, most).into_iter().flatten().collect();
            let mut seen = vec![0; s.batch * s.heads * s.time];
            for t in &all {
                assert!(t.heads.len() * t.rows.len() * s.time <= most.max(s.time), "{t:?}");
                assert!(t.rows.len() == s.time || t.heads.len() == 1, "{t:?}");
                for h in t.heads.clone() {
                    t.rows.clone().for_each(|r| seen[h * s.time + r] += 1);
                }
            }
            assert!(seen.iter().all(|n| *n == 1), "{s:?} {most}");
            assert_eq!(all.len(), crate::score_tiles(s.batch * s.heads, s.time, most));
        }
        assert_eq!(tiles(shape(2, 8, 2), 1 << 20).len(), 1);
        assert_eq!(tiles(shape(1, 1 << 20, 1), 1 << 27)[0].len(), 1 << 13);
    }

    /// Tiles of heads, and of rows, against all scores at once.
    #[cfg(feature = "vulkan")]
    #[test]
    fn tiles_change_nothing() {
        use burn::backend::wgpu::WgpuDevice;
        use burn::tensor::{Int, Tensor, Tolerance};

        type B = burn::backend::Vulkan;
        let device = WgpuDevice::DefaultDevice;
        let s = AttentionShape { batch: 2, time: 40, heads: 3, head_dim: 16, rotary_dims: 0 };
        let random = || {
            let shape = [s.batch, s.heads, s.time, s.head_dim];
            Tensor::<B, 4>::random(shape, burn::tensor::Distribution::Normal(0.0, 1.0), &device)
        };
        let [q, k, v, g] = [(); 4].map(|()| Heads::new(prim(random()), s));
        let starts = Tensor::<B, 1, Int>::arange(0..80, &device).div_scalar(30).mul_scalar(15).reshape([2, 40]);
        let starts = into_contiguous(super::super::to_i32::<B, 2>(starts.into_primitive()).into_primitive());
        let inputs = [q, k, v];
        let close = |a: CubeTensor<_>, b: CubeTensor<_>| {
            let [a, b] = [a, b].map(|t| float::<B, 4>(t).into_data());
            a.assert_approx_eq::<f32>(&b, Tolerance::absolute(1e-5));
        };
        let whole = forward::<B, _>(&inputs, Some(&starts), s, TILE);
        let gradients = backward::<B, _>(&inputs, Some(&starts), &g, s, TILE);
        for most in [2 * 40 * 40, 7 * 40, 1] {
            close(forward::<B, _>(&inputs, Some(&starts), s, most), whole.clone());
            let tiled = backward::<B, _>(&inputs, Some(&starts), &g, s, most);
            tiled.into_iter().zip(gradients.clone()).for_each(|(a, b)| close(a, b));
        }
    }
}
