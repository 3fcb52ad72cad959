//! A midtraining study as questions over a graph of stored jobs.
//!
//! A [`StudySpec`] is plain data; [`Study::new`] checks it once. A [`Question`] says which jobs it needs — training states,
//! fine-tunes, evaluations, comparisons — and [`answer`] runs those that the [`Store`] lacks, beside any number of other
//! processes on the same store, and makes a [`report::Page`] of their results.
//!
//! ```no_run
//! use report::Page;
//! use study::{Engine, Error, Progress, StopSignal, Store, Study, StudySpec, Table2, answer, prepare};
//!
//! fn table2(engine: &mut dyn Engine) -> Result<Page, Error> {
//!     let study = Study::new(StudySpec::read("study.toml".as_ref())?)?;
//!     let store = Store::new("runs/store".as_ref());
//!     let mut progress = Progress::new((), StopSignal::default());
//!     let data = prepare(&study, &store, engine, &mut progress)?;
//!     Ok(answer(&Table2, &study, &data, &store, engine, &mut progress)?.page)
//! }
//! ```
//!
//! A job's result lies under its address: a digest of everything that determines it and of nothing else. A training
//! state's address is its trajectory and its step, so that arms share every state before the first step in which they
//! differ, and adding arms, questions, seeds or evaluations trains nothing again.
//!
//! The crate is generic over the backend only where jobs run ([`LocalEngine`]); everything else sees [`Engine`].

mod address;
mod changes;
mod cloze;
mod cost;
mod data;
mod datasheet;
mod engine;
mod error;
mod files;
mod fingerprints;
mod graph;
mod job;
mod machine;
mod plan;
mod progress;
pub mod protocol;
mod provenance;
mod question;
mod rates;
mod recipe;
mod run;
mod runner;
mod signal;
pub mod slurm;
mod spec;
mod speeds;
mod store;
mod study;
mod training_run;

pub use address::Address;
pub use changes::{Changes, RateChoice};
pub use cloze::cloze_scores;
pub use cost::Expected;
pub use data::{Data, prepare};
pub use engine::{
    Ended, Engine, Event, LocalEngine, OnDevice, ProcessEngine, Processes, Processor, Report, Task, Timing, Trouble,
    gpus, work,
};
pub use error::Error;
pub use graph::{Cell, Graph, Rate};
pub use job::{Evaluate, Finetune, MultipleChoice, Pretrain};
pub use machine::Machine;
pub use plan::{Plan, PlannedArm};
pub use progress::{Progress, Watcher};
pub use question::{
    Claims, Continued, Figure1, Figure3, Figure4, Figure5, Figure8, Named, Question, Representations, Similarities,
    Table1, Table2, Table3, Table4, Table5, Table6, Table7, Table8, Theory, preflights, question, question_names,
};
pub use run::{Answer, answer, run_job};
pub use {corpus, data_mixer, fused_ops, gptneox_model, report, schedule, trainer};

pub use schedule::Step;
pub use signal::StopSignal;
pub use spec::{
    Amount, ArmSpec, CurveShape, DataSpec, EvalSpec, FORMAT, FinetuneCurve, FinetuneSpec, FixedRate, HoldOut, Kernels,
    LrChoice, PRESETS, PretrainSpec, ProbeSpec, ReplaySpec, RoleFiles, SftSetSpec, SizeSpec, Sources, Splits,
    StatedExamples, StudySpec, TokenizerSpec, preset,
};
pub use store::{BundleReport, Failure, Freed, GcReport, Keep, Store, Use, Verified, export, gc, import, verify};
pub use study::{Arm, ArmId, ProbeId, SetId, SizeId, Study};
pub use training_run::TrainingRun;

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
