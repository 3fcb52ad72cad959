//! Progress with an estimate of the time left: a bar on a terminal, plain lines elsewhere. Signals are noticed here.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::Error;

/// Seconds between plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

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

    /// An error once a signal came.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.received().map_or(Ok(()), |signal| Err(Error::Stopped { signal }))
    }
}

/// Progress through a known amount of work, in tokens.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    plain: bool,
    total: u64,
    done: u64,
    /// Work found done when it began: it does not count for the speed.
    skipped: u64,
    started: Instant,
    printed: Option<Instant>,
    /// Asked between steps.
    pub signal: StopSignal,
}

impl Progress {
    /// Shown on stderr unless `quiet`.
    pub fn new(quiet: bool, signal: StopSignal) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (!quiet && terminal).then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("[{elapsed_precise}] {bar:30} {percent:>3}% {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self {
            bar,
            plain: !quiet && !terminal,
            total: 0,
            done: 0,
            skipped: 0,
            started: Instant::now(),
            printed: None,
            signal,
        }
    }

    /// Begins work of this size.
    pub fn begin(&mut self, total: u64) {
        (self.total, self.done, self.skipped, self.started) = (total, 0, 0, Instant::now());
        if let Some(bar) = &self.bar {
            bar.set_length(total);
        }
    }

    /// More work turned up.
    pub(crate) fn extend(&mut self, tokens: u64) {
        self.total += tokens;
        if let Some(bar) = &self.bar {
            bar.set_length(self.total);
        }
    }

    /// Work that need not be done.
    pub fn skip(&mut self, tokens: u64) {
        self.skipped += tokens;
        self.advance(tokens, "");
    }

    /// Work done, and what it was; an empty message shows nothing.
    pub fn advance(&mut self, tokens: u64, message: &str) {
        self.done = (self.done + tokens).min(self.total);
        if message.is_empty() {
            return;
        }
        let text = format!("{message}, {}", self.estimate());
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
            bar.set_message(text);
        } else if self.plain && self.printed.is_none_or(|at| at.elapsed() >= PLAIN_EVERY) {
            self.printed = Some(Instant::now());
            let percent = 100 * self.done / self.total.max(1);
            eprintln!("[{percent:>3}%] {text}");
        }
    }

    /// One line of its own.
    pub fn note(&self, message: &str) {
        if let Some(bar) = &self.bar {
            bar.println(message);
        } else if self.plain {
            eprintln!("{message}");
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn estimate(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let worked = self.done.saturating_sub(self.skipped) as f64;
        if worked <= 0.0 || seconds <= 0.0 {
            return "ETA unknown".to_owned();
        }
        let speed = worked / seconds;
        let left = (self.total - self.done) as f64 / speed;
        format!("{speed:.0} tokens/s, ETA {}", duration(left))
    }
}

fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}
