//! A run's folder with any damage — to its checkpoint, its log, its ledger — goes on to the same end as without, or is an error;
//! never to another end.
#![no_main]

use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

use burn::backend::Autodiff;
use data_mixer::{Batch, BatchSource, LedgerHead};
use fused_ops::backends::Flex;
use gptneox_model::{GptNeoX, GptNeoXConfig, export_parameters};
use libfuzzer_sys::fuzz_target;
use schedule::LrSpec;
use trainer::{Control, Event, RunOptions, TrainSpec, Trainer, run};

type AB = Autodiff<Flex>;

const STEPS: u64 = 4;
/// Where the first run stopped.
const STOPPED: u64 = 2;

/// Batches whose content is their step.
struct Steps;

impl BatchSource for Steps {
    fn steps(&self) -> u64 {
        STEPS
    }

    fn rows(&self, _: u64) -> usize {
        2
    }

    fn batch_rows(&self, step: u64, rows: Range<usize>) -> Result<Batch, data_mixer::Error> {
        let ids = |shift: usize| (0..8).map(|i| ((i * 3 + shift + step as usize) % 20) as i32).collect();
        Ok(Batch::new(4, ids(0), ids(1), vec![0, 1])?.slice(rows))
    }

    fn source_names(&self) -> Vec<String> {
        vec!["a".to_owned(), "b".to_owned()]
    }
}

fn fresh() -> Trainer<AB> {
    let config = GptNeoXConfig {
        vocab_size: 20,
        hidden_size: 8,
        num_layers: 1,
        num_heads: 1,
        intermediate_size: 8,
        max_positions: 4,
        ..GptNeoXConfig::pythia("14m").expect("a preset")
    };
    let device = Default::default();
    let model = GptNeoX::init(&config, 7, &device).expect("a small model");
    Trainer::new(model, TrainSpec::new(LrSpec::cosine(1e-2, 1e-4, 1, STEPS)), &device).expect("a recipe")
}

fn train(dir: &Path, stop: Option<u64>) -> Result<Trainer<AB>, trainer::Error> {
    let options = RunOptions { checkpoint_steps: 1, background: false, ..RunOptions::new(dir, STEPS) };
    let (trainer, _) = run(fresh(), &Steps, &options, &mut |event| match event {
        Event::Step(line) if Some(line.record.step + 1) == stop => Control::Stop,
        _ => Control::Continue,
    })?;
    Ok(trainer)
}

fn end(trainer: &Trainer<AB>) -> (LedgerHead, Vec<f32>) {
    (trainer.ledger(), export_parameters(trainer.model()).into_iter().flat_map(|p| p.values).collect())
}

/// The files of a run that stopped, and how one that did not ended.
static RUN: LazyLock<(Vec<(String, Vec<u8>)>, (LedgerHead, Vec<f32>))> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    drop(train(dir.path(), Some(STOPPED)).expect("a run"));
    let mut files: Vec<_> = std::fs::read_dir(dir.path())
        .expect("its folder")
        .map(|entry| {
            let path = entry.expect("its files").path();
            (path.file_name().expect("a name").to_string_lossy().into_owned(), std::fs::read(&path).expect("its bytes"))
        })
        .collect();
    files.sort();
    let whole = tempfile::tempdir().expect("a temporary folder");
    (files, end(&train(whole.path(), None).expect("a run")))
});

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let (files, expected) = &*RUN;
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (i, (name, bytes)) in files.iter().enumerate() {
        let mut bytes = bytes.clone();
        if i == usize::from(*choice >> 2) % files.len() {
            match choice % 4 {
                0 => bytes = data.to_vec(),
                1 => bytes.truncate(
                    data.iter().fold(0usize, |at, byte| at.wrapping_mul(256).wrapping_add(usize::from(*byte)))
                        % (bytes.len() + 1),
                ),
                // Single bytes: place, value.
                2 => {
                    for patch in data.chunks_exact(3) {
                        let at = (usize::from(patch[0]) * 256 + usize::from(patch[1])) % bytes.len();
                        bytes[at] = patch[2];
                    }
                }
                _ => continue,
            }
        }
        std::fs::write(dir.path().join(name), bytes).expect("room");
    }
    if let Ok(trainer) = train(dir.path(), None) {
        assert!(end(&trainer) == *expected, "another end");
    }
});
