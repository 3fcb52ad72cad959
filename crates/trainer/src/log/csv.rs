//! The log as tables.

use std::path::PathBuf;

use super::sink::Sink;
use super::{EvalRecord, LogLine, io};
use crate::Error;

/// A CSV file that is written row by row. Numbers at full precision; empty where there is none.
pub(super) struct Table {
    writer: csv::Writer<Sink>,
    path: PathBuf,
    /// Those with a column, by index.
    sources: Vec<(u16, String)>,
}

fn number(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { String::new() }
}

fn maybe(value: Option<f64>) -> String {
    value.map(number).unwrap_or_default()
}

impl Table {
    fn create((sink, path): (Sink, PathBuf), sources: &[(u16, String)], columns: Vec<String>) -> Result<Self, Error> {
        let mut table = Self { writer: csv::Writer::from_writer(sink), path, sources: sources.to_vec() };
        table.row(columns)?;
        Ok(table)
    }

    /// Steps, with a column for the loss of each source.
    pub(super) fn steps(file: (Sink, PathBuf), sources: &[(u16, String)]) -> Result<Self, Error> {
        let mut columns: Vec<String> = [
            "step",
            "loss",
            "lr",
            "grad_norm",
            "update_norm",
            "targets",
            "tokens",
            "seconds",
            "tokens_per_second",
            "mfu",
            "eta_seconds",
            "skipped",
        ]
        .map(str::to_owned)
        .to_vec();
        columns.extend(sources.iter().map(|(_, name)| format!("loss of {name}")));
        Self::create(file, sources, columns)
    }

    /// Evaluations.
    pub(super) fn evals(file: (Sink, PathBuf)) -> Result<Self, Error> {
        let columns = ["step", "set", "loss", "targets", "bits_per_byte", "seconds"].map(str::to_owned).to_vec();
        Self::create(file, &[], columns)
    }

    pub(super) fn step(&mut self, line: &LogLine) -> Result<(), Error> {
        let r = &line.record;
        let mut row = vec![r.step.to_string()];
        row.extend([r.loss, r.lr, r.grad_norm, r.update_norm].map(number));
        row.extend([r.targets, r.tokens].map(|count| count.to_string()));
        row.push(number(r.seconds));
        row.extend([line.tokens_per_second, line.mfu, line.eta_seconds].map(maybe));
        row.push(r.skipped.to_string());
        for (index, _) in &self.sources {
            let found = r.sources.iter().find(|source| source.source == *index);
            row.push(maybe(found.and_then(|s| (s.targets > 0).then(|| s.nats / s.targets as f64))));
        }
        self.row(row)
    }

    pub(super) fn eval(&mut self, record: &EvalRecord) -> Result<(), Error> {
        let EvalRecord { step, set, loss, targets, bits_per_byte, seconds, .. } = record;
        let row = vec![
            step.to_string(),
            set.clone(),
            number(*loss),
            targets.to_string(),
            maybe(*bits_per_byte),
            number(*seconds),
        ];
        self.row(row)
    }

    /// Gives a file that was written whole its name.
    pub(super) fn finish(self) -> Result<(), Error> {
        let sink = self.writer.into_inner().map_err(|e| io(&self.path)(e.into_error()))?;
        sink.finish().map_err(io(&self.path))
    }

    fn row(&mut self, row: Vec<String>) -> Result<(), Error> {
        self.writer.write_record(row).map_err(|e| io(&self.path)(e.into()))?;
        self.writer.flush().map_err(io(&self.path))
    }
}
