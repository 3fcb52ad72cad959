//! What is measured on models and data besides losses.

use super::{Cell, Graph};
use crate::job::{Cost, CountTokens, Kind as _, Model, Probe, Walk};
use crate::spec::GENERAL;
use crate::store::Payload;
use crate::{ArmId, Error, ProbeId, SetId};

/// Groups of documents for the jackknife over representations.
pub(crate) const GROUPS: usize = 10;
/// Of the four states of a probe: the base model before and after fine-tuning.
pub(crate) const BASE_TUNED: (usize, usize) = (0, 2);
/// The midtrained model before and after it.
pub(crate) const MIDTRAINED_TUNED: (usize, usize) = (1, 3);
/// A dimension of a hundred times the median variance is massive.
const MASSIVE: f64 = 100.0;

impl Graph<'_> {
    /// Adds the comparison of four states — the control, an arm, both fine-tuned on a set — on a probe: all pairs of them for
    /// the first seeds, of the others each state before and after fine-tuning. `None` while a rate is not known.
    pub(crate) fn probe(
        &mut self,
        (arm, set, probe): (ArmId, SetId, ProbeId),
        (pretrain_seed, sft_seed): (u64, u64),
    ) -> Result<Option<Probe>, Error> {
        use metrics_cka::Treatment;
        let (study, spec) = (self.study, self.study.spec());
        let control = study.control();
        let cell = |arm| Cell { arm, set, pretrain_seed, sft_seed };
        let (base, mid) = (self.end(control, pretrain_seed)?, self.end(arm, pretrain_seed)?);
        let (base_tuned, mid_tuned) = (self.finetune(cell(control))?, self.finetune(cell(arm))?);
        let (Some(base_tuned), Some(mid_tuned)) = (base_tuned, mid_tuned) else { return Ok(None) };
        let pairs = match (pretrain_seed, sft_seed) {
            (0, 0) => (0..4).flat_map(|i| (i + 1..4).map(move |j| (i, j))).collect(),
            _ => vec![BASE_TUNED, MIDTRAINED_TUNED],
        };
        let role = &study[probe].role;
        let stores = self.data.role(role);
        let job = Probe {
            label: format!("representations on {role}, seeds {pretrain_seed}.{sft_seed}"),
            states: vec![
                ("base".to_owned(), Model::Pretrained(base.address())),
                ("midtrained".to_owned(), Model::Pretrained(mid.address())),
                ("base fine-tuned".to_owned(), Model::Finetuned(base_tuned.address())),
                ("midtrained fine-tuned".to_owned(), Model::Finetuned(mid_tuned.address())),
            ],
            pairs,
            tokens: stores.test.clone(),
            documents: spec.eval.probe_documents,
            seed: study.seed("documents of a probe", 0),
            longest: spec.pretrain.time.min(spec.model.longest()),
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
        let products = 2.0 * features * features * probe.pairs.len() as f64;
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
            draw: self.study.seed("what a path is measured on", 0),
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
        // A step of descent is evaluated too: a third of what a gradient takes.
        let evaluated = if walk.stride == 1 { 4.0 / 3.0 } else { 1.0 };
        let gradients = evaluated * points * walk.path_rows as f64 * (walk.time + rows.mean_length()) as f64;
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
