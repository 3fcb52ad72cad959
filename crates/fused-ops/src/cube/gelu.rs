//! The activation and its gradient, in f32.

use burn::tensor::TensorMetadata as _;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{address, by_type, elements, empty, vector};
use crate::Gelu;

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

#[cube(launch, address_type = "dynamic")]
fn gelu_backward<E: Float, N: Size>(
    x: &Array<Vector<E, N>>,
    g: &Array<Vector<E, N>>,
    gx: &mut Array<Vector<E, N>>,
    #[comptime] is_tanh: bool,
) {
    if ABSOLUTE_POS < gx.len() {
        let v = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
        let (half, one) = (Vector::<f32, N>::new(0.5), Vector::<f32, N>::new(1.0));
        let slope = if is_tanh {
            let inner = v + Vector::new(0.044_715) * v * v * v;
            let th = (Vector::new(0.797_884_6) * inner).tanh();
            let steep = Vector::new(0.797_884_6) * (one + Vector::new(0.134_145) * v * v);
            half * (one + th) + half * v * (one - th * th) * steep
        } else {
            let (erf, gauss) = erf_and_gauss(v * Vector::new(0.707_106_77));
            half * (one + erf) + v * Vector::new(0.398_942_3) * gauss
        };
        gx[ABSOLUTE_POS] = Vector::cast_from(Vector::cast_from(g[ABSOLUTE_POS]) * slope);
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

/// `g` has x's type.
pub(super) fn backward<R: CubeRuntime>(x: CubeTensor<R>, g: CubeTensor<R>, kind: Gelu) -> CubeTensor<R> {
    let gx = empty(&x, x.shape(), x.dtype);
    let len = x.shape().num_elements();
    let vector = vector(&x, len, &[x.dtype]);
    let (count, dim) = elements(&x, len / vector);
    let (client, address) = (x.client.clone(), address(&[&x]));
    by_type!(E, x.dtype => {
        let (x, g, gx) = (x.into_array_arg(), g.into_array_arg(), gx.clone().into_array_arg());
        gelu_backward::launch::<E, R>(&client, count, dim, address, vector, x, g, gx, kind == Gelu::Tanh);
    });
    gx
}
