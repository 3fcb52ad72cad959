//! What computes: a backend on a device. Runs one job after the other in the thread that calls it.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use fused_ops::TrainingBackend;

use super::{Ended, Report, Task, Timing};
use crate::job::Context;
use crate::store::{Files, Lock, Status, Store};
use crate::{Error, Machine};

/// Runs jobs, one at a time, in the calling thread.
pub trait Processor: Send {
    /// What computes.
    fn machine(&self) -> &Machine;

    /// Runs a job: takes its lock, does its work, stores its result.
    fn run(&self, task: &Task, report: &Report) -> Ended;

    /// Operations a second of a piece of work, with so many threads.
    ///
    /// # Errors
    /// A model outside its limits, a precision that the backend does not have.
    fn time(&self, timing: &Timing, threads: Option<NonZeroUsize>) -> Result<f64, Error>;
}

/// A device of a backend.
pub struct OnDevice<AB: TrainingBackend> {
    machine: Machine,
    device: AB::Device,
    checkpoint_seconds: f64,
    /// Threads by their number: made once.
    pools: Mutex<HashMap<NonZeroUsize, Arc<rayon::ThreadPool>>>,
}

impl<AB: TrainingBackend> std::fmt::Debug for OnDevice<AB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnDevice").field("machine", &self.machine).finish_non_exhaustive()
    }
}

impl<AB: TrainingBackend> OnDevice<AB> {
    /// A device of the backend of this name, with at most so many seconds between checkpoints.
    pub fn new(backend: &str, device: AB::Device, checkpoint_seconds: f64) -> Self {
        let machine = Machine::of::<AB::InnerBackend>(backend, &device);
        Self { machine, device, checkpoint_seconds, pools: Mutex::default() }
    }

    fn pool(&self, threads: NonZeroUsize) -> Result<Arc<rayon::ThreadPool>, Error> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&threads) {
            return Ok(pool.clone());
        }
        let built = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build();
        let pool = Arc::new(built.map_err(|e| Error::Usage { reason: format!("threads = {threads}: {e}") })?);
        pools.insert(threads, pool.clone());
        Ok(pool)
    }

    /// Runs something on so many threads. Results do not depend on their number.
    fn on<R: Send>(&self, threads: Option<NonZeroUsize>, work: impl FnOnce() -> R + Send) -> Result<R, Error> {
        match threads {
            None => Ok(work()),
            Some(threads) => Ok(self.pool(threads)?.install(work)),
        }
    }

    /// `Ok(None)`: done.
    fn attempt(&self, task: &Task, report: &Report) -> Result<Option<Ended>, Error> {
        let (store, address) = (Store::new(&task.store), task.job.address());
        let Some(lock) = Lock::take(&store.folder(&address))? else { return Ok(Some(Ended::Busy)) };
        // Another process may have done it since it was looked at.
        match task.job.status(&store)? {
            Status::Done { files: Files::Whole } | Status::Failed(_) => return Ok(Some(Ended::Elsewhere)),
            Status::Done { files: Files::Released } if !task.again => return Ok(Some(Ended::Elsewhere)),
            _ => {}
        }
        // A result that is made again stays until the new one takes its place.
        store.begin(&lock, &address, &task.job)?;
        let (store, folder, job) = (&store, lock.folder(), &task.job);
        let mut context = Context::<AB> {
            store,
            folder,
            device: &self.device,
            machine: &self.machine,
            checkpoint_seconds: self.checkpoint_seconds,
            report,
        };
        self.on(task.threads, || job.perform(&lock, &mut context))??;
        Ok(None)
    }
}

impl<AB: TrainingBackend> Processor for OnDevice<AB> {
    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn run(&self, task: &Task, report: &Report) -> Ended {
        let started = Instant::now();
        match self.attempt(task, report) {
            Ok(Some(ended)) => ended,
            Ok(None) => Ended::Done { seconds: started.elapsed().as_secs_f64(), resumed: report.was_resumed() },
            Err(Error::Stopped { signal }) => Ended::Stopped { signal },
            Err(error) => Ended::Failed((&error).into()),
        }
    }

    fn time(&self, timing: &Timing, threads: Option<NonZeroUsize>) -> Result<f64, Error> {
        self.on(threads, || timing.measure::<AB>(&self.device))?
    }
}
