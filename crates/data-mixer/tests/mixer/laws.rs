//! Laws of the mixer, on random specs.

use std::collections::{HashMap, HashSet};

use crate::support::{config, depth, spec, spec_with_shared};
use data_mixer::{Draw, Error, MixPlan, MixSpec, Pairing, Permutation, SourceSize};
use proptest::prelude::*;
use schedule::{Phase, Shares, Step, Timeline, Weight, WeightCurve};

/// The plan, unless a source's weights ask for less than a sequence: that is refused, and says so.
fn plan(spec: &MixSpec) -> Option<MixPlan> {
    match MixPlan::build(spec.clone()) {
        Ok(plan) => Some(plan),
        Err(Error::Vanishes { expected, .. }) => {
            // Never a source that is owed sequences enough for the bound to guarantee one.
            assert!(expected > 0.0 && expected < 12.0, "{expected}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn draws(plan: &MixPlan) -> Vec<Draw> {
    (0..plan.slots()).map(|slot| plan.draw(slot)).collect()
}

/// |count − share·F| < bound, in exact integers.
fn within(count: u64, share: Weight, (numerator, scale): (u128, u128), bound: u64) -> bool {
    let one = (scale * u128::from(Weight::PARTS) * u128::from(Weight::PARTS)) as i128;
    let exact = (u128::from(share.parts()) * numerator) as i128;
    (i128::from(count) * one - exact).abs() < i128::from(bound) * one
}

fn count(draws: &[Draw], plan: &MixPlan, name: &str) -> u64 {
    draws.iter().filter(|d| plan.source(d.source).name == name).count() as u64
}

proptest! {
    #![proptest_config(config())]

    /// At every prefix of every phase each specialised source's count is within the stated bound of its exact share.
    #[test]
    fn specialised_counts_are_exact(spec in spec()) {
        let Some(plan) = plan(&spec) else { return Ok(()) };
        let draws = draws(&plan);
        let sources = spec.timeline.general_sources().len();
        let phases = spec.timeline.phases();
        let start = phases.first().map_or(plan.slots(), |p| p.start.0 * spec.batch);
        prop_assert!(draws[..start as usize].iter().all(|d| d.source < 3), "nothing specialised before the first phase");
        for (i, phase) in phases.iter().enumerate() {
            let (from, to) = (phase.start.0 * spec.batch, spec.timeline.phase_end(i).0 * spec.batch);
            let lanes = if spec.pairing == Pairing::Shift { 1 } else { sources as u64 };
            let total = match phase.weight {
                _ if lanes == 1 => 1,
                WeightCurve::Constant(_) => lanes,
                WeightCurve::Ramp { .. } | WeightCurve::Sequences(_) => lanes * (1 + 3 * u64::from(depth(sources))),
            };
            let shares = phase.specialised.as_ref().unwrap();
            let each = total + u64::from(depth(shares.len()));
            let mut specialised = 0;
            let mut counts: HashMap<usize, u64> = HashMap::new();
            for n in 1..=to - from {
                let draw = draws[(from + n - 1) as usize];
                if draw.source >= 3 {
                    specialised += 1;
                    *counts.entry(draw.source).or_default() += 1;
                }
                let integral = phase.weight.integral(n, to - from);
                prop_assert!(within(specialised, Weight::ONE, integral, total), "{specialised} of {n}");
                for (name, share) in shares.iter() {
                    let source = spec.sources.iter().position(|s| s.name == name).unwrap();
                    let drawn = counts.get(&source).copied().unwrap_or(0);
                    prop_assert!(within(drawn, share, integral, each), "{drawn} of {name} in {n}");
                }
            }
            let named = |d: &Draw| d.source < 3 || shares.iter().any(|(n, _)| n == spec.sources[d.source].name);
            prop_assert!(draws[from as usize..to as usize].iter().all(named));
        }
    }

    /// At every prefix the general sources keep their shares: of the slots under Displace, of what is general under
    /// Shift.
    #[test]
    fn general_counts_are_exact(spec in spec(), control in any::<bool>()) {
        // Reserved sequences are those that a run without phases draws.
        let spec = if control { spec } else { MixSpec { pairing: Pairing::Shift, ..spec } };
        let Some(plan) = plan(&spec) else { return Ok(()) };
        let mut shares = spec.timeline.general();
        let mut from = 0;
        let bound = |shares: &Shares| 1 + u64::from(depth(shares.len()));
        for step in 0..spec.timeline.end().0 {
            if let Some(phase) = spec.timeline.phases().iter().find(|p| p.start.0 == step)
                && let Some(next) = &phase.general
                && next != shares
            {
                (shares, from) = (next, step);
            }
            let (before, now) = (plan.seen_by(Step(from)), plan.seen_by(Step(step + 1)));
            let total: u64 = now[..3].iter().zip(&before).map(|(n, b)| n.reserved - b.reserved).sum();
            if spec.pairing == Pairing::Displace {
                prop_assert_eq!(total, (step + 1 - from) * spec.batch);
            }
            for (name, share) in shares.iter() {
                let i = spec.sources.iter().position(|s| s.name == name).unwrap();
                let reserved = now[i].reserved - before[i].reserved;
                let exact = (u128::from(total) * u128::from(Weight::PARTS), 1);
                prop_assert!(within(reserved, share, exact, bound(shares)), "{reserved} of {name}");
            }
        }
    }

    /// Several general sources are displaced each by its share: none is starved by a resonance of the two splits.
    #[test]
    fn displacement_is_even(seed: u64, parts in 0..=Weight::PARTS, sizes in prop::collection::vec(1u64..20, 2..4)) {
        let weight = Weight::from_parts(parts).unwrap();
        let sizes: Vec<(&str, u64)> = crate::support::GENERAL.into_iter().zip(sizes).collect();
        let phase = Phase::constant(Step(0), "code", weight).unwrap();
        let general = Shares::proportional(&sizes).unwrap();
        let spec = MixSpec {
            seed,
            batch: 4,
            time: 8,
            timeline: Timeline::new(Step(100), general.clone(), vec![phase]).unwrap(),
            sources: crate::support::GENERAL.iter().chain(&["code"]).map(|n| SourceSize::new(n, 1000)).collect(),
            pairing: Pairing::Displace,
            max_epochs: 1.0,
        };
        let Some(plan) = plan(&spec) else { return Ok(()) };
        let draws = draws(&plan);
        for n in 0..=draws.len() {
            for (name, share) in general.iter() {
                let exact = share.as_f64() * (1.0 - weight.as_f64()) * n as f64;
                let bound = 1.0 + f64::from(depth(sizes.len()));
                let drawn = count(&draws[..n], &plan, name) as f64;
                prop_assert!((drawn - exact).abs() < bound, "{drawn} of {name} in {n}: {exact}");
            }
        }
    }

    /// Sources are gone through in whole epochs: each sequence exactly once an epoch, or, for general sources under
    /// Displace, at most once.
    #[test]
    fn nothing_is_drawn_twice_in_an_epoch(spec in spec()) {
        let Some(plan) = plan(&spec) else { return Ok(()) };
        let mut seen = HashSet::new();
        let mut counts = [0u64; 7];
        for draw in draws(&plan) {
            let sequences = plan.source(draw.source).sequences;
            prop_assert!(draw.sequence < sequences);
            prop_assert!(seen.insert((draw.source, draw.epoch, draw.sequence)));
            let gapless = draw.source >= 3 || spec.pairing == Pairing::Shift;
            if gapless {
                // With no draw repeated in an epoch, this makes every finished epoch complete.
                prop_assert_eq!(draw.epoch, counts[draw.source] / sequences);
            }
            counts[draw.source] += 1;
        }
    }

    /// What a phase draws does not depend on the phases after it: the mixture cut off behind any phase draws the same.
    #[test]
    fn later_phases_change_nothing_before_them(spec in spec()) {
        let Some(whole) = plan(&spec) else { return Ok(()) };
        let timeline = &spec.timeline;
        for kept in 0..timeline.phases().len() {
            // Behind phase `kept`; before the first phase, where that is not the beginning.
            let (phases, end) = match kept {
                0 => (Vec::new(), timeline.phases()[0].start),
                n => (timeline.phases()[..n].to_vec(), timeline.phase_end(n - 1)),
            };
            if end.0 == 0 {
                continue;
            }
            let timeline = Timeline::new(end, timeline.general().clone(), phases).unwrap();
            let part = MixPlan::prefix(MixSpec { timeline, ..spec.clone() }).unwrap();
            for slot in 0..part.slots() {
                prop_assert_eq!(part.draw(slot), whole.draw(slot), "slot {} with {} phases", slot, kept);
            }
        }
    }

    /// A slot's draw does not depend on what was asked before: backwards is forwards, and so is a second plan.
    #[test]
    fn random_access_is_sequential(spec in spec(), from in any::<prop::sample::Index>()) {
        let Some(plan) = plan(&spec) else { return Ok(()) };
        let forwards = draws(&plan);
        let again = MixPlan::build(spec).unwrap();
        let mut backwards: Vec<Draw> = (0..again.slots()).rev().map(|slot| again.draw(slot)).collect();
        backwards.reverse();
        prop_assert_eq!(&forwards, &backwards);
        let from = from.index(forwards.len()) as u64;
        let resumed: Vec<Draw> = (from..again.slots()).map(|slot| again.draw(slot)).collect();
        prop_assert_eq!(&forwards[from as usize..], resumed.as_slice());
    }

    /// Budgets are what is observed, at every step, and so is the first step that repeats a sequence.
    #[test]
    fn budgets_are_what_is_drawn(spec in spec(), small in 1u64..60) {
        let sources = spec.sources.iter().map(|s| SourceSize::new(&s.name, small)).collect();
        let spec = MixSpec { sources, ..spec };
        let Some(plan) = plan(&spec) else { return Ok(()) };
        let mut drawn = vec![0u64; 7];
        let mut repeats: Vec<Option<Step>> = vec![None; 7];
        for step in 0..spec.timeline.end().0 {
            for slot in step * spec.batch..(step + 1) * spec.batch {
                let draw = plan.draw(slot);
                drawn[draw.source] += 1;
                if draw.epoch > 0 {
                    repeats[draw.source].get_or_insert(Step(step));
                }
            }
            let seen = plan.seen_by(Step(step + 1));
            prop_assert_eq!(&drawn, &seen.iter().map(|b| b.drawn).collect::<Vec<_>>());
            for (i, b) in seen.iter().enumerate() {
                let gapless = i >= 3 || spec.pairing == Pairing::Shift;
                prop_assert!(b.reserved == b.drawn || !gapless && b.reserved > b.drawn);
            }
        }
        prop_assert_eq!(&repeats, &(0..7).map(|i| plan.first_repeat(i)).collect::<Vec<_>>());
        let preflight = plan.preflight();
        for (i, used) in preflight.sources.iter().enumerate() {
            let source = spec.sources.iter().position(|s| s.name == used.budget.source).unwrap();
            prop_assert_eq!(used.first_repeat, repeats[source]);
            prop_assert_eq!(preflight.phases.iter().map(|p| p.drawn[i]).sum::<u64>(), drawn[source]);
        }
    }

    /// Arms of one seed draw the same general sequences wherever nothing displaced them.
    #[test]
    fn arms_are_paired(spec in spec(), weight in 0..=Weight::PARTS) {
        let spec = MixSpec { pairing: Pairing::Displace, ..spec };
        let Some(arm) = plan(&spec) else { return Ok(()) };
        // The same run with another weight, another specialised source, and with none.
        let with = |weight: u64, specialised: Option<Shares>| {
            let phases = spec.timeline.phases().iter().map(|phase| Phase {
                weight: WeightCurve::Constant(Weight::from_parts(weight).unwrap()),
                specialised: specialised.clone(),
                ..phase.clone()
            });
            let general = spec.timeline.general().clone();
            let timeline = Timeline::new(spec.timeline.end(), general, phases.collect()).unwrap();
            plan(&MixSpec { timeline, ..spec.clone() })
        };
        for other in [with(0, None), with(weight, Some(Shares::one("talk").unwrap()))].into_iter().flatten() {
            for slot in 0..arm.slots() {
                let (ours, theirs) = (arm.draw(slot), other.draw(slot));
                if ours.source < 3 && theirs.source < 3 {
                    prop_assert_eq!(ours, theirs);
                }
            }
        }
    }

    /// A refused plan fits at the start, and at the weight, that its error names; and at no earlier and no higher one.
    #[test]
    fn refusals_name_what_fits(start in 0u64..90, parts in 1..=Weight::PARTS, have in 1u64..400, seed: u64) {
        let build = |start: u64, weight: Weight| MixPlan::build(MixSpec {
            seed,
            batch: 4,
            time: 8,
            timeline: Timeline::midtrain(Step(100), Step(start), "web", "math", weight).unwrap(),
            sources: vec![SourceSize::new("web", 400), SourceSize::new("math", have)],
            pairing: Pairing::Displace,
            max_epochs: 1.0,
        });
        let fits = |start: u64, weight: Weight| !matches!(build(start, weight), Err(Error::Budget { .. }));
        let weight = Weight::from_parts(parts).unwrap();
        if let Err(error @ Error::Budget { .. }) = build(start, weight) {
            let Error::Budget { need_sequences, have_sequences, remedy, source_name, .. } = error else { unreachable!() };
            prop_assert!(need_sequences > have_sequences && have_sequences == have && source_name == "math");
            let words: Vec<&str> = remedy.split([' ', ',']).collect();
            let after = |word: &str| words[words.iter().position(|w| *w == word).unwrap() + 1];
            let fitting = Weight::parse(after("to")).unwrap();
            prop_assert!(fits(start, fitting), "{remedy}");
            prop_assert!(!fits(start, Weight::from_parts(fitting.parts() + 1).unwrap()), "{remedy}");
            if remedy.contains("no later start") {
                prop_assert!(!fits(99, weight));
            } else {
                let later: u64 = after("step").parse().unwrap();
                prop_assert!(later > start && !fits(later - 1, weight) && fits(later, weight), "{remedy}");
            }
        }
    }

    /// Weights from a millionth on, and shares of a share, are honoured: whatever is owed a sequence gets it.
    #[test]
    fn tiny_weights_do_not_vanish(seed: u64, weight in 1_000u64..100_000, share in 1_000u64..Weight::PARTS, ramp: bool) {
        let (weight, share) = (Weight::from_parts(weight).unwrap(), Weight::from_parts(share).unwrap());
        let curve = if ramp { WeightCurve::Ramp { from: Weight::ZERO, to: weight } } else { weight.into() };
        let shares = Shares::new([("code", share), ("math", share.complement())]).unwrap();
        let phase = Phase { start: Step(10), weight: curve, specialised: Some(shares), general: None };
        let (steps, batch) = (61_000, 1024);
        let spec = MixSpec {
            seed,
            batch,
            time: 2048,
            timeline: Timeline::new(Step(steps), Shares::one("web").unwrap(), vec![phase]).unwrap(),
            sources: ["web", "code", "math"].iter().map(|n| SourceSize::new(n, 100_000_000)).collect(),
            pairing: Pairing::Displace,
            max_epochs: 1.0,
        };
        let slots = (steps - 10) * batch;
        let (numerator, scale) = curve.integral(slots, slots);
        let owed = numerator as f64 / (scale as f64 * 1e9);
        match MixPlan::build(spec) {
            Ok(plan) => for (budget, share) in plan.budgets()[1..].iter().zip([share, share.complement()]) {
                prop_assert!((budget.drawn as f64 - owed * share.as_f64()).abs() < 2.0);
                prop_assert!(budget.drawn > 0);
            },
            Err(Error::Vanishes { expected, .. }) => prop_assert!(expected < 2.0),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn permutations_are_bijections(n in 1u64..2000, key: u64) {
        let p = Permutation::new(n, key);
        let images: HashSet<u64> = (0..n).map(|i| p.apply(i)).collect();
        prop_assert_eq!(images.len() as u64, n);
    }
}

#[test]
fn bad_specs_are_refused() {
    let spec = |name: &str, sources: Vec<SourceSize>| MixSpec {
        seed: 0,
        batch: 1,
        time: 8,
        timeline: Timeline::midtrain(Step(5), Step(1), "web", name, Weight::ONE).unwrap(),
        sources,
        pairing: Pairing::Displace,
        max_epochs: 1.0,
    };
    let both = || vec![SourceSize::new("web", 10), SourceSize::new("code", 10)];
    let message = |spec: MixSpec| MixPlan::build(spec).unwrap_err().to_string();
    assert!(message(spec("cod", both())).contains("\"cod\"; the sources are: web, code"));
    assert!(message(MixSpec { batch: 0, ..spec("code", both()) }).contains("batch = 0 must be at least 1"));
    assert!(message(MixSpec { time: 0, ..spec("code", both()) }).contains("sequence length = 0"));
    assert!(message(MixSpec { batch: u64::MAX, ..spec("code", both()) }).contains("exceeds"));
    assert!(message(MixSpec { max_epochs: f64::NAN, ..spec("code", both()) }).contains("max_epochs of web = NaN"));
    let twice = vec![SourceSize::new("web", 10), SourceSize::new("code", 10), SourceSize::new("web", 10)];
    assert!(message(spec("code", twice)).contains("web is named twice"));
    let empty = vec![SourceSize::new("web", 10), SourceSize::new("code", 0)];
    assert!(message(spec("code", empty)).contains("sequences of code = 0 must be at least 1"));
    let mut own = both();
    own[1].max_epochs = Some(0.2);
    assert!(message(spec("code", own)).contains("at most 0.2 times"));
}

proptest! {
    #![proptest_config(config())]

    /// A phase of a number of sequences draws exactly that number, whatever its sources and lanes.
    #[test]
    fn numbers_of_sequences_are_kept(spec in spec_with_shared()) {
        let Some(plan) = plan(&spec) else { return Ok(()) };
        let names = |shares: &Shares| shares.iter().map(|(name, _)| name.to_owned()).collect::<HashSet<_>>();
        for (i, phase) in spec.timeline.phases().iter().enumerate() {
            let WeightCurve::Sequences(sequences) = phase.weight else { continue };
            // What the general side is at that phase.
            let before = spec.timeline.phases()[..=i].iter().rev().find_map(|p| p.general.as_ref());
            let general = names(before.unwrap_or(spec.timeline.general()));
            let specialised = names(phase.specialised.as_ref().unwrap());
            let draws = (phase.start.0 * spec.batch..spec.timeline.phase_end(i).0 * spec.batch).map(|s| plan.draw(s));
            let drawn: Vec<String> = draws.map(|d| plan.source(d.source).name.clone()).collect();
            // A source on both sides does not say on which side it was drawn.
            let certain = drawn.iter().filter(|n| specialised.contains(*n) && !general.contains(*n)).count() as u64;
            let possible = drawn.iter().filter(|n| specialised.contains(*n)).count() as u64;
            prop_assert!(certain <= sequences && sequences <= possible, "{sequences} of {certain} to {possible}");
        }
    }

    /// Phases of the same number of sequences draw the same ones in the same order, whenever they begin.
    #[test]
    fn the_same_sequences_at_any_start(
        (steps, batch, starts) in (2u64..60, 1u64..9).prop_flat_map(|(steps, batch)| {
            (Just(steps), Just(batch), prop::collection::vec(0..steps, 2..5))
        }),
        share in 1u64..=100, seed: u64, more in 0u64..40,
    ) {
        let room = (steps - starts.iter().max().unwrap()) * batch;
        let sequences = (room * share / 100).max(1);
        let drawn = |start: u64| {
            let phase = Phase {
                start: Step(start),
                weight: WeightCurve::Sequences(sequences),
                specialised: Some(Shares::one("code").unwrap()),
                general: None,
            };
            let timeline = Timeline::new(Step(steps), Shares::one("web").unwrap(), vec![phase]).unwrap();
            let sources = vec![SourceSize::new("web", steps * batch), SourceSize::new("code", sequences + more)];
            let plan = MixPlan::build(MixSpec { seed, ..MixSpec::new(timeline, sources, batch, 16) }).unwrap();
            let code = |d: &Draw| plan.source(d.source).name == "code";
            draws(&plan).into_iter().filter(code).map(|d| (d.epoch, d.sequence)).collect::<Vec<_>>()
        };
        let first = drawn(starts[0]);
        prop_assert_eq!(first.len() as u64, sequences);
        prop_assert_eq!(first.iter().collect::<HashSet<_>>().len() as u64, sequences, "none comes twice");
        for start in &starts[1..] {
            prop_assert_eq!(&drawn(*start), &first);
        }
    }

    /// A source on both sides is drawn without repeats across both: within an epoch no sequence comes twice, and no epoch
    /// begins before the one before it is used up, displaced sequences counted as used.
    #[test]
    fn both_sides_share_a_source_without_repeats(spec in spec_with_shared()) {
        let Some(plan) = plan(&spec) else { return Ok(()) };
        let mut seen: Vec<HashSet<(u64, u64)>> = vec![HashSet::new(); spec.sources.len()];
        let mut drawn = vec![0u64; spec.sources.len()];
        for slot in 0..plan.slots() {
            let draw = plan.draw(slot);
            prop_assert!(draw.sequence < plan.source(draw.source).sequences);
            prop_assert!(seen[draw.source].insert((draw.epoch, draw.sequence)), "{draw:?} comes twice");
            drawn[draw.source] += 1;
            let step = Step(slot / spec.batch);
            if slot % spec.batch == spec.batch - 1 {
                for (budget, drawn) in plan.seen_by(Step(step.0 + 1)).iter().zip(&drawn) {
                    prop_assert_eq!(budget.drawn, *drawn);
                    prop_assert!(budget.reserved >= budget.drawn);
                }
            }
            let passed = plan.seen_by(Step(step.0 + 1))[draw.source].reserved;
            prop_assert!(draw.epoch * plan.source(draw.source).sequences < passed, "{draw:?} of {passed} passed");
        }
        for (source, seen) in seen.iter().enumerate() {
            // Gapless: each epoch but the last is drawn whole.
            if spec.pairing == Pairing::Shift {
                let last = seen.iter().map(|(epoch, _)| *epoch).max().unwrap_or(0);
                let whole = seen.iter().filter(|(epoch, _)| *epoch < last).count() as u64;
                prop_assert_eq!(whole, last * plan.source(source).sequences);
            }
        }
    }

    /// Arms draw the same general sequences wherever nothing displaced them, also where a source stands on both sides.
    #[test]
    fn a_prefix_draws_what_the_whole_draws(spec in spec_with_shared(), cut in 1u64..60) {
        let Some(whole) = plan(&spec) else { return Ok(()) };
        let timeline = &spec.timeline;
        // The first phases, to the end of the last of them.
        let begun = timeline.phases().iter().filter(|p| p.start.0 < cut).count();
        let end = match begun {
            0 => timeline.phases().first().map_or(timeline.end(), |p| p.start),
            n => timeline.phase_end(n - 1),
        };
        let phases = timeline.phases()[..begun].to_vec();
        let Ok(timeline) = Timeline::new(end, timeline.general().clone(), phases) else { return Ok(()) };
        let prefix = MixPlan::prefix(MixSpec { timeline, ..spec.clone() }).unwrap();
        for slot in 0..prefix.slots() {
            prop_assert_eq!(prefix.draw(slot), whole.draw(slot));
        }
    }
}

#[test]
fn more_sequences_than_slots_are_refused() {
    let phase = |sequences| Phase {
        start: Step(4),
        weight: WeightCurve::Sequences(sequences),
        specialised: Some(Shares::one("code").unwrap()),
        general: None,
    };
    let build = |sequences| {
        let timeline = Timeline::new(Step(10), Shares::one("web").unwrap(), vec![phase(sequences)]).unwrap();
        let sources = vec![SourceSize::new("web", 1000), SourceSize::new("code", 45)];
        MixPlan::build(MixSpec::new(timeline, sources, 8, 16))
    };
    let plan = build(45).unwrap();
    assert_eq!(plan.budgets()[1].drawn, 45);
    let message = build(49).unwrap_err().to_string();
    assert!(message.contains("sequences of the phase at step 4 = 49 must not exceed the 48 sequences"), "{message}");
    let message = build(46).unwrap_err().to_string();
    assert!(
        message.contains("source code: the plan needs") && message.contains("up to 45 sequences would fit"),
        "{message}"
    );
}

/// An arm of weight 1 reserves general text that it never draws: the refusal says so, and what would fit.
#[test]
fn reserved_text_is_called_reserved() {
    let build = |pairing, sequences, max_epochs| {
        let timeline = Timeline::midtrain(Step(100), Step(40), "web", "code", Weight::ONE).unwrap();
        let sources = vec![SourceSize::new("web", sequences), SourceSize::new("code", 480)];
        MixPlan::build(MixSpec { pairing, max_epochs, ..MixSpec::new(timeline, sources, 8, 16) })
    };
    let message = build(Pairing::Displace, 500, 1.0).unwrap_err().to_string();
    assert!(message.contains("the plan reserves 12800 tokens (800 sequences; it draws 5120 of them)"), "{message}");
    assert!(message.contains("62 steps of 8 sequences would fit; pairing = \"shift\" would fit"), "{message}");
    assert_eq!(build(Pairing::Shift, 500, 1.0).unwrap().budgets()[0].reserved, 320);
    // Where not even that fits, it is not offered.
    let message = build(Pairing::Displace, 300, 1.0).unwrap_err().to_string();
    assert!(!message.contains("shift"), "{message}");

    // Limits are whole numbers: 0.29 of 100 is 29, not 28.
    let general = |steps, max_epochs| {
        let timeline = Timeline::general_only(Step(steps), "web").unwrap();
        MixPlan::build(MixSpec { max_epochs, ..MixSpec::new(timeline, vec![SourceSize::new("web", 100)], 1, 8) })
    };
    for percent in 1..=100 {
        let epochs = f64::from(percent) / 100.0;
        general(u64::from(percent as u32), epochs).unwrap();
        assert!(general(u64::from(percent as u32) + 1, epochs).is_err(), "{percent}");
    }
}
