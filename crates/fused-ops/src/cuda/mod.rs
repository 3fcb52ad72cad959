//! What NVIDIA's GPUs have besides CubeCL's kernels: cuBLASLt for products, and flash attention in CUDA C.

mod attention;
mod blas;

use burn_cubecl::cubecl::cuda::CudaRuntime;
use burn_cubecl::tensor::CubeTensor;

use crate::KeptAttention;
use crate::cube::product::Product;
use crate::cube::{Accelerator, Attention};

pub use self::blas::library as product_library;

impl Accelerator for CudaRuntime {
    fn product(
        product: &Product<Self>,
        out: &CubeTensor<Self>,
        bias: Option<&CubeTensor<Self>>,
        accumulate: bool,
    ) -> bool {
        blas::product(product, out, bias, accumulate)
    }

    fn attention(x: &Attention<Self>) -> Option<KeptAttention<CubeTensor<Self>>> {
        attention::forward(x)
    }

    fn attention_backward(
        x: &Attention<Self>,
        kept: &KeptAttention<CubeTensor<Self>>,
        g: CubeTensor<Self>,
    ) -> CubeTensor<Self> {
        attention::backward(x, kept, g)
    }
}
