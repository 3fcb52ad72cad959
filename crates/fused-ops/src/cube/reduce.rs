//! Reductions: over a cube, whose units stride over the columns of a row; over columns; over whole tensors. Their order is
//! fixed, so that the bits are the same in every run. (burn's sum picks its kernel by timing, some of them with atomics.)

use std::ops::Range;

use burn::tensor::{DType, Shape, TensorMetadata as _};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::features::Plane;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{address, by_type, dims2, elements, empty, vector};
use crate::summed_rows;

/// Units of a cube, at most; a power of two.
pub(super) const THREADS: u32 = 256;
/// Reads of a unit of a reduction over a whole tensor.
pub(super) const ITEMS: usize = 8;
/// Rows that are summed in one pass, at most.
const FEW_ROWS: usize = 1024;

/// How rows are handed out: one for each cube, or one for each plane (the units that run in step) of a cube.
///
/// A kernel takes `row_of_unit()`, strides over its columns from `UNIT_POS_X` by `CUBE_DIM_X`, and reduces with the
/// functions below.
#[derive(Clone)]
pub(super) struct Rows {
    pub(super) count: CubeCount,
    pub(super) dim: CubeDim,
    /// Whether a row is a plane's.
    pub(super) plane: bool,
}

/// Strides over a row that a plane takes, at most: longer rows are shared by a cube.
const PLANE_STRIDES: usize = 24;

/// Rows of `columns` reads each.
pub(super) fn rows<R: CubeRuntime>(t: &CubeTensor<R>, count: usize, columns: usize) -> Rows {
    let properties = t.client.properties();
    let units = properties.hardware.plane_size_max;
    let known = properties.features.plane.contains(Plane::Ops) && properties.hardware.plane_size_min == units;
    if known && units <= THREADS && columns <= PLANE_STRIDES * units as usize {
        let rows = (THREADS / units).max(1);
        let dim = CubeDim::new_2d(units, rows);
        return Rows { count: cubes(count.div_ceil(rows as usize)), dim, plane: true };
    }
    let (count, dim) = cube_rows(count, columns);
    Rows { count, dim, plane: false }
}

/// One cube a row.
pub(super) fn cube_rows(count: usize, columns: usize) -> (CubeCount, CubeDim) {
    let units = columns.div_ceil(8).next_power_of_two().clamp(32, THREADS as usize) as u32;
    (cubes(count), CubeDim::new_1d(units))
}

pub(super) fn cubes(count: usize) -> CubeCount {
    let x = count.clamp(1, 1 << 15) as u32;
    CubeCount::Static(x, (count as u32).div_ceil(x).max(1), 1)
}

/// The row that the unit works on.
#[cube]
pub(super) fn row_of_unit() -> usize {
    CUBE_POS * CUBE_DIM_Y as usize + UNIT_POS_Y as usize
}

/// The sum of a vector's components.
#[cube]
pub(super) fn total<N: Size>(v: Vector<f32, N>) -> f32 {
    let mut sum = f32::new(0.0);
    #[unroll]
    for k in 0..v.size() {
        sum += v[k];
    }
    sum
}

/// The sum over the units of a row; all of them get it.
#[cube]
pub(super) fn sum_of_row(value: f32, shared: &mut SharedMemory<f32>, #[comptime] plane: bool) -> f32 {
    if plane { plane_sum(value) } else { sum_of_cube(value, shared) }
}

/// The greatest value of the units of a row; all of them get it.
#[cube]
pub(super) fn max_of_row(value: f32, shared: &mut SharedMemory<f32>, #[comptime] plane: bool) -> f32 {
    if plane { plane_max(value) } else { max_of_cube(value, shared) }
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

/// Units of a cube that share a column of [`sum_columns`].
const LANES: u32 = 32;
/// Columns of its cubes.
const COLUMNS: u32 = THREADS / LANES;

/// Sums of blocks of rows, `[blocks, columns]`, `columns` in vectors: one unit a column of a block. With `rounding` the rows are
/// also written in a second type, and summed as they are there.
#[cube(launch, address_type = "dynamic")]
fn sum_row_blocks<E: Float, O: Float, N: Size>(
    x: &Array<Vector<E, N>>,
    rounded: &mut Array<Vector<O, N>>,
    sums: &mut Array<Vector<f32, N>>,
    columns: u32,
    rows: u32,
    block: u32,
    #[comptime] rounding: bool,
) {
    let (columns, rows, block) = (columns as usize, rows as usize, block as usize);
    let (column, from) = (ABSOLUTE_POS % columns, ABSOLUTE_POS / columns * block);
    if ABSOLUTE_POS < sums.len() {
        let mut sum = Vector::<f32, N>::new(0.0);
        for row in from..end_of_block(from, block, rows) {
            let at = row * columns + column;
            if rounding {
                let value = Vector::<O, N>::cast_from(x[at]);
                rounded[at] = value;
                sum += Vector::cast_from(value);
            } else {
                sum += Vector::cast_from(x[at]);
            }
        }
        sums[ABSOLUTE_POS] = sum;
    }
}

/// The row after a block's last one.
#[cube]
pub(super) fn end_of_block(from: usize, block: usize, rows: usize) -> usize {
    let mut end = from + block;
    if end > rows {
        end = rows;
    }
    end
}

/// The sums of columns, which are vectors, each by the units of a cube with the same place along X.
#[cube(launch, address_type = "dynamic")]
fn sum_columns<E: Float, N: Size>(x: &Array<Vector<E, N>>, sums: &mut Array<Vector<f32, N>>, rows: u32) {
    let mut shared = SharedMemory::<Vector<f32, N>>::new(comptime!(THREADS as usize));
    let (columns, rows) = (sums.len(), rows as usize);
    let column = CUBE_POS * CUBE_DIM_X as usize + UNIT_POS_X as usize;
    let mut sum = Vector::<f32, N>::new(0.0);
    if column < columns {
        let mut row = UNIT_POS_Y as usize;
        while row < rows {
            sum += Vector::cast_from(x[row * columns + column]);
            row += CUBE_DIM_Y as usize;
        }
    }
    let at = (UNIT_POS_Y * CUBE_DIM_X + UNIT_POS_X) as usize;
    shared[at] = sum;
    sync_cube();
    let mut lanes = CUBE_DIM_Y / 2;
    while lanes > 0 {
        if UNIT_POS_Y < lanes {
            let other = shared[at + (lanes * CUBE_DIM_X) as usize];
            shared[at] += other;
        }
        sync_cube();
        lanes /= 2;
    }
    if UNIT_POS_Y == 0 && column < columns {
        sums[column] = shared[at];
    }
}

/// The sum over the rows of `[N, C]`, f32 `[C]`: of many rows those of blocks first.
pub(super) fn sum_rows<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let [n, _] = dims2(&x);
    if n > FEW_ROWS { last_sum(sum_blocks(x, None)) } else { last_sum(x) }
}

/// The same values in another type, and the sum of its rows.
pub(super) fn rounded_and_sum_of_rows<R: CubeRuntime>(
    x: CubeTensor<R>,
    dtype: DType,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let rounded = empty(&x, x.shape(), dtype);
    let sums = sum_blocks(x, Some(rounded.clone()));
    (rounded, last_sum(sums))
}

/// The second pass of a sum over rows: of what the blocks came to, f32 `[C]`.
pub(super) fn last_sum<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let [n, c] = dims2(&x);
    let sums = empty(&x, Shape::from([c]), DType::F32);
    let vector = vector(&x, c, &[DType::F32]);
    let count = cubes((c / vector).div_ceil(COLUMNS as usize));
    let (client, address) = (x.client.clone(), address(&[&x]));
    by_type!(E, x.dtype => {
        let (x, sums) = (x.into_array_arg(), sums.clone().into_array_arg());
        let dim = CubeDim::new_2d(COLUMNS, LANES);
        sum_columns::launch::<E, R>(&client, count, dim, address, vector, x, sums, n as u32);
    });
    sums
}

fn sum_blocks<R: CubeRuntime>(x: CubeTensor<R>, rounded: Option<CubeTensor<R>>) -> CubeTensor<R> {
    let [n, c] = dims2(&x);
    let block = summed_rows(n);
    let blocks = n.div_ceil(block).max(1);
    let sums = empty(&x, Shape::from([blocks, c]), DType::F32);
    let vector = vector(&x, c, &[DType::F32]);
    let reads = c / vector;
    let (count, dim) = elements(&x, blocks * reads);
    let (client, address) = (x.client.clone(), address(&[&x]));
    let rounding = rounded.is_some();
    // What stands in for the rounded rows is not written.
    let rounded = rounded.unwrap_or_else(|| empty(&x, Shape::from([8]), DType::F32));
    by_type!(E, x.dtype => by_type!(O, rounded.dtype => {
        let (x, rounded, sums) = (x.into_array_arg(), rounded.into_array_arg(), sums.clone().into_array_arg());
        let (reads, n, block) = (reads as u32, n as u32, block as u32);
        sum_row_blocks::launch::<E, O, R>(
            &client, count, dim, address, vector, x, rounded, sums, reads, n, block, rounding,
        );
    }));
    sums
}

/// The same values in another shape.
pub(super) fn reshaped<R: CubeRuntime, const D: usize>(t: CubeTensor<R>, shape: [usize; D]) -> CubeTensor<R> {
    CubeTensor::new_contiguous(t.client, t.device, Shape::from(shape), t.handle, t.dtype)
}

/// The sum of the squares of a cube's elements, `first` and every `units`-th of `items` from there.
#[cube]
fn squares_of_elements<N: Size>(x: &Array<Vector<f32, N>>, first: usize, #[comptime] items: usize) -> Vector<f32, N> {
    let mut sum = Vector::<f32, N>::new(0.0);
    for item in 0..items {
        let i = first + item * CUBE_DIM_X as usize;
        if i < x.len() {
            sum += x[i] * x[i];
        }
    }
    sum
}

/// Σ x² of each cube's elements, from place `at` of `sums` on; cubes `begins[i]..begins[i + 1]` for the i-th tensor.
#[cube(launch, address_type = "dynamic")]
fn sum_squares_of_cubes<N: Size>(
    x: &Sequence<Array<Vector<f32, N>>>,
    begins: &Sequence<u32>,
    sums: &mut Array<f32>,
    at: u32,
    #[comptime] items: usize,
) {
    let mut shared = shared_values();
    let cube = CUBE_POS as u32;
    let mut sum = f32::new(0.0);
    #[unroll]
    for i in 0..x.len() {
        let begin = *begins.index(i);
        if cube >= begin && cube < *begins.index(comptime!(i + 1)) {
            let first = (cube - begin) as usize * CUBE_DIM_X as usize * items + UNIT_POS_X as usize;
            sum = total(squares_of_elements(x.index(i), first, items));
        }
    }
    let sum = sum_of_cube(sum, &mut shared);
    if UNIT_POS_X == 0 && cube < *begins.index(x.len()) {
        sums[at as usize + CUBE_POS] = sum;
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

/// How a whole tensor is reduced: elements that a unit reads at once, and cubes.
pub(super) struct Whole {
    pub(super) vector: usize,
    pub(super) cubes: usize,
}

impl Whole {
    pub(super) fn of<R: CubeRuntime>(t: &CubeTensor<R>) -> Self {
        let len = t.shape().num_elements();
        let vector = vector(t, len, &[DType::F32]);
        Self { vector, cubes: len.div_ceil(THREADS as usize * ITEMS * vector).max(1) }
    }

    /// One launch for several tensors, and the first cube of each, with the number of all at the end.
    pub(super) fn together(wholes: &[Self]) -> ((CubeCount, CubeDim), Vec<u32>) {
        let mut begins = vec![0];
        begins.extend(wholes.iter().scan(0, |sum, whole| {
            *sum += whole.cubes as u32;
            Some(*sum)
        }));
        let all = wholes.iter().map(|w| w.cubes).sum();
        ((cubes(all), CubeDim::new_1d(THREADS)), begins)
    }
}

/// Tensors that one launch takes, where each brings so many buffers: as many as a device binds, up to eight.
pub(super) fn tensors_of_launch<R: CubeRuntime>(like: &CubeTensor<R>, buffers: u32) -> usize {
    /// What a kernel is given besides.
    const OTHERS: u32 = 4;
    let most = like.client.properties().hardware.max_bindings.saturating_sub(OTHERS) / buffers;
    most.clamp(1, 8) as usize
}

/// Ranges of tensors that follow each other and are read the same way, at most so many each.
pub(super) fn groups(wholes: &[Whole], most: usize) -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = Vec::new();
    for (i, whole) in wholes.iter().enumerate() {
        match all.last_mut() {
            Some(last) if last.len() < most && wholes[last.start].vector == whole.vector => last.end = i + 1,
            _ => all.push(i..i + 1),
        }
    }
    all
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
    let wholes: Vec<Whole> = tensors.iter().map(Whole::of).collect();
    let sums = empty(&tensors[0], Shape::from([wholes.iter().map(|w| w.cubes).sum::<usize>()]), DType::F32);
    let mut at = 0;
    for group in groups(&wholes, tensors_of_launch(&sums, 1)) {
        let (tensors, wholes) = (&tensors[group.clone()], &wholes[group]);
        let ((count, dim), begins) = Whole::together(wholes);
        let address = address(&tensors.iter().collect::<Vec<_>>());
        sum_squares_of_cubes::launch::<R>(
            &sums.client,
            count,
            dim,
            address,
            wholes[0].vector,
            tensors.iter().map(|t| t.clone().into_array_arg()).collect(),
            begins.iter().copied().collect(),
            sums.clone().into_array_arg(),
            at,
            ITEMS,
        );
        at += begins.last().copied().unwrap_or(0);
    }
    sum(sums)
}

#[cfg(all(test, feature = "vulkan"))]
mod tests {
    use burn::tensor::{Tensor, TensorData};

    use super::*;
    use crate::backends::Vulkan;
    use crate::definition::{float, prim};

    /// Vulkan's products are f32, so that nothing else rounds there.
    #[test]
    fn rows_are_written_and_summed() {
        for (rows, c) in [(1, 1), (16, 4), (17, 3), (2000, 20)] {
            let values: Vec<f32> = (0..rows * c).map(|i| (i * 7 % 13) as f32 - 6.0).collect();
            let sums: Vec<f32> = (0..c).map(|j| values.iter().skip(j).step_by(c).sum()).collect();
            let x = Tensor::<Vulkan, 2>::from_data(TensorData::new(values.clone(), [rows, c]), &Default::default());
            let (rounded, sum) = rounded_and_sum_of_rows(prim(x), DType::F32);
            assert_eq!(float::<Vulkan, 2>(rounded).into_data().to_vec::<f32>().ok(), Some(values));
            assert_eq!(float::<Vulkan, 1>(sum).into_data().to_vec::<f32>().ok(), Some(sums));
        }
    }
}
