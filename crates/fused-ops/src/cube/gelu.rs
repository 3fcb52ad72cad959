//! The activation and its gradient, in f32.

#![allow(unstable_name_collisions, reason = "CubeCL's erf is a device function, which std's would not become")]

use burn::tensor::TensorMetadata as _;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{address, by_type, elements, empty, vector};
use crate::Gelu;

#[cube(launch, address_type = "dynamic")]
fn gelu<E: Float, N: Size>(x: &Array<Vector<E, N>>, y: &mut Array<Vector<E, N>>, #[comptime] is_tanh: bool) {
    if ABSOLUTE_POS < y.len() {
        let v = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
        let gate = if is_tanh {
            let inner = v + Vector::new(0.044_715) * v * v * v;
            (Vector::new(0.797_884_6) * inner).tanh()
        } else {
            (v * Vector::new(0.707_106_77)).erf()
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
            let cdf = half * (one + (v * Vector::new(0.707_106_77)).erf());
            cdf + v * Vector::new(0.398_942_3) * (Vector::new(-0.5) * v * v).exp()
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
