//! AdamW in place, one unit an element.

use burn::tensor::TensorMetadata as _;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::elements;
use crate::types::AdamWFactors;

/// One AdamW update in place; the gradient's place takes the change of p.
#[cube(launch)]
fn adamw(
    p: &mut Array<f32>,
    g: &mut Array<f32>,
    m: &mut Array<f32>,
    v: &mut Array<f32>,
    grad: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    keep: f32,
    rate: f32,
    root: f32,
    eps: f32,
) {
    if ABSOLUTE_POS < p.len() {
        let gradient = g[ABSOLUTE_POS] * grad;
        let first = m[ABSOLUTE_POS] * beta1 + gradient * rest1;
        let second = v[ABSOLUTE_POS] * beta2 + gradient * gradient * rest2;
        m[ABSOLUTE_POS] = first;
        v[ABSOLUTE_POS] = second;
        let old = p[ABSOLUTE_POS];
        let new = old * keep - rate * (first / (second.sqrt() * root + eps));
        p[ABSOLUTE_POS] = new;
        g[ABSOLUTE_POS] = new - old;
    }
}

/// Writes into all four, which nobody else may see.
pub(super) fn update<R: CubeRuntime>(
    p: &CubeTensor<R>,
    g: &CubeTensor<R>,
    m: &CubeTensor<R>,
    v: &CubeTensor<R>,
    f: AdamWFactors,
) {
    let (count, dim) = elements(p, p.shape().num_elements());
    adamw::launch::<R>(
        &p.client,
        count,
        dim,
        p.clone().into_array_arg(),
        g.clone().into_array_arg(),
        m.clone().into_array_arg(),
        v.clone().into_array_arg(),
        f.grad,
        f.beta1,
        f.rest1,
        f.beta2,
        f.rest2,
        f.keep,
        f.rate,
        f.root,
        f.eps,
    );
}
