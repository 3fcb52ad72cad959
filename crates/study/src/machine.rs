//! What computes: written into each result, and into addresses where bits depend on it.

use burn::tensor::{Tensor, TensorData};
use fused_ops::{FusedOps, Place, Precision, linear};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::Error;

/// What computed a result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Machine {
    /// The program's version.
    pub program: String,
    /// The backend.
    pub backend: String,
    /// The class of its matrix kernels: machines of one class give the same bits.
    pub kernels: String,
}

impl Machine {
    /// This one. On CPUs the class is the instruction set and a digest of products, because how a product is cut, and
    /// with it the order of its sums, also follows from the sizes of the caches. GPUs do not promise bits: there the class
    /// is the backend.
    pub(crate) fn of<B: FusedOps>(backend: &str, device: &B::Device) -> Self {
        let kernels = match backend {
            "flex" | "ndarray" => format!("{} {}", instruction_set(), products::<B>(device)),
            _ => B::name(device),
        };
        let program = env!("CARGO_PKG_VERSION").to_owned();
        Self { program, backend: backend.to_owned(), kernels }
    }
}

impl Machine {
    /// What kind of thing it is. (One that is not known, of a plan without data, counts as a CPU.)
    pub fn place(&self) -> Place {
        if matches!(self.backend.as_str(), "cuda" | "vulkan") { Place::Gpu } else { Place::Cpu }
    }

    /// Checks that a job that is for a class of kernels is run on a machine of that class.
    pub(crate) fn must_be(&self, kernels: Option<&str>) -> Result<(), Error> {
        match kernels {
            Some(planned) if planned != self.kernels => {
                Err(Error::OtherKernels { planned: planned.to_owned(), here: self.kernels.clone() })
            }
            _ => Ok(()),
        }
    }

    /// None in particular: for plans without data.
    pub(crate) fn unknown() -> Self {
        let none = || "unknown".to_owned();
        Self { program: none(), backend: none(), kernels: none() }
    }
}

/// What the CPU's matrix kernels are chosen by.
fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            "x86-64 avx512"
        } else if is_x86_feature_detected!("fma") {
            "x86-64 fma"
        } else {
            "x86-64"
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH
    }
}

/// A digest of products with sums short and long enough to be cut in several ways.
fn products<B: FusedOps>(device: &B::Device) -> String {
    let mut hash = Xxh3::new();
    for (rows, sum, columns) in [(7, 64, 65), (40, 700, 48), (33, 5000, 40)] {
        let values = |purpose: &str, count: usize| -> Vec<f32> {
            let unit = |i| (data_mixer::stream_key(0, purpose, i) >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            (0..count as u64).map(unit).collect()
        };
        let x = TensorData::new(values("left factor", rows * sum), [rows, sum]);
        let w = TensorData::new(values("right factor", columns * sum), [columns, sum]);
        let (x, w) = (Tensor::<B, 2>::from_data(x, device), Tensor::<B, 2>::from_data(w, device));
        let product = linear(x, w, None, Precision::F32).into_data().convert::<f32>();
        hash.update(product.as_bytes());
    }
    format!("{:08x}", hash.digest() as u32)
}
