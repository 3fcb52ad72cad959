//! Before a GPU's numbers are trusted: two training steps of a small model on it, with documents, beside a CPU's. A driver, a
//! compiler or a kernel that is wrong for this device shows here rather than in a study's result.

use std::sync::OnceLock;

use burn::backend::Autodiff;
use burn::tensor::DType;
use data_mixer::{Batch, stream_key};
use fused_ops::{Precision, TrainingBackend, backends};
use gptneox_model::{GptNeoX, GptNeoXConfig};
use schedule::LrSpec;
use study::{Ended, Error, Machine, Processor, Report, Task, Timing, Trouble};
use trainer::{TrainSpec, Trainer};

use crate::Backend;
use crate::backend::OnBackend;

/// Largest difference of a loss in nats, and of a gradient's norm relative to it: f32 products may be TF32 on some devices.
const LIMITS: [(Precision, f64, f64); 2] = [(Precision::F32, 5e-3, 1e-2), (Precision::Bf16, 2e-2, 5e-2)];
/// Rows and tokens of a batch (several tiles of attention's kernels, the last one not whole), words.
const ROWS: usize = 2;
const TIME: usize = 200;
const WORDS: usize = 509;

/// The loss and the gradient's norm of two steps; none where the backend lacks the precision.
struct Steps(Precision);

impl OnBackend for Steps {
    type Output = Result<Option<Vec<[f64; 2]>>, trainer::Error>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let device = AB::Device::default();
        if self.0 == Precision::Bf16 && !AB::supports_dtype(&device, DType::BF16) {
            return Ok(None);
        }
        let ids = |from: u64| -> Vec<i32> {
            (0..(ROWS * TIME) as u64).map(|i| (stream_key(0, "self-test", from + i) % WORDS as u64) as i32).collect()
        };
        // Documents of 70 tokens.
        let starts = (0..ROWS * TIME).map(|i| (i % TIME / 70 * 70) as i32).collect();
        let (inputs, targets) = (ids(0), ids(1));
        let batch = Batch::new(TIME, inputs, targets, vec![0; ROWS])?.with_document_starts(starts)?;
        let model = GptNeoX::<AB>::init(&GptNeoXConfig::of_size(WORDS, 128, 2, 2), 0, &device)?;
        let spec = TrainSpec { precision: self.0, ..TrainSpec::new(LrSpec::constant(1e-2)) };
        let mut trainer = Trainer::new(model, spec, &device)?;
        let steps = (0..2).map(|_| trainer.step(&batch).map(|record| [record.loss, record.grad_norm]));
        steps.collect::<Result<_, _>>().map(Some)
    }
}

/// How a backend's device differs from a CPU, if it does.
pub(crate) fn fault(backend: Backend) -> Result<(), Error> {
    let wrong = |reason: String| Error::Train(trainer::Error::Device { reason: format!("self-test: {reason}") });
    let truth = OnBackend::run::<Autodiff<backends::Flex>>(Steps(Precision::F32))?.unwrap_or_default();
    for (precision, loss, norm) in LIMITS {
        let found = backend.on(Steps(precision)).map_err(|e| Error::Usage { reason: e.to_string() })??;
        for (step, (found, truth)) in found.iter().flatten().zip(&truth).enumerate() {
            if let Some(difference) = difference(*found, *truth, [loss, norm]) {
                return Err(wrong(format!("step {step} in {precision:?}: {difference}")));
            }
        }
    }
    Ok(())
}

/// What lies further apart than its limit: the losses (nats), or the gradients' norms (relative to the CPU's).
fn difference(found: [f64; 2], truth: [f64; 2], [loss, norm]: [f64; 2]) -> Option<String> {
    let limits = [("loss", loss), ("gradient norm", norm * truth[1])];
    limits.into_iter().zip(found.into_iter().zip(truth)).find_map(|((what, limit), (found, truth))| {
        let difference = (found - truth).abs();
        let far = difference.is_nan() || difference > limit;
        far.then(|| format!("the {what} is {found}; on a CPU it is {truth} (limit {limit})"))
    })
}

/// A processor whose device is tested before its first job.
pub(crate) struct Tested {
    inner: Box<dyn Processor>,
    backend: Backend,
    /// What is wrong with it.
    fault: OnceLock<Option<Trouble>>,
}

impl Tested {
    pub(crate) fn new(inner: Box<dyn Processor>, backend: Backend) -> Self {
        Self { inner, backend, fault: OnceLock::new() }
    }

    fn fault(&self) -> Option<Trouble> {
        self.fault.get_or_init(|| fault(self.backend).err().map(|error| (&error).into())).clone()
    }
}

impl Processor for Tested {
    fn machine(&self) -> &Machine {
        self.inner.machine()
    }

    fn run(&self, task: &Task, report: &Report) -> Ended {
        match self.fault() {
            Some(trouble) => Ended::Failed(trouble),
            None => self.inner.run(task, report),
        }
    }

    fn time(&self, timing: &Timing, threads: Option<std::num::NonZeroUsize>) -> Result<f64, Error> {
        match self.fault() {
            Some(trouble) => Err(Error::Train(trainer::Error::Device { reason: trouble.reason })),
            None => self.inner.time(timing, threads),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_cpu_passes() {
        fault(Backend::Flex).unwrap();
    }

    #[test]
    fn what_is_not_the_same_is_found() {
        let (truth, limits) = ([6.0, 2.0], [0.01, 0.05]);
        assert_eq!(difference([6.005, 2.09], truth, limits), None);
        for (found, what) in [([6.02, 2.0], "loss"), ([6.0, 2.2], "gradient norm"), ([f64::NAN, 2.0], "loss")] {
            let told = difference(found, truth, limits).unwrap();
            assert!(told.starts_with(&format!("the {what} is")), "{told}");
        }
    }
}
