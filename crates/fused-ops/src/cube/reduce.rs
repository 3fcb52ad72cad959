//! Reductions: over a cube, whose units stride over the columns of a row; over columns; over whole tensors. Their order is
//! fixed, so that the bits are the same in every run. (burn's sum picks its kernel by timing, some of them with atomics.)

use burn::tensor::{DType, Shape, TensorMetadata as _};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{address, by_type, dims2, elements, empty};

/// Units of a cube, at most; a power of two.
pub(super) const THREADS: u32 = 256;
/// Elements that a unit of a reduction over a whole tensor sums.
pub(super) const ITEMS: usize = 32;
/// Rows that one unit sums, where there are no more.
const FEW_ROWS: usize = 256;

/// One cube a row, with a few columns for each of its units.
pub(super) fn rows(count: usize, columns: usize) -> (CubeCount, CubeDim) {
    let units = columns.div_ceil(8).next_power_of_two().clamp(32, THREADS as usize) as u32;
    (cubes(count), CubeDim::new_1d(units))
}

fn cubes(count: usize) -> CubeCount {
    let x = count.clamp(1, 1 << 15) as u32;
    CubeCount::Static(x, (count as u32).div_ceil(x), 1)
}

/// Room for one value a unit.
#[cube]
pub(super) fn shared_values() -> SharedMemory<f32> {
    SharedMemory::<f32>::new(comptime!(THREADS as usize))
}

/// The sum over the cube's units; all units get it.
#[cube]
pub(super) fn sum_of_cube(value: f32, shared: &mut SharedMemory<f32>) -> f32 {
    let unit = UNIT_POS_X as usize;
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let mut width = CUBE_DIM_X as usize / 2;
    while width > 0 {
        if unit < width {
            let other = shared[unit + width];
            shared[unit] += other;
        }
        sync_cube();
        width /= 2;
    }
    shared[0]
}

/// The greatest value of the cube's units; all units get it.
#[cube]
pub(super) fn max_of_cube(value: f32, shared: &mut SharedMemory<f32>) -> f32 {
    let unit = UNIT_POS_X as usize;
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let mut width = CUBE_DIM_X as usize / 2;
    while width > 0 {
        if unit < width {
            let other = shared[unit + width];
            if other > shared[unit] {
                shared[unit] = other;
            }
        }
        sync_cube();
        width /= 2;
    }
    shared[0]
}

/// Sums of blocks of rows, `[blocks, columns]`: one unit a column of a block.
#[cube(launch, address_type = "dynamic")]
fn sum_row_blocks<E: Float>(x: &Array<E>, sums: &mut Array<f32>, columns: u32, rows: u32, block: u32) {
    let (columns, rows, block) = (columns as usize, rows as usize, block as usize);
    let from = ABSOLUTE_POS / columns * block;
    let column = ABSOLUTE_POS % columns;
    if ABSOLUTE_POS < sums.len() {
        let mut sum = f32::new(0.0);
        let mut row = from;
        while row < from + block && row < rows {
            sum += f32::cast_from(x[row * columns + column]);
            row += 1;
        }
        sums[ABSOLUTE_POS] = sum;
    }
}

/// Rows of a block of a reduction over `rows` rows: about as many blocks as rows of a block, so that two passes do.
pub(super) fn block_rows(rows: usize) -> usize {
    if rows <= FEW_ROWS { rows.max(1) } else { rows.isqrt() + 1 }
}

/// The sum over the rows of `[N, C]`, f32 `[C]`: blocks of rows, then blocks of their sums, until one row is left.
pub(super) fn sum_rows<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let [n, c] = dims2(&x);
    let block = block_rows(n);
    let blocks = n.div_ceil(block).max(1);
    let sums = empty(&x, Shape::from([blocks, c]), DType::F32);
    let (count, dim) = elements(&x, blocks * c);
    let client = x.client.clone();
    let address = address(&[&x]);
    by_type!(E, x.dtype => {
        let (x, sums) = (x.into_array_arg(), sums.clone().into_array_arg());
        sum_row_blocks::launch::<E, R>(&client, count, dim, address, x, sums, c as u32, n as u32, block as u32);
    });
    if blocks > 1 { sum_rows(sums) } else { reshaped(sums, [c]) }
}

/// The same values in another shape.
pub(super) fn reshaped<R: CubeRuntime, const D: usize>(t: CubeTensor<R>, shape: [usize; D]) -> CubeTensor<R> {
    CubeTensor::new_contiguous(t.client, t.device, Shape::from(shape), t.handle, t.dtype)
}

/// Σ x² of each cube's elements, from place `at` of `sums` on.
#[cube(launch, address_type = "dynamic")]
fn sum_squares_of_cubes(x: &Array<f32>, sums: &mut Array<f32>, at: u32, #[comptime] items: usize) {
    let mut shared = shared_values();
    let units = CUBE_DIM_X as usize;
    let from = CUBE_POS * units * items + UNIT_POS_X as usize;
    let mut sum = f32::new(0.0);
    for item in 0..items {
        let i = from + item * units;
        if i < x.len() {
            sum += x[i] * x[i];
        }
    }
    let sum = sum_of_cube(sum, &mut shared);
    let place = at as usize + CUBE_POS;
    if UNIT_POS_X == 0 && place < sums.len() {
        sums[place] = sum;
    }
}

/// The sum of all values, by one cube.
#[cube(launch)]
fn sum_values(x: &Array<f32>, out: &mut Array<f32>) {
    let mut shared = shared_values();
    let mut sum = f32::new(0.0);
    let mut i = UNIT_POS_X as usize;
    while i < x.len() {
        sum += x[i];
        i += CUBE_DIM_X as usize;
    }
    let sum = sum_of_cube(sum, &mut shared);
    if UNIT_POS_X == 0 {
        out[0] = sum;
    }
}

/// Cubes of a reduction over `len` elements.
pub(super) fn cubes_of(len: usize) -> usize {
    len.div_ceil(THREADS as usize * ITEMS).max(1)
}

/// The launch of a reduction over `len` elements.
pub(super) fn whole(len: usize) -> (CubeCount, CubeDim) {
    (CubeCount::Static(cubes_of(len) as u32, 1, 1), CubeDim::new_1d(THREADS))
}

/// The sum of a vector, `[1]`.
pub(super) fn sum<R: CubeRuntime>(values: CubeTensor<R>) -> CubeTensor<R> {
    let out = empty(&values, Shape::from([1]), DType::F32);
    let client = values.client.clone();
    let dim = CubeDim::new_1d(THREADS);
    let (values, result) = (values.into_array_arg(), out.clone().into_array_arg());
    sum_values::launch::<R>(&client, CubeCount::Static(1, 1, 1), dim, values, result);
    out
}

/// Σ t² over all elements of contiguous f32 tensors, at least one, as `[1]`.
pub(super) fn sum_squares<R: CubeRuntime>(tensors: Vec<CubeTensor<R>>) -> CubeTensor<R> {
    let places = tensors.iter().map(|t| cubes_of(t.shape().num_elements())).sum::<usize>();
    let sums = empty(&tensors[0], Shape::from([places]), DType::F32);
    let mut at = 0;
    for t in tensors {
        let len = t.shape().num_elements();
        let (count, dim) = whole(len);
        let client = t.client.clone();
        let address = address(&[&t]);
        let (x, out) = (t.into_array_arg(), sums.clone().into_array_arg());
        sum_squares_of_cubes::launch::<R>(&client, count, dim, address, x, out, at as u32, ITEMS);
        at += cubes_of(len);
    }
    sum(sums)
}
