//! Cross-entropy of a chunk of logits, which become their own gradient: one cube a row.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::reduce::{max_of_cube, rows, shared_values, sum_of_cube};
use super::{address, by_type, dims2, empty, own};

/// Each row's loss; with `gradients` the logits become their own gradient, `(softmax − onehot)·scale`.
#[cube(launch, address_type = "dynamic")]
fn row_losses<E: Float>(
    logits: &mut Array<E>,
    targets: &Array<i32>,
    losses: &mut Array<f32>,
    scale: f32,
    vocabulary: u32,
    rows: u32,
    #[comptime] gradients: bool,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let vocabulary = vocabulary as usize;
    let mut shared = shared_values();
    let from = row * vocabulary;
    let target = targets[row];
    let mut max = f32::cast_from(logits[from]);
    let mut c = UNIT_POS_X as usize;
    while c < vocabulary {
        let v = f32::cast_from(logits[from + c]);
        if v > max {
            max = v;
        }
        c += CUBE_DIM_X as usize;
    }
    let max = max_of_cube(max, &mut shared);
    let mut sum = f32::new(0.0);
    let mut c = UNIT_POS_X as usize;
    while c < vocabulary {
        sum += (f32::cast_from(logits[from + c]) - max).exp();
        c += CUBE_DIM_X as usize;
    }
    let sum = sum_of_cube(sum, &mut shared);
    if UNIT_POS_X == 0 {
        let mut loss = f32::new(0.0);
        if target >= 0 {
            loss = max + sum.ln() - f32::cast_from(logits[from + target as usize]);
        }
        losses[row] = loss;
    }
    if gradients {
        // The loss reads a logit that its gradient replaces.
        sync_cube();
        let factor = scale / sum;
        let mut c = UNIT_POS_X as usize;
        while c < vocabulary {
            let mut v = f32::new(0.0);
            if target >= 0 {
                v = (f32::cast_from(logits[from + c]) - max).exp() * factor;
                if c == target as usize {
                    v -= scale;
                }
            }
            logits[from + c] = E::cast_from(v);
            c += CUBE_DIM_X as usize;
        }
    }
}

/// Each row's loss; and what the logits became: their gradient, with a scale.
pub(super) fn of_rows<R: CubeRuntime>(
    logits: CubeTensor<R>,
    targets: CubeTensor<R>,
    scale: Option<f32>,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let logits = own(logits);
    let [n, vocabulary] = dims2(&logits);
    let losses = empty(&logits, Shape::from([n]), DType::F32);
    let (count, dim) = rows(n, vocabulary);
    let (client, address) = (logits.client.clone(), address(&[&logits]));
    by_type!(E, logits.dtype => {
        row_losses::launch::<E, R>(
            &client,
            count,
            dim,
            address,
            logits.clone().into_array_arg(),
            targets.into_array_arg(),
            losses.clone().into_array_arg(),
            scale.unwrap_or(0.0),
            vocabulary as u32,
            n as u32,
            scale.is_some(),
        );
    });
    (losses, logits)
}
