//! What users of other mixers report in their issue trackers, one test each: none of it can happen here.

use std::collections::HashSet;
use std::sync::Arc;

use corpus::{StoreDocument, StoreInfo, StoreWriter, TokenStore};
use data_mixer::{BatchSource as _, Error, MixPlan, MixSpec, MixedBatches, Pairing, Sequences, SourceSize};
use proptest::prelude::*;
use schedule::{LrSpec, Phase, Shares, Step, Timeline, Weight};

use crate::support::config;

fn two(start: u64, weight: u64, web: u64, code: u64, pairing: Pairing, max_epochs: f64) -> Result<MixPlan, Error> {
    let weight = Weight::from_parts(weight).unwrap();
    MixPlan::build(MixSpec {
        seed: 11,
        batch: 8,
        time: 4,
        timeline: Timeline::midtrain(Step(50), Step(start), "web", "code", weight).unwrap(),
        sources: vec![SourceSize::new("web", web), SourceSize::new("code", code)],
        pairing,
        max_epochs,
    })
}

/// (1) Data switched in the middle of a run (litgpt #1729, litData #263): the switch is in the plan, takes effect at its
/// step and not later, and does not start the general text again.
#[test]
fn data_can_be_switched_in_the_middle_of_a_run() {
    for pairing in [Pairing::Displace, Pairing::Shift] {
        let plan = two(20, Weight::PARTS, 400, 400, pairing, 1.0).unwrap();
        assert!((0..20 * 8).all(|slot| plan.draw(slot).source == 0));
        assert!((20 * 8..50 * 8).all(|slot| plan.draw(slot).source == 1));
        // Back to general text: what was seen before the switch does not come again.
        let phases = vec![
            Phase::constant(Step(20), "code", Weight::ONE).unwrap(),
            Phase { start: Step(30), weight: Weight::ZERO.into(), specialised: None, general: None },
        ];
        let timeline = Timeline::new(Step(50), Shares::one("web").unwrap(), phases).unwrap();
        let plan = MixPlan::build(MixSpec { timeline, ..plan.spec().clone() }).unwrap();
        let web: Vec<u64> =
            (0..400).map(|slot| plan.draw(slot)).filter(|d| d.source == 0).map(|d| d.sequence).collect();
        assert_eq!(web.len(), 320);
        assert_eq!(web.iter().collect::<HashSet<_>>().len(), 320);
    }
}

/// (2) Resuming mixed data, and later epochs that repeat the tail alone (litData #363, #694, #331, litgpt #1712,
/// llm-foundry #1277): every epoch is whole and has its own order, from wherever it is entered.
#[test]
fn later_epochs_are_whole_and_in_another_order() {
    let plan = two(0, Weight::PARTS, 1, 100, Pairing::Displace, 1000.0).unwrap();
    let epoch = |n: u64| (n * 100..(n + 1) * 100).map(|slot| plan.draw(slot)).collect::<Vec<_>>();
    let [first, second, third] = [epoch(0), epoch(1), epoch(2)];
    for (n, draws) in [(0, &first), (1, &second), (2, &third)] {
        assert!(draws.iter().all(|d| d.epoch == n));
        assert_eq!(draws.iter().map(|d| d.sequence).collect::<HashSet<_>>().len(), 100);
    }
    let order = |draws: &[data_mixer::Draw]| draws.iter().map(|d| d.sequence).collect::<Vec<_>>();
    assert!(order(&first) != order(&second) && order(&second) != order(&third) && order(&first) != order(&third));
    // A process that begins in the middle of the second epoch goes on in it.
    let resumed = two(0, Weight::PARTS, 1, 100, Pairing::Displace, 1000.0).unwrap();
    assert_eq!((150..200).map(|slot| resumed.draw(slot)).collect::<Vec<_>>(), second[50..]);
}

proptest! {
    #![proptest_config(config())]

    /// 3. Rounding into a second epoch (OLMo-core #316, "training loss suddenly drops"): a source that has exactly what
    /// the plan needs is enough and no sequence comes twice; one sequence less is refused.
    #[test]
    fn nothing_rounds_into_a_second_epoch(start in 0u64..50, weight in 1..=Weight::PARTS, shift: bool) {
        let pairing = if shift { Pairing::Shift } else { Pairing::Displace };
        let Ok(ample) = two(start, weight, 400, 400, pairing, 1.0) else { return Ok(()) };
        let need = ample.budgets();
        let exact = two(start, weight, need[0].reserved.max(1), need[1].reserved, pairing, 1.0).unwrap();
        prop_assert!((0..exact.slots()).all(|slot| exact.draw(slot).epoch == 0));
        prop_assert_eq!([exact.first_repeat(0), exact.first_repeat(1)], [None, None]);
        if need[1].reserved > 1 {
            let short = two(start, weight, need[0].reserved.max(1), need[1].reserved - 1, pairing, 1.0);
            let refused = matches!(short, Err(Error::Budget { .. }));
            prop_assert!(refused);
        }
    }
}

/// (4) Small weights that vanish (marin #8373, Megatron-LM #705, #1007): a millionth of 62 million sequences is 62 of
/// them; where a weight asks for less than one sequence in all, that is said.
#[test]
fn a_millionth_is_a_millionth() {
    let build = |steps: u64| {
        MixPlan::build(MixSpec {
            seed: 5,
            batch: 1024,
            time: 2048,
            timeline: Timeline::midtrain(Step(steps), Step(0), "web", "rare", Weight::parse("0.000001").unwrap())
                .unwrap(),
            sources: vec![SourceSize::new("web", 1 << 40), SourceSize::new("rare", 1 << 40)],
            pairing: Pairing::Displace,
            max_epochs: 1.0,
        })
    };
    let plan = build(61_000).unwrap();
    let rare = plan.budgets()[1].drawn;
    assert!((62..=63).contains(&rare), "{rare}");
    // They are there, one about every million slots.
    let found = (0..plan.slots()).step_by(1).take(3_000_000).filter(|slot| plan.draw(*slot).source == 1).count();
    assert!((2..=4).contains(&found), "{found}");
    let message = build(10).unwrap_err().to_string();
    assert!(message.contains("source rare: its weights ask for 0.010 sequences of 10240"), "{message}");
}

/// (5) Ratios of documents taken for ratios of tokens (Megatron-Energon #212, gpt-neox #992, Megatron-LM #547): documents
/// of 3 and of 300 tokens, mixed half and half, are half of the tokens each.
#[test]
fn shares_are_shares_of_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let sequences = |name: &str, documents: u32, length: usize, id: u32| {
        let path = dir.path().join(name);
        let mut writer = StoreWriter::create(&path, StoreInfo::new(name, "t", 100)).unwrap();
        for _ in 0..documents {
            writer.push(StoreDocument { tokens: &vec![id; length], ..Default::default() }).unwrap();
        }
        writer.finish().unwrap();
        Sequences::new(Arc::new(TokenStore::open(&path).unwrap()), 16).unwrap()
    };
    let (short, long) = (sequences("short", 20_000, 3, 1), sequences("long", 200, 300, 2));
    let plan = MixPlan::build(MixSpec {
        seed: 5,
        batch: 10,
        time: 16,
        timeline: Timeline::midtrain(Step(100), Step(0), "short", "long", Weight::parse("0.5").unwrap()).unwrap(),
        sources: vec![SourceSize::new("short", short.len()), SourceSize::new("long", long.len())],
        pairing: Pairing::Shift,
        max_epochs: 1.0,
    });
    let batches = MixedBatches::new(plan.unwrap(), vec![short, long]).unwrap();
    for step in 0..100 {
        let batch = batches.batch(step).unwrap();
        assert_eq!(batch.inputs().iter().filter(|id| **id == 1).count(), 80);
    }
}

/// (6) The learning rate at a phase border (nanotron #233, #243, #420, Megatron-LM #963, llm-foundry #194): the curve is a
/// function of the step alone; a phase of the mixture neither restarts nor bends it (on a study's logs: the command-line
/// tests). (A stage that is to warm up again
/// is a stage of the curve: `schedule`'s tests.)
#[test]
fn a_phase_does_not_touch_the_learning_rate() {
    let lr = LrSpec::cosine(3e-4, 1e-6, 5, 50).build().unwrap();
    let rates: Vec<f64> = (0..50).map(|k| lr.at(Step(k))).collect();
    // The phase begins at step 20, half way down: the steps around it fall by as much as their neighbours.
    let falls: Vec<f64> = rates[10..40].windows(2).map(|pair| pair[0] - pair[1]).collect();
    assert!(falls.windows(2).all(|pair| pair[0] > 0.0 && (pair[1] / pair[0] - 1.0).abs() < 0.15), "{falls:?}");
}

/// (9) Which sequences were repeated (pythia #144), and where documents begin (torchtitan #3130, #4075, nanochat #78): the
/// plan names the first step that repeats and every repeated draw; borders come from the store, not from token ids
/// (`batches::document_starts_are_the_stores_borders`).
#[test]
fn repeated_sequences_are_known() {
    let plan = two(0, Weight::PARTS / 2, 400, 90, Pairing::Displace, 3.0).unwrap();
    let repeated: Vec<(u64, u64)> = (0..plan.slots())
        .map(|slot| (slot, plan.draw(slot)))
        .filter(|(_, d)| d.epoch > 0)
        .map(|(s, d)| (s, d.sequence))
        .collect();
    assert_eq!(repeated.len() as u64, plan.budgets()[1].drawn - 90);
    assert_eq!(plan.first_repeat(1), Some(Step(repeated[0].0 / 8)));
    assert_eq!(plan.first_repeat(0), None);
}
