//! The generic definitions: what any backend runs, and what tests compare the fast paths with.

pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod gelu;
pub(crate) mod head;
pub(crate) mod linear;
pub(crate) mod norm;

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, TensorPrimitive};

use crate::Precision;

pub(crate) fn float<B: Backend, const D: usize>(t: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(t))
}

pub(crate) fn prim<B: Backend, const D: usize>(t: Tensor<B, D>) -> FloatTensor<B> {
    t.into_primitive().tensor()
}

/// The tensor in another type; itself where it has that type.
pub(crate) fn cast<B: Backend, const D: usize>(t: Tensor<B, D>, dtype: DType) -> Tensor<B, D> {
    if t.dtype() == dtype { t } else { t.cast(dtype) }
}

/// The tensor in f32.
pub(crate) fn wide<B: Backend, const D: usize>(t: Tensor<B, D>) -> Tensor<B, D> {
    cast(t, DType::F32)
}

/// The tensor in the type of matrix products.
pub(crate) fn factor<B: Backend, const D: usize>(t: Tensor<B, D>, precision: Precision) -> Tensor<B, D> {
    match precision {
        Precision::F32 => t,
        Precision::Bf16 => cast(t, DType::BF16),
    }
}
