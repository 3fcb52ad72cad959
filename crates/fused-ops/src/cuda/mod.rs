//! What NVIDIA's GPUs have besides CubeCL's kernels: cuBLASLt for products, and flash attention in CUDA C.

mod attention;
mod blas;
mod plan;

use burn_cubecl::cubecl::cuda::CudaRuntime;
use burn_cubecl::tensor::CubeTensor;
use cudarc::driver::result as driver;

use crate::cube::product::{Epilogue, Product};
use crate::cube::{Accelerator, Attention};
use crate::{DeviceMemory, KeptAttention};

/// Whether there is a driver: without one a first call ends the thread that makes it.
pub fn has_driver() -> bool {
    // SAFETY: opens the library by its name, and closes it.
    unsafe { cudarc::driver::sys::is_culib_present() }
}

/// What compiled kernels depend on besides their sources: the release of the driver and the devices' generations.
pub fn kind() -> String {
    use cudarc::driver::sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let mut kind = format!("cuda-{}", blas::driver_version());
    if !has_driver() || driver::init().is_err() {
        return kind;
    }
    for ordinal in 0..driver::device::get_count().unwrap_or(0) {
        // SAFETY: a device that exists.
        let number = |attribute| unsafe {
            driver::device::get(ordinal)
                .and_then(|device| driver::device::get_attribute(device, attribute))
                .unwrap_or(0)
        };
        kind += &format!("-sm{}{}", number(MAJOR), number(MINOR));
    }
    kind
}

impl Accelerator for CudaRuntime {
    fn gives_row_sums() -> bool {
        blas::gives_row_sums()
    }

    fn product(
        product: &Product<Self>,
        out: &CubeTensor<Self>,
        epilogue: Epilogue<'_, Self>,
        accumulate: bool,
    ) -> bool {
        blas::product(product, out, epilogue, accumulate)
    }

    fn memory(device: &Self::Device) -> Option<DeviceMemory> {
        let ordinal = i32::try_from(device.index).ok()?;
        if !has_driver() {
            return None;
        }
        driver::init().ok()?;
        let device = driver::device::get(ordinal).ok()?;
        // SAFETY: the device exists; its primary context is retained, made this thread's for the question, and given back.
        unsafe {
            let before = driver::ctx::get_current().ok()?;
            let context = driver::primary_ctx::retain(device).ok()?;
            let memory = driver::ctx::set_current(context).and_then(|()| driver::mem_get_info()).ok();
            driver::ctx::set_current(before.unwrap_or(std::ptr::null_mut())).ok()?;
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
