//! From a spec to jobs, with shared prefixes.

use data_mixer::Preflight;
use schedule::Phase;

use crate::recipe::mix_plan;
use crate::{ArmSpec, DataSpec, Error, Prepared, StudySpec};

/// One stretch of pretraining.
#[derive(Debug, Clone)]
pub struct PretrainNode {
    /// The pretraining seed.
    pub seed: u64,
    /// The node it continues.
    pub parent: Option<usize>,
    /// First step.
    pub from: u64,
    /// One past the last step.
    pub until: u64,
    /// The phases that have begun by its end.
    pub phases: Vec<Phase>,
    /// What logs call it.
    pub label: String,
}

/// An arm: which node ends it for each pretraining seed, and what it takes from each source.
#[derive(Debug, Clone)]
pub struct PlannedArm {
    /// Its spec.
    pub arm: ArmSpec,
    /// The last node for each pretraining seed.
    pub ends: Vec<usize>,
    /// What it takes of each source, or why it cannot be had.
    pub preflight: Result<Preflight, String>,
}

impl PlannedArm {
    /// The step at which something is first mixed in, if the learning rate is still rising then.
    pub(crate) fn starts_in_warmup(&self, warmup: u64) -> Option<u64> {
        let phases = &self.preflight.as_ref().ok()?.phases;
        let start = phases.iter().find(|p| p.mixed).map(|p| p.from.0)?;
        (start < warmup).then_some(start)
    }
}

/// A study's jobs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Pretraining, parents before children.
    pub nodes: Vec<PretrainNode>,
    /// The arms, in the spec's order.
    pub arms: Vec<PlannedArm>,
    pub(crate) spec: StudySpec,
}

impl Plan {
    /// Plans on prepared data: an arm whose mixture cannot be had is an error.
    ///
    /// # Errors
    /// The arm, its source, need, have and what would fit.
    pub fn build(spec: &StudySpec, prepared: &Prepared) -> Result<Self, Error> {
        let sequences = prepared.sequences(spec);
        let plan = Self::lay_out(spec, &sequences)?;
        for (arm, planned) in spec.arms.iter().zip(&plan.arms) {
            if planned.preflight.is_err() {
                mix_plan(spec, arm, 0, &sequences)?;
            }
        }
        Ok(plan)
    }

    /// Plans on prepared data: arms that cannot be had are marked, with the reason.
    ///
    /// # Errors
    /// A spec outside its limits.
    pub fn marked(spec: &StudySpec, prepared: &Prepared) -> Result<Self, Error> {
        Self::lay_out(spec, &prepared.sequences(spec))
    }

    /// Plans on stated token counts: arms that cannot be had are marked, with the reason.
    ///
    /// # Errors
    /// A spec outside its limits.
    pub fn stated(spec: &StudySpec) -> Result<Self, Error> {
        spec.validate()?;
        let DataSpec::Stated { tokens } = &spec.data else {
            return Err(Error::field("data", "given", "is to be prepared, not stated"));
        };
        let time = spec.pretrain.time as u64;
        Self::lay_out(spec, &|role| tokens.get(role).map_or(0, |n| n.saturating_sub(1) / time))
    }

    fn lay_out(spec: &StudySpec, sequences: &dyn Fn(&str) -> u64) -> Result<Self, Error> {
        let mut nodes = Vec::new();
        let mut arms: Vec<PlannedArm> = Vec::new();
        for arm in &spec.arms {
            let preflight = match mix_plan(spec, arm, 0, sequences) {
                Ok(mix) => Ok(mix.preflight()),
                Err(Error::Mixture { source, .. }) => Err(source.to_string()),
                Err(other) => return Err(other),
            };
            arms.push(PlannedArm { arm: arm.clone(), ends: Vec::new(), preflight });
        }
        // The general trunk, cut where an arm leaves it.
        let timelines = spec.arms.iter().map(|arm| spec.timeline(arm)).collect::<Result<Vec<_>, _>>()?;
        let mut cuts: Vec<u64> = timelines.iter().filter_map(|t| Some(t.phases().first()?.start.0)).collect();
        cuts.push(spec.pretrain.steps);
        cuts.retain(|c| *c > 0);
        cuts.sort_unstable();
        cuts.dedup();
        for seed in 0..spec.pretrain_seeds {
            let mut trunk: Vec<(u64, usize)> = Vec::new();
            let mut from = 0;
            for until in &cuts {
                let parent = trunk.last().map(|(_, node)| *node);
                let label = format!("general text, seed {seed}");
                nodes.push(PretrainNode { seed, parent, from, until: *until, phases: Vec::new(), label });
                trunk.push((*until, nodes.len() - 1));
                from = *until;
            }
            for (planned, timeline) in arms.iter_mut().zip(&timelines) {
                // `None` for an arm that leaves at step 0.
                let at = |step: u64| trunk.iter().find(|(until, _)| *until == step).map(|(_, node)| *node);
                let end = match timeline.phases().first() {
                    None => at(spec.pretrain.steps).expect("the trunk reaches the end"),
                    Some(first) => {
                        nodes.push(PretrainNode {
                            seed,
                            parent: at(first.start.0),
                            from: first.start.0,
                            until: spec.pretrain.steps,
                            phases: timeline.phases().to_vec(),
                            label: format!("{}, seed {seed}", planned.arm.name),
                        });
                        nodes.len() - 1
                    }
                };
                planned.ends.push(end);
            }
        }
        Ok(Self { nodes, arms, spec: spec.clone() })
    }
}
