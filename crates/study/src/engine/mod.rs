//! What runs jobs, several at once: a thread of this process ([`LocalEngine`]), or processes of its own program
//! ([`ProcessEngine`]). Both are driven the same way: jobs are started, events come back.

mod event;
mod local;
mod processes;
mod processor;
mod timing;
mod worker;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::job::Job;
use crate::{Error, Machine};

pub use event::{Ended, Event, Report, Trouble};
pub use local::LocalEngine;
pub use processes::{ProcessEngine, Processes, gpus};
pub use processor::{OnDevice, Processor};
pub use timing::Timing;
pub use worker::work;

/// A job to run, whose inputs are there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The job.
    pub(crate) job: Job,
    /// The store's folder.
    pub store: PathBuf,
    /// Whether it is run although its result is there: some of its files were freed, and are needed again.
    pub again: bool,
    /// Threads to compute with; `None` for all of the machine's.
    pub threads: Option<NonZeroUsize>,
}

impl Task {
    /// The job's address.
    pub fn address(&self) -> Address {
        self.job.address()
    }
}

/// Runs jobs. Each can be stopped and started again.
pub trait Engine {
    /// What computes: parts of it enter addresses, because machines differ in the last bits.
    fn machine(&self) -> &Machine;

    /// How many jobs it runs at once.
    fn slots(&self) -> usize {
        1
    }

    /// Threads that each of so many jobs gets; `None` for all.
    fn share(&self, jobs: usize) -> Option<NonZeroUsize> {
        let _ = jobs;
        None
    }

    /// Starts a job; no more than there are slots. Its [`Event::Ended`] comes whatever happens.
    ///
    /// # Errors
    /// A process that cannot be started.
    fn start(&mut self, task: Task) -> Result<(), Error>;

    /// What happened, in order; `None` if nothing did for that long.
    fn event(&mut self, at_most: Duration) -> Option<Event>;

    /// Asks all jobs to stop with a checkpoint.
    fn stop(&mut self, signal: i32);

    /// Measures how fast a piece of work is done in so many slots at once: operations a second of one; `None` where that
    /// could not be found out.
    ///
    /// # Errors
    /// A model outside its limits, a precision that the backend does not have.
    fn time(&mut self, timing: &Timing, slots: usize) -> Result<Option<f64>, Error>;
}
