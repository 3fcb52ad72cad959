//! Phased, step-based training with exact resume.
