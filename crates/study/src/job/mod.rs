//! The jobs of a study: one file a kind, which holds what the job is given, its address, how it is run, and its result.
//!
//! A job is plain data: from its record in the store it can be run by its address alone. Its address is a digest of
//! everything that determines its result, and of nothing else: labels, where data lie, and how often checkpoints are
//! written are in the record but not in the address.

mod base;
mod contamination;
mod cost;
mod counts;
mod curve;
mod evaluate;
mod finetune;
mod held_out;
mod items;
mod plane;
pub(crate) mod pretrain;
mod probe;
mod proximity;
mod rows;
mod select;
mod source;
mod split;
mod tokenizer;
mod tokens;
mod training;
mod walk;

use std::path::Path;

use fused_ops::TrainingBackend;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::engine::Report;
use crate::store::{Lock, Status, Store};
use crate::{Error, Machine};

pub(crate) use base::{ImportBase, Imported};
pub(crate) use contamination::{Contaminated, Contamination, Shared};
pub(crate) use cost::Cost;
pub(crate) use counts::CountTokens;
pub(crate) use curve::Curve;
pub use evaluate::Evaluate;
pub(crate) use evaluate::{EvaluateOn, Model};
pub use finetune::Finetune;
pub(crate) use held_out::{FindHeldOut, HeldOut, Side};
pub use items::MultipleChoice;
pub(crate) use items::{ImportItems, ImportedItems, Items};
pub(crate) use plane::{Measured, Place, Plane, Sliced, Tuned};
pub use pretrain::Pretrain;
pub(crate) use pretrain::{BaseState, Begun, DuringTraining, Pretrained, Setup};
pub(crate) use probe::{Probe, ProbeResult, StateComparison};
pub(crate) use proximity::{Closeness, Proximity};
pub(crate) use rows::{CountRows, Examples, Replayed, RowCounts};
pub(crate) use select::{Candidate, Select, Selected};
pub(crate) use source::RoleSource;
pub(crate) use split::{LeftOut, Sample, Split, SplitMade};
pub(crate) use tokenizer::{MakeTokenizer, TokenizerSource};
pub(crate) use tokens::{Content, Tokenise, TokenisePart, Tokenised};
pub(crate) use walk::{Walk, Walked};

pub(crate) use finetune::MODEL;
pub(crate) use pretrain::{FULL_STATE, WEIGHTS, step_of, weights};

/// A kind of job.
pub(crate) trait Kind: Clone + Serialize + DeserializeOwned {
    /// The name of its folder in a store.
    const NAME: &'static str;
    /// Raised whenever the program computes another result from the same inputs: addresses cover it, so that old and new
    /// results are never mixed.
    const VERSION: u32;
    /// Its result.
    type Output: Clone + Serialize + DeserializeOwned;

    /// A digest of everything that determines the result.
    fn address(&self) -> Address;

    /// The address of a job that is identified by this.
    fn identified_by(identity: &impl Serialize) -> Address {
        Address::of(Self::NAME, Self::VERSION, identity)
    }

    /// What progress and messages call it.
    fn label(&self) -> String;

    /// The jobs that it reads.
    fn inputs(&self) -> Vec<Input>;

    /// Those of its inputs that it can describe whole, so that they can be made for it wherever they are missing.
    fn describes(&self) -> Vec<Job> {
        Vec::new()
    }

    /// What it is expected to take.
    fn cost(&self) -> Cost;

    /// The class of matrix kernels that its address is for; `None` for any.
    fn kernels(&self) -> Option<&str> {
        None
    }

    /// Runs it in its folder.
    ///
    /// # Errors
    /// What went wrong; what was done is kept.
    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error>;
}

/// A job that another one reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) address: Address,
    pub(crate) what: Reads,
}

/// What is read of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Its result, and where it has none because it diverged, that.
    Outcome,
    /// The weights of a pretrained state.
    Weights,
    /// A pretrained state with its optimiser.
    State,
    /// All its files.
    Files,
}

impl Input {
    pub(crate) fn files(address: &Address) -> Self {
        Self { address: address.clone(), what: Reads::Files }
    }

    pub(crate) fn weights(address: &Address) -> Self {
        Self { address: address.clone(), what: Reads::Weights }
    }

    pub(crate) fn state(address: &Address) -> Self {
        Self { address: address.clone(), what: Reads::State }
    }

    /// Whether the store holds it.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub(crate) fn is_there(&self, store: &Store) -> Result<bool, Error> {
        Ok(match self.what {
            Reads::Outcome => store.is_done(&self.address) || store.failure(&self.address)?.is_some_and(|f| f.certain),
            Reads::Weights => store.is_done(&self.address) && weights(store, &self.address).exists(),
            Reads::State => store.is_done(&self.address) && store.folder(&self.address).join(FULL_STATE).exists(),
            Reads::Files => store.has_files(&self.address)?,
        })
    }

    pub(crate) fn outcome(address: &Address) -> Self {
        Self { address: address.clone(), what: Reads::Outcome }
    }
}

/// Where and with what a job runs.
pub(crate) struct Context<'a, AB: TrainingBackend> {
    pub(crate) store: &'a Store,
    /// The job's folder.
    pub(crate) folder: &'a Path,
    pub(crate) device: &'a AB::Device,
    pub(crate) machine: &'a Machine,
    /// Most seconds between checkpoints.
    pub(crate) checkpoint_seconds: f64,
    /// Where it tells how far it is, and sees whether it is to stop.
    pub(crate) report: &'a Report,
}

macro_rules! kinds {
    ($($kind:ident),* $(,)?) => {
        /// A job of any kind.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[allow(missing_docs, reason = "each is documented where it is defined")]
        pub(crate) enum Job {
            $($kind($kind),)*
        }

        $(impl From<$kind> for Job {
            fn from(job: $kind) -> Self {
                Self::$kind(job)
            }
        })*

        impl Job {
            /// The folders of all kinds in a store.
            pub(crate) const FOLDERS: &'static [&'static str] = &[$(<$kind as Kind>::NAME,)*];

            /// Its address.
            pub(crate) fn address(&self) -> Address {
                match self { $(Self::$kind(job) => job.address(),)* }
            }

            /// What progress and messages call it.
            pub(crate) fn label(&self) -> String {
                match self { $(Self::$kind(job) => job.label(),)* }
            }

            pub(crate) fn inputs(&self) -> Vec<Input> {
                match self { $(Self::$kind(job) => job.inputs(),)* }
            }

            pub(crate) fn describes(&self) -> Vec<Job> {
                match self { $(Self::$kind(job) => job.describes(),)* }
            }

            pub(crate) fn cost(&self) -> Cost {
                match self { $(Self::$kind(job) => job.cost(),)* }
            }

            /// What a store holds of it.
            pub(crate) fn status(&self, store: &Store) -> Result<Status, Error> {
                match self { $(Self::$kind(job) => store.status::<$kind>(&job.address()),)* }
            }

            /// Runs it and stores its result.
            pub(crate) fn perform<AB: TrainingBackend>(
                &self,
                lock: &Lock,
                cx: &mut Context<'_, AB>,
            ) -> Result<(), Error> {
                match self {
                    $(Self::$kind(job) => {
                        cx.machine.must_be(job.kernels())?;
                        let result = job.run(cx)?;
                        // What a device computed after it failed is worth nothing.
                        if let Some(reason) = fused_ops::device::failure() {
                            return Err(trainer::Error::Device { reason }.into());
                        }
                        cx.store.finish(lock, &job.address(), &result, cx.machine)
                    })*
                }
            }
        }
    };
}

kinds!(
    ImportBase,
    FindHeldOut,
    MakeTokenizer,
    TokenisePart,
    Tokenise,
    Split,
    Contamination,
    CountTokens,
    CountRows,
    Proximity,
    Pretrain,
    Evaluate,
    Select,
    Finetune,
    Probe,
    Walk,
    Curve,
    Plane,
    ImportItems,
    MultipleChoice,
);
