//! AdamW in place, and the factor that clips its gradients.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::reduce::{ITEMS, Whole, shared_values, sum, sum_of_cube, total};
use super::{address, empty};
use crate::types::AdamWFactors;
use crate::{AdamWStep, Slot};

/// Whether a value is a number, and not infinite.
#[cube]
fn is_finite(x: f32) -> bool {
    !(x.is_nan() || x.is_inf())
}

/// See [`FusedOps::clip_factor`](crate::FusedOps::clip_factor).
#[cube(launch)]
fn clip(squares: &Array<f32>, loss: &Array<f32>, factor: &mut Array<f32>, most: f32, nan: f32) {
    if ABSOLUTE_POS == 0 {
        let mut value = nan;
        if is_finite(squares[0]) && is_finite(loss[0]) {
            value = most / (squares[0].sqrt() + 1e-6);
            if value > 1.0 {
                value = f32::new(1.0);
            }
        }
        factor[0] = value;
    }
}

pub(super) fn clip_factor<R: CubeRuntime>(squares: CubeTensor<R>, loss: CubeTensor<R>, most: f64) -> CubeTensor<R> {
    let factor = empty(&squares, Shape::from([1]), DType::F32);
    let client = squares.client.clone();
    let (count, dim) = (CubeCount::Static(1, 1, 1), CubeDim::new_1d(32));
    let (squares, loss) = (squares.into_array_arg(), loss.into_array_arg());
    clip::launch::<R>(&client, count, dim, squares, loss, factor.clone().into_array_arg(), most as f32, f32::NAN);
    factor
}

/// One AdamW update in place; Σ (change of p)² of each cube's elements, from place `at` of `moved` on.
#[cube(launch, address_type = "dynamic")]
fn adamw<N: Size>(
    p: &mut Array<Vector<f32, N>>,
    g: &Array<Vector<f32, N>>,
    m: &mut Array<Vector<f32, N>>,
    v: &mut Array<Vector<f32, N>>,
    factor: &Array<f32>,
    moved: &mut Array<f32>,
    at: u32,
    cubes: u32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    keep: f32,
    rate: f32,
    root: f32,
    eps: f32,
    #[comptime] items: usize,
) {
    let mut shared = shared_values();
    let units = CUBE_DIM_X as usize;
    let from = CUBE_POS * units * items + UNIT_POS_X as usize;
    let factor = factor[0];
    let mut sum = Vector::<f32, N>::new(0.0);
    if is_finite(factor) {
        for item in 0..items {
            let i = from + item * units;
            if i < p.len() {
                let gradient = g[i] * Vector::new(factor);
                let first = m[i] * Vector::new(beta1) + gradient * Vector::new(rest1);
                let second = v[i] * Vector::new(beta2) + gradient * gradient * Vector::new(rest2);
                m[i] = first;
                v[i] = second;
                let old = p[i];
                let root = Vector::sqrt(second) * Vector::new(root) + Vector::new(eps);
                let new = old * Vector::new(keep) - Vector::new(rate) * (first / root);
                p[i] = new;
                sum += (new - old) * (new - old);
            }
        }
    }
    let sum = sum_of_cube(total(sum), &mut shared);
    if UNIT_POS_X == 0 && CUBE_POS < cubes as usize {
        moved[at as usize + CUBE_POS] = sum;
    }
}

/// Writes p, m and v of each slot, all contiguous f32 tensors that nobody else may see; Σ (change of p)² as `[1]`.
pub(super) fn update<R: CubeRuntime>(
    slots: &[Slot<CubeTensor<R>>],
    factor: &CubeTensor<R>,
    step: AdamWStep,
) -> CubeTensor<R> {
    let places = slots.iter().map(|s| Whole::of(&s.p).cubes).sum::<usize>();
    let moved = empty(factor, Shape::from([places]), DType::F32);
    let mut at = 0;
    for slot in slots {
        let whole = Whole::of(&slot.p);
        let (count, dim) = whole.launch();
        let AdamWFactors { beta1, rest1, beta2, rest2, keep, rate, root, eps } =
            step.factors(slot.weight_decay, slot.lr_ratio);
        let address = address(&[&slot.p]);
        let [p, g, m, v, factor, moved] =
            [&slot.p, &slot.g, &slot.m, &slot.v, factor, &moved].map(|t| t.clone().into_array_arg());
        adamw::launch::<R>(
            &slot.p.client,
            count,
            dim,
            address,
            whole.vector,
            p,
            g,
            m,
            v,
            factor,
            moved,
            at as u32,
            whole.cubes as u32,
            beta1,
            rest1,
            beta2,
            rest2,
            keep,
            rate,
            root,
            eps,
            ITEMS,
        );
        at += whole.cubes;
    }
    sum(moved)
}
