//! Hidden states as a model computes them.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use xxhash_rust::xxh3::xxh3_64;

use crate::{Activations, Layer, LayerValues};

/// Receives hidden states as a model computes them: the body of its observer.
///
/// ```
/// use burn::tensor::Tensor;
/// use fused_ops::backends::Flex;
/// use metrics_cka::Recorder;
///
/// let ids = [5, 6, 7, 0]; // the last one is padding
/// let mut recorder = Recorder::new(&ids).keep(&[true, true, true, false]);
/// recorder.record("embed", &Tensor::<Flex, 2>::from_floats([[1.0], [2.0], [3.0], [9.0]], &Default::default()));
/// assert_eq!(recorder.finish().layers[0].values, [1.0, 2.0, 3.0]);
/// ```
#[derive(Debug, Clone)]
pub struct Recorder {
    /// What the digest is of.
    inputs: Vec<u8>,
    keep: Option<Vec<bool>>,
    layers: Vec<LayerValues<f32>>,
}

impl Recorder {
    /// For a batch of these token ids, in the order of the hidden states' rows.
    pub fn new(ids: &[i32]) -> Self {
        let inputs = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        Self { inputs, keep: None, layers: Vec::new() }
    }

    /// Leaves out the rows that are padding.
    #[must_use]
    pub fn keep(mut self, rows: &[bool]) -> Self {
        self.inputs.extend(rows.iter().map(|kept| u8::from(*kept)));
        Self { keep: Some(rows.to_vec()), ..self }
    }

    /// Takes a hidden state `[rows, width]`.
    pub fn record<B: Backend>(&mut self, name: impl std::fmt::Display, hidden: &Tensor<B, 2>) {
        let [_, width] = hidden.dims();
        let values = hidden.clone().into_data().convert::<f32>();
        let mut values: Vec<f32> = values.into_vec().expect("converted to f32 just above");
        if let Some(keep) = &self.keep {
            let rows = values.chunks_exact(width.max(1)).zip(keep).filter(|(_, kept)| **kept);
            values = rows.flat_map(|(row, _)| row).copied().collect();
        }
        self.layers.push(LayerValues { layer: Layer::new(name.to_string(), width), values });
    }

    /// All that was recorded.
    pub fn finish(self) -> Activations<f32> {
        Activations { inputs: xxh3_64(&self.inputs), layers: self.layers }
    }
}
