//! Training states of the arms, and where they fork.

use schedule::Step;

use super::Graph;
use crate::job::{Begun, DuringTraining, Kind as _, Pretrain, Setup, Side};
use crate::store::Payload;
use crate::{ArmId, Error};

impl Graph<'_> {
    /// The state of an arm after some steps, wherever they end: to evaluate along a run, to fork from it, to probe it.
    ///
    /// # Errors
    /// A step beyond the run.
    pub fn state(&mut self, arm: ArmId, seed: u64, step: Step) -> Result<Pretrain, Error> {
        let state = self.pretrain(arm, seed, step)?;
        // What other arms have in common with this one ends where a phase begins.
        for start in self.study[arm].timeline().phases().iter().map(|p| p.start).filter(|s| s.0 > 0 && *s < step) {
            let fork = self.pretrain(arm, seed, start)?;
            self.add(fork, Payload::Full);
        }
        self.add(state.clone(), Payload::Weights);
        Ok(state)
    }

    /// An arm's states after several numbers of steps.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub fn states(&mut self, arm: ArmId, seed: u64, steps: &[Step]) -> Result<Vec<Pretrain>, Error> {
        steps.iter().map(|step| self.state(arm, seed, *step)).collect()
    }

    /// An arm's last state.
    pub fn end(&mut self, arm: ArmId, seed: u64) -> Result<Pretrain, Error> {
        self.state(arm, seed, Step(self.study.spec().pretrain.steps))
    }

    /// The state of an arm at which its first phase begins; `None` for one without phases, or with one from step 0 on.
    pub(crate) fn fork(&mut self, arm: ArmId, seed: u64) -> Result<Option<Pretrain>, Error> {
        let start = self.study[arm].timeline().phases().first().map(|p| p.start);
        start.filter(|s| s.0 > 0).map(|start| self.state(arm, seed, start)).transpose()
    }

    /// What runs are evaluated on while they train.
    fn along(&self) -> Result<Option<DuringTraining>, Error> {
        let Some(every) = self.study.spec().eval.along else { return Ok(None) };
        let mut on = vec![("general text".to_owned(), self.general_text()?)];
        for set in self.study.sets() {
            let side = if self.data.rows(set).validation.is_some() { Side::Validation } else { Side::Test };
            on.push((self.study[set].name.clone(), self.examples(set, side)));
        }
        Ok(Some(DuringTraining { every, on }))
    }

    fn pretrain(&self, arm: ArmId, seed: u64, step: Step) -> Result<Pretrain, Error> {
        let (study, spec) = (self.study, self.study.spec());
        if step.0 == 0 || step.0 > spec.pretrain.steps {
            let limit = format!("must be from 1 to {}, the steps of a run", spec.pretrain.steps);
            return Err(Error::field("step of a state", step, limit));
        }
        let timeline = study[arm].timeline();
        let phases = timeline.phases().iter().enumerate().filter(|(_, phase)| phase.start < step);
        let phases: Vec<Begun> =
            phases.map(|(i, phase)| Begun { phase: phase.clone(), end: timeline.phase_end(i) }).collect();
        let sources = timeline.sources().into_iter();
        let sources = sources.map(|name| (name.to_owned(), self.data.role(name).train.clone()));
        let whose = if phases.is_empty() { "general text" } else { study[arm].name() };
        let whole = Pretrain {
            label: format!("{whose}, seed {seed}"),
            setup: Setup {
                version: Pretrain::VERSION,
                backend: self.machine.backend.clone(),
                kernels: self.kernels(),
                model: spec.model.clone(),
                init_seed: if self.data.base.is_some() { 0 } else { study.seed("first weights", seed) },
                base: self.data.base.clone(),
                data_seed: study.seed("pretraining data", seed),
                batch: spec.pretrain.batch,
                time: spec.pretrain.time,
                document_mask: spec.pretrain.document_mask,
                shuffle_documents: spec.pretrain.shuffle_documents,
                general: timeline.general().clone(),
                pairing: spec.pretrain.pairing,
                recipe: study.pretrain_recipe(),
            },
            step,
            phases,
            sources: sources.collect(),
            rates: String::new(),
            lr: study.rates().spec().clone(),
            keep_every: spec.pretrain.keep_every,
            after: None,
            along: self.along()?,
        };
        // Only the sources that are named by then.
        Ok(whole.at(step, study.rates()))
    }
}
