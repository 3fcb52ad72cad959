//! The graph of jobs, run on a real backend: what is shared, what is trained once, what survives.
#![allow(clippy::unwrap_used, reason = "tests")]

mod addresses;
mod base;
mod engines;
mod splits;
mod store;
mod support;
