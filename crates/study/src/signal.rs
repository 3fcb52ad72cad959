//! SIGINT and SIGTERM, remembered until jobs can stop with valid checkpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Error;

/// Remembers SIGINT and SIGTERM until a job can stop with a valid checkpoint.
#[derive(Debug, Clone, Default)]
pub struct StopSignal(Arc<AtomicUsize>);

impl StopSignal {
    /// Installs the handlers. A second signal ends the process at once.
    ///
    /// # Errors
    /// Handlers that the system refuses.
    pub fn install() -> std::io::Result<Self> {
        let signal = Self::default();
        // A terminal that closes ends no study: its signal is taken, and nothing follows from it.
        signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::default())?;
        for number in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            let armed = Arc::new(std::sync::atomic::AtomicBool::new(false));
            signal_hook::flag::register_conditional_shutdown(number, 128 + number, armed.clone())?;
            signal_hook::flag::register(number, armed)?;
            signal_hook::flag::register_usize(number, signal.0.clone(), number as usize)?;
        }
        Ok(signal)
    }

    /// The signal's number, once one came.
    pub fn received(&self) -> Option<i32> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }

    /// As if the signal of this number came.
    pub fn raise(&self, number: i32) {
        self.0.store(number.unsigned_abs() as usize, Ordering::Relaxed);
    }

    /// An error once a signal came.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.received().map_or(Ok(()), |signal| Err(Error::Stopped { signal }))
    }
}
