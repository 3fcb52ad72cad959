//! LayerNorm and its gradients; the gradients of its parameters are summed over blocks of rows.

use burn::tensor::{DType, Shape, TensorMetadata as _};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::slice;
use burn_cubecl::tensor::CubeTensor;

use super::reduce::{Rows, end_of_block, last_sum, row_of_unit, rows, shared_values, sum_of_row, total};
use super::{address, by_type, dims2, elements, empty, vector};
use crate::summed_rows;

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

/// A row of one norm, or of two that share their statistics.
#[cube]
fn write_norms<E: Float, N: Size>(
    x: &Array<Vector<f32, N>>,
    mean: f32,
    rstd: f32,
    gamma: &Array<Vector<f32, N>>,
    beta: &Array<Vector<f32, N>>,
    second_gamma: &Array<Vector<f32, N>>,
    second_beta: &Array<Vector<f32, N>>,
    y: &mut Array<Vector<E, N>>,
    second_y: &mut Array<Vector<E, N>>,
    from: usize,
    reads: usize,
    #[comptime] two: bool,
) {
    let mut c = UNIT_POS_X as usize;
    while c < reads {
        let xhat = (x[from + c] - Vector::new(mean)) * Vector::new(rstd);
        y[from + c] = Vector::cast_from(xhat * gamma[c] + beta[c]);
        if two {
            second_y[from + c] = Vector::cast_from(xhat * second_gamma[c] + second_beta[c]);
        }
        c += CUBE_DIM_X as usize;
    }
}

/// LayerNorm of each row, or two of the same rows.
///
/// Not `norm`: CUDA has a function of that name, and NVRTC refuses a kernel beside it.
#[cube(launch, address_type = "dynamic")]
fn layer_norm_rows<E: Float, N: Size>(
    x: &Array<Vector<f32, N>>,
    gamma: &Array<Vector<f32, N>>,
    beta: &Array<Vector<f32, N>>,
    second_gamma: &Array<Vector<f32, N>>,
    second_beta: &Array<Vector<f32, N>>,
    y: &mut Array<Vector<E, N>>,
    second_y: &mut Array<Vector<E, N>>,
    eps: f32,
    reads: u32,
    rows: u32,
    #[comptime] two: bool,
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
    write_norms(x, mean, rstd, gamma, beta, second_gamma, second_beta, y, second_y, from, reads, two);
}

/// The sum `s = (a + b) + x` of each row, and two norms of it.
#[cube(launch, address_type = "dynamic")]
fn sum_and_norm_rows<E: Float, N: Size>(
    a: &Array<Vector<E, N>>,
    b: &Array<Vector<E, N>>,
    x: &Array<Vector<f32, N>>,
    gamma: &Array<Vector<f32, N>>,
    beta: &Array<Vector<f32, N>>,
    second_gamma: &Array<Vector<f32, N>>,
    second_beta: &Array<Vector<f32, N>>,
    s: &mut Array<Vector<f32, N>>,
    y: &mut Array<Vector<E, N>>,
    second_y: &mut Array<Vector<E, N>>,
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
    let mut c = UNIT_POS_X as usize;
    while c < reads {
        let added = Vector::<f32, N>::cast_from(a[from + c]) + Vector::cast_from(b[from + c]);
        s[from + c] = added + x[from + c];
        c += CUBE_DIM_X as usize;
    }
    // Each unit reads what it has written itself, so nobody waits.
    let (mean, rstd) = row_statistics(s, from, reads, eps, &mut shared, plane);
    write_norms(s, mean, rstd, gamma, beta, second_gamma, second_beta, y, second_y, from, reads, true);
}

/// The gradient of the norms' result at a vector, times gamma: of one norm, or the sum of two.
#[cube]
fn weighted<G: Float, N: Size>(
    g: &Array<Vector<G, N>>,
    second_g: &Array<Vector<G, N>>,
    gamma: &Array<Vector<f32, N>>,
    second_gamma: &Array<Vector<f32, N>>,
    from: usize,
    c: usize,
    #[comptime] two: bool,
) -> Vector<f32, N> {
    let mut gy = Vector::<f32, N>::cast_from(g[from + c]) * gamma[c];
    if two {
        gy += Vector::cast_from(second_g[from + c]) * second_gamma[c];
    }
    gy
}

/// The gradient of x, for two norms added to what reaches x beside them; and each row's mean and 1/√(var + eps) `[N, 2]`.
#[cube(launch, address_type = "dynamic")]
fn norm_backward<G: Float, N: Size>(
    x: &Array<Vector<f32, N>>,
    gamma: &Array<Vector<f32, N>>,
    second_gamma: &Array<Vector<f32, N>>,
    g: &Array<Vector<G, N>>,
    second_g: &Array<Vector<G, N>>,
    beside: &Array<Vector<f32, N>>,
    gx: &mut Array<Vector<f32, N>>,
    statistics: &mut Array<f32>,
    eps: f32,
    reads: u32,
    rows: u32,
    #[comptime] two: bool,
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
        let gy = weighted(g, second_g, gamma, second_gamma, from, c, two);
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
        let gy = weighted(g, second_g, gamma, second_gamma, from, c, two);
        let mut sum = (gy - Vector::new(level) - xhat * Vector::new(along)) * Vector::new(rstd);
        if two {
            sum += beside[from + c];
        }
        gx[from + c] = sum;
        c += CUBE_DIM_X as usize;
    }
    if UNIT_POS_X == 0 {
        statistics[2 * row] = mean;
        statistics[2 * row + 1] = rstd;
    }
}

/// Sums over blocks of `block_rows` rows, `[blocks, S, C]`: of g·x̂ and of g, for each norm; one unit a column of a block.
#[cube(launch, address_type = "dynamic")]
fn norm_backward_columns<G: Float, N: Size>(
    x: &Array<Vector<f32, N>>,
    g: &Array<Vector<G, N>>,
    second_g: &Array<Vector<G, N>>,
    statistics: &Array<f32>,
    sums: &mut Array<Vector<f32, N>>,
    columns: u32,
    rows: u32,
    block_rows: u32,
    blocks: u32,
    #[comptime] two: bool,
) {
    let (columns, rows, block_rows) = (columns as usize, rows as usize, block_rows as usize);
    let (column, block) = (ABSOLUTE_POS % columns, ABSOLUTE_POS / columns);
    let from = block * block_rows;
    if block < blocks as usize {
        let mut along = Vector::<f32, N>::new(0.0);
        let mut level = Vector::<f32, N>::new(0.0);
        let mut second_along = Vector::<f32, N>::new(0.0);
        let mut second_level = Vector::<f32, N>::new(0.0);
        for row in from..end_of_block(from, block_rows, rows) {
            let centred = x[row * columns + column] - Vector::new(statistics[2 * row]);
            let xhat = centred * Vector::new(statistics[2 * row + 1]);
            let gradient = Vector::cast_from(g[row * columns + column]);
            along += gradient * xhat;
            level += gradient;
            if two {
                let gradient = Vector::cast_from(second_g[row * columns + column]);
                second_along += gradient * xhat;
                second_level += gradient;
            }
        }
        let kinds = comptime!(if two { 4usize } else { 2usize });
        let to = block * kinds * columns + column;
        sums[to] = along;
        sums[to + columns] = level;
        if two {
            sums[to + 2 * columns] = second_along;
            sums[to + 3 * columns] = second_level;
        }
    }
}

/// Gamma and beta, or their gradients.
pub(super) type Affine<R> = [CubeTensor<R>; 2];

/// One norm of `x`, or two; `x` is f32, the results of the given type.
pub(super) fn forward<R: CubeRuntime>(
    x: CubeTensor<R>,
    first: Affine<R>,
    second: Option<Affine<R>>,
    eps: f32,
    dtype: DType,
) -> (CubeTensor<R>, Option<CubeTensor<R>>) {
    let [n, c] = dims2(&x);
    let y = empty(&x, x.shape(), dtype);
    let two = second.is_some();
    // What stands in for a second norm is neither read nor written.
    let second_y = empty(&x, if two { x.shape() } else { Shape::from([8]) }, dtype);
    let [gamma, beta] = first;
    let [second_gamma, second_beta] = second.unwrap_or_else(|| [gamma.clone(), beta.clone()]);
    let vector = vector(&x, c, &[DType::F32]);
    let reads = c / vector;
    let Rows { count, dim, plane } = rows(&x, n, reads);
    let (client, address) = (x.client.clone(), address(&[&x]));
    by_type!(E, dtype => {
        layer_norm_rows::launch::<E, R>(
            &client,
            count,
            dim,
            address,
            vector,
            x.into_array_arg(),
            gamma.into_array_arg(),
            beta.into_array_arg(),
            second_gamma.into_array_arg(),
            second_beta.into_array_arg(),
            y.clone().into_array_arg(),
            second_y.clone().into_array_arg(),
            eps,
            reads as u32,
            n as u32,
            two,
            plane,
        );
    });
    (y, two.then_some(second_y))
}

/// Whether a device binds as many buffers as [`sum_and_norms`] reads and writes.
pub(super) fn sums_too<R: CubeRuntime>(like: &CubeTensor<R>) -> bool {
    /// Ten of them, and one of sizes.
    const BUFFERS: u32 = 11;
    like.client.properties().hardware.max_bindings >= BUFFERS
}

/// `(a + b) + x`, and two norms of it, which are of the type of a and b; x is f32.
pub(super) fn sum_and_norms<R: CubeRuntime>(
    [a, b]: [CubeTensor<R>; 2],
    x: CubeTensor<R>,
    [[gamma, beta], [second_gamma, second_beta]]: [Affine<R>; 2],
    eps: f32,
) -> (CubeTensor<R>, [CubeTensor<R>; 2]) {
    let [n, c] = dims2(&x);
    let sum = empty(&x, x.shape(), DType::F32);
    let [y, second_y] = [(); 2].map(|()| empty(&x, x.shape(), a.dtype));
    let vector = vector(&x, c, &[DType::F32]);
    let reads = c / vector;
    let Rows { count, dim, plane } = rows(&x, n, reads);
    let (client, address) = (x.client.clone(), address(&[&x]));
    by_type!(E, a.dtype => {
        sum_and_norm_rows::launch::<E, R>(
            &client,
            count,
            dim,
            address,
            vector,
            a.into_array_arg(),
            b.into_array_arg(),
            x.into_array_arg(),
            gamma.into_array_arg(),
            beta.into_array_arg(),
            second_gamma.into_array_arg(),
            second_beta.into_array_arg(),
            sum.clone().into_array_arg(),
            y.clone().into_array_arg(),
            second_y.clone().into_array_arg(),
            eps,
            reads as u32,
            n as u32,
            plane,
        );
    });
    (sum, [y, second_y])
}

/// A second norm of the same rows, and the gradient that reaches them beside both norms, f32.
pub(super) struct Second<R: CubeRuntime> {
    pub(super) gamma: CubeTensor<R>,
    /// Of the first one's type.
    pub(super) g: CubeTensor<R>,
    pub(super) beside: CubeTensor<R>,
}

/// The gradients of x, and of gamma and beta of one norm or of two. `x` is f32.
pub(super) fn backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    gamma: CubeTensor<R>,
    g: CubeTensor<R>,
    second: Option<Second<R>>,
    eps: f32,
) -> (CubeTensor<R>, Vec<CubeTensor<R>>) {
    let [n, c] = dims2(&x);
    let gx = empty(&x, x.shape(), DType::F32);
    let statistics = empty(&x, Shape::from([n, 2]), DType::F32);
    let block = summed_rows(n);
    let blocks = n.div_ceil(block).max(1);
    let two = second.is_some();
    let kinds = if two { 4 } else { 2 };
    let sums = empty(&x, Shape::from([blocks, kinds * c]), DType::F32);
    // What stands in for a second norm is not read.
    let Second { gamma: second_gamma, g: second_g, beside } =
        second.unwrap_or_else(|| Second { gamma: gamma.clone(), g: g.clone(), beside: x.clone() });
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
            second_gamma.into_array_arg(),
            g.clone().into_array_arg(),
            second_g.clone().into_array_arg(),
            beside.into_array_arg(),
            gx.clone().into_array_arg(),
            statistics.clone().into_array_arg(),
            eps,
            reads as u32,
            n as u32,
            two,
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
            second_g.into_array_arg(),
            statistics.into_array_arg(),
            sums.clone().into_array_arg(),
            reads as u32,
            n as u32,
            block as u32,
            blocks as u32,
            two,
        );
    });
    let sums = last_sum(sums);
    let kind = |i: usize| {
        let range = i * c..(i + 1) * c;
        slice(sums.clone(), std::slice::from_ref(&range))
    };
    (gx, (0..kinds).map(kind).collect())
}
