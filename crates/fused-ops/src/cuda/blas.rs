//! Matrix products by cuBLASLt, which is opened at run time, on a stream of its own.
//!
//! CubeCL does not tell its stream. So each product is ordered against it by events of the whole context:
//!
//! 1. cuBLASLt's stream waits for all work that the context has been given so far.
//! 2. The product is queued on it.
//! 3. All later work of the context waits for the product.
//!
//! This runs on CubeCL's thread for the device, so that nothing else is queued in between. Memory that CubeCL gives to
//! later kernels is written after step 3.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::OnceLock;

use burn::tensor::{DType, TensorMetadata as _};
use burn_cubecl::cubecl::client::ComputeClient;
use burn_cubecl::cubecl::cuda::CudaRuntime;
use burn_cubecl::cubecl::server::Handle;
use burn_cubecl::tensor::CubeTensor;
use cudarc::cublaslt::{result as lt, sys};
use cudarc::driver::{result as driver, sys as cu};

use crate::cube::product::{Epilogue, Product, Side};

/// What cuBLASLt may use between its kernels; NVIDIA's advice for Hopper.
const WORKSPACE: usize = 32 << 20;

/// How cuBLASLt is used: `off` computes products with CubeCL's own kernels, which are tuned where they are first met;
/// `bias-gradients` also leaves those gradients of biases to it that are not summed where they are made (in a block qkv's), as an
/// epilogue of their weights' (never run on a GPU so far).
const SWITCH: &str = "MIDTRAIN_CUBLASLT";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Off,
    Products,
    BiasGradients,
}

fn chosen() -> Use {
    static CHOSEN: OnceLock<Use> = OnceLock::new();
    *CHOSEN.get_or_init(|| match std::env::var(SWITCH).as_deref() {
        Ok("off") => Use::Off,
        Ok("bias-gradients") => Use::BiasGradients,
        Ok("" | "on") | Err(_) => Use::Products,
        Ok(other) => {
            log::warn!("{SWITCH}={other} is none of off, on, bias-gradients: on");
            Use::Products
        }
    })
}

/// The first CUDA release (12.5) with events of a whole context, as its driver counts.
const DRIVER: i32 = 12_050;

/// 0 without a driver.
pub(super) fn driver_version() -> i32 {
    if !super::has_driver() {
        return 0;
    }
    let mut version = 0;
    // SAFETY: writes one integer.
    match unsafe { cu::cuDriverGetVersion(&raw mut version) }.result() {
        Ok(()) => version,
        Err(_) => 0,
    }
}

/// Whether cuBLASLt can be used.
fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        if chosen() == Use::Off {
            return false;
        }
        // SAFETY: opens the library by its name, and closes it; it has no initialiser with conditions.
        let found = unsafe { sys::is_culib_present() };
        let driver = driver_version();
        if !found || driver < DRIVER {
            let why = if found {
                format!("the driver is of CUDA {driver}, not {DRIVER}")
            } else {
                "libcublasLt was not found".into()
            };
            log::warn!("{why}: products use CubeCL's kernels, which are tuned at first (minutes)");
        }
        found && driver >= DRIVER
    })
}

/// A matrix in memory, as a kernel is chosen by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Stored {
    batch: usize,
    rows: usize,
    cols: usize,
    apart: usize,
    transposed: bool,
    dtype: DType,
    /// The largest power of two up to 256 that divides its address.
    alignment: u64,
}

/// What a product's kernel depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    a: Stored,
    b: Stored,
    out: Stored,
    vector: Vector,
    accumulate: bool,
}

/// The vector that a product reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Vector {
    None,
    Bias,
    RowSums,
}

/// The library's descriptions of a product, and the kernel that it chose. They live as long as the process.
struct Plan {
    product: sys::cublasLtMatmulDesc_t,
    a: sys::cublasLtMatrixLayout_t,
    b: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

/// The library on one device.
struct Blas {
    handle: sys::cublasLtHandle_t,
    context: cu::CUcontext,
    stream: cu::CUstream,
    before: cu::CUevent,
    after: cu::CUevent,
    workspace: cu::CUdeviceptr,
    /// None: the library has no kernel.
    plans: HashMap<Key, Option<Plan>>,
}

thread_local! {
    /// On CubeCL's thread of a device: its library, or none where it could not be set up.
    static BLAS: RefCell<HashMap<usize, Option<Blas>>> = RefCell::new(HashMap::new());
}

/// Whether the gradients of biases are asked of the library.
pub(super) fn gives_row_sums() -> bool {
    chosen() == Use::BiasGradients && available()
}

/// See [`Accelerator::product`](crate::cube::Accelerator::product).
pub(super) fn product(
    product: &Product<CudaRuntime>,
    out: &CubeTensor<CudaRuntime>,
    epilogue: Epilogue<'_, CudaRuntime>,
    accumulate: bool,
) -> bool {
    let (kind, vector) = match epilogue {
        Epilogue::None => (Vector::None, None),
        Epilogue::Bias(t) => (Vector::Bias, Some(t.handle.clone())),
        Epilogue::RowSums(t) => (Vector::RowSums, Some(t.handle.clone())),
    };
    // In f32 there is no such epilogue.
    if kind == Vector::RowSums && product.a.tensor.dtype != DType::BF16 {
        return false;
    }
    if !available() || out.shape().num_elements() == 0 || product.a.size()[1] == 0 {
        return false;
    }
    let (a, b, out) =
        (stored(&product.a), stored(&product.b), stored(&Side { tensor: out.clone(), transposed: false }));
    if a.0.batch != b.0.batch {
        return false;
    }
    let (client, device) = (product.a.tensor.client.clone(), product.a.tensor.device.index);
    let inner = client.clone();
    let done = client.exclusive(move || {
        BLAS.with_borrow_mut(|devices| {
            let blas = devices.entry(device).or_insert_with(|| match Blas::new(device) {
                Ok(blas) => Some(blas),
                Err(reason) => {
                    log::warn!("cuBLASLt cannot be used on device {device}: {reason}");
                    None
                }
            });
            blas.as_mut().is_some_and(|blas| match blas.run(&inner, a, b, out, (kind, vector), accumulate) {
                Ok(done) => done,
                Err(reason) => {
                    static ONCE: std::sync::Once = std::sync::Once::new();
                    ONCE.call_once(|| log::warn!("a product of cuBLASLt failed, CubeCL's is used: {reason}"));
                    false
                }
            })
        })
    });
    done.unwrap_or(false)
}

fn stored(side: &Side<CudaRuntime>) -> (Stored, Handle) {
    let [batch, rows, cols, apart] = side.layout();
    let (transposed, dtype) = (side.transposed, side.tensor.dtype);
    (Stored { batch, rows, cols, apart, transposed, dtype, alignment: 0 }, side.tensor.handle.clone())
}

type Failure = String;

fn failed(error: impl std::fmt::Debug) -> Failure {
    format!("{error:?}")
}

impl Blas {
    fn new(device: usize) -> Result<Self, Failure> {
        let ordinal = i32::try_from(device).map_err(failed)?;
        let device = driver::device::get(ordinal).map_err(failed)?;
        // SAFETY: the device exists, and CubeCL has retained its primary context, whose thread this is. What is made here
        // is never destroyed.
        unsafe {
            let context = driver::primary_ctx::retain(device).map_err(failed)?;
            driver::ctx::set_current(context).map_err(failed)?;
            let event = || driver::event::create(cu::CUevent_flags::CU_EVENT_DISABLE_TIMING).map_err(failed);
            Ok(Self {
                handle: lt::create_handle().map_err(failed)?,
                context,
                stream: driver::stream::create(driver::stream::StreamKind::NonBlocking).map_err(failed)?,
                before: event()?,
                after: event()?,
                workspace: driver::malloc_sync(WORKSPACE).map_err(failed)?,
                plans: HashMap::new(),
            })
        }
    }

    /// Queues a product. False where the library has no kernel for it.
    fn run(
        &mut self,
        client: &ComputeClient<CudaRuntime>,
        (mut a, a_handle): (Stored, Handle),
        (mut b, b_handle): (Stored, Handle),
        (mut out, out_handle): (Stored, Handle),
        (kind, vector): (Vector, Option<Handle>),
        accumulate: bool,
    ) -> Result<bool, Failure> {
        // The resources keep their memory from being given away until everything is queued.
        let get = |handle| client.get_resource(handle).map_err(failed);
        let (a_memory, b_memory, out_memory) = (get(a_handle)?, get(b_handle)?, get(out_handle)?);
        let vector = vector.map(get).transpose()?;
        let [pa, pb, po] = [&a_memory, &b_memory, &out_memory].map(|m| m.resource().ptr);
        for (stored, address) in [(&mut a, pa), (&mut b, pb), (&mut out, po)] {
            stored.alignment = 1 << address.trailing_zeros().min(8);
        }
        let key = Key { a, b, out, vector: kind, accumulate };
        let handle = self.handle;
        let plan = self.plans.entry(key).or_insert_with(|| match Plan::new(handle, key) {
            Ok(plan) => Some(plan),
            Err(reason) if kind == Vector::RowSums => {
                static ONCE: std::sync::Once = std::sync::Once::new();
                ONCE.call_once(|| {
                    log::warn!("cuBLASLt gives no bias gradients with some product ({reason}): summed apart")
                });
                None
            }
            Err(reason) => {
                log::warn!("cuBLASLt has no kernel for a product ({reason}): CubeCL's is used");
                None
            }
        });
        let Some(plan) = plan else { return Ok(false) };
        let (one, beta) = (1f32, if accumulate { 1f32 } else { 0f32 });
        let [pa, pb, po] = [pa, pb, po].map(|address| address as *mut c_void);
        // SAFETY: the context is CubeCL's, which is current on its thread; the pointers are of tensors with the layouts
        // that the plan describes, alive until the work is queued, and their memory is reused in stream order only.
        unsafe {
            driver::ctx::set_current(self.context).map_err(failed)?;
            if let Some(vector) = &vector {
                let address = vector.resource().ptr;
                let attribute = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
                lt::set_matmul_desc_attribute(plan.product, attribute, (&raw const address).cast(), 8)
                    .map_err(failed)?;
            }
            cu::cuCtxRecordEvent(self.context, self.before).result().map_err(failed)?;
            cu::cuStreamWaitEvent(self.stream, self.before, 0).result().map_err(failed)?;
            lt::matmul(
                self.handle,
                plan.product,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                pb,
                plan.b,
                pa,
                plan.a,
                po,
                plan.out,
                po,
                plan.out,
                &raw const plan.algorithm,
                self.workspace as *mut c_void,
                WORKSPACE,
                self.stream.cast(),
            )
            .map_err(failed)?;
            let ordered = cu::cuEventRecord(self.after, self.stream).result();
            let ordered = ordered.and_then(|()| cu::cuCtxWaitEvent(self.context, self.after).result());
            if ordered.is_err() {
                // The product is queued and cannot be taken back: it is waited for here.
                cu::cuStreamSynchronize(self.stream).result().expect("a device that computes");
            }
        }
        Ok(true)
    }
}

impl Plan {
    /// The library counts in columns: a row-major `[M, N]` is its N × M matrix. So it is asked for `outᵀ = bᵀ·aᵀ`, with b
    /// first, and what is transposed for the product is so for the library.
    fn new(handle: sys::cublasLtHandle_t, key: Key) -> Result<Self, Failure> {
        use sys::cublasLtMatmulDescAttributes_t as Of;
        use sys::cublasLtMatmulPreferenceAttributes_t as Want;
        let f32_sums = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let product = lt::create_matmul_desc(f32_sums, sys::cudaDataType_t::CUDA_R_32F).map_err(failed)?;
        let [a, b, out] = [key.a, key.b, key.out].map(layout);
        let (a, b, out) = (a?, b?, out?);
        // SAFETY: descriptions made just above, and attributes of the sizes that the library documents.
        unsafe {
            let set = |attribute, value: i32| {
                lt::set_matmul_desc_attribute(product, attribute, (&raw const value).cast(), 4).map_err(failed)
            };
            set(Of::CUBLASLT_MATMUL_DESC_TRANSA, i32::from(key.b.transposed))?;
            set(Of::CUBLASLT_MATMUL_DESC_TRANSB, i32::from(key.a.transposed))?;
            let epilogue = |kind: sys::cublasLtEpilogue_t| set(Of::CUBLASLT_MATMUL_DESC_EPILOGUE, kind as i32);
            match key.vector {
                Vector::None => {}
                Vector::Bias => epilogue(sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS)?,
                // Its second matrix is our a, and its columns our rows.
                Vector::RowSums => {
                    epilogue(sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BGRADB)?;
                    set(Of::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, sys::cudaDataType_t::CUDA_R_32F as i32)?;
                }
            }
            let preference = lt::create_matmul_pref().map_err(failed)?;
            let want = |attribute, value: *const c_void, size| {
                lt::set_matmul_pref_attribute(preference, attribute, value, size).map_err(failed)
            };
            let workspace = WORKSPACE as u64;
            want(Want::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (&raw const workspace).cast(), 8)?;
            let alignments = [
                (Want::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.b.alignment),
                (Want::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.a.alignment),
                (Want::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.out.alignment),
                (Want::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.out.alignment),
            ];
            for (attribute, bytes) in alignments {
                let bytes = bytes as u32;
                want(attribute, (&raw const bytes).cast(), 4)?;
            }
            let found = lt::get_matmul_algo_heuristic(handle, product, b, a, out, out, preference);
            lt::destroy_matmul_pref(preference).map_err(failed)?;
            Ok(Self { product, a, b, out, algorithm: found.map_err(failed)?.algo })
        }
    }
}

fn layout(stored: Stored) -> Result<sys::cublasLtMatrixLayout_t, Failure> {
    use sys::cublasLtMatrixLayoutAttribute_t as Of;
    let Stored { batch, rows, cols, apart, dtype, .. } = stored;
    let dtype = match dtype {
        DType::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
        DType::F32 => sys::cudaDataType_t::CUDA_R_32F,
        other => return Err(format!("a matrix of {other:?}")),
    };
    let layout = lt::create_matrix_layout(dtype, cols as u64, rows as u64, apart as i64).map_err(failed)?;
    if batch > 1 {
        let (count, offset) = (i32::try_from(batch).map_err(failed)?, (rows * apart) as i64);
        // SAFETY: a layout made just above, and attributes of the sizes that the library documents.
        unsafe {
            let set = |attribute, value: *const c_void, size| {
                lt::set_matrix_layout_attribute(layout, attribute, value, size).map_err(failed)
            };
            set(Of::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, (&raw const count).cast(), 4)?;
            set(Of::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, (&raw const offset).cast(), 8)?;
        }
    }
    Ok(layout)
}
