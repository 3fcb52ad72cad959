//! Controlled studies of midtraining: pretrain on general text, from a step on mix in a share of specialised data,
//! fine-tune, and measure what was gained and what was forgotten.
//!
//! This crate is the facade: it re-exports the workspace's crates and instantiates the training stack once per enabled
//! [`Backend`], so that an example is a short recipe that links instead of compiling the stack again.
//!
//! ```no_run
//! use midtrain::study::{Mix, Protocol, Table2};
//!
//! const PROTOCOL: Protocol<'_> = Protocol {
//!     steps: 61_000,
//!     arms: &[("C4", None), ("Starcoder (20%)", Some(Mix { role: "starcoder", weight: "0.2", start: 6_000 }))],
//!     sft: &[("Pycode", "sft/pycode", false)],
//! };
//!
//! fn main() -> std::process::ExitCode {
//!     midtrain::run_example("table2", &PROTOCOL, |spec, results| Table2::of(spec, results))
//! }
//! ```

mod backend;
pub mod conformance;
mod example;
pub mod peer;

pub use backend::{Backend, UnknownBackend};
pub use example::run_example;

pub use {
    corpus, data_mixer, forgetting_eval, fused_ops, gptneox_model, metrics_cka, metrics_proximity, schedule, study,
    trainer,
};

/// Memory-retaining: freshly mapped pages cost a training step on CPU more than a quarter of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
