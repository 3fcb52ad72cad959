//! Pairs that belong together.

/// Pairs that belong together, such as those of one fine-tuning set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Block {
    /// One value of each pair.
    pub x: Vec<f64>,
    /// The other.
    pub y: Vec<f64>,
}
