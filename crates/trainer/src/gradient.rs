//! Gradients on fixed batches, as vectors: what analyses of a path need.

use burn::optim::{GradientsAccumulator, GradientsParams};
use data_mixer::Batch;
use fused_ops::{FusedOps, TrainingBackend};
use gptneox_model::{GptNeoX, export_gradients, export_parameters, parameter_shapes};

use crate::step::{check, input, tensor};
use crate::{Error, TrainSpec};

/// A loss and its gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct LossGradient {
    /// Nats per predicted token.
    pub loss: f64,
    /// Its derivatives by all parameters, in the order of [`parameter_vector`].
    pub gradient: Vec<f32>,
}

/// All parameters of a model, one after the other.
pub fn parameter_vector<B: FusedOps>(model: &GptNeoX<B>) -> Vec<f32> {
    export_parameters(model).into_iter().flat_map(|p| p.values).collect()
}

/// The mean loss over all predicted tokens of the batches, and its gradient, in micro-batches as in training.
///
/// # Errors
/// Batches that the model cannot take, or without a predicted token.
pub fn loss_gradient<AB: TrainingBackend>(
    model: &GptNeoX<AB>,
    batches: &[Batch],
    spec: &TrainSpec,
    device: &AB::Device,
) -> Result<LossGradient, Error> {
    let targets: usize = batches.iter().map(Batch::target_count).sum();
    if targets == 0 {
        return Err(Error::Batch { step: 0, reason: "no token of the batches is predicted".to_owned() });
    }
    let scale = 1.0 / targets as f64;
    let mut accumulator = GradientsAccumulator::new();
    let mut nats = 0.0;
    for batch in batches {
        check(model.config(), batch, 0)?;
        let rows = (spec.micro_tokens / batch.time()).max(1);
        for from in (0..batch.rows()).step_by(rows) {
            let micro = batch.slice(from..(from + rows).min(batch.rows()));
            let targets = tensor(micro.targets(), micro.time(), device);
            let loss = model.loss(input(&micro, device), targets, scale);
            let losses = loss.tokens.into_data().convert::<f32>();
            let losses: Vec<f32> = losses.into_vec().expect("converted to f32 just above");
            nats += losses.into_iter().map(f64::from).sum::<f64>();
            accumulator.accumulate(model, GradientsParams::from_grads(loss.scaled_sum.backward(), model));
        }
    }
    let gradients = accumulator.grads();
    let gradient = export_gradients(model, &gradients).into_iter().flat_map(|g| g.values).collect();
    Ok(LossGradient { loss: nats * scale, gradient })
}

/// A model like another one with these parameters, in the order of [`parameter_vector`].
///
/// # Errors
/// Another number of values than the model has parameters.
pub fn with_parameters<B: FusedOps>(
    model: &GptNeoX<B>,
    values: &[f32],
    device: &B::Device,
) -> Result<GptNeoX<B>, Error> {
    let mut places = std::collections::BTreeMap::new();
    let mut from = 0;
    for (name, shape) in parameter_shapes(model) {
        let to = from + shape.iter().product::<usize>();
        places.insert(name, from..to);
        from = to;
    }
    if from != values.len() {
        let reason = format!("{} values cannot be the parameters of a model that has {from}", values.len());
        return Err(Error::Batch { step: 0, reason });
    }
    Ok(GptNeoX::from_parameters(model.config(), device, |name, _| Ok(values[places[name].clone()].to_vec()))?)
}

/// The mean loss over all predicted tokens of the batches, in nats per token.
///
/// # Errors
/// Batches that the model cannot take, or without a predicted token.
pub fn mean_loss<B: FusedOps>(
    model: &GptNeoX<B>,
    batches: &[Batch],
    spec: &TrainSpec,
    device: &B::Device,
) -> Result<f64, Error> {
    let targets: usize = batches.iter().map(Batch::target_count).sum();
    if targets == 0 {
        return Err(Error::Batch { step: 0, reason: "no token of the batches is predicted".to_owned() });
    }
    let mut nats = 0.0;
    crate::evaluate_tokens(model, batches.iter().cloned().map(Ok), spec, device, &mut |_, losses| {
        nats += losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
    })?;
    Ok(nats / targets as f64)
}
