//! Losses of a model on batches, without gradients.

use data_mixer::Batch;
use fused_ops::FusedOps;
use gptneox_model::GptNeoX;

use crate::step::{input, tensor};
use crate::{Error, TrainSpec};

/// The loss of each position (0 where nothing is predicted): `each` is called with the rows of every micro-batch, in
/// order, and their losses.
///
/// # Errors
/// Unavailable batches.
pub fn evaluate_tokens<B: FusedOps>(
    model: &GptNeoX<B>,
    batches: impl Iterator<Item = Result<Batch, data_mixer::Error>>,
    spec: &TrainSpec,
    device: &B::Device,
    each: &mut dyn FnMut(&Batch, &[f32]),
) -> Result<(), Error> {
    for batch in batches {
        let batch = batch?;
        let rows = (spec.micro_tokens / batch.time).max(1);
        for from in (0..batch.rows()).step_by(rows) {
            let micro = batch.slice(from..(from + rows).min(batch.rows()));
            let input = input::<B>(&micro, device);
            let losses = model.token_losses(input, tensor(micro.targets.clone(), batch.time, device));
            let losses: Vec<f32> = losses.into_data().convert::<f32>().into_vec().expect("converted to f32 just above");
            each(&micro, &losses);
        }
    }
    Ok(())
}
