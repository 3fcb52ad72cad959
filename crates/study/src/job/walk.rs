//! Measuring the theory's terms along a fine-tuning path, by walking it again.

use burn::module::AutodiffModule as _;
use data_mixer::{Batch, BatchSource as _, Sequences};
use forgetting_eval::theory::{Descent, Displacement, Initialisation, Path, Point};
use fused_ops::TrainingBackend;
use schedule::Step;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trainer::{TrainSpec, Trainer, loss_gradient, mean_loss, parameter_vector, with_parameters};

use metrics_proximity::sample_documents as sample;

use super::rows::Examples;
use super::tokens::Content;
use super::{Context, Cost, Input, Kind, Model, pretrain};
use crate::Error;
use crate::address::Address;

/// Walks a fine-tuning path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Walk {
    /// What messages call it.
    pub(crate) label: String,
    /// The state that was fine-tuned: θ_0.
    pub(crate) base: Address,
    /// The fine-tune: its path is walked again, and must end at its model.
    pub(crate) finetuned: Address,
    /// Its recipe.
    pub(crate) recipe: TrainSpec,
    /// Its training examples.
    pub(crate) set: Examples,
    /// What J_P is measured on: held-out general text.
    pub(crate) general: Content,
    /// Tokens of its sequences.
    pub(crate) time: usize,
    /// Whether attention stops at the beginning of a document.
    pub(crate) document_mask: bool,
    /// Sequences for J_P, and examples for J_T.
    pub(crate) path_rows: u64,
    /// Seed of those drawn.
    pub(crate) draw: u64,
    /// Steps between points.
    pub(crate) stride: u64,
    /// The state before midtraining, θ_pre, its step, and the step of θ_0; `None` without midtraining.
    pub(crate) before: Option<(Address, u64, u64)>,
    /// The class of matrix kernels; `None` where the study takes any.
    pub(crate) kernels: Option<String>,
    /// What it is expected to take.
    #[serde(default)]
    pub(crate) cost: Cost,
}

/// The theory's terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Walked {
    /// The path.
    pub(crate) path: Path,
    /// Optimiser steps.
    pub(crate) steps: u64,
    /// Largest difference between a parameter at its end and the fine-tuned model's: 0 where the path is the same to the
    /// last bit.
    pub(crate) end_difference: f64,
    /// From θ_pre to θ_0; `None` without midtraining.
    pub(crate) initialisation: Option<Initialisation>,
    /// How far midtraining went, from its log.
    pub(crate) displacement: Option<Displacement>,
}

impl Kind for Walk {
    const NAME: &'static str = "walk";
    const VERSION: u32 = 3;
    type Output = Walked;

    fn address(&self) -> Address {
        // The fine-tune's address covers recipe, examples and order.
        let identity = json!({
            "finetuned": self.finetuned,
            "general": self.general.digest,
            "time": self.time,
            "document_mask": self.document_mask,
            "rows": self.path_rows,
            "draw": self.draw,
            "stride": self.stride,
            "before": self.before,
            "kernels": self.kernels,
        });
        Self::identified_by(&identity)
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn inputs(&self) -> Vec<Input> {
        let states = [&self.base].into_iter().chain(self.before.iter().map(|(state, ..)| state));
        let texts = self.general.inputs().into_iter().chain(self.set.inputs());
        states.map(Input::weights).chain([Input::files(&self.finetuned)]).chain(texts).collect()
    }

    fn cost(&self) -> Cost {
        self.cost.clone()
    }

    fn kernels(&self) -> Option<&str> {
        self.kernels.as_deref()
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let batches = self.set.batches(cx.store)?;
        let general = vec![self.general_batch(cx)?];
        let drawn = sample(batches.report().examples, self.path_rows, self.draw);
        let examples = vec![batches.examples(&drawn)?];
        let steps = batches.steps();
        let points: Vec<u64> = (0..steps).step_by(self.stride.max(1) as usize).chain([steps]).collect();
        let lr =
            self.recipe.lr.clone().build().map_err(|source| Error::Schedule { what: self.label.clone(), source })?;
        let rate = |pair: &[u64]| (pair[0]..pair[1]).map(|step| lr.at(Step(step))).sum();
        let rates: Vec<f64> = points.windows(2).map(rate).collect();
        let base = Model::Pretrained(self.base.clone()).load::<AB>(cx.store, cx.device)?;
        let mut trainer = Trainer::<AB>::new(base, self.recipe.clone(), cx.device)?;
        let (mut last, mut descents) = (Vec::new(), Vec::new());
        let path = Path::walk(&rates, |k| {
            while trainer.steps_done() < points[k] {
                cx.report.check()?;
                trainer.step(&batches.batch(trainer.steps_done())?)?;
            }
            let p = loss_gradient(trainer.model(), &general, &self.recipe, cx.device)?;
            let t = loss_gradient(trainer.model(), &examples, &self.recipe, cx.device)?;
            let done = k as f64 / points.len() as f64;
            cx.report.advanced(done, || format!("{}: point {k} of {}", self.label, points.len() - 1));
            let theta = parameter_vector(&trainer.model().valid());
            match rates.get(k) {
                // The paper's step: of a single step's size alone.
                Some(rate) if self.stride == 1 => {
                    let step =
                        theta.iter().zip(&t.gradient).map(|(x, g)| (f64::from(*x) - rate * f64::from(*g)) as f32);
                    let moved = with_parameters(&trainer.model().valid(), &step.collect::<Vec<_>>(), cx.device)?;
                    let moved = moved.with_compute(self.recipe.compute());
                    let loss = |batches: &[Batch]| mean_loss(&moved, batches, &self.recipe, cx.device);
                    descents.push(Descent { loss_p: loss(&general)?, loss_t: loss(&examples)? });
                }
                Some(_) => {}
                None => last.clone_from(&theta),
            }
            Ok::<_, Error>(Point { theta, loss_p: p.loss, grad_p: p.gradient, loss_t: t.loss, grad_t: t.gradient })
        })?;
        // A step of descent that diverges voids nothing of the path that was walked.
        let finite = descents.iter().all(|d| d.loss_p.is_finite() && d.loss_t.is_finite());
        let path = if self.stride == 1 && finite { path.with_descents(descents)? } else { path };
        let stored = Model::Finetuned(self.finetuned.clone()).load::<AB::InnerBackend>(cx.store, cx.device)?;
        let stored = parameter_vector(&stored);
        let difference = last.iter().zip(&stored).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        let (initialisation, displacement) = match &self.before {
            Some((before, from, until)) => (
                Some(self.initialisation::<AB>(before, &examples, &path, cx)?),
                Some(self.displacement(*from, *until, cx)?),
            ),
            None => (None, None),
        };
        Ok(Walked { path, steps, end_difference: difference, initialisation, displacement })
    }
}

impl Walk {
    fn general_batch<AB: TrainingBackend>(&self, cx: &Context<'_, AB>) -> Result<Batch, Error> {
        let sequences = Sequences::new(self.general.open(cx.store)?, self.time)?.with_document_mask(self.document_mask);
        let drawn = sample(sequences.len(), self.path_rows, self.draw);
        Ok(sequences.batch_of(&drawn)?)
    }

    fn initialisation<AB: TrainingBackend>(
        &self,
        before: &Address,
        examples: &[Batch],
        path: &Path,
        cx: &Context<'_, AB>,
    ) -> Result<Initialisation, Error> {
        let load = |state: &Address| Model::Pretrained(state.clone()).load::<AB>(cx.store, cx.device);
        let pre = load(before)?.with_compute(self.recipe.compute());
        let t = loss_gradient(&pre, examples, &self.recipe, cx.device)?;
        let (pre, after) = (parameter_vector(&pre.valid()), parameter_vector(&load(&self.base)?.valid()));
        Ok(Initialisation::of(&pre, &after, &t.gradient, (t.loss, path.losses_t[0]))?)
    }

    /// From the logs of midtraining's steps.
    fn displacement<AB: TrainingBackend>(
        &self,
        from: u64,
        until: u64,
        cx: &Context<'_, AB>,
    ) -> Result<Displacement, Error> {
        let records = pretrain::records(cx.store, &self.base, from, until)?;
        Ok(Displacement::of(records.iter().map(|r| (if r.skipped { 0.0 } else { r.lr }, r.update_norm)))?)
    }
}
