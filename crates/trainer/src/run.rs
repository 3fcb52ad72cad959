//! Many steps: checkpoints, log, evaluations, guards, stopping.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Instant;

use data_mixer::{Batch, BatchSource, LedgerFile, LedgerHead, LedgerSpan, prefetch};
use fused_ops::TrainingBackend;
use gptneox_model::{GptNeoX, GptNeoXConfig};
use schedule::Step;

use crate::checkpoint::{
    Retention, Write, Writer, checkpoints, differing_fields, load_model_config, verify_checkpoint,
};
use crate::log::{Derived, EVALS, EvalRecord, Log, LogFormats, LogLine, STEPS, now, read_lines};
use crate::resume::{PassedOver, resumable};
use crate::{Change, Error, EvalSpec, StepRecord, TrainSpec, Trainer};

/// A run's ledger, in its folder: what it has seen, step by step.
const LEDGER: &str = "ledger";
/// Batches made ahead.
const AHEAD: usize = 2;
/// Steps whose speed tells how long the rest takes.
const LATELY: usize = 20;
/// Sequences that an error names.
const NAMED: usize = 8;

/// Where a run keeps its files, how far it goes, and what it does on its way.
#[derive(Debug, Clone)]
pub struct RunOptions<'a> {
    /// Folder of checkpoints and log.
    pub dir: &'a Path,
    /// The step to stop before.
    pub until: u64,
    /// The end of the whole run, where this is a part of it: for the time left, and for the evaluations at its end.
    pub end: u64,
    /// Where the run began and what was seen by then, where a [`Start::Trainer`] is further: from there on the ledger is proved.
    pub began: Option<(u64, LedgerHead)>,
    /// Most steps between checkpoints.
    pub checkpoint_steps: u64,
    /// Most seconds between checkpoints. (When they are written does not change what is computed.)
    pub checkpoint_seconds: f64,
    /// Whether training goes on while a checkpoint is written.
    pub background: bool,
    /// Whether there is a checkpoint of the last step. (A caller that keeps the result elsewhere needs none.)
    pub last_checkpoint: bool,
    /// The last checkpoints that are kept, one at least.
    pub keep: usize,
    /// Those of steps that this divides are kept besides.
    pub keep_every: Option<u64>,
    /// The fields in which a checkpoint's spec may differ from the run's.
    pub allow: &'a [Change],
    /// Held-out sets that are evaluated on the way.
    pub evals: &'a [EvalSpec],
    /// What is written beside the JSON lines.
    pub formats: LogFormats,
    /// The device's floating-point operations a second at best, for MFU.
    pub peak_flops: Option<f64>,
}

impl<'a> RunOptions<'a> {
    /// The defaults: a checkpoint every 500 steps or 10 minutes, in the background, the last two kept.
    pub fn new(dir: &'a Path, until: u64) -> Self {
        Self {
            dir,
            until,
            end: until,
            began: None,
            checkpoint_steps: 500,
            checkpoint_seconds: 600.0,
            background: true,
            last_checkpoint: true,
            keep: 2,
            keep_every: None,
            allow: &[],
            evals: &[],
            formats: LogFormats::default(),
            peak_flops: None,
        }
    }
}

#[allow(clippy::large_enum_variant, reason = "there is one a run")]
/// Where a run begins, if its folder holds no checkpoint to go on from.
pub enum Start<'a, AB: TrainingBackend> {
    /// A trainer as it stands.
    Trainer(Box<Trainer<AB>>),
    /// First weights, which are made only when they are needed.
    Weights {
        /// The model, so that a checkpoint can be compared with it.
        model: &'a GptNeoXConfig,
        /// The recipe.
        spec: TrainSpec,
        /// What computes.
        device: &'a AB::Device,
        /// The weights.
        make: Box<dyn FnOnce() -> Result<GptNeoX<AB>, Error> + 'a>,
    },
}

impl<AB: TrainingBackend> From<Trainer<AB>> for Start<'_, AB> {
    fn from(trainer: Trainer<AB>) -> Self {
        Self::Trainer(Box::new(trainer))
    }
}

impl<AB: TrainingBackend> Start<'_, AB> {
    /// The step, and what was seen by then.
    fn position(&self) -> (u64, LedgerHead) {
        match self {
            Self::Trainer(trainer) => (trainer.step, trainer.ledger),
            Self::Weights { .. } => (0, LedgerHead::default()),
        }
    }

    fn model(&self) -> &GptNeoXConfig {
        match self {
            Self::Trainer(trainer) => trainer.model().config(),
            Self::Weights { model, .. } => model,
        }
    }

    /// From the newest checkpoint that can be gone on from, or from its beginning.
    fn trainer(self, options: &RunOptions<'_>) -> Result<(Trainer<AB>, Vec<PassedOver>), Error> {
        let after = self.position().0;
        refuse_less(options, after)?;
        let found = resumable(options.dir, after, options.until)?;
        let Some((_, path)) = &found.newest else {
            let trainer = match self {
                Self::Trainer(trainer) => *trainer,
                Self::Weights { spec, device, make, .. } => Trainer::new(make()?, spec, device)?,
            };
            found.remove_passed_over()?;
            return Ok((trainer, found.passed_over));
        };
        let fields = differing_fields(&load_model_config(path)?, self.model(), &[]);
        if !fields.is_empty() {
            return Err(Error::OtherSpec { path: path.clone(), fields });
        }
        let (spec, device) = match self {
            Self::Trainer(trainer) => (trainer.spec, trainer.device),
            Self::Weights { spec, device, .. } => (spec, device.clone()),
        };
        let trainer = Trainer::resume_with(path, spec, &device, options.allow)?;
        found.remove_passed_over()?;
        Ok((trainer, found.passed_over))
    }
}

/// A run that got further than it is asked to go would lose its log from there on.
fn refuse_less(options: &RunOptions<'_>, start: u64) -> Result<(), Error> {
    if start > options.until {
        let limit = format!("is before step {start}, at which the trainer stands");
        return Err(Error::Field { field: "until", value: options.until.to_string(), limit });
    }
    let further = checkpoints(options.dir).into_iter().take_while(|(step, _)| *step > options.until);
    match further.into_iter().find(|(_, path)| verify_checkpoint(path).is_ok()) {
        None => Ok(()),
        Some((step, path)) => {
            let limit = format!(
                "is before step {step}, which the run has reached ({}): nothing of it is cut off",
                path.display()
            );
            Err(Error::Field { field: "until", value: options.until.to_string(), limit })
        }
    }
}

/// What a run tells its observer.
#[derive(Debug)]
pub enum Event<'a> {
    /// It begins, or goes on.
    Began {
        /// The steps done.
        step: u64,
        /// Checkpoints newer than the one it goes on from, and why they were passed over.
        passed_over: &'a [PassedOver],
    },
    /// A step was done.
    Step(&'a LogLine),
    /// A held-out set was evaluated.
    Evaluated(&'a EvalRecord),
    /// A checkpoint is being written, or was.
    Checkpoint {
        /// The steps done.
        step: u64,
        /// How long training stood still for it.
        seconds: f64,
    },
}

/// What an observer wants to happen next. (Only the answers to [`Event::Began`] and [`Event::Step`] count: a run stops after a step.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Write a checkpoint and stop.
    Stop,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// At the step asked for.
    Finished,
    /// At the observer's word, with a checkpoint.
    Stopped,
}

/// Trains up to a step, in a folder.
///
/// 1. It goes on from the newest checkpoint in the folder that is whole and that the log reaches, or from `start`.
/// 2. It proves that it goes on with the same data: the batches give the digests of the ledger, the last step's first of all.
/// 3. It trains. Whatever ends it early, a checkpoint of where it stands is attempted before.
/// 4. It leaves a checkpoint of its last step.
///
/// `observe` is told what happens, and may stop it.
///
/// # Errors
/// Unavailable batches, or others than those of the run so far; files that cannot be read or written; a spec or model that is not that of
/// the folder's checkpoints; an `until` before what was reached; a run that diverged.
pub fn run<'a, AB: TrainingBackend>(
    start: impl Into<Start<'a, AB>>,
    source: &dyn BatchSource,
    options: &RunOptions<'_>,
    observe: &mut dyn FnMut(Event<'_>) -> Control,
) -> Result<(Trainer<AB>, Outcome), Error> {
    let start = start.into();
    let io = |source| Error::Io { path: options.dir.to_owned(), source };
    std::fs::create_dir_all(options.dir).map_err(io)?;
    EvalSpec::check_all(options.evals)?;
    remove_temporary(options.dir)?;
    let begins = options.began.unwrap_or_else(|| start.position());
    let (trainer, passed_over) = start.trainer(options)?;
    let mut running = Running::open(trainer, begins, source, options)?;
    let span = tracing::info_span!("run", from = running.trainer.step, until = options.until);
    let _span = span.enter();
    let control = observe(Event::Began { step: running.trainer.step, passed_over: &passed_over });
    match running.train(control, observe) {
        Ok(()) => {
            let outcome = if running.trainer.step >= options.until { Outcome::Finished } else { Outcome::Stopped };
            running.end(outcome, observe)?;
            Ok((running.trainer, outcome))
        }
        Err(error) => {
            // Of a device that failed the numbers are worth nothing.
            if matches!(error, Error::Device { .. }) {
                return Err(error);
            }
            match running.checkpoint(false, observe) {
                // A disk that is full is so for both.
                Err(checkpoint) if !matches!(error, Error::Io { .. }) => {
                    Err(Error::NotSaved { error: Box::new(error), checkpoint: Box::new(checkpoint) })
                }
                _ => Err(error),
            }
        }
    }
}

/// A run on its way.
struct Running<'a, AB: TrainingBackend> {
    trainer: Trainer<AB>,
    source: &'a dyn BatchSource,
    options: &'a RunOptions<'a>,
    sources: Vec<String>,
    log: Log,
    /// Only where there are sets.
    evals: Option<Log>,
    ledger: LedgerFile,
    derived: Derived,
    writer: Writer,
    /// The step of the last checkpoint, and when it was begun.
    saved: (u64, Instant),
    /// Seconds of the last steps.
    lately: VecDeque<f64>,
}

impl<'a, AB: TrainingBackend> Running<'a, AB> {
    fn open(
        trainer: Trainer<AB>,
        begins: (u64, LedgerHead),
        source: &'a dyn BatchSource,
        options: &'a RunOptions<'a>,
    ) -> Result<Self, Error> {
        let step = trainer.step;
        let file = |name: &str| options.dir.join(name);
        let span = LedgerSpan { begins, goes_on: (step, trainer.ledger) };
        let ledger = LedgerFile::open(&file(LEDGER), span, source)?;
        same_data(&ledger, source, step, options.dir)?;
        let log = Log::open(&file(STEPS), &|at| at < step)?;
        // One of an earlier attempt is cut back too.
        let sets = !options.evals.is_empty() || file(EVALS).exists();
        let evals = sets.then(|| Log::open(&file(EVALS), &|at| at <= step)).transpose()?;
        let sources = source.source_names();
        let derived = Derived::open(options.dir, options.formats, &sources)?;
        Ok(Self {
            trainer,
            source,
            options,
            sources,
            log,
            evals,
            ledger,
            derived,
            writer: Writer::default(),
            saved: (step, Instant::now()),
            lately: VecDeque::new(),
        })
    }

    fn train(&mut self, control: Control, observe: &mut dyn FnMut(Event<'_>) -> Control) -> Result<(), Error> {
        let (until, source) = (self.options.until, self.source);
        let mut control = control;
        if control == Control::Continue {
            self.evaluate_missing(observe)?;
        }
        prefetch(source, self.trainer.step..until, AHEAD, |batches| {
            while self.trainer.step < until && control == Control::Continue {
                let Some(batch) = batches.next().transpose()? else { break };
                let record = self.trainer.step(&batch)?;
                let line = self.record(record, &batch)?;
                self.guard(&line.record)?;
                control = observe(Event::Step(&line));
                if control == Control::Continue {
                    self.evaluate(observe)?;
                }
                let due = self.trainer.step - self.saved.0 >= self.options.checkpoint_steps.max(1)
                    || self.saved.1.elapsed().as_secs_f64() >= self.options.checkpoint_seconds;
                // One that is still being written is not waited for.
                if !self.writer.is_busy()? && due && self.trainer.step < until && control == Control::Continue {
                    self.checkpoint(self.options.background, observe)?;
                }
            }
            Ok(())
        })
    }

    /// Log and ledger of a step.
    fn record(&mut self, mut record: StepRecord, batch: &Batch) -> Result<LogLine, Error> {
        for source in &mut record.sources {
            source.name = self.sources.get(usize::from(source.source)).cloned();
        }
        if self.lately.len() == LATELY {
            self.lately.pop_front();
        }
        self.lately.push_back(record.seconds);
        let left = self.options.end.saturating_sub(self.trainer.step) as f64;
        let each = self.lately.iter().sum::<f64>() / self.lately.len() as f64;
        let speed = (record.seconds > 0.0).then(|| record.tokens as f64 / record.seconds);
        let each_token = self.trainer.model().config().training_flops(batch.time()).total();
        let flops = speed.map(|speed| speed * each_token);
        let line = LogLine {
            record,
            tokens_per_second: speed,
            flops_per_second: flops,
            mfu: flops.zip(self.options.peak_flops).map(|(flops, peak)| flops / peak),
            eta_seconds: Some(left * each),
            time: now(),
        };
        // The log is written first, and kept where the disk is full: a checkpoint never says more than it.
        let logged = self.log.write(&line);
        self.ledger.record(batch)?;
        logged?;
        self.derived.step(&line)?;
        Ok(line)
    }

    /// Ends a run of which too many of the last steps were skipped.
    fn guard(&self, record: &StepRecord) -> Result<(), Error> {
        let spec = &self.trainer.spec;
        let skipped = self.trainer.skips.len() as u64;
        if !record.skipped || skipped <= spec.max_skipped {
            return Ok(());
        }
        let mut rows: Vec<(String, Vec<u64>, usize)> = Vec::new();
        for row in 0..self.source.rows(record.step) {
            let Some((source, sequence)) = self.source.origin(record.step, row) else { continue };
            let place = rows.iter().position(|(name, ..)| *name == source).unwrap_or_else(|| {
                rows.push((source, Vec::new(), 0));
                rows.len() - 1
            });
            let (_, sequences, count) = &mut rows[place];
            *count += 1;
            if sequences.len() < NAMED {
                sequences.push(sequence);
            }
        }
        let named = |(name, sequences, count): &(String, Vec<u64>, usize)| {
            let list = sequences.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            let more =
                if *count > sequences.len() { format!(" and {} more", count - sequences.len()) } else { String::new() };
            format!("{name}: {list}{more}")
        };
        Err(Error::Diverged {
            step: record.step,
            skipped,
            window: spec.skip_window.min(record.step + 1),
            limit: spec.max_skipped,
            rows: rows.iter().map(named).collect(),
        })
    }

    /// The sets that are due now.
    fn evaluate(&mut self, observe: &mut dyn FnMut(Event<'_>) -> Control) -> Result<(), Error> {
        let (options, here) = (self.options, self.trainer.step);
        for set in options.evals.iter().filter(|set| set.is_due(here, options.end)) {
            self.evaluate_one(set, observe)?;
        }
        Ok(())
    }

    /// The same where a run begins or goes on: those that were evaluated at this step before are not again.
    fn evaluate_missing(&mut self, observe: &mut dyn FnMut(Event<'_>) -> Control) -> Result<(), Error> {
        if self.options.evals.is_empty() {
            return Ok(());
        }
        let done = read_lines::<EvalRecord>(&self.options.dir.join(EVALS))?;
        let (options, here) = (self.options, self.trainer.step);
        for set in options.evals.iter().filter(|set| set.is_due(here, options.end)) {
            if !done.iter().any(|record| record.step == here && record.set == set.name) {
                self.evaluate_one(set, observe)?;
            }
        }
        Ok(())
    }

    fn evaluate_one(&mut self, set: &EvalSpec, observe: &mut dyn FnMut(Event<'_>) -> Control) -> Result<(), Error> {
        let record = set.record(&self.trainer)?;
        if let Some(evals) = &mut self.evals {
            evals.write(&record)?;
        }
        self.derived.eval(&record)?;
        // Stopping is asked for at steps.
        let _ = observe(Event::Evaluated(&record));
        Ok(())
    }

    /// A checkpoint of where the run stands, unless there is one.
    fn checkpoint(&mut self, background: bool, observe: &mut dyn FnMut(Event<'_>) -> Control) -> Result<(), Error> {
        let begun = Instant::now();
        let step = self.trainer.step;
        if step == self.saved.0 {
            return self.writer.finish();
        }
        self.flush()?;
        let copied = |path: PathBuf, file: &std::fs::File| match file.try_clone() {
            Ok(file) => Ok((path, file)),
            Err(source) => Err(Error::Io { path, source }),
        };
        let dir = self.options.dir;
        let mut first = vec![copied(dir.join(STEPS), self.log.file())?, copied(dir.join(LEDGER), self.ledger.file())?];
        if let Some(evals) = &self.evals {
            first.push(copied(dir.join(EVALS), evals.file())?);
        }
        let retention = Retention { last: self.options.keep, every: self.options.keep_every };
        let write = Write { snapshot: self.trainer.snapshot(), dir: dir.to_owned(), first, retention };
        self.saved = (step, Instant::now());
        if background {
            self.writer.start(write)?
        } else {
            self.writer.write(write)?
        }
        let seconds = begun.elapsed().as_secs_f64();
        tracing::debug!(step, seconds, "training stood still for a checkpoint");
        let _ = observe(Event::Checkpoint { step, seconds });
        Ok(())
    }

    /// Writes what a full disk did not take before.
    fn flush(&mut self) -> Result<(), Error> {
        self.log.flush()?;
        self.evals.as_mut().map_or(Ok(()), Log::flush)
    }

    /// What a run leaves when nothing went wrong.
    fn end(&mut self, outcome: Outcome, observe: &mut dyn FnMut(Event<'_>) -> Control) -> Result<(), Error> {
        self.flush()?;
        if outcome == Outcome::Stopped || self.options.last_checkpoint {
            return self.checkpoint(false, observe);
        }
        self.writer.finish()
    }
}

/// What kills left of files that were being written.
fn remove_temporary(dir: &Path) -> Result<(), Error> {
    let io = |source| Error::Io { path: dir.to_owned(), source };
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tmp"));
        if named && path.is_file() {
            std::fs::remove_file(&path).map_err(|source| Error::Io { path, source })?;
        }
    }
    Ok(())
}

/// Proves that a run goes on with the data that it had: the last step's batch is made again.
fn same_data(ledger: &LedgerFile, source: &dyn BatchSource, step: u64, dir: &Path) -> Result<(), Error> {
    let Some(last) = step.checked_sub(1) else { return Ok(()) };
    let Some(seen) = ledger.ledger().digest(Step(last)) else { return Ok(()) };
    let made = source.batch(last)?.digest();
    if made == seen {
        return Ok(());
    }
    Err(Error::OtherData { path: dir.join(LEDGER), step: last, seen, made })
}
