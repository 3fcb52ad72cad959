//! The concrete backends, named here and nowhere else in the workspace's libraries.

/// Any of them with gradients: what trains.
pub use burn::backend::Autodiff;

/// The default CPU backend.
#[cfg(feature = "flex")]
pub type Flex = burn_flex::Flex;

/// A second, independent CPU backend, for tests.
#[cfg(feature = "ndarray")]
pub type NdArray = burn_ndarray::NdArray<f32>;
#[cfg(feature = "ndarray")]
impl crate::FusedOps for NdArray {}

/// NVIDIA GPUs. Parameters are f32.
#[cfg(feature = "cuda")]
pub type Cuda = burn::backend::Cuda<f32, i32>;

/// Any GPU with a Vulkan driver, Mesa's software one included.
#[cfg(feature = "vulkan")]
pub type Vulkan = burn::backend::Vulkan<f32, i32>;
