//! Laws of the mixer, on random specs.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;
use std::sync::Arc;

use corpus::{StoreWriter, TokenStore};
use data_mixer::{
    Batch, BatchSource, Error, IGNORE, MixPlan, MixSpec, MixedBatches, Pairing, Permutation, Sequences, SftBatches,
    SftSpec, SourceSize,
};
use proptest::prelude::*;
use schedule::{Phase, Step, Timeline, Weight};

const NAMES: [&str; 3] = ["code", "math", "facts"];

/// A random run: up to three phases over three sources, generous sizes.
fn spec() -> impl Strategy<Value = MixSpec> {
    let weight =
        prop_oneof![Just(0u64), Just(1), Just(1_000), Just(Weight::PARTS / 2), Just(Weight::PARTS), 0..=Weight::PARTS,];
    (any::<u64>(), 1u64..9, 4u64..60, prop::collection::vec((weight, 0usize..3), 0..4), any::<bool>()).prop_flat_map(
        |(seed, batch, steps, phases, shift)| {
            let starts = prop::sample::subsequence((0..steps).collect::<Vec<_>>(), phases.len().min(steps as usize));
            starts.prop_map(move |starts| {
                let phases = starts
                    .iter()
                    .zip(&phases)
                    .map(|(start, (weight, source))| Phase {
                        start: Step(*start),
                        source: NAMES[*source].to_owned(),
                        weight: Weight::from_parts(*weight).unwrap(),
                    })
                    .collect();
                MixSpec {
                    seed,
                    batch,
                    timeline: Timeline::new(Step(steps), phases).unwrap(),
                    general: SourceSize::new("general", 97),
                    specialised: NAMES.iter().map(|n| SourceSize::new(n, 41)).collect(),
                    pairing: if shift { Pairing::Shift } else { Pairing::Displace },
                    max_epochs: 1000.0,
                }
            })
        },
    )
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 1000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// At every prefix of every phase the specialised count differs from the exact share by less than one.
    #[test]
    fn counts_are_exact(spec in spec()) {
        let plan = MixPlan::build(spec.clone()).unwrap();
        let phases = spec.timeline.phases();
        for (i, phase) in phases.iter().enumerate() {
            let from = phase.start.0 * spec.batch;
            let to = phases.get(i + 1).map_or(plan.slots(), |p| p.start.0 * spec.batch);
            let mut count = 0i128;
            for (n, slot) in (from..to).enumerate() {
                count += i128::from(plan.draw(slot).source != 0);
                let exact = (n as i128 + 1) * i128::from(phase.weight.parts());
                prop_assert!((count * i128::from(Weight::PARTS) - exact).abs() < i128::from(Weight::PARTS));
            }
        }
        let before = phases.first().map_or(plan.slots(), |p| p.start.0 * spec.batch);
        prop_assert!((0..before).all(|slot| plan.draw(slot).source == 0));
    }

    /// Each source is gone through in whole epochs; under Displace the general one leaves gaps, never repeats.
    #[test]
    fn nothing_is_drawn_twice_in_an_epoch(spec in spec()) {
        let plan = MixPlan::build(spec.clone()).unwrap();
        let mut seen = HashSet::new();
        let mut counts = [0u64; 4];
        for slot in 0..plan.slots() {
            let draw = plan.draw(slot);
            prop_assert!(draw.sequence < plan.source(draw.source).sequences);
            prop_assert!(seen.insert((draw.source, draw.epoch, draw.sequence)));
            let gapless = draw.source != 0 || spec.pairing == Pairing::Shift;
            if gapless {
                prop_assert_eq!(draw.epoch, counts[draw.source] / plan.source(draw.source).sequences);
            }
            counts[draw.source] += 1;
        }
    }

    /// Budgets are what is observed, at every step.
    #[test]
    fn budgets_are_what_is_drawn(spec in spec()) {
        let plan = MixPlan::build(spec.clone()).unwrap();
        let mut drawn = vec![0u64; 4];
        for step in 0..spec.timeline.end().0 {
            for slot in step * spec.batch..(step + 1) * spec.batch {
                drawn[plan.draw(slot).source] += 1;
            }
            let seen = plan.seen_by(Step(step + 1));
            prop_assert_eq!(&drawn, &seen.iter().map(|b| b.drawn).collect::<Vec<_>>());
            let general = if spec.pairing == Pairing::Shift { seen[0].drawn } else { (step + 1) * spec.batch };
            prop_assert_eq!(seen[0].reserved, general);
        }
    }

    /// Arms of one seed draw the same general sequences wherever nothing displaced them.
    #[test]
    fn arms_are_paired(spec in spec()) {
        let arm = MixPlan::build(MixSpec { pairing: Pairing::Displace, ..spec.clone() }).unwrap();
        let control = MixPlan::build(MixSpec {
            pairing: Pairing::Displace,
            timeline: Timeline::general(spec.timeline.end()).unwrap(),
            ..spec
        }).unwrap();
        for slot in 0..arm.slots() {
            let draw = arm.draw(slot);
            if draw.source == 0 {
                prop_assert_eq!(draw, control.draw(slot));
            }
        }
    }

    /// A refused plan fits at the start, and at the weight, that its error names.
    #[test]
    fn refusals_name_what_fits(start in 0u64..90, parts in 1..=Weight::PARTS, have in 1u64..400, seed: u64) {
        let build = |start: u64, weight: Weight| MixPlan::build(MixSpec {
            seed,
            batch: 4,
            timeline: Timeline::midtrain(Step(100), Step(start), "math", weight).unwrap(),
            general: SourceSize::new("general", 400),
            specialised: vec![SourceSize::new("math", have)],
            pairing: Pairing::Displace,
            max_epochs: 1.0,
        });
        let weight = Weight::from_parts(parts).unwrap();
        if let Err(error) = build(start, weight) {
            let Error::Budget { need, have: there, remedy, source_name, .. } = error else { panic!("{error}") };
            prop_assert!(need > there && there == have && source_name == "math");
            let words: Vec<&str> = remedy.split([' ', ',']).collect();
            let after = |word: &str| words[words.iter().position(|w| *w == word).unwrap() + 1];
            let fitting = Weight::parse(after("to")).unwrap();
            prop_assert!(build(start, fitting).is_ok(), "{remedy}");
            prop_assert!(build(start, Weight::from_parts(fitting.parts() + 1).unwrap()).is_err(), "{remedy}");
            let later: u64 = after("step").parse().unwrap();
            prop_assert!(later > start && build(later - 1, weight).is_err(), "{remedy}");
            prop_assert!(later == 100 || build(later, weight).is_ok(), "{remedy}");
        }
    }

    #[test]
    fn permutations_are_bijections(n in 1u64..2000, key: u64) {
        let p = Permutation::new(n, key);
        let images: HashSet<u64> = (0..n).map(|i| p.apply(i)).collect();
        prop_assert_eq!(images.len() as u64, n);
    }
}

/// A store of `documents` documents; document d is `[d, d+1, …]` ending in 0, with a prompt of two tokens.
fn store(dir: &std::path::Path, name: &str, documents: u32, base: u32) -> Arc<TokenStore> {
    let path = dir.join(name);
    let mut writer = StoreWriter::create(&path, name, "test").unwrap();
    for d in 0..documents {
        let mut tokens: Vec<u32> = (0..3 + d % 7).map(|i| base + d + i).collect();
        tokens.push(0);
        writer.push(&tokens, 2, 10).unwrap();
    }
    writer.finish().unwrap();
    Arc::new(TokenStore::open(&path).unwrap())
}

#[test]
fn batches_follow_the_plan() {
    let dir = tempfile::tempdir().unwrap();
    let general = Sequences::new(store(dir.path(), "general", 300, 1000), 8).unwrap();
    let code = Sequences::new(store(dir.path(), "code", 200, 5000), 8).unwrap();
    let plan = MixPlan::build(MixSpec {
        seed: 3,
        batch: 6,
        timeline: Timeline::midtrain(Step(20), Step(5), "code", Weight::parse("0.3").unwrap()).unwrap(),
        general: SourceSize::new("general", general.len()),
        specialised: vec![SourceSize::new("code", code.len())],
        pairing: Pairing::Displace,
        max_epochs: 1.0,
    })
    .unwrap();
    let batches = MixedBatches::new(plan.clone(), vec![general, code]).unwrap();
    for step in 0..20 {
        let batch = batches.batch(step).unwrap();
        assert_eq!(batch, batches.batch(step).unwrap());
        assert_eq!(batch.rows(), 6);
        for row in 0..6 {
            let draw = plan.draw(step * 6 + row as u64);
            assert_eq!(usize::from(batch.sources[row]), draw.source);
            let inputs = &batch.inputs[row * 8..row * 8 + 8];
            let targets = &batch.targets[row * 8..row * 8 + 8];
            assert_eq!(inputs[1..], targets[..7], "targets are the inputs shifted by one");
            let from_code = inputs.iter().any(|t| *t >= 5000);
            assert_eq!(from_code, draw.source == 1);
        }
    }
}

#[test]
fn micro_batches_are_the_batch_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let general = Sequences::new(store(dir.path(), "g", 100, 50), 5).unwrap();
    let mut batch = Batch { time: 5, inputs: vec![], targets: vec![], sources: vec![] };
    for i in 0..7 {
        general.push(i, 0, &mut batch).unwrap();
    }
    for size in 1..=8 {
        let pieces: Vec<Batch> = (0..7).step_by(size).map(|i| batch.slice(i..(i + size).min(7))).collect();
        assert_eq!(pieces.iter().flat_map(|p| p.inputs.clone()).collect::<Vec<_>>(), batch.inputs);
        assert_eq!(pieces.iter().map(Batch::target_count).sum::<usize>(), batch.target_count());
    }
}

fn sft(batch: usize, mask_prompt: bool, seed: u64) -> SftSpec {
    SftSpec { epochs: 3, batch, max_time: 6, mask_prompt, seed }
}

#[test]
fn every_example_once_an_epoch_and_the_last_batch_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), "sft", 23, 100);
    let batches = SftBatches::new(store.clone(), 23, sft(5, false, 1)).unwrap();
    assert_eq!(batches.steps(), 3 * 5);
    let first = |batch: &Batch| (0..batch.rows()).map(|r| batch.inputs[r * batch.time]).collect::<Vec<_>>();
    let mut orders = Vec::new();
    for epoch in 0..3 {
        let order: Vec<i32> = (0..5).flat_map(|i| first(&batches.batch(epoch * 5 + i).unwrap())).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (100..123).collect::<Vec<i32>>());
        orders.push(order);
    }
    assert_ne!(orders[0], orders[1]);
    let other = SftBatches::new(store.clone(), 23, sft(5, false, 2)).unwrap();
    assert_ne!(first(&other.batch(0).unwrap()), first(&batches.batch(0).unwrap()));
    assert_eq!(batches.batch(4).unwrap().rows(), 3);
    // Fewer examples than there are: the same ones whatever the seed.
    let some = |seed| {
        let b = SftBatches::new(store.clone(), 10, sft(5, false, seed)).unwrap();
        let mut all: Vec<i32> = (0..2).flat_map(|i| first(&b.batch(i).unwrap())).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(some(1), some(2));
}

#[test]
fn prompts_are_masked_and_long_rows_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), "sft", 7, 100);
    // Document 0 is [100, 101, 102, 0] with a prompt of two tokens.
    let masked = SftBatches::new(store.clone(), 7, sft(1, true, 0)).unwrap().rows(&[0]).unwrap();
    assert_eq!((masked.inputs, masked.targets), (vec![100, 101, 102], vec![IGNORE, 102, 0]));
    let open = SftBatches::new(store.clone(), 7, sft(1, false, 0)).unwrap();
    assert_eq!(open.rows(&[0]).unwrap().targets, [101, 102, 0]);
    // Document 6 has ten tokens; a row holds six positions.
    assert_eq!(open.rows(&[6]).unwrap().inputs, [106, 107, 108, 109, 110, 111]);
    let padded = open.rows(&[0, 6]).unwrap();
    assert_eq!(padded.targets[..6], [101, 102, 0, IGNORE, IGNORE, IGNORE]);
    let report = open.report();
    assert_eq!((report.examples, report.truncated), (7, 3));
    // Where the prompt fills the row nothing is predicted: such examples are passed over, and none left is an error.
    let none = SftBatches::new(store.clone(), 7, SftSpec { max_time: 1, ..sft(1, true, 0) }).unwrap_err().to_string();
    assert!(none.contains("fine-tuning length = 1 leaves no predicted token of any of the 7 examples"), "{none}");
    let counted: usize = (0..7).map(|d| open.rows(&[d]).unwrap().target_count()).sum();
    assert_eq!(report.targets as usize, counted);
}

#[test]
fn bad_specs_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), "s", 5, 1);
    let message = |spec: SftSpec| SftBatches::new(store.clone(), 5, spec).unwrap_err().to_string();
    assert!(message(SftSpec { epochs: 0, ..sft(1, false, 0) }).contains("epochs = 0"));
    assert!(message(sft(0, false, 0)).contains("batch = 0"));
    assert!(Sequences::new(store, 0).unwrap_err().to_string().contains("sequence length = 0"));
    let unknown = MixPlan::build(MixSpec {
        seed: 0,
        batch: 1,
        timeline: Timeline::midtrain(Step(5), Step(1), "cod", Weight::ONE).unwrap(),
        general: SourceSize::new("general", 10),
        specialised: vec![SourceSize::new("code", 10)],
        pairing: Pairing::Displace,
        max_epochs: 1.0,
    });
    assert!(unknown.unwrap_err().to_string().contains("\"cod\"; the sources are: code"));
}
