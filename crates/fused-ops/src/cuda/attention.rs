//! Flash attention: `attention.cu`, compiled by NVRTC at first use, on CubeCL's stream.

use burn::tensor::{DType, Shape, TensorMetadata as _};
use burn_cubecl::cubecl::client::ComputeClient;
use burn_cubecl::cubecl::cuda::{CudaComputeKernel, CudaRuntime};
use burn_cubecl::cubecl::ir::{ElemType, Scope, StorageType, UIntKind};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::server::{KernelArguments, MetadataBindingInfo};
use burn_cubecl::cubecl::{CompilationError, Compiler, CubeTask};
use burn_cubecl::tensor::CubeTensor;
use cubecl_cpp::shared::{Elem, Item, SharedMemory};

use super::plan::{Entry, STEP, Sizes, THREADS};
use crate::cube::{Attention, empty};
use crate::{AttentionShape, KeptAttention};

/// `#define HEAD …` and `#define ROTARY …` go in front of it.
const SOURCE: &str = include_str!("attention.cu");

type Tensor = CubeTensor<CudaRuntime>;

/// An entry for heads of some number of features, and of rotary ones: constants of the source. (NVRTC gets no options of
/// ours.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kernel {
    entry: Entry,
    head: usize,
    rotary: usize,
}

impl KernelMetadata for Kernel {
    // The entry and its constant name the kernel: hashing the whole source at every launch would cost microseconds.
    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(*self).cube_dim(CubeDim::new_1d(THREADS))
    }

    fn address_type(&self) -> StorageType {
        ElemType::UInt(UIntKind::U32).into()
    }
}

impl<C: Compiler> CubeTask<C> for Kernel {
    fn compile(
        &self,
        compiler: &mut C,
        options: &C::CompilationOptions,
        mode: ExecutionMode,
        address: StorageType,
    ) -> Result<CompiledKernel<C>, CompilationError> {
        let (cube_dim, name, bytes) =
            (CubeDim::new_1d(THREADS), self.entry.entry_point(), self.entry.shared_bytes(self.head));
        let empty = KernelDefinition {
            buffers: vec![],
            tensor_maps: vec![],
            scalars: vec![],
            cube_dim,
            body: Scope::root(false),
            options: KernelOptions { kernel_name: name.into(), ..Default::default() },
        };
        let mut repr = compiler.compile(empty, options, mode, address)?;
        // CubeCL takes a kernel's shared memory from here, and asks the driver for it.
        if bytes > 0
            && let Some(cuda) = (&mut repr as &mut dyn std::any::Any).downcast_mut::<CudaComputeKernel>()
        {
            let (item, length) = (Item::scalar(Elem::F32, false), bytes / 4);
            cuda.body.shared_memories.push(SharedMemory::Array { index: 0, item, length, align: 128, offset: 0 });
        }
        Ok(CompiledKernel {
            entrypoint_name: name.into(),
            debug_name: None,
            source: format!("#define HEAD {}\n#define ROTARY {}\n{SOURCE}", self.head, self.rotary),
            repr: Some(repr),
            cube_dim,
            debug_info: None,
        })
    }
}

/// attention.cu's `Info`, four ints passed by value after the buffers. (`MetadataBindingInfo::custom` would not do: CubeCL
/// would pass its data a second time, as a buffer.)
fn info(s: AttentionShape, has_starts: bool) -> MetadataBindingInfo {
    let pair = |low: usize, high: usize| low as u64 | (high as u64) << 32;
    let data = vec![pair(s.batch, s.time), pair(s.heads, usize::from(has_starts))];
    let end = data.len();
    MetadataBindingInfo::new(data, end)
}

fn sizes(s: AttentionShape) -> Sizes {
    Sizes { batch: s.batch, time: s.time, heads: s.heads, head: s.head_dim, rotary: s.rotary_dims }
}

/// Whether the kernels are written for this device, type and shape.
fn fits(x: &Attention<CudaRuntime>) -> bool {
    let device = x.qkv.client.properties();
    // Asynchronous copies came with the generation of GPUs whose tensor cores take bf16.
    device.features.copy_async
        && x.qkv.dtype == DType::BF16
        && sizes(x.shape).fit()
        && Entry::ALL.iter().all(|e| e.shared_bytes(x.shape.head_dim) <= device.hardware.max_shared_memory_size)
}

/// What both passes start with.
struct Prepared {
    /// Rotated q and k, `[B·T, H, 2, D]`.
    qk: Tensor,
    /// The starts, or what stands in for them: it is not read.
    starts: Tensor,
    /// Least and greatest start of 64 positions, `[B, ⌈T/64⌉, 2]`.
    bounds: Tensor,
}

fn launch(client: &ComputeClient<CudaRuntime>, entry: Entry, x: &Attention<CudaRuntime>, buffers: &[&Tensor]) {
    let buffers = buffers.iter().map(|t| t.handle.clone().binding()).collect();
    let info = info(x.shape, x.starts.is_some());
    let arguments = KernelArguments::new().with_buffers(buffers).with_info(info);
    let kernel = Kernel { entry, head: x.shape.head_dim, rotary: x.shape.rotary_dims };
    let [across, down, deep] = entry.grid(sizes(x.shape));
    client.launch(Box::new(kernel), CubeCount::Static(across, down, deep), arguments);
}

fn prepare(x: &Attention<CudaRuntime>) -> Prepared {
    let s = x.shape;
    let new = |shape: Vec<usize>, dtype| empty(&x.qkv, Shape::from(shape), dtype);
    let qk = new(vec![s.batch * s.time, s.heads, 2, s.head_dim], DType::BF16);
    let bounds = new(vec![s.batch, s.time.div_ceil(STEP), 2], DType::I32);
    launch(&x.qkv.client, Entry::RotateQk, x, &[&x.qkv, &x.cos, &x.sin, &qk]);
    if let Some(starts) = &x.starts {
        launch(&x.qkv.client, Entry::StartBounds, x, &[starts, &bounds]);
    }
    Prepared { qk, starts: x.starts.clone().unwrap_or_else(|| bounds.clone()), bounds }
}

/// See [`Accelerator::attention`](crate::cube::Accelerator::attention).
pub(super) fn forward(x: &Attention<CudaRuntime>) -> Option<KeptAttention<Tensor>> {
    if !fits(x) {
        return None;
    }
    let s = x.shape;
    let out = empty(&x.qkv, Shape::from([s.batch * s.time, s.heads * s.head_dim]), DType::BF16);
    let log_sums = empty(&x.qkv, Shape::from([s.batch, s.heads, s.time]), DType::F32);
    let Prepared { qk, starts, bounds } = prepare(x);
    launch(&x.qkv.client, Entry::Forward, x, &[&qk, &x.qkv, &starts, &bounds, &out, &log_sums]);
    Some(KeptAttention { out, log_sums })
}

/// The gradient of qkv, bf16. q and k are rotated again, which costs less than keeping them.
pub(super) fn backward(x: &Attention<CudaRuntime>, kept: &KeptAttention<Tensor>, g: Tensor) -> Tensor {
    let KeptAttention { out, log_sums } = kept;
    let delta = empty(&x.qkv, log_sums.shape(), DType::F32);
    let gqkv = empty(&x.qkv, x.qkv.shape(), DType::BF16);
    let Prepared { qk, starts, bounds } = prepare(x);
    let client = &x.qkv.client;
    launch(client, Entry::Delta, x, &[out, &g, &delta]);
    let arguments = [&qk, &x.qkv, &g, log_sums, &delta, &starts, &bounds, &x.cos, &x.sin, &gqkv];
    launch(client, Entry::BackwardKv, x, &arguments);
    launch(client, Entry::BackwardQ, x, &arguments);
    gqkv
}

#[cfg(test)]
mod tests {
    use burn_cubecl::cubecl::cuda::CudaCompiler;

    use super::*;

    #[test]
    fn kernels_compile_without_a_gpu() {
        for (head, entry) in [32, 64, 96, 128].into_iter().flat_map(|head| Entry::ALL.map(|entry| (head, entry))) {
            let kernel = Kernel { entry, head, rotary: 16 };
            let (options, address) = (Default::default(), kernel.address_type());
            let mode = ExecutionMode::Unchecked;
            let compiled =
                CubeTask::<CudaCompiler>::compile(&kernel, &mut CudaCompiler::default(), &options, mode, address)
                    .unwrap();
            assert_eq!(compiled.repr.unwrap().shared_memory_size(), entry.shared_bytes(head));
            assert!(compiled.source.contains(&format!(" {}(", compiled.entrypoint_name)));
            assert!(compiled.source.starts_with(&format!("#define HEAD {head}\n#define ROTARY 16\n")));
        }
    }

    #[test]
    fn info_is_four_ints() {
        let shape = AttentionShape { batch: 2, time: 3, heads: 4, head_dim: 64, rotary_dims: 16 };
        let bytes: Vec<u8> = info(shape, true).data.iter().flat_map(|x| x.to_ne_bytes()).collect();
        let ints: Vec<i32> = bytes.chunks(4).map(|c| i32::from_ne_bytes(c.try_into().unwrap())).collect();
        assert_eq!(ints, [2, 3, 4, 1]);
    }
}
