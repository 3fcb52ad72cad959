//! Readers, stores, tokenising, the hub's cache, contamination: every fault with its file.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::single_range_in_vec_init, reason = "a document has one later prompt where it has one")]

mod build;
mod hub;
mod oddities;
mod overlap;
mod readers;
mod stores;
