//! What a model reads: token ids, and where documents begin.

use burn::tensor::{Int, Tensor};
use fused_ops::FusedOps;

/// What a model reads.
#[derive(Debug, Clone)]
pub struct Input<B: FusedOps> {
    /// Token ids, `[B, T]`.
    pub ids: Tensor<B, 2, Int>,
    /// The position at which each position's document begins, `[B, T]`: attention does not look past it. `None`: it
    /// sees the whole sequence.
    pub document_starts: Option<Tensor<B, 2, Int>>,
}

impl<B: FusedOps> From<Tensor<B, 2, Int>> for Input<B> {
    fn from(ids: Tensor<B, 2, Int>) -> Self {
        Self { ids, document_starts: None }
    }
}

/// [`Input::document_starts`] of rows of `time` ids in which `end` ends a document: it belongs to the document that
/// it ends.
///
/// ```
/// let ids = [7, 8, 0, 9, 0, 5, 0, 0];
/// assert_eq!(gptneox_model::document_starts(&ids, 4, 0), [0, 0, 0, 3, 0, 1, 1, 3]);
/// ```
pub fn document_starts(ids: &[i32], time: usize, end: i32) -> Vec<i32> {
    let mut starts = Vec::with_capacity(ids.len());
    for row in ids.chunks(time.max(1)) {
        let mut start = 0;
        for (t, id) in row.iter().enumerate() {
            starts.push(start);
            if *id == end {
                start = t as i32 + 1;
            }
        }
    }
    starts
}
