//! A training run as what it is made of: its batches, recipe and first weights, to be looked at, checked, or repeated elsewhere.

use std::path::Path;

use data_mixer::BatchSource;
use fused_ops::{FusedOps, TrainingBackend};
use gptneox_model::GptNeoX;
use trainer::{StepRecord, TrainSpec, Trainer, load_weights};

use crate::address::Address;
use crate::data::Data;
use crate::graph::Graph;
use crate::job::{Finetune, Job, Kind as _, Model, Pretrain, pretrain};
use crate::store::Store;
use crate::{ArmId, Error, Machine, Study};

/// A training run of a store, or one that a study would do.
#[derive(Debug, Clone)]
pub struct TrainingRun {
    store: Store,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Pretrain(Box<Pretrain>),
    Finetune(Box<Finetune>),
}

impl TrainingRun {
    /// An arm's pretraining, midtraining included.
    ///
    /// # Errors
    /// An arm that the data do not suffice for.
    pub fn of_arm(
        study: &Study,
        data: &Data,
        store: &Store,
        machine: &Machine,
        arm: ArmId,
        seed: u64,
    ) -> Result<Self, Error> {
        // Refuses what would repeat data beyond what the study lets it.
        study.mix(arm, seed, &data.sequences(study.spec().pretrain.time))?;
        let failures = std::collections::BTreeMap::new();
        let run = Graph::new(study, data, store, machine, &failures).end(arm, seed)?;
        Ok(Self { store: store.clone(), what: What::Pretrain(Box::new(run)) })
    }

    /// The run whose folder in a store this is: STORE/pretrain/KEY or STORE/finetune/KEY.
    ///
    /// # Errors
    /// A folder that is not there, or of another kind of job.
    pub fn of_folder(folder: &Path) -> Result<Self, Error> {
        let whole = folder.canonicalize().map_err(Error::io(folder))?;
        let name = |path: Option<&Path>| path.and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
        let other = || Error::field("run", folder.display(), "must be STORE/pretrain/KEY or STORE/finetune/KEY");
        let (kind, key) = (name(whole.parent()).ok_or_else(other)?, name(Some(&whole)).ok_or_else(other)?);
        let root = whole.parent().and_then(Path::parent).ok_or_else(other)?;
        let store = Store::new(root);
        if ![Pretrain::NAME, Finetune::NAME].contains(&kind.as_str()) {
            return Err(other());
        }
        let address = Address::parse(&format!("{kind}/{key}")).map_err(|_| other())?;
        let job = store.job(&address).map_err(|e| if let Error::NoJob { .. } = e { other() } else { e })?;
        let what = match job {
            Job::Pretrain(run) => What::Pretrain(Box::new(run)),
            Job::Finetune(run) => What::Finetune(Box::new(run)),
            _ => return Err(other()),
        };
        Ok(Self { store, what })
    }

    /// The folder of the store that it is of.
    pub fn store(&self) -> &Path {
        self.store.root()
    }

    /// What messages call it.
    pub fn label(&self) -> String {
        match &self.what {
            What::Pretrain(run) => run.label(),
            What::Finetune(run) => run.label(),
        }
    }

    /// Its steps.
    pub fn steps(&self) -> u64 {
        match &self.what {
            What::Pretrain(run) => run.step.0,
            What::Finetune(run) => run.steps,
        }
    }

    /// Its recipe.
    pub fn recipe(&self) -> TrainSpec {
        match &self.what {
            What::Pretrain(run) => run.recipe(),
            What::Finetune(run) => run.recipe.clone(),
        }
    }

    /// Its batches by step, with the digests of its ledger.
    ///
    /// # Errors
    /// Data that the store does not hold.
    pub fn batches(&self) -> Result<Box<dyn BatchSource>, Error> {
        Ok(match &self.what {
            What::Pretrain(run) => Box::new(run.batches(&self.store)?),
            What::Finetune(run) => Box::new(run.set.batches(&self.store)?),
        })
    }

    /// Its first weights.
    ///
    /// # Errors
    /// Weights that the store does not hold.
    pub fn first_weights<B: FusedOps>(&self, device: &B::Device) -> Result<GptNeoX<B>, Error> {
        Ok(match &self.what {
            What::Pretrain(run) => match &run.setup.base {
                Some(base) => Model::Base(base.clone()).load(&self.store, device)?,
                None => GptNeoX::init(&run.setup.model, run.setup.init_seed, device)?,
            },
            What::Finetune(run) => load_weights(&pretrain::weights(&self.store, &run.base), device)?,
        })
    }

    /// A trainer at its first step.
    ///
    /// # Errors
    /// As [`first_weights`](Self::first_weights).
    pub fn trainer<AB: TrainingBackend>(&self, device: &AB::Device) -> Result<Trainer<AB>, Error> {
        Ok(Trainer::new(self.first_weights(device)?, self.recipe(), device)?)
    }

    /// What its log says of its steps, as far as it was trained.
    ///
    /// # Errors
    /// A log that is missing or damaged.
    pub fn records(&self) -> Result<Vec<StepRecord>, Error> {
        match &self.what {
            What::Pretrain(run) => pretrain::records(&self.store, &run.address(), 0, run.step.0),
            What::Finetune(run) => pretrain::log_of(&self.store, &run.address()),
        }
    }
}
