//! Measuring the theory's terms along a fine-tuning path, by walking it again.

use std::path::{Path as FilePath, PathBuf};

use burn::module::AutodiffModule as _;
use burn::tensor::backend::AutodiffBackend;
use data_mixer::{Batch, BatchSource as _, SftBatches};
use forgetting_eval::theory::{Displacement, Initialisation, Path, Point};
use fused_ops::FusedOps;
use gptneox_model::load_pretrained;
use schedule::Step;
use serde::{Deserialize, Serialize};
use trainer::{StepRecord, TrainSpec, Trainer, load_weights, loss_gradient, parameter_vector};

use crate::{Error, Progress};

/// A fine-tuning path to walk.
pub struct PathJob {
    /// What progress calls it.
    pub label: String,
    /// The checkpoint that was fine-tuned: θ_0.
    pub base: PathBuf,
    /// The recipe of the fine-tune.
    pub recipe: TrainSpec,
    /// Its batches.
    pub batches: SftBatches,
    /// The model that came of it, to see that the path is the same.
    pub finetuned: PathBuf,
    /// What J_P is measured on.
    pub general: Vec<Batch>,
    /// What J_T is measured on.
    pub examples: Vec<Batch>,
    /// Steps between points.
    pub stride: u64,
    /// The checkpoint before midtraining, θ_pre, and the folder whose log has midtraining's steps.
    pub before: Option<(PathBuf, PathBuf)>,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathResult {
    /// The path.
    pub path: Path,
    /// Optimiser steps.
    pub steps: u64,
    /// Largest difference between a parameter at its end and the fine-tuned model's: 0 where the path is the same to the
    /// last bit.
    pub end_difference: f64,
    /// From θ_pre to θ_0; `None` without midtraining.
    pub initialisation: Option<Initialisation>,
    /// How far midtraining went, from its log.
    pub displacement: Option<Displacement>,
}

impl PathJob {
    pub(crate) fn run<AB>(&self, device: &AB::Device, progress: &mut Progress) -> Result<PathResult, Error>
    where
        AB: AutodiffBackend + FusedOps,
        AB::InnerBackend: FusedOps,
    {
        let steps = self.batches.steps();
        let points: Vec<u64> = (0..steps).step_by(self.stride.max(1) as usize).chain([steps]).collect();
        let lr =
            self.recipe.lr.clone().build().map_err(|source| Error::Schedule { what: self.label.clone(), source })?;
        let rate = |pair: &[u64]| (pair[0]..pair[1]).map(|step| lr.at(Step(step))).sum();
        let rates: Vec<f64> = points.windows(2).map(rate).collect();
        let mut trainer = Trainer::<AB>::new(load_weights(&self.base, device)?, self.recipe.clone(), device)?;
        let mut last = Vec::new();
        let path = Path::walk(&rates, |k| {
            while trainer.steps_done() < points[k] {
                progress.signal.check()?;
                trainer.step(&self.batches.batch(trainer.steps_done())?)?;
            }
            let p = loss_gradient(trainer.model(), &self.general, &self.recipe, device)?;
            let t = loss_gradient(trainer.model(), &self.examples, &self.recipe, device)?;
            if k % 8 == 0 {
                progress.note(&format!("{}: point {k} of {}", self.label, points.len() - 1));
            }
            let theta = parameter_vector(&trainer.model().valid());
            if k + 1 == points.len() {
                last.clone_from(&theta);
            }
            Ok::<_, Error>(Point { theta, loss_p: p.loss, grad_p: p.gradient, loss_t: t.loss, grad_t: t.gradient })
        })?;
        let stored = parameter_vector(&load_pretrained::<AB::InnerBackend>(&self.finetuned, device)?);
        let difference = last.iter().zip(&stored).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        let (initialisation, displacement) = match &self.before {
            Some((checkpoint, dir)) => {
                (Some(self.initialisation::<AB>(checkpoint, &path, device)?), Some(displacement(dir)?))
            }
            None => (None, None),
        };
        Ok(PathResult { path, steps, end_difference: difference, initialisation, displacement })
    }

    fn initialisation<AB>(&self, before: &FilePath, path: &Path, device: &AB::Device) -> Result<Initialisation, Error>
    where
        AB: AutodiffBackend + FusedOps,
        AB::InnerBackend: FusedOps,
    {
        let pre = load_weights::<AB>(before, device)?.with_compute(self.recipe.compute());
        let t = loss_gradient(&pre, &self.examples, &self.recipe, device)?;
        let pre = parameter_vector(&pre.valid());
        let after = parameter_vector(&load_weights::<AB::InnerBackend>(&self.base, device)?);
        Ok(Initialisation::of(&pre, &after, &t.gradient, (t.loss, path.losses_t[0]))?)
    }
}

/// From the log of a run's folder.
fn displacement(dir: &FilePath) -> Result<Displacement, Error> {
    let path = dir.join("log.jsonl");
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let records = text
        .lines()
        .map(|line| {
            serde_json::from_str::<StepRecord>(line).map(|r| (if r.skipped { 0.0 } else { r.lr }, r.update_norm))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Error::Parse { path, reason: e.to_string() })?;
    Ok(Displacement::of(records)?)
}
