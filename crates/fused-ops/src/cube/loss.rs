//! Cross-entropy of a chunk of logits, which become their own gradient.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::reduce::{Rows, max_of_row, row_of_unit, rows, shared_values, sum_of_row, total};
use super::{address, by_type, dims2, empty, own, vector};

/// Smaller than any logit.
const LEAST: f32 = f32::MIN;

/// Each row's loss; with `gradients` the logits become their own gradient, `(softmax − onehot)·scale`.
///
/// 1. Each unit goes over its columns once: the greatest logit so far, and the sum of exponentials relative to it.
/// 2. The units' sums are brought to the row's greatest logit and added.
/// 3. A second time over the columns for the gradients.
#[cube(launch, address_type = "dynamic")]
fn row_losses<E: Float, N: Size>(
    logits: &mut Array<Vector<E, N>>,
    targets: &Array<i32>,
    losses: &mut Array<f32>,
    scale: f32,
    reads: u32,
    rows: u32,
    #[comptime] gradients: bool,
    #[comptime] plane: bool,
) {
    let row = row_of_unit();
    if row >= rows as usize {
        terminate!();
    }
    let reads = reads as usize;
    let mut shared = shared_values();
    let from = row * reads;
    let target = targets[row];
    let mut peak = f32::new(LEAST);
    let mut sum = f32::new(0.0);
    let mut c = UNIT_POS_X as usize;
    while c < reads {
        let values = Vector::<f32, N>::cast_from(logits[from + c]);
        let mut greatest = values[0];
        #[unroll]
        for k in 1..values.size() {
            if values[k] > greatest {
                greatest = values[k];
            }
        }
        if greatest > peak {
            sum *= (peak - greatest).exp();
            peak = greatest;
        }
        sum += total((values - Vector::new(peak)).exp());
        c += CUBE_DIM_X as usize;
    }
    let max = max_of_row(peak, &mut shared, plane);
    let sum = sum_of_row(sum * (peak - max).exp(), &mut shared, plane);
    if UNIT_POS_X == 0 {
        let mut loss = f32::new(0.0);
        if target >= 0 {
            let width = logits[from].size();
            let place = target as usize;
            let values = Vector::<f32, N>::cast_from(logits[from + place / width]);
            let mut at = values[0];
            #[unroll]
            for k in 1..values.size() {
                if place % width == k {
                    at = values[k];
                }
            }
            loss = max + sum.ln() - at;
        }
        losses[row] = loss;
    }
    if gradients {
        // The loss reads a logit that its gradient replaces.
        if plane {
            sync_plane();
        } else {
            sync_cube();
        }
        let factor = scale / sum;
        let mut c = UNIT_POS_X as usize;
        while c < reads {
            let mut gradient = Vector::<f32, N>::new(0.0);
            if target >= 0 {
                let values = Vector::<f32, N>::cast_from(logits[from + c]);
                gradient = (values - Vector::new(max)).exp() * Vector::new(factor);
                let width = values.size();
                let first = c * width;
                let place = target as usize;
                #[unroll]
                for k in 0..values.size() {
                    if first + k == place {
                        gradient[k] -= scale;
                    }
                }
            }
            logits[from + c] = Vector::cast_from(gradient);
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
    let vector = vector(&logits, vocabulary, &[logits.dtype]);
    let reads = vocabulary / vector;
    let Rows { count, dim, plane } = rows(&logits, n, reads);
    let (client, address) = (logits.client.clone(), address(&[&logits]));
    by_type!(E, logits.dtype => {
        row_losses::launch::<E, R>(
            &client,
            count,
            dim,
            address,
            vector,
            logits.clone().into_array_arg(),
            targets.into_array_arg(),
            losses.clone().into_array_arg(),
            scale.unwrap_or(0.0),
            reads as u32,
            n as u32,
            scale.is_some(),
            plane,
        );
    });
    (losses, logits)
}
