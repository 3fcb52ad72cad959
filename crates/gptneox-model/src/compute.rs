//! How a model computes.

use fused_ops::Precision;

/// How a model computes: no part of what it is, and not in its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compute {
    /// What matrix products are computed in.
    pub precision: Precision,
    /// Activation checkpointing: training keeps each block's input alone and computes the rest of the block again in
    /// the backward pass. The same bits on CPU, a third more work, far less memory for long sequences.
    pub recompute: bool,
}
