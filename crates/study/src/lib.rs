//! Plans a midtraining study (arms × seeds × fine-tunes), runs it once and resumably, renders its tables.
//!
//! A [`StudySpec`] is plain data. [`Plan::build`] turns it into a graph of jobs with **shared prefixes** — what several
//! arms have in common is trained once — and says what it costs before anything runs. [`execute`] runs what the
//! content-addressed store lacks; [`Table2`] renders what came out.
//!
//! The crate is generic over the backend only in [`LocalEngine`]; everything else sees the [`Engine`] trait.

mod address;
mod analysis;
mod cli;
mod cost;
mod data;
mod engine;
mod error;
mod execute;
mod files;
mod path;
mod plan;
mod prepare;
mod presets;
mod probe;
mod progress;
mod recipe;
mod render;
mod results;
mod spec;

pub use analysis::{Analysis, Question, Representations, figure2, figure3, figure7, theory};
pub use cli::{Args, exit_code};
pub use data::{RoleFiles, Sources};
pub use engine::{
    Engine, FinetuneJob, FinetuneResult, GeneralEval, HeldOutLoss, LocalEngine, PretrainJob, PretrainResult,
};
pub use error::Error;
pub use execute::{Execution, execute};
pub use path::{PathJob, PathResult};
pub use plan::{Plan, PlannedArm, PretrainNode};
pub use prepare::{Prepared, RoleStores, prepare};
pub use presets::{Mix, PRESETS, Protocol, Size, preset};
pub use probe::{ProbeJob, ProbeResult, StateComparison, Weights};
pub use progress::{Progress, StopSignal};
pub use render::{DataTable, Figure, Page, Table2, preflights, table1, table5, write_outputs};
pub use results::{Measurement, StudyResults, SweepPoint};
pub use spec::{
    ArmSpec, DataSpec, EvalSpec, LrChoice, PretrainSpec, ProbeSpec, SftSetSpec, SftSpec, StudySpec, TokenizerSpec,
};
