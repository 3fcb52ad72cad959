//! Readers, stores, tokenising, the hub's cache, contamination: every fault with its file.
#![allow(clippy::unwrap_used, reason = "tests")]

mod build;
mod hub;
mod overlap;
mod readers;
mod stores;
