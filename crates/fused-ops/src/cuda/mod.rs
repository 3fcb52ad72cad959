//! What NVIDIA's GPUs have besides CubeCL's kernels: cuBLASLt for products, and flash attention in CUDA C.

mod attention;
mod blas;

use burn_cubecl::cubecl::cuda::CudaRuntime;
use burn_cubecl::tensor::CubeTensor;
use cudarc::driver::result as driver;

use crate::{DeviceMemory, KeptAttention};
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

    fn memory(device: &Self::Device) -> Option<DeviceMemory> {
        let ordinal = i32::try_from(device.index).ok()?;
        driver::init().ok()?;
        let device = driver::device::get(ordinal).ok()?;
        // SAFETY: the device exists; its primary context is retained, made this thread's, and given back.
        unsafe {
            let context = driver::primary_ctx::retain(device).ok()?;
            driver::ctx::set_current(context).ok()?;
            let memory = driver::mem_get_info().ok();
            driver::primary_ctx::release(device).ok()?;
            memory.map(|(free, total)| DeviceMemory { free: free as u64, total: total as u64 })
        }
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
