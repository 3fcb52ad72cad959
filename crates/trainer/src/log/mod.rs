//! A run's log: JSON lines, and what is derived from them for other programs.

mod csv;
mod jsonl;
mod record;
mod tensorboard;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

pub use record::{EvalRecord, LogLine, SourceLoss, StepRecord, StepTimes};

pub(crate) use jsonl::{Log, reaches, read_lines};

use crate::Error;
use csv::Table;
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
    pub(crate) fn open(dir: &Path, formats: LogFormats, sources: &[String]) -> Result<Self, Error> {
        let mut derived = Self {
            steps: if formats.csv { Some(Table::steps(&dir.join("log.csv"), sources)?) } else { None },
            evals: if formats.csv { Some(Table::evals(&dir.join("evals.csv"))?) } else { None },
            events: if formats.tensorboard { Some(Events::create(&dir.join("tensorboard"))?) } else { None },
        };
        if formats != LogFormats::default() {
            for line in read_lines::<LogLine>(&dir.join(STEPS))? {
                derived.step(&line)?;
            }
            for record in read_lines::<EvalRecord>(&dir.join(EVALS))? {
                derived.eval(&record)?;
            }
        }
        Ok(derived)
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

/// Writes the CSV and TensorBoard files of a run that has ended, from its log, into a folder.
///
/// # Errors
/// A folder without a log; files that cannot be read or written.
pub fn convert_log(run: &Path, to: &Path, formats: LogFormats) -> Result<u64, Error> {
    let steps = read_lines::<LogLine>(&run.join(STEPS))?;
    if steps.is_empty() && !run.join(STEPS).exists() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no log of a run");
        return Err(Error::Io { path: run.join(STEPS), source });
    }
    std::fs::create_dir_all(to).map_err(io(to))?;
    let mut sources: Vec<(u16, String)> = Vec::new();
    for source in steps.iter().flat_map(|line| &line.record.sources) {
        if !sources.iter().any(|(index, _)| *index == source.source) {
            sources.push((source.source, source.name.clone().unwrap_or_else(|| source.source.to_string())));
        }
    }
    sources.sort();
    let names: Vec<String> = sources.into_iter().map(|(_, name)| name).collect();
    let mut derived = Derived::open(to, LogFormats::default(), &names)?;
    if formats.csv {
        derived.steps = Some(Table::steps(&to.join("log.csv"), &names)?);
        derived.evals = Some(Table::evals(&to.join("evals.csv"))?);
    }
    if formats.tensorboard {
        derived.events = Some(Events::create(&to.join("tensorboard"))?);
    }
    steps.iter().try_for_each(|line| derived.step(line))?;
    read_lines::<EvalRecord>(&run.join(EVALS))?.iter().try_for_each(|record| derived.eval(record))?;
    Ok(steps.len() as u64)
}
