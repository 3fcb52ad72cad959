//! Resume equals no interruption; accumulation; faults.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use burn::backend::Autodiff;
use burn::module::AutodiffModule as _;
use data_mixer::{Batch, BatchSource, IGNORE, stream_key};
use fused_ops::backends::{Flex, NdArray};
use fused_ops::{Precision, TrainingBackend};
use gptneox_model::{GptNeoX, GptNeoXConfig, NamedTensor, export_parameters};
use schedule::LrSpec;
use trainer::{
    Control, Outcome, RunOptions, StepRecord, TrainSpec, Trainer, evaluate_tokens, keep_weights, load_weights,
    loss_gradient, parameter_vector, run, verify_checkpoint,
};

const STEPS: u64 = 9;

fn config() -> GptNeoXConfig {
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

fn spec() -> TrainSpec {
    TrainSpec { micro_tokens: 24, ..TrainSpec::new(LrSpec::cosine(1e-2, 1e-4, 2, STEPS)) }
}

/// Random rows with some masked targets.
struct Random;

impl BatchSource for Random {
    fn steps(&self) -> u64 {
        STEPS
    }
    fn rows(&self, _step: u64) -> usize {
        5
    }
    fn batch_rows(&self, step: u64, range: std::ops::Range<usize>) -> Result<Batch, data_mixer::Error> {
        let (rows, time) = (5, 8);
        let id = |i: usize| (stream_key(step, "id", i as u64) % 40) as i32;
        let inputs: Vec<i32> = (0..rows * time).map(id).collect();
        let targets = (0..rows * time).map(|i| if i % 5 == 0 { IGNORE } else { id(i + 1) }).collect();
        let sources = vec![0, 1, 0, 1, 1];
        Ok(Batch { time, inputs, targets, sources, ..Batch::default() }.slice(range))
    }
    fn source_names(&self) -> Vec<String> {
        vec!["a".into(), "b".into()]
    }
}

fn fresh<AB: TrainingBackend>() -> Trainer<AB> {
    let device = Default::default();
    Trainer::new(GptNeoX::init(&config(), 7, &device).unwrap(), spec(), &device).unwrap()
}

fn options(dir: &Path, until: u64) -> RunOptions<'_> {
    RunOptions { dir, checkpoint_steps: 2, checkpoint_seconds: 1e9, keep: 2, until }
}

/// A run that is stopped after `stop` steps (`None`: never).
fn train<AB: TrainingBackend>(dir: &Path, stop: Option<u64>) -> (Trainer<AB>, Outcome) {
    run(fresh(), &Random, &options(dir, STEPS), &mut |step, _| {
        if Some(step) == stop { Control::Stop } else { Control::Continue }
    })
    .unwrap()
}

fn log_without_times(dir: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join("log.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            for timing in ["seconds", "phases"] {
                record.as_object_mut().unwrap().remove(timing);
            }
            record
        })
        .collect()
}

fn parameters<AB: TrainingBackend>(trainer: &Trainer<AB>) -> Vec<NamedTensor> {
    export_parameters(trainer.model())
}

fn resume_is_exact<AB: TrainingBackend>() {
    let whole_dir = tempfile::tempdir().unwrap();
    let (whole, outcome) = train::<AB>(whole_dir.path(), None);
    assert_eq!(outcome, Outcome::Finished);
    for stop in 1..STEPS {
        let dir = tempfile::tempdir().unwrap();
        let (stopped, outcome) = train::<AB>(dir.path(), Some(stop));
        assert_eq!((outcome, stopped.steps_done()), (Outcome::Stopped, stop));
        drop(stopped);
        // What a kill may leave: a half-written record, and a temporary file.
        let log = dir.path().join("log.jsonl");
        let mut text = std::fs::read_to_string(&log).unwrap();
        text.push_str("{\"step\":");
        std::fs::write(&log, text).unwrap();
        std::fs::write(dir.path().join(".tmpabc"), b"half").unwrap();
        let (resumed, _) = train::<AB>(dir.path(), None);
        assert_eq!(parameters(&resumed), parameters(&whole), "stopped after {stop}");
        assert_eq!(resumed.ledger(), whole.ledger());
        assert_eq!(log_without_times(dir.path()), log_without_times(whole_dir.path()));
    }
}

#[test]
fn resume_is_exact_on_flex() {
    resume_is_exact::<Autodiff<Flex>>();
}

#[test]
fn resume_is_exact_on_ndarray() {
    resume_is_exact::<Autodiff<NdArray>>();
}

#[test]
fn a_kill_that_lost_the_last_checkpoints_resumes_from_an_older_one() {
    let whole = tempfile::tempdir().unwrap();
    let (expected, _) = train::<Autodiff<Flex>>(whole.path(), None);
    let dir = tempfile::tempdir().unwrap();
    train::<Autodiff<Flex>>(dir.path(), Some(7));
    std::fs::remove_file(dir.path().join("step-000000007.safetensors")).unwrap();
    let (resumed, _) = train::<Autodiff<Flex>>(dir.path(), None);
    assert_eq!(parameters(&resumed), parameters(&expected));
    assert_eq!(log_without_times(dir.path()), log_without_times(whole.path()));
}

#[test]
fn results_do_not_depend_on_micro_batches_beyond_rounding() {
    let train = |micro_tokens: usize| {
        let device = Default::default();
        let model = GptNeoX::<Autodiff<Flex>>::init(&config(), 7, &device).unwrap();
        let mut t = Trainer::new(model, TrainSpec { micro_tokens, ..spec() }, &device).unwrap();
        let records: Vec<_> = (0..STEPS).map(|s| t.step(&Random.batch(s).unwrap()).unwrap()).collect();
        records
    };
    for (a, b) in train(8).iter().zip(train(1000)) {
        assert!((a.loss - b.loss).abs() < 2e-5 && (a.grad_norm - b.grad_norm).abs() < 1e-4);
        assert_eq!((a.ledger, a.targets), (b.ledger, b.targets));
        assert_eq!(
            a.sources.iter().map(|s| (s.rows, s.targets)).collect::<Vec<_>>(),
            b.sources.iter().map(|s| (s.rows, s.targets)).collect::<Vec<_>>()
        );
    }
}

#[test]
fn the_loss_is_the_mean_over_all_targets() {
    let device = Default::default();
    let mut trainer = fresh::<Autodiff<Flex>>();
    let batch = Random.batch(0).unwrap();
    let model = burn::module::AutodiffModule::valid(trainer.model());
    let (mut nats, mut targets) = (0.0, 0);
    evaluate_tokens(&model, std::iter::once(Ok(batch.clone())), &spec(), &device, &mut |batch, losses| {
        nats += losses.iter().map(|l| f64::from(*l)).sum::<f64>();
        targets += batch.target_count();
    })
    .unwrap();
    let record = trainer.step(&batch).unwrap();
    assert_eq!(targets, 32);
    assert!((record.loss - nats / targets as f64).abs() < 1e-6);
    assert_eq!(record.sources.iter().map(|s| s.targets).sum::<u64>(), 32);
}

#[test]
fn damaged_checkpoints_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.safetensors");
    let trainer = fresh::<Autodiff<Flex>>();
    trainer.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for len in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        assert!(fresh::<Autodiff<Flex>>().load(&path).is_err(), "{len} bytes");
    }
    let mut flipped = bytes.clone();
    let last = flipped.len() - 10;
    flipped[last] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    let message = fresh::<Autodiff<Flex>>().load(&path).err().unwrap().to_string();
    assert!(message.contains("checksum"), "{message}");
    let leftovers = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(leftovers, 1, "saving leaves one file");
}

#[test]
fn another_spec_is_refused_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.safetensors");
    fresh::<Autodiff<Flex>>().save(&path).unwrap();
    let device = Default::default();
    let model = GptNeoX::<Autodiff<Flex>>::init(&config(), 7, &device).unwrap();
    let other = Trainer::new(model, TrainSpec { clip: 2.0, ..spec() }, &device).unwrap();
    let message = other.load(&path).err().unwrap().to_string();
    assert!(message.contains("clip (1.0 there, 2.0 here)"), "{message}");
    let bigger = GptNeoXConfig { vocab_size: 41, ..config() };
    let bigger = Trainer::new(GptNeoX::<Autodiff<Flex>>::init(&bigger, 7, &device).unwrap(), spec(), &device).unwrap();
    let message = bigger.load(&path).err().unwrap().to_string();
    assert!(message.contains("vocab_size (40 there, 41 here)"), "{message}");
    // The weights alone bring their own configuration.
    let weights = load_weights::<Flex>(&path, &device).unwrap();
    assert_eq!(weights.config(), &config());
    assert_eq!(export_parameters(&weights), parameters(&fresh::<Autodiff<Flex>>()));
}

#[test]
fn steps_that_are_not_finite_change_nothing_and_stop_in_the_end() {
    let device = Default::default();
    let model = GptNeoX::<Autodiff<Flex>>::from_parameters(&config(), &device, |name, shape| {
        let bad = if name.contains("final_layer_norm.weight") { f32::NAN } else { 0.1 };
        Ok(vec![bad; shape.iter().product()])
    })
    .unwrap();
    let mut trainer = Trainer::new(model, TrainSpec { max_skipped: 3, ..spec() }, &device).unwrap();
    let before = parameters(&trainer);
    let record = trainer.step(&Random.batch(0).unwrap()).unwrap();
    assert!(record.skipped && trainer.steps_skipped() == 1);
    let bits = |p: &[NamedTensor]| {
        p.iter().flat_map(|t| t.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    assert_eq!(bits(&parameters(&trainer)), bits(&before));
    let dir = tempfile::tempdir().unwrap();
    let error = run(trainer, &Random, &options(dir.path(), STEPS), &mut |_, _| Control::Continue).err().unwrap();
    assert!(error.to_string().contains("4 steps in all"), "{error}");
    // Its log reads back: what is not finite is null in a file.
    let log = std::fs::read_to_string(dir.path().join("log.jsonl")).unwrap();
    let records: Vec<StepRecord> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(records.iter().all(|r| r.skipped && r.loss.is_nan() && r.grad_norm.is_nan()), "{log}");
}

#[test]
fn a_damaged_newest_checkpoint_costs_the_steps_since_the_one_before() {
    let whole = tempfile::tempdir().unwrap();
    let (expected, _) = train::<Autodiff<Flex>>(whole.path(), None);
    for keep in [0, 100] {
        let dir = tempfile::tempdir().unwrap();
        train::<Autodiff<Flex>>(dir.path(), Some(7));
        let newest = dir.path().join("step-000000007.safetensors");
        let bytes = std::fs::read(&newest).unwrap();
        std::fs::write(&newest, &bytes[..bytes.len() * keep / 128]).unwrap();
        assert!(verify_checkpoint(&newest).is_err());
        let (resumed, _) = train::<Autodiff<Flex>>(dir.path(), None);
        assert_eq!(parameters(&resumed), parameters(&expected));
        assert_eq!(log_without_times(dir.path()), log_without_times(whole.path()));
    }
}

/// A run of another curve that agrees so far is gone on with; one of another optimiser is not.
#[test]
fn a_fork_takes_other_rates_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (path, device) = (dir.path().join("c.safetensors"), Default::default());
    let warming = |min: f64| TrainSpec { lr: LrSpec::cosine(1e-2, min, 4, STEPS), ..spec() };
    let new = |spec: TrainSpec| {
        let model = GptNeoX::<Autodiff<Flex>>::init(&config(), 7, &device).unwrap();
        Trainer::new(model, spec, &device).unwrap()
    };
    let steps = |trainer: &mut Trainer<Autodiff<Flex>>, range: std::ops::Range<u64>| {
        range.for_each(|k| drop(trainer.step(&Random.batch(k).unwrap()).unwrap()));
    };
    let mut first = new(warming(1e-4));
    steps(&mut first, 0..4);
    first.save(&path).unwrap();
    let mut whole = new(warming(1e-3));
    steps(&mut whole, 0..STEPS);
    let mut forked = new(warming(1e-3)).fork(&path).unwrap();
    assert_eq!(forked.steps_done(), 4);
    steps(&mut forked, 4..STEPS);
    assert_eq!(parameters(&forked), parameters(&whole));
    assert_eq!(forked.ledger(), whole.ledger());
    assert!(new(warming(1e-3)).load(&path).is_err());
    let message = new(TrainSpec { clip: 2.0, ..warming(1e-3) }).fork(&path).err().unwrap().to_string();
    assert!(message.contains("clip (1.0 there, 2.0 here)"), "{message}");
}

#[test]
fn weights_are_kept_without_the_optimiser() {
    let dir = tempfile::tempdir().unwrap();
    let (full, weights) = (dir.path().join("full.safetensors"), dir.path().join("weights.safetensors"));
    let (trainer, _) = train::<Autodiff<Flex>>(&dir.path().join("run"), None);
    trainer.save(&full).unwrap();
    keep_weights(&full, &weights).unwrap();
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    assert!(size(&weights) * 2 < size(&full));
    verify_checkpoint(&weights).unwrap();
    let loaded = load_weights::<Flex>(&weights, &Default::default()).unwrap();
    assert_eq!(export_parameters(&loaded), parameters(&trainer));
    // It cannot be gone on from, and says so.
    let message = fresh::<Autodiff<Flex>>().load(&weights).err().unwrap().to_string();
    assert!(message.contains("adamw_m"), "{message}");
}

fn losses(spec: TrainSpec, batch: impl Fn(u64) -> Batch) -> Vec<f64> {
    let device = Default::default();
    let model = GptNeoX::<Autodiff<Flex>>::init(&config(), 7, &device).unwrap();
    let mut trainer = Trainer::new(model, spec, &device).unwrap();
    (0..STEPS).map(|s| trainer.step(&batch(s)).unwrap().loss).collect()
}

#[test]
fn recomputed_blocks_change_no_bit_and_no_checkpoint() {
    let recompute = TrainSpec { recompute: true, ..spec() };
    let random = |s| Random.batch(s).unwrap();
    assert_eq!(losses(recompute.clone(), random), losses(spec(), random));
    // A run may be continued with recomputation.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.safetensors");
    fresh::<Autodiff<Flex>>().save(&path).unwrap();
    let device = Default::default();
    let model = GptNeoX::<Autodiff<Flex>>::init(&config(), 8, &device).unwrap();
    let other = Trainer::new(model, recompute, &device).unwrap().load(&path).unwrap();
    assert_eq!(parameters(&other), parameters(&fresh::<Autodiff<Flex>>()));
    assert!(other.model().compute().recompute);
}

#[test]
fn mixed_precision_follows_f32_and_is_not_it() {
    let random = |s| Random.batch(s).unwrap();
    let (low, full) = (losses(TrainSpec { precision: Precision::Bf16, ..spec() }, random), losses(spec(), random));
    assert_ne!(low, full);
    for (low, full) in low.iter().zip(&full) {
        assert!((low - full).abs() < 0.05, "{low} and {full}");
    }
    // ndarray has no bf16: said before anything is computed.
    let device = Default::default();
    let model = GptNeoX::<Autodiff<NdArray>>::init(&config(), 7, &device).unwrap();
    let low = TrainSpec { precision: Precision::Bf16, ..spec() };
    let message = Trainer::new(model, low, &device).err().unwrap().to_string();
    assert!(message.contains("precision = bf16 is unavailable"), "{message}");
}

#[test]
fn documents_in_one_row_are_learnt_as_if_in_rows_of_their_own() {
    // Two documents in a row, ended by 39, with the last token of each predicting nothing.
    let joined = |s: u64, mask: bool| {
        let row: Vec<i32> = (0..8).map(|i| if i == 3 || i == 7 { 39 } else { (s as i32 * 5 + i * 3) % 39 }).collect();
        let targets = (0..8).map(|i| if i == 3 || i == 7 { IGNORE } else { row[i + 1] }).collect();
        let document_starts = mask.then(|| vec![0, 0, 0, 0, 4, 4, 4, 4]);
        Batch { time: 8, inputs: row, targets, sources: vec![0], document_starts }
    };
    let apart = |s: u64| Batch { time: 4, sources: vec![0, 0], ..joined(s, false) };
    let masked = losses(spec(), |s| joined(s, true));
    for (a, b) in masked.iter().zip(losses(spec(), apart)) {
        assert!((a - b).abs() < 2e-5, "{a} and {b}");
    }
    assert!(
        (masked[0] - losses(spec(), |s| joined(s, false))[0]).abs() > 1e-3,
        "without the mask the second document sees the first"
    );
}

#[test]
fn batches_that_do_not_fit_are_errors() {
    let mut trainer = fresh::<Autodiff<Flex>>();
    let row = |time: usize, id: i32, target: i32| Batch {
        time,
        inputs: vec![id; time],
        targets: vec![target; time],
        sources: vec![0],
        ..Batch::default()
    };
    for (batch, expected) in [
        (row(17, 1, 1), "rows of 17 tokens; the model takes 16"),
        (row(4, 40, 1), "token id 40 is not below the model's vocabulary of 40"),
        (row(4, 1, 40), "target 40"),
        (row(4, 1, IGNORE), "no token of the batch is predicted"),
    ] {
        let message = trainer.step(&batch).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(trainer.steps_done(), 0);
}

#[test]
fn impossible_recipes_are_refused() {
    let device = Default::default();
    for (spec, expected) in [
        (TrainSpec { clip: 0.0, ..spec() }, "clip = 0"),
        (TrainSpec { micro_tokens: 0, ..spec() }, "micro_tokens = 0"),
        (TrainSpec::new(LrSpec::cosine(1e-3, 0.0, 10, 5)), "warmup = 10 must not exceed total = 5"),
    ] {
        let model = GptNeoX::<Autodiff<Flex>>::init(&config(), 7, &device).unwrap();
        let message = Trainer::new(model, spec, &device).err().unwrap().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

/// What is logged of an update is how far the parameters moved; gradients on fixed batches are those of training.
fn vectors_agree<AB: TrainingBackend>() {
    let mut trainer = fresh::<AB>();
    for step in 0..3 {
        let batch = Random.batch(step).unwrap();
        let before = parameter_vector(&trainer.model().valid());
        let device = Default::default();
        // In two batches: the mean is over the targets of both.
        let halves = [batch.slice(0..2), batch.slice(2..5)];
        let fixed = loss_gradient(trainer.model(), &halves, &spec(), &device).unwrap();
        assert_eq!(fixed.gradient.len(), before.len());
        let record = trainer.step(&batch).unwrap();
        assert!((fixed.loss - record.loss).abs() < 1e-6);
        let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
        let gradient = norm(&mut fixed.gradient.iter().map(|g| f64::from(*g)));
        assert!((gradient / record.grad_norm - 1.0).abs() < 1e-5, "{gradient} {}", record.grad_norm);
        let after = parameter_vector(&trainer.model().valid());
        let moved = norm(&mut before.iter().zip(&after).map(|(a, b)| f64::from(*a) - f64::from(*b)));
        assert!((moved / record.update_norm - 1.0).abs() < 1e-5, "{moved} {}", record.update_norm);
    }
    let nothing = Batch { targets: vec![IGNORE; 8], ..Random.batch(0).unwrap().slice(0..1) };
    let error = loss_gradient(trainer.model(), &[nothing], &spec(), &Default::default()).unwrap_err();
    assert!(error.to_string().contains("no token of the batches is predicted"), "{error}");
}

#[test]
fn vectors_agree_with_training() {
    vectors_agree::<Autodiff<Flex>>();
    vectors_agree::<Autodiff<NdArray>>();
}
