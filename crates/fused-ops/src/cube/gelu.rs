//! The activation and its gradient, one unit an element, in f32.

#![allow(unstable_name_collisions, reason = "CubeCL's erf is a device function, which std's would not become")]

use burn::tensor::TensorMetadata as _;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{address, by_type, elements, empty};
use crate::Gelu;

#[cube(launch, address_type = "dynamic")]
fn gelu<E: Float>(x: &Array<E>, y: &mut Array<E>, #[comptime] is_tanh: bool) {
    if ABSOLUTE_POS < y.len() {
        let v = f32::cast_from(x[ABSOLUTE_POS]);
        let out = if is_tanh {
            0.5 * v * (1.0 + (0.797_884_6 * (v + 0.044_715 * v * v * v)).tanh())
        } else {
            0.5 * v * (1.0 + (v * 0.707_106_77).erf())
        };
        y[ABSOLUTE_POS] = E::cast_from(out);
    }
}

#[cube(launch, address_type = "dynamic")]
fn gelu_backward<E: Float>(x: &Array<E>, g: &Array<E>, gx: &mut Array<E>, #[comptime] is_tanh: bool) {
    if ABSOLUTE_POS < gx.len() {
        let v = f32::cast_from(x[ABSOLUTE_POS]);
        let slope = if is_tanh {
            let th = (0.797_884_6 * (v + 0.044_715 * v * v * v)).tanh();
            0.5 * (1.0 + th) + 0.5 * v * (1.0 - th * th) * 0.797_884_6 * (1.0 + 0.134_145 * v * v)
        } else {
            0.5 * (1.0 + (v * 0.707_106_77).erf()) + v * 0.398_942_3 * (-0.5 * v * v).exp()
        };
        gx[ABSOLUTE_POS] = E::cast_from(f32::cast_from(g[ABSOLUTE_POS]) * slope);
    }
}

pub(super) fn forward<R: CubeRuntime>(x: CubeTensor<R>, kind: Gelu) -> CubeTensor<R> {
    let y = empty(&x, x.shape(), x.dtype);
    let (count, dim) = elements(&x, x.shape().num_elements());
    let (client, address) = (x.client.clone(), address(&[&x]));
    by_type!(E, x.dtype => {
        let (x, y) = (x.into_array_arg(), y.clone().into_array_arg());
        gelu::launch::<E, R>(&client, count, dim, address, x, y, kind == Gelu::Tanh);
    });
    y
}

/// `g` has x's type.
pub(super) fn backward<R: CubeRuntime>(x: CubeTensor<R>, g: CubeTensor<R>, kind: Gelu) -> CubeTensor<R> {
    let gx = empty(&x, x.shape(), x.dtype);
    let (count, dim) = elements(&x, x.shape().num_elements());
    let (client, address) = (x.client.clone(), address(&[&x]));
    by_type!(E, x.dtype => {
        let (x, g, gx) = (x.into_array_arg(), g.into_array_arg(), gx.clone().into_array_arg());
        gelu_backward::launch::<E, R>(&client, count, dim, address, x, g, gx, kind == Gelu::Tanh);
    });
    gx
}
