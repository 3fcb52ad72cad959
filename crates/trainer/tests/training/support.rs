//! A small model, random batches, and runs of them.

use std::path::Path;

use data_mixer::{Batch, BatchSource, IGNORE, stream_key};
use fused_ops::TrainingBackend;
use gptneox_model::{GptNeoX, GptNeoXConfig, NamedTensor, export_parameters};
use schedule::LrSpec;
use trainer::{Control, Event, Outcome, RunOptions, TrainSpec, Trainer, run};

pub(crate) const STEPS: u64 = 9;

pub(crate) fn config() -> GptNeoXConfig {
    GptNeoXConfig {
        vocab_size: 40,
        hidden_size: 16,
        num_layers: 2,
        num_heads: 2,
        intermediate_size: 32,
        max_positions: 16,
        ..GptNeoXConfig::pythia("14m").unwrap()
    }
}

pub(crate) fn spec() -> TrainSpec {
    TrainSpec { micro_tokens: 24, ..TrainSpec::new(LrSpec::cosine(1e-2, 1e-4, 2, STEPS)) }
}

/// Random rows with some masked targets; of another seed other rows.
pub(crate) struct Random(pub(crate) u64);

impl BatchSource for Random {
    fn steps(&self) -> u64 {
        STEPS
    }
    fn rows(&self, _step: u64) -> usize {
        5
    }
    fn batch_rows(&self, step: u64, range: std::ops::Range<usize>) -> Result<Batch, data_mixer::Error> {
        let (rows, time) = (5, 8);
        let id = |i: usize| (stream_key(step + 1000 * self.0, "id", i as u64) % 40) as i32;
        let inputs: Vec<i32> = (0..rows * time).map(id).collect();
        let targets = (0..rows * time).map(|i| if i % 5 == 0 { IGNORE } else { id(i + 1) }).collect();
        Ok(Batch::new(time, inputs, targets, vec![0, 1, 0, 1, 1])?.slice(range))
    }
    fn source_names(&self) -> Vec<String> {
        vec!["a".into(), "b".into()]
    }
    fn origin(&self, step: u64, row: usize) -> Option<(String, u64)> {
        Some((["a", "b", "a", "b", "b"][row].to_owned(), 100 * step + row as u64))
    }
}

pub(crate) fn fresh<AB: TrainingBackend>() -> Trainer<AB> {
    with_spec(spec())
}

pub(crate) fn with_spec<AB: TrainingBackend>(spec: TrainSpec) -> Trainer<AB> {
    let device = Default::default();
    Trainer::new(GptNeoX::init(&config(), 7, &device).unwrap(), spec, &device).unwrap()
}

pub(crate) fn options(dir: &Path, until: u64) -> RunOptions<'_> {
    RunOptions { checkpoint_steps: 2, checkpoint_seconds: 1e9, ..RunOptions::new(dir, until) }
}

/// A run that is stopped after `stop` steps (`None`: never).
pub(crate) fn train<AB: TrainingBackend>(dir: &Path, stop: Option<u64>) -> (Trainer<AB>, Outcome) {
    run(fresh(), &Random(0), &options(dir, STEPS), &mut stopping(stop)).unwrap()
}

/// An observer that stops a run after so many steps.
pub(crate) fn stopping(stop: Option<u64>) -> impl FnMut(Event<'_>) -> Control {
    move |event| match event {
        Event::Step(line) if Some(line.record.step + 1) == stop => Control::Stop,
        _ => Control::Continue,
    }
}

pub(crate) fn log_without_times(dir: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join("log.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            for timing in ["seconds", "phases", "tokens_per_second", "flops_per_second", "mfu", "eta_seconds", "time"] {
                record.as_object_mut().unwrap().remove(timing);
            }
            record
        })
        .collect()
}

pub(crate) fn parameters<AB: TrainingBackend>(trainer: &Trainer<AB>) -> Vec<NamedTensor> {
    export_parameters(trainer.model())
}
