//! The jobs of a study: one file a kind, which holds what the job is given, its address, how it is run, and its result.
//!
//! A job is plain data: from its record in the store it can be run by its address alone. Its address is a digest of
//! everything that determines its result, and of nothing else: labels, where data lie, and how often checkpoints are
//! written are in the record but not in the address.

mod counts;
mod evaluate;
mod finetune;
mod overlap;
mod pretrain;
mod probe;
mod proximity;
mod rows;
mod select;
mod tokenizer;
mod tokens;
mod walk;

use std::path::Path;

use fused_ops::TrainingBackend;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::store::{Lock, Status, Store};
use crate::{Error, Machine, Progress};

pub use counts::{CountTokens, TokenCounts};
pub use evaluate::{Evaluate, EvaluateOn, Evaluation, HeldOutLoss, Model};
pub use finetune::{FineTuned, Finetune};
pub use overlap::{Overlap, Shared};
pub use pretrain::{Begun, Pretrain, Pretrained, Setup};
pub use probe::{Probe, ProbeResult, StateComparison};
pub use proximity::{Closeness, CorpusSize, Proximity};
pub use rows::{CountRows, RowCounts};
pub use select::{Candidate, Select, Selected};
pub use tokenizer::{MakeTokenizer, TokenizerMade, TokenizerSource};
pub use tokens::{Content, Origin, RoleSource, Tokenise, Tokenised};
pub use walk::{Walk, Walked};

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

    /// What progress counts for it: tokens trained on, others in proportion to their work.
    fn cost(&self) -> u64 {
        0
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
    pub(crate) progress: &'a mut Progress,
}

macro_rules! kinds {
    ($($kind:ident),* $(,)?) => {
        /// A job of any kind.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[allow(missing_docs, reason = "each is documented where it is defined")]
        pub enum Job {
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
            pub fn address(&self) -> Address {
                match self { $(Self::$kind(job) => job.address(),)* }
            }

            /// What progress and messages call it.
            pub fn label(&self) -> String {
                match self { $(Self::$kind(job) => job.label(),)* }
            }

            pub(crate) fn inputs(&self) -> Vec<Input> {
                match self { $(Self::$kind(job) => job.inputs(),)* }
            }

            pub(crate) fn cost(&self) -> u64 {
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
                        let result = job.run(cx)?;
                        cx.store.finish(lock, &job.address(), &result, cx.machine)
                    })*
                }
            }
        }
    };
}

kinds!(
    MakeTokenizer,
    Tokenise,
    CountTokens,
    CountRows,
    Overlap,
    Proximity,
    Pretrain,
    Evaluate,
    Select,
    Finetune,
    Probe,
    Walk,
);
