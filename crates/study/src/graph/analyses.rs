//! What is measured on models and data besides losses.

use schedule::Weight;

use super::{Cell, Graph};
use crate::job::{Cost, CountTokens, Kind as _, Model, Probe, Walk};
use crate::spec::GENERAL;
use crate::store::Payload;
use crate::{ArmId, Error, ProbeId, SetId, Study};

/// Groups of documents for the jackknife over representations.
pub(crate) const GROUPS: usize = 10;
/// A dimension of a hundred times the median variance is massive.
const MASSIVE: f64 = 100.0;

impl Graph<'_> {
    /// Adds the comparison of four states — the control, an arm, both fine-tuned on a set — on a probe; the first seeds.
    /// `None` while a rate is not known.
    pub(crate) fn probe(&mut self, arm: ArmId, set: SetId, probe: ProbeId) -> Result<Option<Probe>, Error> {
        use metrics_cka::Treatment;
        let (study, spec) = (self.study, self.study.spec());
        let control = study.control();
        let first = |arm| Cell { arm, set, pretrain_seed: 0, sft_seed: 0 };
        let (base, mid) = (self.end(control, 0)?, self.end(arm, 0)?);
        let (base_tuned, mid_tuned) = (self.finetune(first(control))?, self.finetune(first(arm))?);
        let (Some(base_tuned), Some(mid_tuned)) = (base_tuned, mid_tuned) else { return Ok(None) };
        let role = &study[probe].role;
        let stores = self.data.role(role);
        let job = Probe {
            label: format!("representations on {role}"),
            states: vec![
                ("base".to_owned(), Model::Pretrained(base.address())),
                ("midtrained".to_owned(), Model::Pretrained(mid.address())),
                ("base fine-tuned".to_owned(), Model::Finetuned(base_tuned.address())),
                ("midtrained fine-tuned".to_owned(), Model::Finetuned(mid_tuned.address())),
            ],
            tokens: stores.test.clone(),
            documents: spec.eval.probe_documents,
            seed: study.seed("documents of a probe", 0),
            longest: spec.pretrain.time.min(spec.model.max_positions),
            groups: GROUPS,
            treatments: vec![Treatment::Raw, Treatment::Standardised, Treatment::WithoutMassive { ratio: MASSIVE }],
            micro_tokens: spec.pretrain.micro_tokens,
            precision: spec.pretrain.precision,
            kernels: self.kernels(),
            cost: Cost::default(),
        };
        let job = Probe { cost: self.probing(&job), ..job };
        self.add(job.clone(), Payload::Result);
        Ok(Some(job))
    }

    /// Every state reads every document; the products of all pairs of layers of all pairs of states are summed.
    fn probing(&self, probe: &Probe) -> Cost {
        let model = &self.study.spec().model;
        let documents = probe.documents.min(probe.tokens.documents) as f64;
        let length = probe.tokens.tokens as f64 / probe.tokens.documents.max(1) as f64;
        let tokens = documents * length.min(probe.longest as f64);
        let states = probe.states.len() as f64;
        let features = ((model.num_layers + 2) * model.hidden_size) as f64;
        let read = model.training_flops(probe.longest).total() / 3.0 * states;
        let products = 2.0 * features * features * states * (states - 1.0) / 2.0;
        Cost::with_model("probe", model, &self.study.pretrain_recipe(), tokens * (read + products))
    }

    /// Adds the walk along an arm's first fine-tune on a set. `None` while its rate is not known.
    pub(crate) fn walk(&mut self, arm: ArmId, set: SetId) -> Result<Option<Walk>, Error> {
        let spec = self.study.spec();
        let end = self.end(arm, 0)?;
        let fork = self.fork(arm, 0)?;
        let Some(tuned) = self.finetune(Cell { arm, set, pretrain_seed: 0, sft_seed: 0 })? else { return Ok(None) };
        let job = Walk {
            label: format!("path of {} on {}", self.study[arm].name(), self.study[set].name),
            base: end.address(),
            finetuned: tuned.address(),
            recipe: tuned.recipe,
            set: tuned.set,
            general: self.data.role(GENERAL).test.clone(),
            time: spec.pretrain.time,
            document_mask: spec.pretrain.document_mask,
            path_rows: spec.eval.path_rows,
            stride: spec.eval.path_stride,
            before: fork.map(|fork| (fork.address(), fork.step.0, end.step.0)),
            kernels: self.kernels(),
            cost: Cost::default(),
        };
        let job = Walk { cost: self.walking(&job, tuned.steps, set), ..job };
        self.add(job.clone(), Payload::Result);
        Ok(Some(job))
    }

    /// The fine-tune once more, and two gradients at every point.
    fn walking(&self, walk: &Walk, steps: u64, set: SetId) -> Cost {
        let spec = self.study.spec();
        let rows = &self.data.rows(set).train;
        let points = (steps / walk.stride.max(1) + 2) as f64;
        let path = rows.padded as f64 * spec.sft.epochs as f64;
        let gradients = points * walk.path_rows as f64 * (walk.time + rows.mean_length()) as f64;
        let each = spec.model.training_flops(walk.time).total();
        Cost::with_model("walk", &spec.model, &walk.recipe, each * (path + gradients))
    }

    /// Adds the counts of a role's text: what is trained on, of a probe what is evaluated.
    pub(crate) fn counts(&mut self, role: &str) -> CountTokens {
        let tokens = self.data.role(role).text().clone();
        let job = CountTokens { name: role.to_owned(), tokens, vocabulary: self.study.spec().model.vocab_size };
        self.add(job.clone(), Payload::Result);
        job
    }
}

/// What an arm's batches consist of once its mix is at full weight: roles and shares.
pub(crate) fn mixture(study: &Study, arm: ArmId) -> Vec<(String, f64)> {
    let timeline = study[arm].timeline();
    let phases = timeline.phases();
    let Some((last, phase)) = phases.iter().enumerate().next_back() else { return vec![(GENERAL.to_owned(), 1.0)] };
    // As before where a phase does not say.
    let general = phases.iter().rev().find_map(|p| p.general.clone());
    let slots = (timeline.phase_end(last).0 - phase.start.0).saturating_mul(study.spec().pretrain.batch);
    let weight = phase.weight.peak(slots);
    let side = |shares: &Option<schedule::Shares>, whole: f64| {
        let shares = shares.iter().flat_map(|s| s.iter());
        shares.map(|(role, share): (&str, Weight)| (role.to_owned(), whole * share.as_f64())).collect::<Vec<_>>()
    };
    let mut general = side(&general, 1.0 - weight.as_f64());
    if general.is_empty() {
        general.push((GENERAL.to_owned(), 1.0 - weight.as_f64()));
    }
    for (role, share) in side(&phase.specialised, weight.as_f64()) {
        // A role on both sides is one part of the mixture.
        match general.iter_mut().find(|(known, _)| *known == role) {
            Some((_, whole)) => *whole += share,
            None => general.push((role, share)),
        }
    }
    general
}
