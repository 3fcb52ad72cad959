//! LayerNorm and its gradients; the gradients of its parameters are summed over blocks of rows.

use burn::tensor::{DType, Shape, TensorMetadata as _};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::reduce::{Rows, block_rows, row_of_unit, rows, shared_values, sum_of_row, sum_rows, total};
use super::{address, by_type, dims2, elements, empty, vector};

/// Mean and 1/√(var + eps) of a row of `reads` vectors.
#[cube]
fn row_statistics<N: Size>(
    x: &Array<Vector<f32, N>>,
    from: usize,
    reads: usize,
    eps: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] plane: bool,
) -> (f32, f32) {
    let mut sum = Vector::<f32, N>::new(0.0);
    let mut c = UNIT_POS_X as usize;
    while c < reads {
        sum += x[from + c];
        c += CUBE_DIM_X as usize;
    }
    let n = f32::cast_from((reads * sum.size()) as u32);
    let mean = sum_of_row(total(sum), shared, plane) / n;
    let mut squares = Vector::<f32, N>::new(0.0);
    let mut c = UNIT_POS_X as usize;
    while c < reads {
        let d = x[from + c] - Vector::new(mean);
        squares += d * d;
        c += CUBE_DIM_X as usize;
    }
    let variance = sum_of_row(total(squares), shared, plane) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// Not `norm`: CUDA has a function of that name, and NVRTC refuses a kernel beside it.
#[cube(launch, address_type = "dynamic")]
fn layer_norm_rows<E: Float, N: Size>(
    x: &Array<Vector<f32, N>>,
    gamma: &Array<Vector<f32, N>>,
    beta: &Array<Vector<f32, N>>,
    y: &mut Array<Vector<E, N>>,
    eps: f32,
    reads: u32,
    rows: u32,
    #[comptime] plane: bool,
) {
    let row = row_of_unit();
    if row >= rows as usize {
        terminate!();
    }
    let reads = reads as usize;
    let mut shared = shared_values();
    let from = row * reads;
    let (mean, rstd) = row_statistics(x, from, reads, eps, &mut shared, plane);
    let mut c = UNIT_POS_X as usize;
    while c < reads {
        let xhat = (x[from + c] - Vector::new(mean)) * Vector::new(rstd);
        y[from + c] = Vector::cast_from(xhat * gamma[c] + beta[c]);
        c += CUBE_DIM_X as usize;
    }
}

/// The gradient of x, and each row's mean and 1/√(var + eps) `[N, 2]`.
#[cube(launch, address_type = "dynamic")]
fn norm_backward<G: Float, N: Size>(
    x: &Array<Vector<f32, N>>,
    gamma: &Array<Vector<f32, N>>,
    g: &Array<Vector<G, N>>,
    gx: &mut Array<Vector<f32, N>>,
    statistics: &mut Array<f32>,
    eps: f32,
    reads: u32,
    rows: u32,
    #[comptime] plane: bool,
) {
    let row = row_of_unit();
    if row >= rows as usize {
        terminate!();
    }
    let reads = reads as usize;
    let mut shared = shared_values();
    let from = row * reads;
    let (mean, rstd) = row_statistics(x, from, reads, eps, &mut shared, plane);
    let mut level = Vector::<f32, N>::new(0.0);
    let mut along = Vector::<f32, N>::new(0.0);
    let mut c = UNIT_POS_X as usize;
    while c < reads {
        let gy = Vector::cast_from(g[from + c]) * gamma[c];
        level += gy;
        along += gy * ((x[from + c] - Vector::new(mean)) * Vector::new(rstd));
        c += CUBE_DIM_X as usize;
    }
    let n = f32::cast_from((reads * level.size()) as u32);
    let level = sum_of_row(total(level), &mut shared, plane) / n;
    let along = sum_of_row(total(along), &mut shared, plane) / n;
    let mut c = UNIT_POS_X as usize;
    while c < reads {
        let xhat = (x[from + c] - Vector::new(mean)) * Vector::new(rstd);
        let gy = Vector::cast_from(g[from + c]) * gamma[c];
        gx[from + c] = (gy - Vector::new(level) - xhat * Vector::new(along)) * Vector::new(rstd);
        c += CUBE_DIM_X as usize;
    }
    if UNIT_POS_X == 0 {
        statistics[2 * row] = mean;
        statistics[2 * row + 1] = rstd;
    }
}

/// Sums of g·x̂ and of g over blocks of `block_rows` rows, `[blocks, C]` each: one unit a column of a block.
#[cube(launch, address_type = "dynamic")]
fn norm_backward_columns<G: Float, N: Size>(
    x: &Array<Vector<f32, N>>,
    g: &Array<Vector<G, N>>,
    statistics: &Array<f32>,
    along_sums: &mut Array<Vector<f32, N>>,
    level_sums: &mut Array<Vector<f32, N>>,
    columns: u32,
    rows: u32,
    block_rows: u32,
) {
    let (columns, rows, block_rows) = (columns as usize, rows as usize, block_rows as usize);
    let column = ABSOLUTE_POS % columns;
    let from = ABSOLUTE_POS / columns * block_rows;
    if ABSOLUTE_POS < along_sums.len() {
        let mut along = Vector::<f32, N>::new(0.0);
        let mut level = Vector::<f32, N>::new(0.0);
        let mut row = from;
        while row < from + block_rows && row < rows {
            let gradient = Vector::cast_from(g[row * columns + column]);
            let centred = x[row * columns + column] - Vector::new(statistics[2 * row]);
            along += gradient * (centred * Vector::new(statistics[2 * row + 1]));
            level += gradient;
            row += 1;
        }
        along_sums[ABSOLUTE_POS] = along;
        level_sums[ABSOLUTE_POS] = level;
    }
}

/// `x` is f32; the result of the given type.
pub(super) fn forward<R: CubeRuntime>(
    x: CubeTensor<R>,
    gamma: CubeTensor<R>,
    beta: CubeTensor<R>,
    eps: f32,
    dtype: DType,
) -> CubeTensor<R> {
    let [n, c] = dims2(&x);
    let y = empty(&x, x.shape(), dtype);
    let vector = vector(&x, c, &[DType::F32]);
    let reads = c / vector;
    let Rows { count, dim, plane } = rows(&x, n, reads);
    let (client, address) = (x.client.clone(), address(&[&x]));
    let (x, gamma, beta) = (x.into_array_arg(), gamma.into_array_arg(), beta.into_array_arg());
    by_type!(E, dtype => {
        let y = y.clone().into_array_arg();
        layer_norm_rows::launch::<E, R>(
            &client,
            count,
            dim,
            address,
            vector,
            x,
            gamma,
            beta,
            y,
            eps,
            reads as u32,
            n as u32,
            plane,
        );
    });
    y
}

/// The gradients of x, gamma and beta. `x` is f32.
pub(super) fn backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    gamma: CubeTensor<R>,
    g: CubeTensor<R>,
    eps: f32,
) -> [CubeTensor<R>; 3] {
    let [n, c] = dims2(&x);
    let gx = empty(&x, x.shape(), DType::F32);
    let statistics = empty(&x, Shape::from([n, 2]), DType::F32);
    let block = block_rows(n);
    let blocks = n.div_ceil(block).max(1);
    let [along, level] = [0, 1].map(|_| empty(&x, Shape::from([blocks, c]), DType::F32));
    let (client, address) = (x.client.clone(), address(&[&x]));
    let vector = vector(&x, c, &[DType::F32]);
    let reads = c / vector;
    let Rows { count, dim, plane } = rows(&x, n, reads);
    let by_column = elements(&x, blocks * reads);
    by_type!(G, g.dtype => {
        norm_backward::launch::<G, R>(
            &client,
            count,
            dim,
            address,
            vector,
            x.clone().into_array_arg(),
            gamma.into_array_arg(),
            g.clone().into_array_arg(),
            gx.clone().into_array_arg(),
            statistics.clone().into_array_arg(),
            eps,
            reads as u32,
            n as u32,
            plane,
        );
        norm_backward_columns::launch::<G, R>(
            &client,
            by_column.0,
            by_column.1,
            address,
            vector,
            x.into_array_arg(),
            g.into_array_arg(),
            statistics.into_array_arg(),
            along.clone().into_array_arg(),
            level.clone().into_array_arg(),
            reads as u32,
            n as u32,
            block as u32,
        );
    });
    [gx, sum_rows(along), sum_rows(level)]
}
