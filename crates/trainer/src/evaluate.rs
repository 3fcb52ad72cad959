//! Losses of a model on batches, without gradients.

use std::time::Instant;

use burn::module::AutodiffModule as _;
use data_mixer::Batch;
use fused_ops::{FusedOps, TrainingBackend};
use gptneox_model::GptNeoX;

use crate::log::{EvalRecord, now};
use crate::step::{check, input, tensor};
use crate::{Error, TrainSpec, Trainer};

/// The loss of each position (0 where nothing is predicted): `each` is called with the rows of every micro-batch, in
/// order, and their losses.
///
/// # Errors
/// Unavailable batches; batches that the model cannot take.
pub fn evaluate_tokens<B: FusedOps>(
    model: &GptNeoX<B>,
    batches: impl Iterator<Item = Result<Batch, data_mixer::Error>>,
    spec: &TrainSpec,
    device: &B::Device,
    each: &mut dyn FnMut(&Batch, &[f32]),
) -> Result<(), Error> {
    for (number, batch) in batches.enumerate() {
        let batch = batch?;
        check(model.config(), &batch, number as u64)?;
        let rows = (spec.micro_tokens / batch.time()).max(1);
        for from in (0..batch.rows()).step_by(rows) {
            let micro = batch.slice(from..(from + rows).min(batch.rows()));
            let targets = tensor(micro.targets(), batch.time(), device);
            let losses = model.token_losses(input::<B>(&micro, device), targets);
            let losses: Vec<f32> = losses.into_data().convert::<f32>().into_vec().expect("converted to f32 just above");
            each(&micro, &losses);
        }
    }
    Ok(())
}

/// A held-out set that a run is evaluated on while it trains: before its first step, after every so many, and at its end. What is
/// trained does not change by it, to the bit.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalSpec {
    /// The set's name: a run's sets have different ones.
    pub name: String,
    /// Its batches.
    pub batches: Vec<Batch>,
    /// Bytes of the text that is predicted, for bits per byte.
    pub bytes: Option<u64>,
    /// Steps between evaluations.
    pub every: u64,
}

impl EvalSpec {
    /// Checks the sets of a run.
    pub(crate) fn check_all(sets: &[Self]) -> Result<(), Error> {
        for (i, set) in sets.iter().enumerate() {
            let wrong = |field: &str, value: String, limit: &str| {
                let (field, limit) = (format!("evals[{i}].{field}"), limit.to_owned());
                Err(Error::EvalField { field, value, limit })
            };
            if set.name.is_empty() || sets[..i].iter().any(|earlier| earlier.name == set.name) {
                return wrong("name", format!("{:?}", set.name), "must be there, and no other set's");
            }
            if set.every == 0 {
                return wrong("every", "0".to_owned(), "must be at least 1");
            }
            if set.batches.iter().all(|batch| batch.target_count() == 0) {
                return wrong("batches", format!("those of {:?}", set.name), "must predict a token");
            }
        }
        Ok(())
    }

    /// Whether it is evaluated when so many steps are done.
    pub(crate) fn is_due(&self, step: u64, until: u64) -> bool {
        step.is_multiple_of(self.every) || step == until
    }

    /// Its loss.
    pub(crate) fn record<AB: TrainingBackend>(&self, trainer: &Trainer<AB>) -> Result<EvalRecord, Error> {
        let _span = tracing::info_span!("evaluate", step = trainer.step, set = self.name).entered();
        let started = Instant::now();
        let model = trainer.model().valid();
        let (mut nats, mut targets) = (0.0, 0);
        let batches = self.batches.iter().cloned().map(Ok);
        evaluate_tokens(&model, batches, &trainer.spec, &trainer.device, &mut |batch, losses| {
            nats += losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
            targets += batch.target_count() as u64;
        })?;
        let bits = |bytes: u64| nats / std::f64::consts::LN_2 / bytes as f64;
        Ok(EvalRecord {
            step: trainer.step,
            set: self.name.clone(),
            loss: nats / targets as f64,
            targets,
            bits_per_byte: self.bytes.filter(|bytes| *bytes > 0).map(bits).filter(|bits| bits.is_finite()),
            seconds: started.elapsed().as_secs_f64(),
            time: now(),
        })
    }
}
