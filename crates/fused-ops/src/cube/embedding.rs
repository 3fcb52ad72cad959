//! The gradient of an embedding table, without atomics: rows of the same id are added in a fixed order.
//!
//! 1. Positions are cut into segments. The first position of an id in a segment takes the sum of its rows there.
//! 2. The first position of an id at all adds the sums of the later segments, and writes the table's row.
//!
//! So no chain of dependent additions is longer than a segment and the number of segments.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::reduce::{Rows, cube_rows, max_of_row, row_of_unit, rows, shared_values};
use super::{address, dims2, empty, own};

/// Positions of a segment.
const SEGMENT: usize = 256;

/// Stands for no position.
const NONE: u32 = u32::MAX;

/// Where each position's id comes next: in its segment, and, for the first of a segment, after it. `kind` is 2 for the
/// first position of an id at all, 1 for the first of its segment, else 0. A row of units a position.
///
/// Places are compared as f32, which holds them exactly up to 2²⁴. Each position looks at all others: the work grows with
/// the square of their number. (The whole gradient takes 1 ms for 32 768 positions on an H200.)
#[cube(launch)]
fn link_positions(
    ids: &Array<i32>,
    within: &mut Array<u32>,
    beyond: &mut Array<u32>,
    kind: &mut Array<u32>,
    #[comptime] segment: usize,
    #[comptime] none: u32,
    #[comptime] plane: bool,
) {
    let position = row_of_unit();
    if position >= ids.len() {
        terminate!();
    }
    let mut shared = shared_values();
    let id = ids[position];
    let begin = position / segment * segment;
    let end = begin + segment;
    let far = f32::cast_from(none);
    let mut next = far;
    let mut later = far;
    let mut first = far;
    let mut first_here = far;
    let mut i = UNIT_POS_X as usize;
    while i < ids.len() {
        if ids[i] == id {
            let place = f32::cast_from(i as u32);
            if place < first {
                first = place;
            }
            if i >= begin && place < first_here {
                first_here = place;
            }
            if i > position && i < end && place < next {
                next = place;
            }
            if i >= end && place < later {
                later = place;
            }
        }
        i += CUBE_DIM_X as usize;
    }
    let next = least_of_row(next, &mut shared, plane);
    let later = least_of_row(later, &mut shared, plane);
    let first = least_of_row(first, &mut shared, plane);
    let first_here = least_of_row(first_here, &mut shared, plane);
    if UNIT_POS_X == 0 {
        let own = f32::cast_from(position as u32);
        within[position] = if next < far { u32::cast_from(next) } else { u32::new(none as i64) };
        beyond[position] = if later < far { u32::cast_from(later) } else { u32::new(none as i64) };
        let mut rank = u32::new(0);
        if first == own {
            rank = u32::new(2);
        } else if first_here == own {
            rank = u32::new(1);
        }
        kind[position] = rank;
    }
}

/// The least value of the units of a row; all of them get it.
#[cube]
fn least_of_row(value: f32, shared: &mut SharedMemory<f32>, #[comptime] plane: bool) -> f32 {
    let opposite = max_of_row(f32::new(0.0) - value, shared, plane);
    f32::new(0.0) - opposite
}

/// Step 1, in place: one cube a position.
#[cube(launch, address_type = "dynamic")]
fn sum_segments(within: &Array<u32>, kind: &Array<u32>, g: &mut Array<f32>, columns: u32, #[comptime] none: u32) {
    let position = CUBE_POS;
    if position < kind.len() && kind[position] > 0 {
        let columns = columns as usize;
        let mut c = UNIT_POS_X as usize;
        while c < columns {
            let mut sum = g[position * columns + c];
            let mut next = within[position];
            while next != none {
                sum += g[next as usize * columns + c];
                next = within[next as usize];
            }
            g[position * columns + c] = sum;
            c += CUBE_DIM_X as usize;
        }
    }
}

/// Step 2: one cube a position.
#[cube(launch, address_type = "dynamic")]
fn sum_over_segments(
    ids: &Array<i32>,
    beyond: &Array<u32>,
    kind: &Array<u32>,
    g: &Array<f32>,
    out: &mut Array<f32>,
    columns: u32,
    #[comptime] none: u32,
) {
    let position = CUBE_POS;
    if position < kind.len() && kind[position] == 2 {
        let columns = columns as usize;
        let row = ids[position] as usize * columns;
        let mut c = UNIT_POS_X as usize;
        while c < columns {
            let mut sum = g[position * columns + c];
            let mut next = beyond[position];
            while next != none {
                sum += g[next as usize * columns + c];
                next = beyond[next as usize];
            }
            out[row + c] = sum;
            c += CUBE_DIM_X as usize;
        }
    }
}

/// Adds into `table` `[V, C]`, which is zero and unshared, the rows of `g` `[N, C]` at the ids `[N]`.
pub(super) fn backward<R: CubeRuntime>(ids: CubeTensor<R>, g: CubeTensor<R>, table: &CubeTensor<R>) {
    let [n, c] = dims2(&g);
    if n == 0 {
        return;
    }
    assert!(n <= 1 << 24, "positions of a micro-batch that f32 tells apart");
    let g = own(g);
    let [within, beyond, kind] = [0, 1, 2].map(|_| empty(&g, Shape::from([n]), DType::U32));
    let client = g.client.clone();
    // As many rows as ids: a plane for each.
    let Rows { count, dim, plane } = rows(&g, n, 1);
    let [w, b, k] = [&within, &beyond, &kind].map(|t| t.clone().into_array_arg());
    link_positions::launch::<R>(&client, count, dim, ids.clone().into_array_arg(), w, b, k, SEGMENT, NONE, plane);
    let address = address(&[&g, table]);
    let (count, dim) = cube_rows(n, c);
    let [w, k, g2] = [&within, &kind, &g].map(|t| t.clone().into_array_arg());
    sum_segments::launch::<R>(&client, count.clone(), dim, address, w, k, g2, c as u32, NONE);
    let [i, b, k, g, out] = [&ids, &beyond, &kind, &g, table].map(|t| t.clone().into_array_arg());
    sum_over_segments::launch::<R>(&client, count, dim, address, i, b, k, g, out, c as u32, NONE);
}
