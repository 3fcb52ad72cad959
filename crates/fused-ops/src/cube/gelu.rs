//! The activation and its gradient, in f32.

use burn::tensor::{DType, Shape, TensorMetadata as _};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::reduce::end_of_block;
use super::{address, by_type, dims2, elements, empty, vector};
use crate::{Gelu, summed_rows};

/// erf(x) and e^(−x²), the first by Abramowitz & Stegun 7.1.26 (absolute error below 2e-7),
/// as on flex: one exponential serves both.
#[cube]
fn erf_and_gauss<N: Size>(x: Vector<f32, N>) -> (Vector<f32, N>, Vector<f32, N>) {
    let one = Vector::<f32, N>::new(1.0);
    let a = x.abs();
    let t = one / (one + Vector::new(0.327_591_1) * a);
    let mut poly = Vector::new(1.061_405_4) * t - Vector::new(1.453_152);
    poly = poly * t + Vector::new(1.421_413_8);
    poly = poly * t - Vector::new(0.284_496_72);
    poly = (poly * t + Vector::new(0.254_829_6)) * t;
    let gauss = (Vector::<f32, N>::new(0.0) - a * a).exp();
    let positive = one - poly * gauss;
    let mut erf = positive;
    #[unroll]
    for k in 0..x.size() {
        if x[k] < 0.0 {
            erf[k] = f32::new(0.0) - positive[k];
        }
    }
    (erf, gauss)
}

#[cube(launch, address_type = "dynamic")]
fn gelu<E: Float, N: Size>(x: &Array<Vector<E, N>>, y: &mut Array<Vector<E, N>>, #[comptime] is_tanh: bool) {
    if ABSOLUTE_POS < y.len() {
        let v = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
        let gate = if is_tanh {
            let inner = v + Vector::new(0.044_715) * v * v * v;
            (Vector::new(0.797_884_6) * inner).tanh()
        } else {
            let (erf, _) = erf_and_gauss(v * Vector::new(0.707_106_77));
            erf
        };
        y[ABSOLUTE_POS] = Vector::cast_from(Vector::new(0.5) * v * (Vector::new(1.0) + gate));
    }
}

/// The activation's derivative.
#[cube]
fn derivative<N: Size>(v: Vector<f32, N>, #[comptime] is_tanh: bool) -> Vector<f32, N> {
    let (half, one) = (Vector::<f32, N>::new(0.5), Vector::<f32, N>::new(1.0));
    if is_tanh {
        let inner = v + Vector::new(0.044_715) * v * v * v;
        let th = (Vector::new(0.797_884_6) * inner).tanh();
        let steep = Vector::new(0.797_884_6) * (one + Vector::new(0.134_145) * v * v);
        half * (one + th) + half * v * (one - th * th) * steep
    } else {
        let (erf, gauss) = erf_and_gauss(v * Vector::new(0.707_106_77));
        half * (one + erf) + v * Vector::new(0.398_942_3) * gauss
    }
}

/// The gradient of x, and its sums over blocks of rows, `[blocks, columns]`, `columns` in vectors: one unit a column of a block.
#[cube(launch, address_type = "dynamic")]
fn gelu_backward<E: Float, N: Size>(
    x: &Array<Vector<E, N>>,
    g: &Array<Vector<E, N>>,
    gx: &mut Array<Vector<E, N>>,
    sums: &mut Array<Vector<f32, N>>,
    columns: u32,
    rows: u32,
    block: u32,
    #[comptime] is_tanh: bool,
) {
    let (columns, rows, block) = (columns as usize, rows as usize, block as usize);
    let (column, from) = (ABSOLUTE_POS % columns, ABSOLUTE_POS / columns * block);
    if ABSOLUTE_POS < sums.len() {
        let mut sum = Vector::<f32, N>::new(0.0);
        for row in from..end_of_block(from, block, rows) {
            let at = row * columns + column;
            let slope = derivative(Vector::<f32, N>::cast_from(x[at]), is_tanh);
            let gradient = Vector::<E, N>::cast_from(Vector::cast_from(g[at]) * slope);
            gx[at] = gradient;
            sum += Vector::cast_from(gradient);
        }
        sums[ABSOLUTE_POS] = sum;
    }
}

pub(super) fn forward<R: CubeRuntime>(x: CubeTensor<R>, kind: Gelu) -> CubeTensor<R> {
    let y = empty(&x, x.shape(), x.dtype);
    let len = x.shape().num_elements();
    let vector = vector(&x, len, &[x.dtype]);
    let (count, dim) = elements(&x, len / vector);
    let (client, address) = (x.client.clone(), address(&[&x]));
    by_type!(E, x.dtype => {
        let (x, y) = (x.into_array_arg(), y.clone().into_array_arg());
        gelu::launch::<E, R>(&client, count, dim, address, vector, x, y, kind == Gelu::Tanh);
    });
    y
}

/// The gradient of x, and its sums over blocks of rows, f32 `[blocks, C]`. `g` has x's type.
pub(super) fn backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    g: CubeTensor<R>,
    kind: Gelu,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let [n, c] = dims2(&x);
    let block = summed_rows(n);
    let blocks = n.div_ceil(block).max(1);
    let gx = empty(&x, x.shape(), x.dtype);
    let sums = empty(&x, Shape::from([blocks, c]), DType::F32);
    let vector = vector(&x, c, &[DType::F32]);
    let reads = c / vector;
    let (count, dim) = elements(&x, blocks * reads);
    let (client, address) = (x.client.clone(), address(&[&x]));
    by_type!(E, x.dtype => {
        let (x, g, gx) = (x.into_array_arg(), g.into_array_arg(), gx.clone().into_array_arg());
        let sums = sums.clone().into_array_arg();
        let (reads, n, block) = (reads as u32, n as u32, block as u32);
        let is_tanh = kind == Gelu::Tanh;
        gelu_backward::launch::<E, R>(&client, count, dim, address, vector, x, g, gx, sums, reads, n, block, is_tanh);
    });
    (gx, sums)
}
