//! `midtrain log`: a run's log for other programs.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use trainer::{LogFormats, convert_log};

use crate::Error;

/// A run, and what its log is to become.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  midtrain log runs/store/pretrain/KEY --out logs
  midtrain log runs/store/pretrain/KEY --out logs --format tensorboard && tensorboard --logdir logs
log.csv holds a row a step and a column for the loss of each source; evals.csv the held-out sets that were evaluated on the way;
tensorboard/ an event file, whose steps are numbers of steps done (one more than log.csv's). A stretch that continues another one's checkpoint holds its own steps.")]
pub(super) struct LogArgs {
    /// A run's folder: where its log.jsonl lies.
    run: PathBuf,
    /// The folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What to write (default: both).
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The device's peak in TFLOP/s at the precision of the run, for MFU (989 for bf16 on an H100).
    #[arg(long, value_name = "TFLOPS")]
    peak: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Csv,
    Tensorboard,
}

impl LogArgs {
    pub(super) fn run(self) -> Result<String, Error> {
        let wanted = |format| self.format.is_none_or(|only| only == format);
        let formats = LogFormats { csv: wanted(Format::Csv), tensorboard: wanted(Format::Tensorboard) };
        if let Some(peak) = self.peak.filter(|peak| !(peak.is_finite() && *peak > 0.0)) {
            return Err(Error::option("peak", peak, "must be above 0"));
        }
        if !self.run.join("log.jsonl").is_file() {
            return Err(Error::content(&self.run, "there is no log of a run: it holds no log.jsonl"));
        }
        if self.out.join("job.json").exists() {
            return Err(Error::option("out", self.out.display(), "is a job's folder in a store: choose another"));
        }
        let steps = convert_log(&self.run, &self.out, formats, self.peak.map(|peak| peak * 1e12))?;
        Ok(format!("{}: {steps} steps\n", self.out.display()))
    }
}
