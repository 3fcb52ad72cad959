//! What is measured along runs: checkpoints, training losses of fine-tunes, planes through parameter space.

use schedule::Step;

use super::{Cell, Graph};
use crate::job::{Cost, Curve, Finetune, Kind as _, Plane, Tuned};
use crate::spec::GENERAL;
use crate::store::Payload;
use crate::{ArmId, Error, SetId};

/// Where nothing else is said, a run has so many checkpoints that are fine-tuned.
const CHECKPOINTS: u64 = 8;

impl Graph<'_> {
    /// The steps of the checkpoints that are fine-tuned along a run, its end among them.
    pub(crate) fn checkpoints(&self) -> Vec<Step> {
        let steps = self.study.spec().pretrain.steps;
        let every =
            self.study.spec().eval.checkpoint_every.unwrap_or_else(|| steps.div_ceil(CHECKPOINTS)).clamp(1, steps);
        let mut out: Vec<Step> = (1..=steps / every).map(|i| Step(i * every)).collect();
        if !steps.is_multiple_of(every) {
            out.push(Step(steps));
        }
        out
    }

    /// Adds the training losses of a fine-tune.
    pub(crate) fn curve(&mut self, tuned: &Finetune) -> Curve {
        let job = Curve { label: tuned.label.clone(), finetuned: tuned.address(), steps: tuned.steps };
        self.add(job.clone(), Payload::Result);
        job
    }

    /// Adds the plane through the control, an arm and its fine-tune on a set, of the first seeds. `None` while a rate is not
    /// known.
    pub(crate) fn plane(&mut self, arm: ArmId, set: SetId) -> Result<Option<Plane>, Error> {
        let (study, spec) = (self.study, self.study.spec());
        let mut tuned = |arm: ArmId| -> Result<Option<Tuned>, Error> {
            let base = self.end(arm, 0)?;
            let Some(tuned) = self.finetune(Cell { arm, set, pretrain_seed: 0, sft_seed: 0 })? else { return Ok(None) };
            let (finetuned, Finetune { recipe, set, steps, .. }) = (tuned.address(), tuned);
            Ok(Some(Tuned { base: base.address(), finetuned, recipe, set, steps }))
        };
        let (Some(control), Some(midtrained)) = (tuned(study.control())?, tuned(arm)?) else { return Ok(None) };
        let fork = self.fork(arm, 0)?.map(|fork| fork.address());
        let job = Plane {
            label: format!("the plane of {} and {}", study[study.control()].name(), study[arm].name()),
            control: Box::new(control),
            midtrained: Box::new(midtrained),
            fork,
            general: self.data.role(GENERAL).test.clone(),
            time: spec.pretrain.time,
            document_mask: spec.pretrain.document_mask,
            rows: spec.eval.path_rows,
            draw: study.seed("what a path is measured on", 0),
            points: spec.eval.plane_points,
            kernels: self.kernels(),
            cost: Cost::default(),
        };
        let job = Plane { cost: self.measuring(&job, set), ..job };
        self.add(job.clone(), Payload::Result);
        Ok(Some(job))
    }

    /// Two fine-tunes once more, and two gradients at every point of the grid.
    fn measuring(&self, plane: &Plane, set: SetId) -> Cost {
        let spec = self.study.spec();
        let rows = &self.data.rows(set).train;
        let points = (plane.points * plane.points) as f64;
        let ways = 2.0 * rows.padded as f64 * spec.sft.epochs as f64;
        let gradients = points * plane.rows as f64 * (plane.time + rows.mean_length()) as f64;
        let each = spec.model.training_flops(plane.time).total();
        Cost::with_model("plane", &spec.model, &plane.control.recipe, each * (ways + gradients))
    }
}
