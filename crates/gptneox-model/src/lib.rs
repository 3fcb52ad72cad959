//! GPT-NeoX (the architecture of the Pythia models) in burn, numerically equal to Hugging Face's
//! `GPTNeoXForCausalLM`, with its checkpoints in and out.
//!
//! ```
//! use burn::tensor::{Int, Tensor};
//! use fused_ops::backends::Flex;
//! use gptneox_model::{GptNeoX, GptNeoXConfig};
//!
//! let device = Default::default();
//! let config = GptNeoXConfig::of_size(64, 32, 2, 2);
//! let model = GptNeoX::<Flex>::init(&config, 0, &device)?;
//! let ids = Tensor::<Flex, 2, Int>::from_ints([[5, 6, 7]], &device);
//! assert_eq!(model.logits(ids).dims(), [1, 3, 64]);
//! # Ok::<(), gptneox_model::Error>(())
//! ```
//!
//! What else there is:
//!
//! - Pythia's sizes by name ([`GptNeoXConfig::pythia`]), what each costs ([`ParameterCount`], [`TrainingFlops`],
//!   [`TrainingMemory`]).
//! - Hugging Face directories in ([`Checkpoint`], or [`load_pretrained`] at once) and out ([`save_pretrained`]): single files
//!   and shards, F32, F16 and BF16, special tokens carried through; linear and dynamic scaling of rotary frequencies.
//! - Hidden states as they are computed ([`Observer`]), losses without `[N, V]` logits ([`GptNeoX::loss`]), text
//!   ([`GptNeoX::generate`]).
//! - [`Input`] with document starts, so that attention does not cross from one document into the next.
//! - [`Compute`]: bf16 products with f32 parameters, activation checkpointing.
//!
//! Hidden states by name, without keeping what the backward pass would need:
//!
//! ```
//! use burn::tensor::{Int, Tensor};
//! use fused_ops::backends::Flex;
//! use gptneox_model::{GptNeoX, GptNeoXConfig, Site};
//!
//! let device = Default::default();
//! let model = GptNeoX::<Flex>::init(&GptNeoXConfig::of_size(64, 32, 2, 2), 0, &device)?;
//! let ids = Tensor::<Flex, 2, Int>::from_ints([[5, 6, 7]], &device);
//! let mut seen = Vec::new();
//! model.hidden(ids, &mut |site: Site, hidden: &Tensor<Flex, 2>| seen.push((site.to_string(), hidden.dims())));
//! assert_eq!(seen[1], ("block.0".to_owned(), [3, 32]));
//! # Ok::<(), gptneox_model::Error>(())
//! ```
//!
//! Letters: B batch, T time, C channels (`hidden_size`), V vocabulary, L layers.

mod checkpoint;
mod compute;
mod config;
mod cost;
mod error;
mod generate;
mod huggingface;
mod init;
mod input;
mod layers;
mod model;
mod observe;
mod parameters;

pub use fused_ops;

pub use checkpoint::{
    Checkpoint, SaveOptions, Storage, checkpoint_files, load_config, load_pretrained, save_pretrained,
};
pub use compute::Compute;
pub use config::{GptNeoXConfig, PYTHIA_SIZES, RopeScaling};
pub use cost::{ParameterCount, TrainingFlops, TrainingMemory};
pub use error::Error;
pub use generate::{Continuation, Ending, Generation, Sampling};
pub use huggingface::{Metadata, parse_config};
pub use input::{Input, document_starts};
pub use model::GptNeoX;
pub use observe::{Observer, Site};
pub use parameters::{NamedTensor, export_gradients, export_parameters, parameter_shapes};

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
