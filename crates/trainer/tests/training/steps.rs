//! Single steps: losses, accumulation, precision, groups, what is refused.

use burn::backend::Autodiff;
use burn::module::AutodiffModule as _;
use data_mixer::{Batch, BatchSource as _, IGNORE, stream_key};
use fused_ops::backends::{Flex, NdArray};
use fused_ops::{Precision, TrainingBackend};
use gptneox_model::GptNeoX;
use schedule::LrSpec;
use trainer::{AdamWSpec, ParameterGroup, TrainSpec, Trainer, evaluate_tokens, loss_gradient, parameter_vector};

use crate::support::{Random, STEPS, config, fresh, parameters, spec, with_spec};

#[test]
fn results_do_not_depend_on_micro_batches_beyond_rounding() {
    let train = |micro_tokens: usize| {
        let mut t = with_spec::<Autodiff<Flex>>(TrainSpec { micro_tokens, ..spec() });
        let records: Vec<_> = (0..STEPS).map(|s| t.step(&Random(0).batch(s).unwrap()).unwrap()).collect();
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
    let batch = Random(0).batch(0).unwrap();
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

fn losses(spec: TrainSpec, batch: impl Fn(u64) -> Batch) -> Vec<f64> {
    let mut trainer = with_spec::<Autodiff<Flex>>(spec);
    (0..STEPS).map(|s| trainer.step(&batch(s)).unwrap().loss).collect()
}

#[test]
fn recomputed_blocks_change_no_bit_and_no_checkpoint() {
    let recompute = TrainSpec { recompute: true, ..spec() };
    let random = |s| Random(0).batch(s).unwrap();
    assert_eq!(losses(recompute.clone(), random), losses(spec(), random));
    // A run may be continued with recomputation.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.safetensors");
    fresh::<Autodiff<Flex>>().save(&path).unwrap();
    let other = Trainer::<Autodiff<Flex>>::resume(&path, recompute, &Default::default()).unwrap();
    assert_eq!(parameters(&other), parameters(&fresh::<Autodiff<Flex>>()));
    assert!(other.model().compute().recompute);
}

#[test]
fn mixed_precision_follows_f32_and_is_not_it() {
    let random = |s| Random(0).batch(s).unwrap();
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
        let batch = Batch::new(8, row, targets, vec![0]).unwrap();
        match document_starts {
            Some(starts) => batch.with_document_starts(starts).unwrap(),
            None => batch,
        }
    };
    let apart = |s: u64| {
        let whole = joined(s, false);
        Batch::new(4, whole.inputs().to_vec(), whole.targets().to_vec(), vec![0, 0]).unwrap()
    };
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
    let row =
        |time: usize, id: i32, target: i32| Batch::new(time, vec![id; time], vec![target; time], vec![0]).unwrap();
    for (batch, expected) in [
        (row(17, 1, 1), "rows of 17 tokens; the model takes 16"),
        (row(4, 40, 1), "token id 40 is not below the model's vocabulary of 40"),
        (row(4, 1, 40), "target 40"),
        (row(4, 1, IGNORE), "no token of the batch is predicted"),
    ] {
        let message = trainer.step(&batch).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    // What is evaluated is looked at as what is trained.
    let model = trainer.model().valid();
    let bad = std::iter::once(Ok(row(4, 40, 1)));
    let error = evaluate_tokens(&model, bad, &spec(), &Default::default(), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("token id 40 is not below"), "{error}");
    assert_eq!(trainer.steps_done(), 0);
}

#[test]
fn impossible_recipes_are_refused() {
    let device = Default::default();
    for (spec, expected) in [
        (TrainSpec { clip: 0.0, ..spec() }, "clip = 0"),
        (TrainSpec { micro_tokens: 0, ..spec() }, "micro_tokens = 0"),
        (TrainSpec { skip_window: 0, ..spec() }, "skip_window = 0"),
        (grouped("*.nothing", 1.0), "optimizer.groups.names = *.nothing is the name of no parameter"),
        (grouped("*.bias", -1.0), "groups.lr_ratio = -1"),
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
        let batch = Random(0).batch(step).unwrap();
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
    let one = Random(0).batch(0).unwrap().slice(0..1);
    let nothing = Batch::new(8, one.inputs().to_vec(), vec![IGNORE; 8], vec![0]).unwrap();
    let error = loss_gradient(trainer.model(), &[nothing], &spec(), &Default::default()).unwrap_err();
    assert!(error.to_string().contains("no token of the batches is predicted"), "{error}");
}

#[test]
fn vectors_agree_with_training() {
    vectors_agree::<Autodiff<Flex>>();
    vectors_agree::<Autodiff<NdArray>>();
}

fn grouped(names: &str, lr_ratio: f64) -> TrainSpec {
    let group = ParameterGroup { lr_ratio, ..ParameterGroup::of(&[names]) };
    TrainSpec { optimizer: AdamWSpec { groups: vec![group], ..AdamWSpec::default() }, ..spec() }
}

/// A group's rate is a multiple of the step's: at 0 its parameters stay where they are, at 1 nothing changes.
#[test]
fn groups_have_rates_of_their_own() {
    let run = |spec: TrainSpec| {
        let mut trainer = with_spec::<Autodiff<Flex>>(spec);
        (0..3).for_each(|s| drop(trainer.step(&Random(0).batch(s).unwrap()).unwrap()));
        parameters(&trainer)
    };
    let (first, usual) = (parameters(&fresh::<Autodiff<Flex>>()), run(spec()));
    assert_eq!(run(grouped("*", 1.0)), usual);
    for ((still, first), moved) in run(grouped("*.bias", 0.0)).iter().zip(&first).zip(&usual) {
        assert_eq!(still == first, still.name.ends_with(".bias"), "{}", still.name);
        assert_ne!(moved, first, "{}", first.name);
    }
}

/// 64 rows at once, in eights, and one by one: five steps of the same run, up to rounding.
#[test]
fn accumulation_of_any_size_is_one_batch() {
    let batch = |step: u64| {
        let id = |i: u64| (stream_key(step, "accumulated", i) % 40) as i32;
        let targets = (0..64 * 8).map(|i| if i % 7 == 0 { IGNORE } else { id(i + 1) }).collect();
        Batch::new(8, (0..64 * 8).map(id).collect(), targets, vec![0; 64]).unwrap()
    };
    let run = |rows: usize| {
        let mut trainer = with_spec::<Autodiff<Flex>>(TrainSpec { micro_tokens: rows * 8, ..spec() });
        let losses: Vec<f64> = (0..5).map(|s| trainer.step(&batch(s)).unwrap().loss).collect();
        // Attention does not depend on the biases of keys: their gradients are rounding, which AdamW makes steps of.
        let weights = parameters(&trainer).into_iter().filter(|p| !p.name.ends_with("query_key_value.bias"));
        (losses, weights.flat_map(|p| p.values).collect::<Vec<f32>>())
    };
    let (losses, weights) = run(64);
    for rows in [8, 1] {
        let (others, parts) = run(rows);
        assert!(losses.iter().zip(&others).all(|(a, b)| (a - b).abs() < 1e-5), "{losses:?} {others:?}");
        let far = weights.iter().zip(&parts).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(far < 1e-5, "{rows} rows at a time: {far}");
    }
}
