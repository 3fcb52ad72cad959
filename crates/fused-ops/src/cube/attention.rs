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
use crate::tiles::{Tile, tiles};
use crate::{AttentionShape, FusedOps};

fn tiles_of(s: AttentionShape, most: usize) -> Vec<Vec<Tile>> {
    tiles(s.batch * s.heads, s.time, most)
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
    join::<B, R>(tiles_of(s, most).iter().flatten().map(of_tile).collect(), s)
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
    for tiles in tiles_of(s, most) {
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

#[cfg(all(test, feature = "vulkan"))]
mod tests {
    use super::*;
    use crate::SCORES_AT_ONCE;

    /// Tiles of heads, and of rows, against all scores at once.
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
        let whole = forward::<B, _>(&inputs, Some(&starts), s, SCORES_AT_ONCE);
        let gradients = backward::<B, _>(&inputs, Some(&starts), &g, s, SCORES_AT_ONCE);
        for most in [2 * 40 * 40, 7 * 40, 1] {
            close(forward::<B, _>(&inputs, Some(&starts), s, most), whole.clone());
            let tiled = backward::<B, _>(&inputs, Some(&starts), &g, s, most);
            tiled.into_iter().zip(gradients.clone()).for_each(|(a, b)| close(a, b));
        }
    }
}
