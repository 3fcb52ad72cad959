//! Causal softmax of attention's scores and its gradient, one cube a row.

use burn::tensor::{DType, Shape, TensorMetadata as _};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::reduce::{cube_rows, max_of_cube, shared_values, sum_of_cube};
use super::{address, by_type, empty};
use crate::AttentionShape;
use crate::tiles::Tile;

/// Where a tile of scores lies among all: rows of which positions, of heads from which one on.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Place {
    time: u32,
    heads: u32,
    /// Rows of each head.
    rows_each: u32,
    first_row: u32,
    /// The first head, counted over all sequences.
    first_head: u32,
    /// Rows of the tile.
    rows: u32,
}

/// The position of a tile's row.
#[cube]
fn position(row: usize, place: &Place) -> usize {
    place.first_row as usize + row % place.rows_each as usize
}

/// The first column that a row of scores attends to; at most the row's own.
#[cube]
#[allow(clippy::eq_op, reason = "a zero that is known on the device alone")]
fn first_column(starts: &Array<i32>, row: usize, place: &Place, #[comptime] masked: bool) -> usize {
    let own = position(row, place);
    let mut first = own - own;
    if masked {
        let sequence = (place.first_head as usize + row / place.rows_each as usize) / place.heads as usize;
        let start = starts[sequence * place.time as usize + own];
        if start > 0 {
            first = start as usize;
        }
        if first > own {
            first = own;
        }
    }
    first
}

/// The greatest scaled score of the cube's row between two columns; the last one is among them.
#[cube]
fn greatest_score<E: Float>(
    scores: &Array<E>,
    from: usize,
    first: usize,
    last: usize,
    scale: f32,
    shared: &mut SharedMemory<f32>,
) -> f32 {
    let mut max = f32::cast_from(scores[from + last]) * scale;
    let mut c = first + UNIT_POS_X as usize;
    while c < last {
        let v = f32::cast_from(scores[from + c]) * scale;
        if v > max {
            max = v;
        }
        c += CUBE_DIM_X as usize;
    }
    max_of_cube(max, shared)
}

/// Softmax of scaled scores, rows of `time` columns, over the columns from each row's start to its own position; 0 elsewhere.
#[cube(launch, address_type = "dynamic")]
fn causal_softmax<E: Float>(
    scores: &Array<E>,
    starts: &Array<i32>,
    p: &mut Array<E>,
    scale: f32,
    place: Place,
    #[comptime] masked: bool,
) {
    let row = CUBE_POS;
    if row >= place.rows as usize {
        terminate!();
    }
    let time = place.time as usize;
    let mut shared = shared_values();
    let first = first_column(starts, row, &place, masked);
    let last = position(row, &place);
    let from = row * time;
    let max = greatest_score(scores, from, first, last, scale, &mut shared);
    let mut sum = f32::new(0.0);
    let mut c = first + UNIT_POS_X as usize;
    while c <= last {
        sum += (f32::cast_from(scores[from + c]) * scale - max).exp();
        c += CUBE_DIM_X as usize;
    }
    let inverse = 1.0 / sum_of_cube(sum, &mut shared);
    let mut c = UNIT_POS_X as usize;
    while c < time {
        let mut v = f32::new(0.0);
        if c >= first && c <= last {
            v = (f32::cast_from(scores[from + c]) * scale - max).exp() * inverse;
        }
        p[from + c] = E::cast_from(v);
        c += CUBE_DIM_X as usize;
    }
}

/// [`causal_softmax`] again, and the gradient of the unscaled scores from that of the probabilities.
#[cube(launch, address_type = "dynamic")]
fn causal_softmax_backward<E: Float>(
    scores: &Array<E>,
    starts: &Array<i32>,
    gp: &Array<E>,
    p: &mut Array<E>,
    gs: &mut Array<E>,
    scale: f32,
    place: Place,
    #[comptime] masked: bool,
) {
    let row = CUBE_POS;
    if row >= place.rows as usize {
        terminate!();
    }
    let time = place.time as usize;
    let mut shared = shared_values();
    let first = first_column(starts, row, &place, masked);
    let last = position(row, &place);
    let from = row * time;
    let max = greatest_score(scores, from, first, last, scale, &mut shared);
    let mut sum = f32::new(0.0);
    let mut along = f32::new(0.0);
    let mut c = first + UNIT_POS_X as usize;
    while c <= last {
        let e = (f32::cast_from(scores[from + c]) * scale - max).exp();
        sum += e;
        along += e * f32::cast_from(gp[from + c]);
        c += CUBE_DIM_X as usize;
    }
    let inverse = 1.0 / sum_of_cube(sum, &mut shared);
    let centre = sum_of_cube(along, &mut shared) * inverse;
    let mut c = UNIT_POS_X as usize;
    while c < time {
        let mut v = f32::new(0.0);
        let mut gradient = f32::new(0.0);
        if c >= first && c <= last {
            v = (f32::cast_from(scores[from + c]) * scale - max).exp() * inverse;
            gradient = v * (f32::cast_from(gp[from + c]) - centre) * scale;
        }
        p[from + c] = E::cast_from(v);
        gs[from + c] = E::cast_from(gradient);
        c += CUBE_DIM_X as usize;
    }
}

/// Stands in for starts where there are none; it is not read.
fn some_starts<R: CubeRuntime>(starts: Option<CubeTensor<R>>, like: &CubeTensor<R>) -> (CubeTensor<R>, bool) {
    match starts {
        Some(starts) => (into_contiguous(starts), true),
        None => (empty(like, Shape::from([1]), DType::I32), false),
    }
}

/// The launch's form of a tile's place, and its number of rows.
fn place<R: CubeRuntime>(tile: &Tile, s: AttentionShape) -> (PlaceLaunch<R>, usize) {
    let rows = tile.heads.len() * tile.rows.len();
    let each = [s.time, s.heads, tile.rows.len(), tile.rows.start, tile.heads.start, rows];
    let [time, heads, rows_each, first_row, first_head, n] = each.map(|n| n as u32);
    (PlaceLaunch::new(time, heads, rows_each, first_row, first_head, n), rows)
}

/// Probabilities from a tile's unscaled scores `[heads, rows, T]`.
pub(super) fn forward<R: CubeRuntime>(
    scores: CubeTensor<R>,
    starts: Option<CubeTensor<R>>,
    tile: &Tile,
    s: AttentionShape,
) -> CubeTensor<R> {
    let scores = into_contiguous(scores);
    let (starts, masked) = some_starts(starts, &scores);
    let p = empty(&scores, scores.shape(), scores.dtype);
    let (place, n) = place(tile, s);
    let (count, dim) = cube_rows(n, s.time);
    let address = address(&[&scores]);
    let (client, dtype) = (scores.client.clone(), scores.dtype);
    by_type!(E, dtype => {
        causal_softmax::launch::<E, R>(
            &client,
            count,
            dim,
            address,
            scores.into_array_arg(),
            starts.into_array_arg(),
            p.clone().into_array_arg(),
            s.scale() as f32,
            place,
            masked,
        );
    });
    p
}

/// The probabilities, and the gradient of the unscaled scores.
pub(super) fn backward<R: CubeRuntime>(
    scores: CubeTensor<R>,
    starts: Option<CubeTensor<R>>,
    gp: CubeTensor<R>,
    tile: &Tile,
    s: AttentionShape,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let (scores, gp) = (into_contiguous(scores), into_contiguous(gp));
    let (starts, masked) = some_starts(starts, &scores);
    let p = empty(&scores, scores.shape(), scores.dtype);
    let gs = empty(&scores, scores.shape(), scores.dtype);
    let (place, n) = place(tile, s);
    let (count, dim) = cube_rows(n, s.time);
    let address = address(&[&scores]);
    let (client, dtype) = (scores.client.clone(), scores.dtype);
    by_type!(E, dtype => {
        causal_softmax_backward::launch::<E, R>(
            &client,
            count,
            dim,
            address,
            scores.into_array_arg(),
            starts.into_array_arg(),
            gp.into_array_arg(),
            p.clone().into_array_arg(),
            gs.clone().into_array_arg(),
            s.scale() as f32,
            place,
            masked,
        );
    });
    (p, gs)
}
