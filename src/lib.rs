//! Controlled studies of midtraining: pretrain on general text, from a step on mix in a share of specialised data,
//! fine-tune, and measure what was gained and what was forgotten.
//!
//! This crate is the facade: it re-exports the workspace's crates and instantiates the training stack once per enabled
//! [`Backend`], so that an example is a short recipe that links instead of compiling the stack again.
//!
//! ```no_run
//! use midtrain::protocol::{C4, PYCODE, Protocol, STARCODER};
//! use midtrain::study::Table2;
//!
//! midtrain::allocator!();
//!
//! const PROTOCOL: Protocol<'_> = Protocol { arms: &[C4, STARCODER], sft: &[PYCODE], ..Protocol::PAPER };
//!
//! fn main() -> std::process::ExitCode {
//!     midtrain::run("table2", &PROTOCOL, Table2)
//! }
//! ```

mod allocator;
mod backend;
pub mod command;
mod engines;
mod error;
pub mod evaluate;
pub mod generate;
mod model_file;
mod options;
mod runner;
#[cfg(feature = "flex")]
mod self_test;
mod terminal;

pub use backend::{Backend, OnBackend, UnknownBackend};
pub use error::Error;
#[doc(hidden)]
pub use mimalloc::MiMalloc;
pub use model_file::{ConvertOptions, convert, load as load_model};
pub use runner::run;

pub use study::protocol;
pub use {
    corpus, data_mixer, forgetting_eval, fused_ops, gptneox_model, metrics_cka, metrics_proximity, report, schedule,
    study, trainer,
};

/// A precision by its name: f32 (also fp32) or bf16.
///
/// # Errors
/// Another name.
pub fn parse_precision(name: &str) -> Result<fused_ops::Precision, Error> {
    match name {
        "f32" | "fp32" => Ok(fused_ops::Precision::F32),
        "bf16" => Ok(fused_ops::Precision::Bf16),
        _ => Err(Error::option("precision", name, "must be f32 or bf16")),
    }
}
