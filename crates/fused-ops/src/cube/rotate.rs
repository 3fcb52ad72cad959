//! From packed q, k, v to heads with rotary embedding, and back: one unit an element.

use burn::tensor::{DType, Shape, TensorMetadata as _};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::{address, by_type, elements, empty};
use crate::{AttentionShape, Precision};

/// Feature d of the head that begins at `from`, rotated by the angle of position t times `direction` (±1).
#[cube]
fn rotated<E: Float>(
    x: &Array<E>,
    from: usize,
    d: usize,
    t: usize,
    cos: &Array<f32>,
    sin: &Array<f32>,
    direction: f32,
    #[comptime] half: usize,
) -> f32 {
    let mut v = f32::cast_from(x[from + d]);
    if d < 2 * half {
        // The pairs are (i, i + R/2).
        let mut pair = d + half;
        let mut angle = t * half + d;
        let mut sign = f32::new(0.0) - direction;
        if d >= half {
            pair = d - half;
            angle = t * half + d - half;
            sign = direction;
        }
        v = v * cos[angle] + f32::cast_from(x[from + pair]) * sin[angle] * sign;
    }
    v
}

/// Packed `[B·T, H·3·D]` → q, k, v `[B, H, T, D]`, q and k rotated.
#[cube(launch, address_type = "dynamic")]
fn split_and_rotate<I: Float, E: Float>(
    qkv: &Array<I>,
    cos: &Array<f32>,
    sin: &Array<f32>,
    q: &mut Array<E>,
    k: &mut Array<E>,
    v: &mut Array<E>,
    time: u32,
    heads: u32,
    #[comptime] head_dim: usize,
    #[comptime] half: usize,
) {
    if ABSOLUTE_POS < q.len() {
        let (time, heads) = (time as usize, heads as usize);
        let d = ABSOLUTE_POS % head_dim;
        let t = ABSOLUTE_POS / head_dim % time;
        let h = ABSOLUTE_POS / (head_dim * time) % heads;
        let b = ABSOLUTE_POS / (head_dim * time * heads);
        let from = ((b * time + t) * heads + h) * 3 * head_dim;
        let forward = f32::new(1.0);
        q[ABSOLUTE_POS] = E::cast_from(rotated(qkv, from, d, t, cos, sin, forward, half));
        k[ABSOLUTE_POS] = E::cast_from(rotated(qkv, from + head_dim, d, t, cos, sin, forward, half));
        v[ABSOLUTE_POS] = E::cast_from(f32::cast_from(qkv[from + 2 * head_dim + d]));
    }
}

/// The gradient of [`split_and_rotate`]: the inverse rotation is the rotation by the opposite angle.
#[cube(launch, address_type = "dynamic")]
fn join_and_rotate_back<I: Float, E: Float>(
    gq: &Array<E>,
    gk: &Array<E>,
    gv: &Array<E>,
    cos: &Array<f32>,
    sin: &Array<f32>,
    gqkv: &mut Array<I>,
    time: u32,
    heads: u32,
    #[comptime] head_dim: usize,
    #[comptime] half: usize,
) {
    if ABSOLUTE_POS < gq.len() {
        let (time, heads) = (time as usize, heads as usize);
        let d = ABSOLUTE_POS % head_dim;
        let t = ABSOLUTE_POS / head_dim % time;
        let h = ABSOLUTE_POS / (head_dim * time) % heads;
        let b = ABSOLUTE_POS / (head_dim * time * heads);
        let from = ABSOLUTE_POS - d;
        let to = ((b * time + t) * heads + h) * 3 * head_dim;
        let back = f32::new(-1.0);
        gqkv[to + d] = I::cast_from(rotated(gq, from, d, t, cos, sin, back, half));
        gqkv[to + head_dim + d] = I::cast_from(rotated(gk, from, d, t, cos, sin, back, half));
        gqkv[to + 2 * head_dim + d] = I::cast_from(f32::cast_from(gv[ABSOLUTE_POS]));
    }
}

/// q, k and v `[B, H, T, D]` in the type of products, q and k rotated.
pub(super) fn split<R: CubeRuntime>(
    qkv: CubeTensor<R>,
    cos: CubeTensor<R>,
    sin: CubeTensor<R>,
    s: AttentionShape,
    precision: Precision,
) -> [CubeTensor<R>; 3] {
    let (qkv, cos, sin) = (into_contiguous(qkv), into_contiguous(cos), into_contiguous(sin));
    let dtype = if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
    let shape = Shape::from([s.batch, s.heads, s.time, s.head_dim]);
    let out = [0, 1, 2].map(|_| empty(&qkv, shape.clone(), dtype));
    let (count, dim) = elements(&qkv, shape.num_elements());
    let address = address(&[&qkv]);
    let client = qkv.client.clone();
    by_type!(I, qkv.dtype => by_type!(E, dtype => {
        let [q, k, v] = out.clone().map(CubeTensor::into_array_arg);
        let (qkv, cos, sin) = (qkv.into_array_arg(), cos.into_array_arg(), sin.into_array_arg());
        let (time, heads, half) = (s.time as u32, s.heads as u32, s.rotary_dims / 2);
        split_and_rotate::launch::<I, E, R>(
            &client, count, dim, address, qkv, cos, sin, q, k, v, time, heads, s.head_dim, half,
        );
    }));
    out
}

/// The gradient of the packed input, in its type, from those of q, k and v.
pub(super) fn join<R: CubeRuntime>(
    gradients: [CubeTensor<R>; 3],
    cos: CubeTensor<R>,
    sin: CubeTensor<R>,
    s: AttentionShape,
    dtype: DType,
) -> CubeTensor<R> {
    let [gq, gk, gv] = gradients.map(into_contiguous);
    let (cos, sin) = (into_contiguous(cos), into_contiguous(sin));
    let out = empty(&gq, Shape::from([s.batch * s.time, s.heads * 3 * s.head_dim]), dtype);
    let (count, dim) = elements(&gq, gq.shape().num_elements());
    let address = address(&[&out]);
    let client = gq.client.clone();
    by_type!(I, dtype => by_type!(E, gq.dtype => {
        let [gq, gk, gv] = [gq, gk, gv].map(CubeTensor::into_array_arg);
        let (cos, sin, out) = (cos.into_array_arg(), sin.into_array_arg(), out.clone().into_array_arg());
        let (time, heads, half) = (s.time as u32, s.heads as u32, s.rotary_dims / 2);
        join_and_rotate_back::launch::<I, E, R>(
            &client, count, dim, address, gq, gk, gv, cos, sin, out, time, heads, s.head_dim, half,
        );
    }));
    out
}
