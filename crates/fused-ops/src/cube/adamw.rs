//! AdamW in place, and the factor that clips its gradients.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::reduce::{ITEMS, Whole, groups, shared_values, sum, sum_of_cube, tensors_of_launch, total};
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

/// What an update is made of, the same for all tensors of a launch.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Rates {
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    root: f32,
    eps: f32,
}

/// One update of the elements of a cube, `first` and every `units`-th of `items` from there; the sum of their squared changes.
#[cube]
fn update_elements<N: Size>(
    p: &mut Array<Vector<f32, N>>,
    g: &Array<Vector<f32, N>>,
    m: &mut Array<Vector<f32, N>>,
    v: &mut Array<Vector<f32, N>>,
    first: usize,
    factor: f32,
    keep: f32,
    rate: f32,
    rates: &Rates,
    #[comptime] items: usize,
) -> Vector<f32, N> {
    let mut sum = Vector::<f32, N>::new(0.0);
    for item in 0..items {
        let i = first + item * CUBE_DIM_X as usize;
        if i < p.len() {
            let gradient = g[i] * Vector::new(factor);
            let first = m[i] * Vector::new(rates.beta1) + gradient * Vector::new(rates.rest1);
            let second = v[i] * Vector::new(rates.beta2) + gradient * gradient * Vector::new(rates.rest2);
            m[i] = first;
            v[i] = second;
            let old = p[i];
            let root = Vector::sqrt(second) * Vector::new(rates.root) + Vector::new(rates.eps);
            let new = old * Vector::new(keep) - Vector::new(rate) * (first / root);
            p[i] = new;
            sum += (new - old) * (new - old);
        }
    }
    sum
}

/// One AdamW update of some tensors in place, cubes `begins[i]..begins[i + 1]` for the i-th; Σ (change of p)² of each cube's
/// elements, from place `at` of `moved` on.
#[cube(launch, address_type = "dynamic")]
fn adamw<N: Size>(
    p: &mut Sequence<Array<Vector<f32, N>>>,
    g: &Sequence<Array<Vector<f32, N>>>,
    m: &mut Sequence<Array<Vector<f32, N>>>,
    v: &mut Sequence<Array<Vector<f32, N>>>,
    keep: &Sequence<f32>,
    rate: &Sequence<f32>,
    begins: &Sequence<u32>,
    factor: &Array<f32>,
    moved: &mut Array<f32>,
    rates: Rates,
    at: u32,
    #[comptime] items: usize,
) {
    let mut shared = shared_values();
    let factor = factor[0];
    let cube = CUBE_POS as u32;
    let mut sum = f32::new(0.0);
    if is_finite(factor) {
        #[unroll]
        for i in 0..p.len() {
            let begin = *begins.index(i);
            if cube >= begin && cube < *begins.index(comptime!(i + 1)) {
                let first = (cube - begin) as usize * CUBE_DIM_X as usize * items + UNIT_POS_X as usize;
                let changes = update_elements(
                    p.index_mut(i),
                    g.index(i),
                    m.index_mut(i),
                    v.index_mut(i),
                    first,
                    factor,
                    *keep.index(i),
                    *rate.index(i),
                    &rates,
                    items,
                );
                sum = total(changes);
            }
        }
    }
    let sum = sum_of_cube(sum, &mut shared);
    if UNIT_POS_X == 0 && cube < *begins.index(p.len()) {
        moved[at as usize + CUBE_POS] = sum;
    }
}

/// Writes p, m and v of each slot, all contiguous f32 tensors that nobody else may see; Σ (change of p)² as `[1]`.
pub(super) fn update<R: CubeRuntime>(
    slots: &[Slot<CubeTensor<R>>],
    factor: &CubeTensor<R>,
    step: AdamWStep,
) -> CubeTensor<R> {
    let wholes: Vec<Whole> = slots.iter().map(|s| Whole::of(&s.p)).collect();
    let moved = empty(factor, Shape::from([wholes.iter().map(|w| w.cubes).sum::<usize>()]), DType::F32);
    let mut at = 0;
    for group in groups(&wholes, tensors_of_launch(factor, 4)) {
        let (slots, wholes) = (&slots[group.clone()], &wholes[group]);
        let factors: Vec<AdamWFactors> = slots.iter().map(|s| step.factors(s.weight_decay, s.lr_ratio)).collect();
        let AdamWFactors { beta1, rest1, beta2, rest2, root, eps, .. } = factors[0];
        let address = address(&slots.iter().map(|s| &s.p).collect::<Vec<_>>());
        let (launch, begins) = Whole::together(wholes);
        let all = |of: fn(&Slot<CubeTensor<R>>) -> &CubeTensor<R>| {
            slots.iter().map(|s| of(s).clone().into_array_arg()).collect::<SequenceArg<R, _>>()
        };
        adamw::launch::<R>(
            &factor.client,
            launch.0,
            launch.1,
            address,
            wholes[0].vector,
            all(|s| &s.p),
            all(|s| &s.g),
            all(|s| &s.m),
            all(|s| &s.v),
            factors.iter().map(|f| f.keep).collect(),
            factors.iter().map(|f| f.rate).collect(),
            begins.iter().copied().collect(),
            factor.clone().into_array_arg(),
            moved.clone().into_array_arg(),
            RatesLaunch::new(beta1, rest1, beta2, rest2, root, eps),
            at,
            ITEMS,
        );
        at += begins.last().copied().unwrap_or(0);
    }
    sum(moved)
}
