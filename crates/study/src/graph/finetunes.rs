//! Fine-tunes, and the choice of their learning rates: it may take several rounds.

use super::{Graph, Known};
use crate::job::{Candidate, Cost, Finetune, Kind as _, Model, Pretrain, Select, Selected, Side};
use crate::spec::LrChoice;
use crate::store::{Failure, Payload};
use crate::study::MAX_STEPS;
use crate::{ArmId, Error, SetId};

/// One of a study's fine-tunes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// The arm.
    pub arm: ArmId,
    /// The set.
    pub set: SetId,
    /// The pretraining seed.
    pub pretrain_seed: u64,
    /// The fine-tuning seed.
    pub sft_seed: u64,
}

/// The learning rate of an arm on a set.
#[derive(Debug, Clone, PartialEq)]
pub enum Rate {
    /// Chosen.
    Known(f64),
    /// To be chosen: the jobs for it are in the graph, the rate is known in a later round.
    Pending,
    /// Unavailable.
    Failed(Failure),
}

impl Graph<'_> {
    /// Adds a fine-tune with a rate; its model is kept.
    pub(crate) fn finetune_with(&mut self, cell: Cell, lr: f64) -> Result<Finetune, Error> {
        self.finetune_keeping(cell, lr, Payload::Full)
    }

    /// Adds a fine-tune with a rate; `payload`: what is to be kept of it.
    fn finetune_keeping(&mut self, cell: Cell, lr: f64, payload: Payload) -> Result<Finetune, Error> {
        let base = self.end(cell.arm, cell.pretrain_seed)?;
        self.finetune_of(&base, cell, lr, payload)
    }

    /// Adds a fine-tune of any state of a cell's arm with a rate; `payload`: what is to be kept of it.
    pub(crate) fn finetune_of(
        &mut self,
        base: &Pretrain,
        cell: Cell,
        lr: f64,
        payload: Payload,
    ) -> Result<Finetune, Error> {
        let (study, spec) = (self.study, self.study.spec());
        let rows = &self.data.rows(cell.set).train;
        if rows.steps > MAX_STEPS {
            let field = format!("fine-tuning steps on {}", study[cell.set].name);
            return Err(Error::field(field, rows.steps, format!("must not exceed {MAX_STEPS}")));
        }
        let seeds = match spec.pretrain_seeds {
            1 => format!("seed {}", cell.sft_seed),
            _ => format!("seeds {}.{}", cell.pretrain_seed, cell.sft_seed),
        };
        let at = if base.step.0 == spec.pretrain.steps { String::new() } else { format!(" at step {}", base.step) };
        let recipe = study.finetune_recipe(lr, rows.steps);
        let job = Finetune {
            label: format!("{}{at} on {}, lr {lr:e}, {seeds}", study[cell.arm].name(), study[cell.set].name),
            base: base.address(),
            lr,
            set: study.examples(cell.set, cell.sft_seed, &|role| self.data.role(role).train.clone()),
            steps: rows.steps,
            kernels: self.kernels(),
            tokenizer: self.data.tokenizer.clone(),
            cost: Cost::training(&spec.model, &recipe, rows.mean_length(), rows.padded as f64 * spec.sft.epochs as f64),
            recipe,
        };
        self.add(job.clone(), payload);
        Ok(job)
    }

    /// Adds a fine-tune of the study; `None` while its rate is not known.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn finetune(&mut self, cell: Cell) -> Result<Option<Finetune>, Error> {
        match self.rate(cell.arm, cell.set)? {
            Rate::Known(lr) => self.finetune_with(cell, lr).map(Some),
            Rate::Pending | Rate::Failed(_) => Ok(None),
        }
    }

    /// The learning rate of an arm on a set; adds what is needed to choose it.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn rate(&mut self, arm: ArmId, set: SetId) -> Result<Rate, Error> {
        let Some(select) = self.last_select(arm, set)? else {
            let given = self.study.spec().sft.lr.grid(&self.study[set].name);
            return Ok(Rate::Known(given.first().copied().unwrap_or_default()));
        };
        if let Some(failure) = self.failures.get(&select.address()) {
            return Ok(Rate::Failed(failure.clone()));
        }
        let first = Rate::Known(select.candidates[0].rate);
        if self.known == Known::First {
            return Ok(first);
        }
        Ok(match self.store.result::<Select>(&select.address())? {
            Some(selected) => Rate::Known(selected.rate),
            None if self.known == Known::ChosenOrFirst => first,
            None => Rate::Pending,
        })
    }

    /// The choice among all rates that were asked for so far; adds it and those before it. `None` where there is nothing
    /// to choose.
    pub(crate) fn last_select(&mut self, arm: ArmId, set: SetId) -> Result<Option<Select>, Error> {
        let on = self.tried_on(arm);
        if let Some(select) = self.selects.get(&(self.size, on, set)) {
            return Ok(Some(select.clone()));
        }
        let Some(mut select) = self.first_select(on, set)? else { return Ok(None) };
        while self.known != Known::First
            && let Some(Selected { asks: Some(rate), .. }) = self.store.result::<Select>(&select.address())?
        {
            let grid: Vec<f64> = select.candidates.iter().map(|c| c.rate).chain([rate]).collect();
            select = self.select_of(on, set, &grid, select.extend.saturating_sub(1))?;
        }
        self.selects.insert((self.size, on, set), select.clone());
        Ok(Some(select))
    }

    /// The choice among the grid that is given.
    fn first_select(&mut self, on: ArmId, set: SetId) -> Result<Option<Select>, Error> {
        match &self.study.spec().sft.lr {
            LrChoice::Fixed { .. } => Ok(None),
            LrChoice::SweepBase { grid, extend } | LrChoice::SweepEach { grid, extend } => {
                self.select_of(on, set, grid, *extend).map(Some)
            }
        }
    }

    /// The arm whose checkpoints the rates of an arm are tried on.
    pub(crate) fn tried_on(&self, arm: ArmId) -> ArmId {
        match self.study.spec().sft.lr {
            LrChoice::SweepEach { .. } => arm,
            _ => self.study.control(),
        }
    }

    /// Rates tried on all pretraining seeds with the first fine-tuning seed.
    fn select_of(&mut self, arm: ArmId, set: SetId, grid: &[f64], extend: u32) -> Result<Select, Error> {
        let mut candidates = Vec::new();
        for rate in grid {
            let mut evaluations = Vec::new();
            for pretrain_seed in 0..self.study.spec().pretrain_seeds {
                let cell = Cell { arm, set, pretrain_seed, sft_seed: 0 };
                let tuned = self.finetune_keeping(cell, *rate, Payload::Result)?;
                let loss = self.set_loss(Model::Finetuned(tuned.address()), set, Side::Validation, &tuned.label);
                evaluations.push(loss.address());
            }
            candidates.push(Candidate { rate: *rate, evaluations });
        }
        let (arm, set) = (self.study[arm].name(), &self.study[set].name);
        let select = Select { label: format!("learning rate of {set} (tried on {arm})"), candidates, extend };
        self.add(select.clone(), Payload::Result);
        Ok(select)
    }
}
