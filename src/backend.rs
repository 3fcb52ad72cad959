//! The choice of backend at run time.

use std::str::FromStr;

#[allow(unused_imports, reason = "used in builds with any backend")]
use burn::backend::Autodiff;
#[allow(unused_imports, reason = "used in builds with any backend")]
use fused_ops::backends;
use fused_ops::{DeviceMemory, TrainingBackend};
use study::{OnDevice, Processor};

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// The default CPU backend.
    Flex,
    /// A second, slower CPU backend.
    NdArray,
    /// Any GPU with a Vulkan driver.
    Vulkan,
    /// NVIDIA GPUs.
    Cuda,
}

/// A backend's name, and whether this build has it.
const ALL: [(&str, Backend, bool); 4] = [
    ("flex", Backend::Flex, cfg!(feature = "flex")),
    ("ndarray", Backend::NdArray, cfg!(feature = "ndarray")),
    ("vulkan", Backend::Vulkan, cfg!(feature = "vulkan")),
    ("cuda", Backend::Cuda, cfg!(feature = "cuda")),
];

/// An unavailable backend: its name, and why where the build has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownBackend(String, Option<&'static str>);

impl std::fmt::Display for UnknownBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(reason) = self.1 {
            return write!(f, "backend = {} {reason}", self.0);
        }
        let list = |built: bool| ALL.iter().filter(|b| b.2 == built).map(|b| b.0).collect::<Vec<_>>().join(", ");
        write!(f, "backend = {} is not in this build; in it: {}", self.0, list(true))?;
        if !list(false).is_empty() {
            write!(f, "; with --features: {}", list(false))?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownBackend {}

impl FromStr for Backend {
    type Err = UnknownBackend;
    fn from_str(name: &str) -> Result<Self, UnknownBackend> {
        let found = ALL.iter().find(|(known, _, built)| *known == name && *built);
        found.map(|(_, backend, _)| *backend).ok_or_else(|| UnknownBackend(name.to_owned(), None))
    }
}

impl Backend {
    /// Its name.
    pub fn name(self) -> &'static str {
        ALL.iter().find(|b| b.1 == self).map_or("", |b| b.0)
    }

    /// What runs jobs on it, with at most so many seconds between checkpoints. A GPU is compared with a CPU before its
    /// first job (in builds that have the CPU backend).
    ///
    /// # Errors
    /// A backend that this build does not have.
    pub fn processor(self, checkpoint_seconds: f64) -> Result<Box<dyn Processor>, UnknownBackend> {
        struct Make(&'static str, f64);
        impl OnBackend for Make {
            type Output = Box<dyn Processor>;
            fn run<AB: TrainingBackend>(self) -> Self::Output {
                Box::new(OnDevice::<AB>::new(self.0, AB::Device::default(), self.1))
            }
        }
        let processor = self.on(Make(self.name(), checkpoint_seconds))?;
        #[cfg(feature = "flex")]
        if !self.is_cpu() {
            return Ok(Box::new(crate::self_test::Tested::new(processor, self)));
        }
        Ok(processor)
    }

    /// What a GPU needs before it is first used.
    #[cfg_attr(not(any(feature = "cuda", feature = "vulkan")), allow(clippy::unused_self, clippy::unnecessary_wraps))]
    fn make_ready(self) -> Result<(), UnknownBackend> {
        #[cfg(feature = "cuda")]
        if self == Self::Cuda {
            if !fused_ops::cuda::has_driver() {
                let reason = "needs NVIDIA's driver: libcuda.so was not found (docs/gpu.md says what else)";
                return Err(UnknownBackend(self.name().to_owned(), Some(reason)));
            }
            fused_ops::device::keep_kernels(&fused_ops::cuda::kind());
        }
        #[cfg(feature = "vulkan")]
        if self == Self::Vulkan {
            fused_ops::device::keep_kernels("vulkan");
        }
        Ok(())
    }

    /// The memory of its device, where that has some of its own and tells.
    ///
    /// # Errors
    /// A backend that this build does not have.
    pub fn device_memory(self) -> Result<Option<DeviceMemory>, UnknownBackend> {
        struct Memory;
        impl OnBackend for Memory {
            type Output = Option<DeviceMemory>;
            fn run<AB: TrainingBackend>(self) -> Self::Output {
                AB::device_memory(&AB::Device::default())
            }
        }
        self.on(Memory)
    }

    /// Whether it computes on the CPU's cores.
    pub fn is_cpu(self) -> bool {
        matches!(self, Self::Flex | Self::NdArray)
    }

    /// Runs generic code on it: the one place where such code is compiled for each backend.
    ///
    /// # Errors
    /// A backend that this build does not have.
    pub fn on<T: OnBackend>(self, task: T) -> Result<T::Output, UnknownBackend> {
        crate::allocator::keep_freed_pages();
        fused_ops::device::listen();
        self.make_ready()?;
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => Ok(task.run::<Autodiff<backends::Flex>>()),
            #[cfg(feature = "ndarray")]
            Self::NdArray => Ok(task.run::<Autodiff<backends::NdArray>>()),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Ok(task.run::<Autodiff<backends::Vulkan>>()),
            #[cfg(feature = "cuda")]
            Self::Cuda => Ok(task.run::<Autodiff<backends::Cuda>>()),
            #[allow(unreachable_patterns, reason = "reachable in builds without every backend")]
            _ => Err(UnknownBackend(self.name().to_owned(), None)),
        }
    }
}

/// Something generic to run on a backend that is chosen at run time.
pub trait OnBackend {
    /// What it gives.
    type Output;

    /// Runs it.
    fn run<AB: TrainingBackend>(self) -> Self::Output;
}
