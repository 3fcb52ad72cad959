//! Pure functions of the step: learning rates, mixture weights, phase timelines.
