//! The gradient of an embedding table, without atomics: rows of the same id are added in a fixed order.
//!
//! 1. Positions are cut into segments. Each position finds the next one of its id in its segment.
//! 2. The first position of an id in a segment takes the sum of its rows there, and writes itself into a table
//!    `[segments, V]`, at a place that is no other's.
//! 3. Each id finds its positions in the table, in order of the segments.
//! 4. Each row of the result is the sum of the rows at those.
//!
//! So no chain of additions is longer than a segment or the number of segments, and the work grows with (N + V)·√N.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::ops::numeric::zeros_client;
use burn_cubecl::tensor::CubeTensor;

use super::reduce::{THREADS, cubes};
use super::{address, dims2, elements, empty, own, vector};

/// Positions of a segment, at least.
const SEGMENT: usize = 256;

/// Step 1, one unit a position: where its id comes next in its segment (0 where it does not: position 0 follows on no other), and
/// whether it is the first one there.
#[cube(launch)]
fn link_positions(ids: &Array<i32>, next: &mut Array<u32>, first: &mut Array<u32>, segment: u32) {
    let position = ABSOLUTE_POS;
    if position < ids.len() {
        let segment = segment as usize;
        let id = ids[position];
        let begin = position / segment * segment;
        let mut after = u32::new(0);
        let mut before = u32::new(0);
        let mut i = begin;
        while i < begin + segment && i < ids.len() {
            if ids[i] == id {
                if i < position {
                    before = u32::new(1);
                } else if i > position && after == 0 {
                    after = i as u32;
                }
            }
            i += 1;
        }
        next[position] = after;
        first[position] = u32::new(1) - before;
    }
}

/// Step 2, in place, one cube a position. The table, zero before, gets 1 + the position.
#[cube(launch, address_type = "dynamic")]
fn sum_segments<N: Size>(
    ids: &Array<i32>,
    next: &Array<u32>,
    first: &Array<u32>,
    g: &mut Array<Vector<f32, N>>,
    table: &mut Array<u32>,
    columns: u32,
    rows: u32,
    segment: u32,
) {
    let position = CUBE_POS;
    if position < first.len() && first[position] == 1 {
        let columns = columns as usize;
        let follower = next[position];
        // The first column of this unit; where nothing follows, there is nothing to add.
        let mut c = UNIT_POS_X as usize;
        if follower == 0 {
            c = columns;
        }
        while c < columns {
            let mut sum = g[position * columns + c];
            let mut other = follower;
            while other != 0 {
                sum += g[other as usize * columns + c];
                other = next[other as usize];
            }
            g[position * columns + c] = sum;
            c += CUBE_DIM_X as usize;
        }
        let (segment, id, rows) = (position / segment as usize, ids[position] as usize, rows as usize);
        // What is no id has no row; elsewhere it would be another's.
        if UNIT_POS_X == 0 && id < rows {
            table[segment * rows + id] = position as u32 + 1;
        }
    }
}

/// Step 3, one unit an id: 1 + its first position, and from each position of the table to the next one, the same way; 0 ends.
#[cube(launch, address_type = "dynamic")]
fn link_segments(table: &Array<u32>, begin: &mut Array<u32>, beyond: &mut Array<u32>, segments: u32) {
    let id = ABSOLUTE_POS;
    let rows = begin.len();
    if id < rows {
        let mut start = u32::new(0);
        let mut last = u32::new(0);
        let mut segment = 0usize;
        while segment < segments as usize {
            let place = table[segment * rows + id];
            if place > 0 {
                if last == 0 {
                    start = place;
                } else {
                    beyond[(last - 1) as usize] = place;
                }
                last = place;
            }
            segment += 1;
        }
        if last > 0 {
            beyond[(last - 1) as usize] = 0;
        }
        begin[id] = start;
    }
}

/// Step 4, one cube a row of the result.
#[cube(launch, address_type = "dynamic")]
fn sum_over_segments<N: Size>(
    begin: &Array<u32>,
    beyond: &Array<u32>,
    g: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<f32, N>>,
    columns: u32,
) {
    let (columns, row) = (columns as usize, CUBE_POS);
    if row < begin.len() {
        let mut c = UNIT_POS_X as usize;
        while c < columns {
            let mut sum = Vector::<f32, N>::new(0.0);
            let mut place = begin[row];
            while place != 0 {
                sum += g[(place - 1) as usize * columns + c];
                place = beyond[(place - 1) as usize];
            }
            out[row * columns + c] = sum;
            c += CUBE_DIM_X as usize;
        }
    }
}

/// `[rows, C]`: at each id the sum of the rows of `g` `[N, C]` that `ids` `[N]`, which lie below `rows`, name.
pub(super) fn backward<R: CubeRuntime>(ids: CubeTensor<R>, g: CubeTensor<R>, rows: usize) -> CubeTensor<R> {
    let [n, c] = dims2(&g);
    if n == 0 {
        return zeros_client(g.client.clone(), g.device.clone(), Shape::from([rows, c]), DType::F32);
    }
    let g = own(g);
    let segment = SEGMENT.max(n.isqrt());
    let segments = n.div_ceil(segment);
    let table = zeros_client(g.client.clone(), g.device.clone(), Shape::from([segments * rows]), DType::U32);
    let [next, first, beyond] = [n, n, n].map(|n| empty(&g, Shape::from([n]), DType::U32));
    let begin = empty(&g, Shape::from([rows]), DType::U32);
    let out = empty(&g, Shape::from([rows, c]), DType::F32);
    let vector = vector(&g, c, &[DType::F32]);
    let reads = c / vector;
    let dim = CubeDim::new_1d(reads.next_power_of_two().clamp(32, THREADS as usize) as u32);
    let address = address(&[&g, &table, &out]);
    let (client, reads, segment, most) = (g.client.clone(), reads as u32, segment as u32, rows as u32);
    let arg = |t: &CubeTensor<R>| t.clone().into_array_arg();
    let (count, units) = elements(&g, n);
    link_positions::launch::<R>(&client, count, units, arg(&ids), arg(&next), arg(&first), segment);
    let (ids, next, first, sums, places) = (arg(&ids), arg(&next), arg(&first), arg(&g), arg(&table));
    sum_segments::launch::<R>(
        &client,
        cubes(n),
        dim,
        address,
        vector,
        ids,
        next,
        first,
        sums,
        places,
        reads,
        most,
        segment,
    );
    let (count, units) = elements(&g, rows);
    let (places, begins) = (arg(&table), arg(&begin));
    link_segments::launch::<R>(&client, count, units, address, places, begins, arg(&beyond), segments as u32);
    let (begin, beyond, g, result) = (arg(&begin), arg(&beyond), arg(&g), arg(&out));
    sum_over_segments::launch::<R>(&client, cubes(rows), dim, address, vector, begin, beyond, g, result, reads);
    out
}
