//! What a program says: progress as a bar on a terminal, as plain lines elsewhere; pages to standard output.

use std::cell::Cell;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use study::{Error, Watcher};

/// Time between plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// The bar's length: indicatif counts in whole numbers.
const BAR: u64 = 10_000;

/// Shows progress on standard error.
#[derive(Debug)]
pub(crate) enum Terminal {
    /// Nothing is shown.
    Quiet,
    /// On a terminal.
    Bar(ProgressBar),
    /// In a file or a pipe: lines, the last of them at this time.
    Lines(Cell<Option<Instant>>),
}

impl Terminal {
    pub(crate) fn new(quiet: bool) -> Self {
        // A terminal that cannot move its cursor gets lines.
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match (quiet, std::io::stderr().is_terminal() && !dumb) {
            (true, _) => Self::Quiet,
            (false, false) => Self::Lines(Cell::new(None)),
            (false, true) => {
                let bar = ProgressBar::new(BAR);
                if let Ok(style) = ProgressStyle::with_template("[{elapsed_precise}] {bar:30} {percent:>3}% {msg}") {
                    bar.set_style(style);
                }
                Self::Bar(bar)
            }
        }
    }
}

impl Watcher for Terminal {
    fn note(&self, message: &str) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => bar.println(message),
            Self::Lines(_) => say(message),
        }
    }

    fn at(&self, done: f64, what: &dyn Fn() -> String) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => {
                bar.set_position((done * BAR as f64) as u64);
                bar.set_message(what());
            }
            Self::Lines(last) if last.get().is_none_or(|at| at.elapsed() >= PLAIN_EVERY) => {
                last.set(Some(Instant::now()));
                say(&format!("[{:>3.0}%] {}", (100.0 * done).floor(), what()));
            }
            Self::Lines(_) => {}
        }
    }

    fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Where spans of runs, checkpoints and evaluations are written to standard error as they end: a level.
const TRACE: &str = "MIDTRAIN_TRACE";

/// Writes spans as the environment asks for it. A program that has a subscriber of its own keeps it.
pub(crate) fn trace() {
    let Ok(level) = std::env::var(TRACE) else { return };
    match level.parse::<tracing::Level>() {
        Ok(level) => {
            let spans = tracing_subscriber::fmt::format::FmtSpan::CLOSE;
            let lines =
                tracing_subscriber::fmt().with_max_level(level).with_span_events(spans).with_writer(std::io::stderr);
            let _ = lines.log_internal_errors(false).try_init();
        }
        Err(_) => say(&format!("{TRACE} = {level} must be error, warn, info, debug or trace; nothing is traced")),
    }
}

/// A line to standard error; a reader that went away ends nothing.
pub(crate) fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// To standard output; a reader that went away is no failure.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Io { path: "standard output".into(), source: e })
        }
        _ => Ok(()),
    }
}

/// The exit status of what a program did; an error is said.
pub(crate) fn exit(done: Result<(), Error>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(error.exit_status())
        }
    }
}
