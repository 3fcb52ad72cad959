//! The residual sum, one unit an element.

use burn::tensor::{DType, TensorMetadata as _};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{address, by_type, elements, empty};

#[cube(launch, address_type = "dynamic")]
fn residual_sum<A: Float, X: Float>(
    a: &Array<A>,
    b: &Array<A>,
    x: &Array<X>,
    y: &mut Array<f32>,
    #[comptime] with_b: bool,
) {
    if ABSOLUTE_POS < y.len() {
        let mut sum = f32::cast_from(a[ABSOLUTE_POS]);
        if with_b {
            sum += f32::cast_from(b[ABSOLUTE_POS]);
        }
        y[ABSOLUTE_POS] = sum + f32::cast_from(x[ABSOLUTE_POS]);
    }
}

/// `(a + b) + x` in f32; b has a's type.
pub(super) fn sum<R: CubeRuntime>(a: CubeTensor<R>, b: Option<CubeTensor<R>>, x: CubeTensor<R>) -> CubeTensor<R> {
    let y = empty(&a, a.shape(), DType::F32);
    let (count, dim) = elements(&a, a.shape().num_elements());
    let client = a.client.clone();
    let (address, with_b) = (address(&[&a, &y]), b.is_some());
    by_type!(A, a.dtype => by_type!(X, x.dtype => {
        // Without b, a stands in for it and is not read a second time.
        let b = b.unwrap_or_else(|| a.clone()).into_array_arg();
        let (a, x, y) = (a.into_array_arg(), x.into_array_arg(), y.clone().into_array_arg());
        residual_sum::launch::<A, X, R>(&client, count, dim, address, a, b, x, y, with_b);
    }));
    y
}
