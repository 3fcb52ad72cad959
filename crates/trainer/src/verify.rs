//! Proof that a run that stops and goes on is the run that does not: step by step, weights, moments and batches.

use std::path::Path;

use data_mixer::BatchSource;
use fused_ops::TrainingBackend;
use gptneox_model::{NamedTensor, export_parameters};

use crate::optimizer::to_host;
use crate::{Error, Trainer};

/// Where two runs first differ.
#[derive(Debug, Clone, PartialEq)]
pub struct ResumeDifference {
    /// Steps done by then.
    pub step: u64,
    /// Whether that was after the stop: if not, the two runs differ without it.
    pub after_stop: bool,
    /// In what.
    pub what: Difference,
}

/// In what two runs differ.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference {
    /// The batch of the last step.
    Batch {
        /// Its digest in the run without a stop.
        straight: u64,
        /// In the other.
        resumed: u64,
    },
    /// A number of a tensor.
    Value {
        /// weights, first moment or second moment.
        kind: &'static str,
        /// The parameter.
        name: String,
        /// Its place in the tensor, row by row.
        place: usize,
        /// The number in the run without a stop.
        straight: f32,
        /// In the other.
        resumed: f32,
    },
}

impl std::fmt::Display for ResumeDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let when = if self.after_stop { "after the stop" } else { "before any stop: training itself does not repeat" };
        write!(f, "after {} steps ({when}): ", self.step)?;
        match &self.what {
            Difference::Batch { straight, resumed } => {
                write!(
                    f,
                    "the last step's batch has the digest {straight:016x} without a stop, {resumed:016x} with one"
                )
            }
            Difference::Value { kind, name, place, straight, resumed } => {
                write!(f, "{kind} of {name}, place {place}: {straight:e} without a stop, {resumed:e} with one")
            }
        }
    }
}

/// Trains `steps` steps without a stop, and again with one: after `at` of them the trainer is saved, dropped, and read from the file.
/// Both are compared after every step, to the bit.
///
/// `start` makes a trainer at step 0; `straight` and `resumed` are the batches of the one and the other run, made apart so that their
/// making is compared too. `progress` is told the steps done of 2 · `steps`, and says whether to go on.
///
/// # Errors
/// `at` outside 1..`steps`; what training itself may meet; [`Error::Stopped`] where `progress` says so.
pub fn verify_resume<AB: TrainingBackend>(
    start: &dyn Fn() -> Result<Trainer<AB>, Error>,
    straight: &dyn BatchSource,
    resumed: &dyn BatchSource,
    (steps, at): (u64, u64),
    dir: &Path,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<ResumeDifference>, Error> {
    if at == 0 || at >= steps {
        let limit = format!("must be from 1 to {}, so that there are steps before and after", steps.saturating_sub(1));
        return Err(Error::Field { field: "step of the stop", value: at.to_string(), limit });
    }
    let (mut first, mut second) = (start()?, start()?);
    for step in 0..=steps {
        if let Some(what) = difference(&first, &second) {
            return Ok(Some(ResumeDifference { step, after_stop: step > at, what }));
        }
        if step == at {
            second = stopped(second, dir)?;
            if let Some(what) = difference(&first, &second) {
                return Ok(Some(ResumeDifference { step, after_stop: true, what }));
            }
        }
        if step == steps {
            break;
        }
        let batches = [straight.batch(step)?, resumed.batch(step)?];
        let [a, b] = batches.each_ref().map(data_mixer::Batch::digest);
        if a != b {
            let what = Difference::Batch { straight: a, resumed: b };
            return Ok(Some(ResumeDifference { step: step + 1, after_stop: step >= at, what }));
        }
        for (trainer, batch, done) in [(&mut first, &batches[0], 1), (&mut second, &batches[1], 2)] {
            trainer.step(batch)?;
            if !progress(2 * step + done) {
                return Err(Error::Stopped);
            }
        }
    }
    Ok(None)
}

/// A trainer after it was saved, dropped, and read from the file.
fn stopped<AB: TrainingBackend>(trainer: Trainer<AB>, dir: &Path) -> Result<Trainer<AB>, Error> {
    let path = dir.join("verify-resume.safetensors");
    trainer.save(&path)?;
    let (spec, device) = (trainer.spec.clone(), trainer.device.clone());
    drop(trainer);
    let read = Trainer::resume(&path, spec, &device);
    std::fs::remove_file(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
    read
}

/// The first number in which two trainers differ.
fn difference<AB: TrainingBackend>(a: &Trainer<AB>, b: &Trainer<AB>) -> Option<Difference> {
    let [parameters, others] = [a, b].map(|trainer| export_parameters(trainer.model()));
    for (i, (p, q)) in parameters.iter().zip(&others).enumerate() {
        let count = p.values.len();
        let moment = |trainer: &Trainer<AB>, second: bool| {
            let moments = &trainer.moments[i];
            to_host::<AB::InnerBackend>(if second { &moments.v } else { &moments.m }, count)
        };
        let pairs = [
            ("weights", p.values.clone(), q.values.clone()),
            ("first moment", moment(a, false), moment(b, false)),
            ("second moment", moment(a, true), moment(b, true)),
        ];
        for (kind, straight, resumed) in pairs {
            let apart = straight.iter().zip(&resumed).position(|(x, y)| x.to_bits() != y.to_bits());
            if let Some(place) = apart {
                let NamedTensor { name, .. } = p;
                let (straight, resumed) = (straight[place], resumed[place]);
                return Some(Difference::Value { kind, name: name.clone(), place, straight, resumed });
            }
        }
    }
    None
}
