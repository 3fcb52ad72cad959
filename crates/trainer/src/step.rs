//! One optimiser step.

use std::time::Instant;

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Int, Tensor, TensorData};
use data_mixer::{Batch, LedgerHead};
use fused_ops::{AdamWStep, FusedOps, TrainingBackend};
use gptneox_model::{GptNeoX, GptNeoXConfig, Input, parameter_shapes};
use schedule::{LrSchedule, Step};

use crate::log::{SourceLoss, StepTimes};
use crate::optimizer::{self, Moments};
use crate::spec::Rule;
use crate::{Error, StepRecord, TrainSpec};

/// A model in training: weights, optimiser state, position.
pub struct Trainer<AB: TrainingBackend> {
    /// Always there between calls; taken while a step updates it, so that its parameters are unshared.
    pub(crate) model: Option<GptNeoX<AB>>,
    pub(crate) moments: Vec<Moments<AB::InnerBackend>>,
    pub(crate) spec: TrainSpec,
    pub(crate) step: u64,
    /// Updates done: steps less those skipped.
    pub(crate) updates: u64,
    pub(crate) ledger: LedgerHead,
    /// The steps skipped among the last ones, in order.
    pub(crate) skips: Vec<u64>,
    pub(crate) device: AB::Device,
    rules: Vec<Rule>,
    lr: LrSchedule,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Position {
    pub(crate) step: u64,
    pub(crate) updates: u64,
    pub(crate) ledger: LedgerHead,
    pub(crate) skips: Vec<u64>,
}

const PRESENT: &str = "a trainer has a model between calls: a step puts back what it took";

/// The batch's ids or targets on the device, `[rows, T]`.
pub(crate) fn tensor<B: FusedOps>(values: &[i32], time: usize, device: &B::Device) -> Tensor<B, 2, Int> {
    let rows = values.len() / time;
    Tensor::from_data(TensorData::new(values.to_vec(), [rows, time]), device)
}

/// What the model reads of a batch: its ids and, where it has them, the beginnings of documents.
pub(crate) fn input<B: FusedOps>(batch: &Batch, device: &B::Device) -> Input<B> {
    let starts = batch.document_starts().map(|starts| tensor(starts, batch.time(), device));
    Input { ids: tensor(batch.inputs(), batch.time(), device), document_starts: starts }
}

impl<AB: TrainingBackend> Trainer<AB> {
    /// A run at step 0 with a fresh optimiser.
    ///
    /// # Errors
    /// A spec outside its limits, or with groups of parameters that the model does not have.
    pub fn new(model: GptNeoX<AB>, spec: TrainSpec, device: &AB::Device) -> Result<Self, Error> {
        let moments = optimizer::zeros(&model);
        Self::at(Position::default(), model, moments, spec, device)
    }

    /// A run somewhere on its way.
    pub(crate) fn at(
        position: Position,
        model: GptNeoX<AB>,
        moments: Vec<Moments<AB::InnerBackend>>,
        spec: TrainSpec,
        device: &AB::Device,
    ) -> Result<Self, Error> {
        let lr = spec.build()?;
        spec.check_backend::<AB>(device)?;
        let rules = spec.optimizer.rules(&parameter_shapes(&model))?;
        let model = Some(model.with_compute(spec.compute()));
        let Position { step, updates, ledger, skips } = position;
        Ok(Self { model, moments, spec, step, updates, ledger, skips, device: device.clone(), rules, lr })
    }

    /// The recipe.
    pub fn spec(&self) -> &TrainSpec {
        &self.spec
    }

    /// The model.
    pub fn model(&self) -> &GptNeoX<AB> {
        self.model.as_ref().expect(PRESENT)
    }

    /// The model, without the rest.
    pub fn into_model(self) -> GptNeoX<AB> {
        self.model.expect(PRESENT)
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Steps left out because their loss or gradient was not finite.
    pub fn steps_skipped(&self) -> u64 {
        self.step - self.updates
    }

    /// Whether all weights are finite. A run that diverged may have left out every step since, and so not have failed.
    pub fn is_finite(&self) -> bool {
        gptneox_model::export_parameters(self.model()).iter().all(|p| p.values.iter().all(|v| v.is_finite()))
    }

    /// What was seen so far.
    pub fn ledger(&self) -> LedgerHead {
        self.ledger
    }

    /// One optimiser step on a global batch. Its loss is the mean over all predicted tokens of the batch, before the
    /// update. A loss or gradient that is not finite changes nothing but the position; the record says so.
    ///
    /// # Errors
    /// A batch without predicted tokens, longer than the model's positions, or with ids outside the vocabulary.
    pub fn step(&mut self, batch: &Batch) -> Result<StepRecord, Error> {
        let started = Instant::now();
        let _span = tracing::debug_span!("step", step = self.step).entered();
        check(self.model().config(), batch, self.step)?;
        if batch.target_count() == 0 {
            return Err(Error::Batch { step: self.step, reason: "no token of the batch is predicted".to_owned() });
        }
        let targets = batch.target_count();
        let scale = 1.0 / targets as f64;
        let lr = self.lr.at(Step(self.step));
        let rows = (self.spec.micro_tokens / batch.time()).max(1);
        let mut phases = StepTimes::default();
        let mut accumulator = GradientsAccumulator::new();
        let mut grads = GradientsParams::new();
        // Losses stay on the device until everything is queued: a step waits for the device once.
        let mut told: Vec<Tensor<AB::InnerBackend, 1>> = Vec::new();
        let mut loss_sum: Option<Tensor<AB::InnerBackend, 1>> = None;
        for from in (0..batch.rows()).step_by(rows) {
            let to = (from + rows).min(batch.rows());
            let begun = Instant::now();
            let micro = batch.slice(from..to);
            let input = input(&micro, &self.device);
            let loss = self.model().loss(input, tensor(micro.targets(), batch.time(), &self.device), scale);
            told.push(loss.tokens.inner());
            let part = loss.scaled_sum.clone().inner();
            loss_sum = Some(match loss_sum {
                Some(sum) => sum + part,
                None => part,
            });
            phases.forward += begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            let micro_grads = GradientsParams::from_grads(loss.scaled_sum.backward(), self.model());
            if batch.rows() <= rows {
                grads = micro_grads;
            } else {
                accumulator.accumulate(self.model(), micro_grads);
            }
            phases.backward += begun.elapsed().as_secs_f64();
        }
        if batch.rows() > rows {
            grads = accumulator.grads();
        }
        let begun = Instant::now();
        let o = &self.spec.optimizer;
        let step = AdamWStep { lr, beta1: o.beta1, beta2: o.beta2, eps: o.eps, update: self.updates + 1 };
        let loss_sum = loss_sum.expect("a batch with predicted tokens has rows");
        let model = self.model.take().expect(PRESENT);
        let clipped = (loss_sum, self.spec.clip);
        let (model, update) = optimizer::update(model, grads, &mut self.moments, &self.rules, clipped, step);
        self.model = Some(model);
        told.extend([update.squares, update.factor, update.change]);
        let told = Tensor::cat(told, 0).try_into_data();
        if let Some(reason) = fused_ops::device::failure() {
            return Err(Error::Device { reason });
        }
        let told = told.map_err(|error| Error::Device { reason: error.to_string() })?.convert::<f32>();
        let told: Vec<f32> = told.into_vec().expect("converted to f32 just above");
        let (tokens, [squares, factor, change]) =
            told.split_last_chunk().expect("what the update told follows the losses");
        let mut sums = SourceLoss::per_source(batch);
        SourceLoss::add(&mut sums, batch, tokens);
        let loss = sums.iter().map(|s| s.nats).sum::<f64>() * scale;
        let skipped = !factor.is_finite();
        self.updates += u64::from(!skipped);
        let begin = (self.step + 1).saturating_sub(self.spec.skip_window);
        self.skips.retain(|step| *step >= begin);
        self.skips.extend(skipped.then_some(self.step));
        let (norm, update_norm) = (f64::from(*squares).sqrt(), f64::from(*change).sqrt());
        phases.update = begun.elapsed().as_secs_f64();
        self.ledger = self.ledger.append(batch.digest());
        let record = StepRecord {
            step: self.step,
            loss,
            sources: sums,
            lr,
            grad_norm: norm,
            update_norm,
            targets: targets as u64,
            tokens: (batch.rows() * batch.time()) as u64,
            seconds: started.elapsed().as_secs_f64(),
            phases,
            skipped,
            ledger: self.ledger,
        };
        self.step += 1;
        Ok(record)
    }
}

/// Whether a model can take a batch. (That nothing is below 0 was checked when it was made.)
pub(crate) fn check(config: &GptNeoXConfig, batch: &Batch, step: u64) -> Result<(), Error> {
    let error = |reason: String| Err(Error::Batch { step, reason });
    if batch.time() > config.longest() {
        return error(format!("rows of {} tokens; the model takes {}", batch.time(), config.longest()));
    }
    let vocabulary = config.vocab_size as i32;
    if let Some(id) = batch.inputs().iter().find(|id| **id >= vocabulary) {
        return error(format!("token id {id} is not below the model's vocabulary of {vocabulary}"));
    }
    if let Some(id) = batch.targets().iter().find(|id| **id >= vocabulary) {
        return error(format!("target {id} is not below the model's vocabulary of {vocabulary}"));
    }
    Ok(())
}
