//! Hidden states of one batch of inputs.

use crate::Real;

/// A layer's name and width.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Layer {
    /// Its name, such as `block.0`.
    pub name: String,
    /// Its features.
    pub width: usize,
}

impl Layer {
    /// Of this name and width.
    pub fn new(name: impl Into<String>, width: usize) -> Self {
        Self { name: name.into(), width }
    }
}

/// A layer's values on a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerValues<T> {
    /// The layer.
    pub layer: Layer,
    /// `[examples, width]`, row-major.
    pub values: Vec<T>,
}

/// What one model made of a batch: an example is a token, and all layers have the same examples.
#[derive(Debug, Clone, PartialEq)]
pub struct Activations<T> {
    /// Digest of the inputs, and of which of them count: two sides can be compared only where it is the same.
    pub inputs: u64,
    /// The layers.
    pub layers: Vec<LayerValues<T>>,
}

impl<T: Real> Activations<T> {
    /// Of values that were computed on inputs with this digest.
    pub fn new(inputs: u64, layers: Vec<LayerValues<T>>) -> Self {
        Self { inputs, layers }
    }

    /// The layers, without their values.
    pub fn layout(&self) -> Vec<Layer> {
        self.layers.iter().map(|l| l.layer.clone()).collect()
    }
}
