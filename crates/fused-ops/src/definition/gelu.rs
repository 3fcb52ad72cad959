//! The activation, element by element, in f32.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, activation};

use super::{cast, wide};
use crate::Gelu;

pub(crate) fn forward<B: Backend>(x: Tensor<B, 2>, kind: Gelu) -> Tensor<B, 2> {
    let dtype = x.dtype();
    let x = wide(x);
    let y = match kind {
        Gelu::Exact => activation::gelu(x),
        Gelu::Tanh => activation::gelu_approximate(x),
    };
    cast(y, dtype)
}

/// burn's own backward of the exact form is the tanh form's derivative on some backends.
pub(crate) fn backward<B: Backend>(x: Tensor<B, 2>, g: Tensor<B, 2>, kind: Gelu) -> Tensor<B, 2> {
    let dtype = x.dtype();
    let x = wide(x);
    let slope = match kind {
        Gelu::Exact => {
            let cdf = ((x.clone() * std::f32::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
            let pdf = (x.clone() * x.clone() * -0.5).exp() * 0.398_942_3;
            cdf + x * pdf
        }
        Gelu::Tanh => {
            const ROOT: f32 = 0.797_884_6; // √(2/π)
            let x2 = x.clone() * x.clone();
            let th = ((x.clone() * (x2.clone() * 0.044_715 + 1.0)) * ROOT).tanh();
            let sech2 = (th.clone() * th.clone()).neg() + 1.0;
            (th + 1.0) * 0.5 + x * sech2 * (x2 * (3.0 * 0.044_715) + 1.0) * (0.5 * ROOT)
        }
    };
    cast(wide(g) * slope, dtype)
}
