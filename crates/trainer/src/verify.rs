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
        write!(f, "after {} steps: ", self.step)?;
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
/// From there on both are compared after every step, to the bit.
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
    let mut done = 0;
    let mut told = || {
        done += 1;
        if progress(done) { Ok(()) } else { Err(Error::Stopped) }
    };
    let mut first = start()?;
    let mut second = start()?;
    for step in 0..at {
        let batches = [straight.batch(step)?, resumed.batch(step)?];
        let digests = batches.each_ref().map(data_mixer::Batch::digest);
        if digests[0] != digests[1] {
            let what = Difference::Batch { straight: digests[0], resumed: digests[1] };
            return Ok(Some(ResumeDifference { step: step + 1, what }));
        }
        first.step(&batches[0])?;
        told()?;
        second.step(&batches[1])?;
        told()?;
    }
    let path = dir.join("verify-resume.safetensors");
    second.save(&path)?;
    let (spec, device) = (second.spec.clone(), second.device.clone());
    drop(second);
    let read = Trainer::<AB>::resume(&path, spec, &device);
    std::fs::remove_file(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
    let mut second = read?;
    for step in at..=steps {
        if let Some(what) = difference(&first, &second) {
            return Ok(Some(ResumeDifference { step, what }));
        }
        if step == steps {
            break;
        }
        let batches = [straight.batch(step)?, resumed.batch(step)?];
        let digests = batches.each_ref().map(data_mixer::Batch::digest);
        if digests[0] != digests[1] {
            let what = Difference::Batch { straight: digests[0], resumed: digests[1] };
            return Ok(Some(ResumeDifference { step: step + 1, what }));
        }
        first.step(&batches[0])?;
        told()?;
        second.step(&batches[1])?;
        told()?;
    }
    Ok(None)
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
