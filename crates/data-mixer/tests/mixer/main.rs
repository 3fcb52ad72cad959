//! The mixer's laws, its batches, and what users of other mixers suffer from.
#![allow(clippy::unwrap_used, reason = "tests")]

mod anchors;
mod arrays;
mod batches;
mod laws;
mod support;
