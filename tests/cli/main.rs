//! The examples as a user runs them. (One test binary: linking is slow.)
#![allow(clippy::unwrap_used, reason = "tests")]

mod analysis;
mod conformance;
mod data;
mod errors;
mod harness;
mod model;
mod resume;
mod store;
mod study;
