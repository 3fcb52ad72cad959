//! Training on small models.
#![allow(clippy::unwrap_used, reason = "tests")]

mod logs;
mod resuming;
mod steps;
mod support;
