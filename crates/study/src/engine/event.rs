//! What engines tell: plain data, because it may come from another process.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::{Error, StopSignal};

/// Least time between two reports of one job's progress.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Something to be said.
    Note(String),
    /// A job goes on from a checkpoint.
    Resumed {
        /// The job.
        job: Address,
        /// How much of it is done, from 0 to 1.
        done: f64,
    },
    /// A job went on.
    Advanced {
        /// The job.
        job: Address,
        /// How much of it is done, from 0 to 1.
        done: f64,
        /// What it is at.
        what: String,
    },
    /// A job ended.
    Ended {
        /// The job.
        job: Address,
        /// How.
        how: Ended,
    },
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Its result is stored.
    Done {
        /// Seconds that it took.
        seconds: f64,
        /// The part that a checkpoint had done before.
        resumed: f64,
    },
    /// Another process has done it, or found that it cannot be done: the store says which.
    Elsewhere,
    /// Another process works on it.
    Busy,
    /// With a checkpoint, at a signal.
    Stopped {
        /// The signal's number.
        signal: i32,
    },
    /// It went wrong.
    Failed(Trouble),
    /// Its process ended without a word.
    Lost {
        /// How.
        reason: String,
    },
}

/// An error, as it travels from the process that met it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct Trouble {
    /// What happened.
    pub reason: String,
    /// Whether the same happens whenever the job is run.
    pub certain: bool,
    /// The file that is missing or damaged, where that is what went wrong.
    pub damaged: Option<PathBuf>,
    /// The exit status that it means.
    pub status: u8,
}

impl From<&Error> for Trouble {
    fn from(error: &Error) -> Self {
        Self {
            reason: error.to_string(),
            certain: error.is_certain(),
            damaged: error.damaged_file().map(Into::into),
            status: error.exit_status(),
        }
    }
}

/// Where a job tells how far it is, and sees whether it is to stop.
pub struct Report {
    job: Address,
    tell: Box<dyn Fn(Event) + Send + Sync>,
    signal: StopSignal,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    told: Option<Instant>,
    resumed: f64,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").field("job", &self.job).finish_non_exhaustive()
    }
}

impl Report {
    /// Of a job; `tell` passes events on.
    pub fn new(job: Address, signal: StopSignal, tell: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self { job, tell: Box::new(tell), signal, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Something to be said.
    pub fn note(&self, text: &str) {
        (self.tell)(Event::Note(text.to_owned()));
    }

    /// The job goes on where so much of it was done, from 0 to 1.
    pub fn resumed(&self, done: f64) {
        self.state().resumed = done;
        (self.tell)(Event::Resumed { job: self.job.clone(), done });
    }

    /// So much of the job is done, from 0 to 1. Told as often as anybody can read it.
    pub fn advanced(&self, done: f64, what: impl FnOnce() -> String) {
        let due = |state: &mut State| {
            let due = state.told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
            if due {
                state.told = Some(Instant::now());
            }
            due
        };
        if due(&mut self.state()) {
            (self.tell)(Event::Advanced { job: self.job.clone(), done, what: what() });
        }
    }

    /// The part of the job that a checkpoint had done before.
    pub(super) fn was_resumed(&self) -> f64 {
        self.state().resumed
    }

    /// Where signals are seen.
    pub fn signal(&self) -> &StopSignal {
        &self.signal
    }

    /// An error once a signal came.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn check(&self) -> Result<(), Error> {
        self.signal.check()
    }
}
