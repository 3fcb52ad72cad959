//! Step-based training of GPT-NeoX with exact resume.
//!
//! A run is a function of (spec, batches, first weights). [`Trainer::step`] does one optimiser step: micro-batches,
//! their gradients summed and normalised by the *global* number of predicted tokens, global-norm clip, AdamW.
//! [`run`] does many, with checkpoints, a JSONL log and guards; killed anywhere and started again, it continues from
//! its last checkpoint with the same bits as without the kill (on CPU).
//!
//! ```
//! use data_mixer::Batch;
//! use fused_ops::backends::Flex;
//! use gptneox_model::{GptNeoX, GptNeoXConfig};
//! use schedule::LrSpec;
//! use trainer::{TrainSpec, Trainer};
//!
//! type Backend = burn::backend::Autodiff<Flex>;
//! let device = Default::default();
//! let config = GptNeoXConfig::of_size(16, 16, 1, 2);
//! let model = GptNeoX::<Backend>::init(&config, 0, &device)?;
//! let mut trainer = Trainer::new(model, TrainSpec::new(LrSpec::constant(1e-2)), &device)?;
//! let batch =
//!     Batch { time: 3, inputs: vec![1, 2, 3], targets: vec![2, 3, 4], sources: vec![0], ..Batch::default() };
//! let first = trainer.step(&batch)?.loss;
//! for _ in 0..20 {
//!     trainer.step(&batch)?;
//! }
//! assert!(trainer.step(&batch)?.loss < first / 2.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checkpoint;
mod error;
mod evaluate;
mod gradient;
mod log;
mod optimizer;
mod run;
mod spec;
mod step;

pub use {data_mixer, fused_ops, gptneox_model, schedule};

pub use checkpoint::{checkpoints, keep_weights, load_weights, verify_checkpoint};
pub use error::Error;
pub use evaluate::evaluate_tokens;
pub use gradient::{LossGradient, loss_gradient, mean_loss, parameter_vector, with_parameters};
pub use log::{SourceLoss, StepRecord, StepTimes};
pub use run::{Control, Outcome, RunOptions, run};
pub use spec::{AdamWSpec, DecayGroup, TrainSpec};
pub use step::Trainer;

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
