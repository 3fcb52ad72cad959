//! The residual sum.

use burn::tensor::{DType, TensorMetadata as _};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{address, by_type, elements, empty, vector};

#[cube(launch, address_type = "dynamic")]
fn residual_sum<A: Float, X: Float, N: Size>(
    a: &Array<Vector<A, N>>,
    b: &Array<Vector<A, N>>,
    x: &Array<Vector<X, N>>,
    y: &mut Array<Vector<f32, N>>,
    #[comptime] with_b: bool,
) {
    if ABSOLUTE_POS < y.len() {
        let mut sum = Vector::<f32, N>::cast_from(a[ABSOLUTE_POS]);
        if with_b {
            sum += Vector::cast_from(b[ABSOLUTE_POS]);
        }
        y[ABSOLUTE_POS] = sum + Vector::cast_from(x[ABSOLUTE_POS]);
    }
}

/// `(a + b) + x` in f32; b has a's type.
pub(super) fn sum<R: CubeRuntime>(a: CubeTensor<R>, b: Option<CubeTensor<R>>, x: CubeTensor<R>) -> CubeTensor<R> {
    let y = empty(&a, a.shape(), DType::F32);
    let len = a.shape().num_elements();
    let vector = vector(&a, len, &[DType::F32]);
    let (count, dim) = elements(&a, len / vector);
    let client = a.client.clone();
    let (address, with_b) = (address(&[&a, &y]), b.is_some());
    by_type!(A, a.dtype => by_type!(X, x.dtype => {
        // Without b, a stands in for it and is not read a second time.
        let b = b.unwrap_or_else(|| a.clone()).into_array_arg();
        let (a, x, y) = (a.into_array_arg(), x.into_array_arg(), y.clone().into_array_arg());
        residual_sum::launch::<A, X, R>(&client, count, dim, address, vector, a, b, x, y, with_b);
    }));
    y
}
