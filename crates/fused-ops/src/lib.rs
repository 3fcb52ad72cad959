//! The differentiable operations and the optimiser kernel that burn lacks.
//!
//! Each operation is defined once, generically, in the default bodies of [`FusedOps`]: they are the definition that
//! tests compare with and what any backend runs. `flex` overrides them with kernels that read slices, call `gemm`
//! directly and use every core. [`Autodiff`](burn::backend::Autodiff) records one node an operation, with a
//! hand-written backward.
//!
//! ```
//! use burn::tensor::Tensor;
//! use fused_ops::{backends, gelu, Gelu};
//!
//! let device = Default::default();
//! let x = Tensor::<backends::Flex, 2>::from_floats([[-1.0, 0.0, 1.0]], &device);
//! let y = gelu(x, Gelu::Exact).into_data().to_vec::<f32>().unwrap();
//! assert!((y[2] - 0.841_345).abs() < 1e-6 && y[1] == 0.0);
//! ```
//!
//! Letters: N rows (tokens), I input and O output features, C channels, V vocabulary, B batch, T time, H heads,
//! D head size, R rotary dimensions of a head.

mod autodiff;
pub mod backends;
mod block;
mod cached;
#[cfg(any(feature = "cuda", feature = "vulkan"))]
mod cube;
#[cfg(feature = "cuda")]
pub mod cuda;
mod definition;
pub mod device;
#[cfg(feature = "flex")]
mod flex;
mod ops;
mod tensor;
mod tiles;
mod types;

pub use block::{BlockContext, BlockParameters, BlockSettings, Norms, Stream, block_with_attention};
pub use burn;
pub use cached::{KeyValues, cached_attention};
pub use ops::{FusedOps, TrainingBackend};
pub use tensor::{
    HeadLoss, adamw, causal_attention, embedding, gelu, head_loss, layer_norm, linear, sum_squares, token_losses,
    transposed_product,
};
pub use tiles::{SCORES_AT_ONCE, score_tiles};
pub use types::{
    AdamWStep, AttentionShape, DeviceMemory, Gelu, KeptAttention, Place, Precision, Slot, Updated,
    flash_attention_takes, loss_rows, summed_rows,
};

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
