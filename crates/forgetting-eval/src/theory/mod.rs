//! The terms of the paper's Appendix A: what is forgotten along a fine-tuning path, and what the path before it adds.
//!
//! J_P is the loss on pretraining text, J_T on the fine-tuning set; θ_0 … θ_K the points of a fine-tuning path, η its
//! step sizes; θ_pre the model before midtraining, δ = θ_0 − θ_pre.

mod initialisation;
mod path;
mod steps;
mod vector;

pub use initialisation::{Displacement, Initialisation};
pub use path::{Bounds, Descent, Path, PathError, Point, Segment, Smoothness};
pub use steps::StepCheck;
pub use vector::Scalar;
