//! Step-based training of GPT-NeoX with exact resume.
//!
//! A run is a function of (spec, batches, first weights). [`Trainer::step`] does one optimiser step: micro-batches,
//! their gradients summed and normalised by the *global* number of predicted tokens, global-norm clip, AdamW.
//! [`run`] does many, with checkpoints, a JSONL log and guards; killed anywhere and started again, it continues from
//! its last checkpoint with the same bits as without the kill (on CPU).
//!
//! ```
//! use trainer::data_mixer::Batch;
//! use trainer::fused_ops::backends::{Autodiff, Flex};
//! use trainer::gptneox_model::{GptNeoX, GptNeoXConfig};
//! use trainer::schedule::LrSpec;
//! use trainer::{TrainSpec, Trainer};
//!
//! type Backend = Autodiff<Flex>;
//! let device = Default::default();
//! let config = GptNeoXConfig::of_size(16, 16, 1, 2);
//! let model = GptNeoX::<Backend>::init(&config, 0, &device)?;
//! let mut trainer = Trainer::new(model, TrainSpec::new(LrSpec::constant(1e-2)), &device)?;
//! let batch = Batch::new(3, vec![1, 2, 3], vec![2, 3, 4], vec![0])?;
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
mod resume;
mod run;
mod spec;
mod step;
mod verify;

pub use {data_mixer, fused_ops, gptneox_model, schedule};

pub use checkpoint::{checkpoints, keep_weights, load_model_config, load_weights, verify_checkpoint};
pub use error::Error;
pub use evaluate::{EvalSpec, evaluate_tokens};
pub use gradient::{LossGradient, loss_gradient, mean_loss, parameter_vector, with_parameters};
pub use log::{EvalRecord, LogFormats, LogLine, SourceLoss, StepRecord, StepTimes, convert_log};
pub use resume::{PassedOver, Resumable, resumable};
pub use run::{Control, Event, Outcome, RunOptions, Start, run};
pub use spec::{AdamWSpec, Change, DecayGroup, ParameterGroup, TrainSpec};
pub use step::Trainer;
pub use verify::{Difference, ResumeDifference, verify_resume};

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
