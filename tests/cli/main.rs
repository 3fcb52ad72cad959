//! The command and the examples as a user runs them. (One test binary: linking is slow.)
#![allow(clippy::unwrap_used, reason = "tests")]

mod analysis;
#[cfg(unix)]
mod command;
mod data;
mod errors;
mod figures;
mod harness;
mod jobs;
mod model;
mod resume;
#[cfg(unix)]
mod slurm;
mod store;
mod study;
