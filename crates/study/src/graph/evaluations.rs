//! Losses of models on held-out text.

use forgetting_eval::{ClozeScore, DocumentLosses};

use super::Graph;
use crate::job::{Cost, Evaluate, EvaluateOn, Finetune, Kind as _, Model, MultipleChoice, Pretrain, Side};
use crate::spec::GENERAL;
use crate::store::{Failure, Payload};
use crate::{Error, SetId};

impl Graph<'_> {
    /// Adds a state's loss on held-out general text.
    ///
    /// # Errors
    /// Too little held-out text.
    pub fn general_loss_of(&mut self, state: &Pretrain) -> Result<Evaluate, Error> {
        let of = format!("{} at step {}", state.label, state.step);
        self.general_loss(Model::Pretrained(state.address()), &of)
    }

    /// Adds the loss on held-out general text of the checkpoint that the study begins at; `None` where it begins at first
    /// weights.
    ///
    /// # Errors
    /// Too little held-out text.
    pub fn base_loss(&mut self) -> Result<Option<Evaluate>, Error> {
        let Some(base) = &self.data.base else { return Ok(None) };
        self.general_loss(Model::Base(base.clone()), "the base checkpoint").map(Some)
    }

    /// A loss that was asked for, document by document, or why there is none.
    ///
    /// # Errors
    /// A store that cannot be read, a job that was not asked for.
    pub fn loss(&self, job: &Evaluate) -> Result<Result<DocumentLosses, Failure>, Error> {
        self.outcome(job)
    }

    /// Adds the losses of a fine-tuned model: on its set, and on general text.
    ///
    /// # Errors
    /// Held-out text without a whole sequence.
    pub fn losses_of(&mut self, tuned: &Finetune, set: SetId) -> Result<(Evaluate, Evaluate), Error> {
        let model = Model::Finetuned(tuned.address());
        Ok((self.set_loss(model.clone(), set, Side::Test, &tuned.label), self.general_loss(model, &tuned.label)?))
    }

    /// Adds what a fine-tuned model chooses of its set's items, where the set has some.
    pub fn choices_of(&mut self, tuned: &Finetune, set: SetId) -> Option<MultipleChoice> {
        let (spec, name) = (self.study.spec(), &self.study[set].name);
        let items = self.data.items.get(name)?.clone();
        let time = spec.sft.max_time;
        let cost = self.evaluating(time, (items.choices * time as u64) as f64);
        let p = &spec.pretrain;
        let job = MultipleChoice {
            label: tuned.label.clone(),
            set: name.clone(),
            model: Model::Finetuned(tuned.address()),
            items,
            tokenizer: self.data.tokenizer.clone(),
            micro_tokens: p.micro_tokens,
            precision: p.precision,
            kernels: self.kernels(),
            cost,
        };
        self.add(job.clone(), Payload::Result);
        Some(job)
    }

    /// What was chosen, item by item, or why nothing was.
    ///
    /// # Errors
    /// A store that cannot be read, a job that was not asked for.
    pub fn choices(&self, job: &MultipleChoice) -> Result<Result<Vec<ClozeScore>, Failure>, Error> {
        self.outcome(job)
    }

    /// Held-out general sequences that are evaluated.
    fn general_sequences(&self) -> u64 {
        let spec = self.study.spec();
        spec.eval.general_sequences.min(self.data.role(GENERAL).test.sequences(spec.pretrain.time))
    }

    /// Held-out general text as it is evaluated.
    pub(super) fn general_text(&self) -> Result<EvaluateOn, Error> {
        let spec = self.study.spec();
        let held_out = &self.data.role(GENERAL).test;
        let count = self.general_sequences();
        if count == 0 {
            let limit = format!("tokens do not fill one sequence of {}", spec.pretrain.time);
            return Err(Error::field("held-out general text", held_out.tokens, limit));
        }
        Ok(EvaluateOn::General {
            tokens: held_out.clone(),
            time: spec.pretrain.time,
            count,
            draw: self.study.seed("sequences that are evaluated", 0),
            document_mask: spec.pretrain.document_mask,
        })
    }

    /// A set's validation or test split as it is evaluated.
    pub(super) fn examples(&self, set: SetId, side: Side) -> EvaluateOn {
        let text = self.data.role(&self.study[set].role);
        let tokens = match side {
            Side::Validation => &text.validation,
            Side::Test => &text.test,
        };
        EvaluateOn::Examples { tokens: tokens.clone(), count: u64::MAX, rows: self.study.rows(set, 0) }
    }

    fn general_loss(&mut self, model: Model, of: &str) -> Result<Evaluate, Error> {
        let on = self.general_text()?;
        let (time, count) = (self.study.spec().pretrain.time, self.general_sequences());
        let cost = self.evaluating(time, count.saturating_mul(time as u64) as f64);
        Ok(self.evaluate(of, "general text", model, on, cost))
    }

    /// Adds the loss on a set's validation or test split.
    pub(super) fn set_loss(&mut self, model: Model, set: SetId, side: Side, of: &str) -> Evaluate {
        let rows = self.data.rows(set);
        let rows = match side {
            Side::Validation => rows.validation.as_ref(),
            Side::Test => Some(&rows.test),
        };
        let on = self.examples(set, side);
        let cost = rows.map_or_else(Cost::default, |rows| self.evaluating(rows.mean_length(), rows.padded as f64));
        let what = format!("{}'s {} split", self.study[set].name, side.name());
        self.evaluate(of, &what, model, on, cost)
    }

    /// What a forward pass over tokens in rows of a length is expected to take.
    fn evaluating(&self, time: usize, tokens: f64) -> Cost {
        Cost::evaluating(&self.study.spec().model, &self.study.pretrain_recipe(), time, tokens)
    }

    fn evaluate(&mut self, label: &str, what: &str, model: Model, on: EvaluateOn, cost: Cost) -> Evaluate {
        let p = &self.study.spec().pretrain;
        let job = Evaluate {
            label: label.to_owned(),
            what: what.to_owned(),
            model,
            on,
            micro_tokens: p.micro_tokens,
            precision: p.precision,
            kernels: self.kernels(),
            cost,
        };
        self.add(job.clone(), Payload::Result);
        job
    }
}
