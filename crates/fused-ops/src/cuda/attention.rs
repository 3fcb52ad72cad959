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

use crate::cube::{Attention, empty};
use crate::{AttentionShape, KeptAttention};

/// `#define ROTARY …` goes in front of it.
const SOURCE: &str = include_str!("attention.cu");
/// The head size that the kernels are written for.
const HEAD: usize = 64;
const THREADS: u32 = 128;

type Tensor = CubeTensor<CudaRuntime>;

/// A kernel of attention.cu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Entry {
    RotateQk,
    StartBounds,
    Forward,
    Delta,
    BackwardKv,
    BackwardQ,
}

impl Entry {
    /// (Not `name`: through `&self` the trait method of that name would win.)
    fn entry_point(self) -> &'static str {
        match self {
            Entry::RotateQk => "rotate_qk",
            Entry::StartBounds => "start_bounds",
            Entry::Forward => "attention_forward",
            Entry::Delta => "attention_delta",
            Entry::BackwardKv => "attention_backward_kv",
            Entry::BackwardQ => "attention_backward_q",
        }
    }

    fn shared_bytes(self) -> usize {
        match self {
            Entry::RotateQk | Entry::StartBounds | Entry::Delta => 0,
            Entry::Forward => 48 << 10,
            Entry::BackwardKv => (64 << 10) + 1536,
            Entry::BackwardQ => 64 << 10,
        }
    }

    fn grid(self, s: AttentionShape) -> CubeCount {
        let (b, h) = (s.batch as u32, s.heads as u32);
        let up = |n: usize, by: usize| n.div_ceil(by) as u32;
        match self {
            Entry::RotateQk => CubeCount::Static(up(s.batch * s.time * s.heads * 16, 128), 1, 1),
            Entry::StartBounds => CubeCount::Static(up(s.time.div_ceil(64), 4), b, 1),
            Entry::Delta => CubeCount::Static(up(s.batch * s.time * s.heads, 16), 1, 1),
            Entry::Forward | Entry::BackwardKv | Entry::BackwardQ => CubeCount::Static(up(s.time, 128), h, b),
        }
    }
}

/// An entry for some number of rotary features, which is a constant of the source. (NVRTC gets no options of ours.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kernel {
    entry: Entry,
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
        let (cube_dim, name, bytes) = (CubeDim::new_1d(THREADS), self.entry.entry_point(), self.entry.shared_bytes());
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
            source: format!("#define ROTARY {}\n{SOURCE}", self.rotary),
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

/// Whether the kernels are written for this device, type and shape.
fn fits(x: &Attention<CudaRuntime>) -> bool {
    let AttentionShape { batch, time, heads, head_dim, rotary_dims } = x.shape;
    // Asynchronous copies came with the generation of GPUs whose tensor cores take bf16.
    x.qkv.client.properties().features.copy_async
        && x.qkv.dtype == DType::BF16
        && head_dim == HEAD
        && rotary_dims.is_multiple_of(16)
        && time > 0
        // Places within a sequence are 32 bits, and grids have limits.
        && batch * time * heads * 16 < 1 << 32
        && time * heads * 3 * HEAD < 1 << 32
        && heads < 1 << 16
        && batch < 1 << 16
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
    client.launch(Box::new(Kernel { entry, rotary: x.shape.rotary_dims }), entry.grid(x.shape), arguments);
}

fn prepare(x: &Attention<CudaRuntime>) -> Prepared {
    let s = x.shape;
    let new = |shape: Vec<usize>, dtype| empty(&x.qkv, Shape::from(shape), dtype);
    let qk = new(vec![s.batch * s.time, s.heads, 2, HEAD], DType::BF16);
    let bounds = new(vec![s.batch, s.time.div_ceil(64), 2], DType::I32);
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
    let out = empty(&x.qkv, Shape::from([s.batch * s.time, s.heads * HEAD]), DType::BF16);
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
        let all =
            [Entry::RotateQk, Entry::StartBounds, Entry::Forward, Entry::Delta, Entry::BackwardKv, Entry::BackwardQ];
        for entry in all {
            let kernel = Kernel { entry, rotary: 16 };
            let (options, address) = (Default::default(), kernel.address_type());
            let mode = ExecutionMode::Unchecked;
            let compiled =
                CubeTask::<CudaCompiler>::compile(&kernel, &mut CudaCompiler::default(), &options, mode, address)
                    .unwrap();
            assert_eq!(compiled.repr.unwrap().shared_memory_size(), entry.shared_bytes());
            assert!(compiled.source.contains(&format!(" {}(", compiled.entrypoint_name)));
            assert!(compiled.source.starts_with("#define ROTARY 16\n"));
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
