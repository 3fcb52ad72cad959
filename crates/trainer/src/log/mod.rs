//! A run's log: JSON lines, and what is derived from them for other programs.

mod csv;
mod jsonl;
mod record;
mod sink;
mod tensorboard;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub use record::{EvalRecord, LogLine, SourceLoss, StepRecord, StepTimes};

pub(crate) use jsonl::{Log, reaches, read_lines};

use crate::Error;
use csv::Table;
use sink::Sink;
use tensorboard::Events;

/// Names of a run's files.
pub(crate) const STEPS: &str = "log.jsonl";
pub(crate) const EVALS: &str = "evals.jsonl";

/// Now, in seconds since 1970.
pub(crate) fn now() -> Option<f64> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|time| time.as_secs_f64())
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

/// What is written beside the JSON lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogFormats {
    /// `log.csv` and `evals.csv`.
    pub csv: bool,
    /// A TensorBoard event file in `tensorboard/`.
    pub tensorboard: bool,
}

/// CSV and event files: made anew from the JSON lines when a run goes on, so that they never say anything else.
pub(crate) struct Derived {
    steps: Option<Table>,
    evals: Option<Table>,
    events: Option<Events>,
}

impl Derived {
    /// Files that grow with a run, with what its log holds already.
    pub(crate) fn open(dir: &Path, formats: LogFormats, sources: &[String]) -> Result<Self, Error> {
        let sources: Vec<(u16, String)> = (0..).zip(sources.iter().cloned()).collect();
        let mut derived = Self::create(dir, formats, &sources, true)?;
        if formats != LogFormats::default() {
            let evals = read_lines::<EvalRecord>(&dir.join(EVALS))?;
            read_lines::<LogLine>(&dir.join(STEPS))?.iter().try_for_each(|line| derived.step(line))?;
            evals.iter().try_for_each(|record| derived.eval(record))?;
        }
        Ok(derived)
    }

    fn create(dir: &Path, formats: LogFormats, sources: &[(u16, String)], growing: bool) -> Result<Self, Error> {
        let file = |name: &str| -> Result<(Sink, PathBuf), Error> {
            let path = dir.join(name);
            let sink = if growing { Sink::growing(&path) } else { Sink::whole(&path) };
            Ok((sink.map_err(io(&path))?, path))
        };
        Ok(Self {
            steps: if formats.csv { Some(Table::steps(file("log.csv")?, sources)?) } else { None },
            evals: if formats.csv { Some(Table::evals(file("evals.csv")?)?) } else { None },
            events: if formats.tensorboard { Some(Events::create(&dir.join("tensorboard"), growing)?) } else { None },
        })
    }

    /// Gives files that were written whole their names.
    fn finish(self) -> Result<(), Error> {
        self.steps.map_or(Ok(()), Table::finish)?;
        self.evals.map_or(Ok(()), Table::finish)?;
        self.events.map_or(Ok(()), Events::finish)
    }

    pub(crate) fn step(&mut self, line: &LogLine) -> Result<(), Error> {
        if let Some(table) = &mut self.steps {
            table.step(line)?;
        }
        self.events.as_mut().map_or(Ok(()), |events| events.step(line))
    }

    pub(crate) fn eval(&mut self, record: &EvalRecord) -> Result<(), Error> {
        if let Some(table) = &mut self.evals {
            table.eval(record)?;
        }
        self.events.as_mut().map_or(Ok(()), |events| events.eval(record))
    }
}

/// Writes the CSV and TensorBoard files of a run from its log into a folder, each whole or not at all: the number of steps. With the
/// device's peak, in floating-point operations a second, MFU is told where the run did not know it.
///
/// # Errors
/// A folder without a log; files that cannot be read or written.
pub fn convert_log(run: &Path, to: &Path, formats: LogFormats, peak_flops: Option<f64>) -> Result<u64, Error> {
    if !run.join(STEPS).exists() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no log of a run");
        return Err(Error::Io { path: run.join(STEPS), source });
    }
    let mut steps = read_lines::<LogLine>(&run.join(STEPS))?;
    let evals = read_lines::<EvalRecord>(&run.join(EVALS))?;
    for line in &mut steps {
        line.mfu = line.mfu.or_else(|| Some(line.flops_per_second? / peak_flops?));
    }
    let mut sources: Vec<(u16, String)> = Vec::new();
    for source in steps.iter().flat_map(|line| &line.record.sources) {
        if !sources.iter().any(|(index, _)| *index == source.source) {
            sources.push((source.source, source.name.clone().unwrap_or_else(|| source.source.to_string())));
        }
    }
    sources.sort();
    std::fs::create_dir_all(to).map_err(io(to))?;
    let mut derived = Derived::create(to, formats, &sources, false)?;
    steps.iter().try_for_each(|line| derived.step(line))?;
    evals.iter().try_for_each(|record| derived.eval(record))?;
    derived.finish()?;
    Ok(steps.len() as u64)
}
