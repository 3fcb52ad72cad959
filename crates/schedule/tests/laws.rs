//! Laws of curves, weights and timelines, on random specs.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use schedule::{
    Convention, Decay, LrSpec, LrStage, Phase, Shares, Span, Step, Timeline, TimelineSpec, Tokens, Weight, WeightCurve,
};

fn config() -> ProptestConfig {
    ProptestConfig { cases: 1000, ..ProptestConfig::default() }
}

fn weight() -> impl Strategy<Value = Weight> {
    prop_oneof![Just(0u64), Just(1), Just(1_000), Just(Weight::PARTS / 2), Just(Weight::PARTS), 0..=Weight::PARTS]
        .prop_map(|parts| Weight::from_parts(parts).unwrap())
}

fn curve() -> impl Strategy<Value = WeightCurve> {
    prop_oneof![
        weight().prop_map(WeightCurve::Constant),
        (weight(), weight()).prop_map(|(from, to)| WeightCurve::Ramp { from, to }),
    ]
}

fn convention() -> impl Strategy<Value = Convention> {
    prop_oneof![
        Just(Convention::CosineWarmupWithMinLr),
        Just(Convention::CosineWithMinLr),
        (1u64..20).prop_map(|accumulation| Convention::Litgpt { accumulation }),
    ]
}

/// A curve of one stage; and its length.
fn ramped() -> impl Strategy<Value = (LrSpec, u64)> {
    let shape = prop_oneof![Just(Decay::Linear), Just(Decay::OneMinusSqrt), Just(Decay::Cosine)];
    (1u64..400, 0.0f64..=1.0, 0.0f64..=1.0, 0.0f64..=1.0, shape, convention(), 0u8..4).prop_map(
        |(total, warm, rest, floor, shape, convention, kind)| {
            let warmup = (total as f64 * warm) as u64;
            let decay = Span::from(((total - warmup) as f64 * rest) as u64);
            let (peak, min, warmup, whole) = (3e-4, 3e-4 * floor, Span::from(warmup), Span::from(total));
            let spec = match kind {
                0 => LrSpec::Constant { rate: peak, warmup, convention },
                1 => LrSpec::Linear { peak, min, warmup, total: whole, convention },
                2 => LrSpec::Cosine { peak, min, warmup, total: whole, convention },
                _ => LrSpec::Wsd { peak, min, warmup, decay, shape, total: whole, convention },
            };
            (spec, total)
        },
    )
}

proptest! {
    #![proptest_config(config())]

    /// What a timeline exposes a model to are shares of everything from the first phase on: they add up to 1, and the
    /// specialised sources' are the counted slots, to one slot a phase.
    #[test]
    fn exposure_is_what_is_counted(first in curve(), second in curve(), start in 0u64..40, between in 1u64..40, slots in 1u64..50) {
        let end = Step(start + between + 20);
        let phase = |start: u64, source: &str, weight: WeightCurve| Phase {
            start: Step(start),
            weight,
            specialised: Some(Shares::one(source).unwrap()),
            general: None,
        };
        let phases = vec![phase(start, "code", first), phase(start + between, "math", second)];
        let timeline = Timeline::new(end, Shares::one("web").unwrap(), phases).unwrap();
        let exposure = timeline.exposure(slots);
        let total: f64 = exposure.iter().map(|(_, share)| share).sum();
        prop_assert!((total - 1.0).abs() < 1e-9, "{exposure:?}");
        let all = ((end.0 - start) * slots) as f64;
        for (source, curve, steps) in [("code", first, between), ("math", second, 20)] {
            let share = exposure.iter().find(|(name, _)| *name == source).map_or(0.0, |(_, share)| *share);
            let counted = curve.count(steps * slots, steps * slots, 0) as f64;
            prop_assert!((share * all - counted).abs() < 1.0 + 1e-6, "{source}: {share} of {all}, counted {counted}");
        }
    }

    /// At every prefix the count differs from the integral of the weight by less than one, and no slot counts twice.
    #[test]
    fn counts_follow_the_integral(curve in curve(), len in 0u64..300, phi in 0..Weight::PARTS) {
        let mut before = 0;
        for n in 0..=len {
            let count = curve.count(n, len, phi);
            let (numerator, scale) = curve.integral(n, len);
            let one = (scale * u128::from(Weight::PARTS)) as i128;
            let deviation = i128::from(count) * one - numerator as i128;
            prop_assert!(deviation.abs() < one, "{count} of {n}");
            prop_assert!(count == before || count == before + 1 && n > 0);
            before = count;
        }
    }

    /// The integral is the sum of the weights at the slots' middles.
    #[test]
    fn the_integral_sums_the_weights(curve in curve(), len in 1u64..200) {
        let mut sum = 0.0;
        for n in 0..len {
            sum += curve.at(n, len);
            let (numerator, scale) = curve.integral(n + 1, len);
            let integral = numerator as f64 / (scale as f64 * Weight::PARTS as f64);
            prop_assert!((sum - integral).abs() < 1e-9 * (n + 1) as f64);
        }
    }

    /// Far beyond any run, counts stay exact.
    #[test]
    fn counts_do_not_overflow(curve in curve(), n in 0..WeightCurve::MAX_SLOTS, phi in 0..Weight::PARTS) {
        let len = WeightCurve::MAX_SLOTS;
        let grown = curve.count(n + 1, len, phi) - curve.count(n, len, phi);
        prop_assert!(grown <= 1 && curve.count(n, len, phi) <= n);
    }

    /// Shares sum to exactly one; none is further than a billionth from its proportion.
    #[test]
    fn apportioning_is_exact(sizes in prop::collection::vec(0u64..u64::MAX / 100, 1..20)) {
        prop_assume!(sizes.iter().any(|s| *s > 0));
        let weights = Weight::apportion(&sizes).unwrap();
        prop_assert_eq!(weights.iter().map(|w| w.parts()).sum::<u64>(), Weight::PARTS);
        let total: u128 = sizes.iter().map(|s| u128::from(*s)).sum();
        for (size, weight) in sizes.iter().zip(&weights) {
            let exact = u128::from(*size) * u128::from(Weight::PARTS);
            prop_assert!((u128::from(weight.parts()) * total).abs_diff(exact) < total);
        }
    }

    /// Up, level, down: between the minimum and the peak, and at the minimum from the end on.
    #[test]
    fn rates_rise_then_fall((spec, total) in ramped()) {
        let lr = spec.clone().build().unwrap();
        let rates: Vec<f64> = (0..total + 5).map(|k| lr.at(Step(k))).collect();
        let top = rates.iter().copied().fold(0.0, f64::max);
        prop_assert!(rates.iter().all(|r| (0.0..=3e-4).contains(r)));
        let turn = rates.iter().position(|r| *r == top).unwrap();
        prop_assert!(rates[..=turn].is_sorted() && rates[turn..].iter().rev().is_sorted());
        let min = match spec {
            LrSpec::Linear { min, .. } | LrSpec::Cosine { min, .. } | LrSpec::Wsd { min, .. } => min,
            _ => 3e-4,
        };
        prop_assert!(rates[total as usize..].iter().all(|r| *r == min), "{:?}", &rates[total as usize..]);
    }

    /// In a sequence each stage is the curve it would be alone: no stage sees the one before, or its end.
    #[test]
    fn stages_count_from_their_own_start(stages in prop::collection::vec((ramped(), 1u64..500), 1..5)) {
        let list = stages.iter().map(|((lr, _), n)| LrStage { length: Span::from(*n), lr: lr.clone() }).collect();
        let sequence = LrSpec::Sequence { stages: list }.build().unwrap();
        let mut start = 0;
        for (i, ((lr, _), length)) in stages.iter().enumerate() {
            let alone = lr.clone().build().unwrap();
            let end = if i + 1 == stages.len() { length + 50 } else { *length };
            for k in 0..end {
                prop_assert_eq!(sequence.at(Step(start + k)), alone.at(Step(k)));
            }
            start += length;
        }
    }

    /// A spec in tokens is the spec in steps.
    #[test]
    fn tokens_are_steps(warmup in 0u64..50, more in 1u64..500, per_step in 1u64..10_000_000) {
        let total = warmup + more;
        let tokens = |steps: u64| Tokens(steps * per_step);
        let spec = LrSpec::cosine(1e-3, 1e-5, tokens(warmup), tokens(total));
        prop_assert!(spec.clone().build().unwrap_err().to_string().contains("is in tokens"));
        let spec = spec.in_steps(Tokens(per_step)).unwrap();
        prop_assert_eq!(spec, LrSpec::cosine(1e-3, 1e-5, warmup, total));
    }

    /// What is written reads back as the same.
    #[test]
    fn specs_survive_files((lr, _) in ramped(), weight in curve(), start in 0u64..u64::MAX / 2, share in weight()) {
        let stages = vec![LrStage { length: Tokens(start).into(), lr: lr.clone() }, LrStage { length: 7.into(), lr }];
        let lr = LrSpec::Sequence { stages };
        let text = serde_json::to_string(&lr).unwrap();
        prop_assert_eq!(&lr, &serde_json::from_str::<LrSpec>(&text).unwrap());
        let specialised = Shares::new([("b", share), ("a", share.complement())]).unwrap();
        let timeline = TimelineSpec {
            end: Tokens(start + 1).into(),
            general: Shares::one("g").unwrap(),
            phases: vec![Phase { start: start.into(), weight, specialised: Some(specialised), general: None }],
        };
        let text = toml::to_string(&timeline).unwrap();
        prop_assert_eq!(&timeline, &toml::from_str::<TimelineSpec>(&text).unwrap(), "{}", text);
    }
}

#[test]
fn ends_are_exact() {
    let lr = LrSpec::cosine(1e-3, 1e-5, 5, 50).build().unwrap();
    assert_eq!(lr.at(Step(0)), 1e-3 / 5.0);
    assert_eq!(lr.at(Step(4)), 1e-3);
    assert_eq!(lr.at(Step(49)), 1e-5);
    assert_eq!(lr.at(Step(u64::MAX)), 1e-5);
    let zero = LrSpec::cosine(0.0, 0.0, 0, 5).build().unwrap();
    assert!((0..7).all(|k| zero.at(Step(k)) == 0.0));
}

/// Linear and 1 − √ decays, by hand: W = 2, 4 stable, 4 of decay; x = k.
#[test]
fn warm_up_stable_decay() {
    let wsd = |shape| LrSpec::Wsd {
        peak: 1.0,
        min: 0.1,
        warmup: 2.into(),
        decay: 4.into(),
        shape,
        total: 10.into(),
        convention: Convention::CosineWithMinLr,
    };
    let rates = |shape| (0..12).map(|k| wsd(shape).build().unwrap().at(Step(k))).collect::<Vec<f64>>();
    let near = |found: Vec<f64>, expected: [f64; 12]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{found:?}");
    };
    near(rates(Decay::Linear), [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.775, 0.55, 0.325, 0.1, 0.1]);
    let root = |p: f64| 0.1 + 0.9 * (1.0 - p.sqrt());
    let sqrt = [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, root(0.25), root(0.5), root(0.75), 0.1, 0.1];
    near(rates(Decay::OneMinusSqrt), sqrt);
}

/// The rate at a phase border: the last step of one stage and the first of the next are their own curves', and a stage
/// that warms up again begins low.
#[test]
fn rates_at_a_border() {
    let pretrain = LrStage { length: 100.into(), lr: LrSpec::cosine(1e-3, 1e-5, 10, 100) };
    let again = LrStage { length: 50.into(), lr: LrSpec::cosine(5e-4, 1e-6, 5, 50) };
    let lr = LrSpec::Sequence { stages: vec![pretrain, again] }.build().unwrap();
    assert_eq!([lr.at(Step(99)), lr.at(Step(100)), lr.at(Step(104))], [1e-5, 1e-4, 5e-4]);
    assert_eq!([lr.at(Step(149)), lr.at(Step(1000))], [1e-6, 1e-6]);
}

#[test]
fn impossible_curves_are_refused() {
    let wsd = |warmup: u64, decay: u64| LrSpec::Wsd {
        peak: 1e-3,
        min: 0.0,
        warmup: warmup.into(),
        decay: decay.into(),
        shape: Decay::Linear,
        total: 10.into(),
        convention: Convention::default(),
    };
    let stage = |length: u64| LrStage { length: length.into(), lr: LrSpec::constant(1e-3) };
    for (spec, text) in [
        (LrSpec::cosine(1e-3, 1e-4, 11, 10), "warmup = 11 must not exceed total = 10"),
        (LrSpec::cosine(1e-4, 1e-3, 1, 10), "min = 0.001 must not exceed peak"),
        (LrSpec::cosine(f64::NAN, 0.0, 1, 10), "peak = NaN"),
        (LrSpec::cosine(1e-3, 0.0, 0, 0), "total = 0"),
        (LrSpec::constant(-1.0), "rate = -1"),
        (wsd(4, 7), "decay = 7 must not exceed total − warmup = 6"),
        (LrSpec::Sequence { stages: vec![] }, "stages = []"),
        (LrSpec::Sequence { stages: vec![stage(0)] }, "length of a stage = 0"),
    ] {
        let message = spec.build().unwrap_err().to_string();
        assert!(message.contains(text), "{message}");
    }
    let litgpt = Convention::Litgpt { accumulation: 0 };
    let spec = LrSpec::Constant { rate: 1.0, warmup: 0.into(), convention: litgpt };
    assert!(spec.build().unwrap_err().to_string().contains("accumulation = 0"));
}

#[test]
fn impossible_timelines_are_refused() {
    let w = Weight::parse("0.2").unwrap();
    let message = Timeline::midtrain(Step(10), Step(10), "web", "code", w).unwrap_err().to_string();
    assert_eq!(message, "start of code = 10 must be before the end, step 10");
    let phase = |start| Phase::constant(Step(start), "a", w).unwrap();
    let web = || Shares::one("web").unwrap();
    let message = Timeline::new(Step(10), web(), vec![phase(5), phase(5)]).unwrap_err().to_string();
    assert_eq!(message, "start of a = 5 must come after 5, the start of the phase before");
    assert!(Timeline::new(Step(10), web(), vec![phase(6), phase(5)]).is_err());
    assert!(Timeline::general_only(Step(0), "web").is_err());
    // A source may stand on both sides; it is one source.
    assert_eq!(Timeline::midtrain(Step(10), Step(1), "web", "web", w).unwrap().sources(), ["web"]);
    let without = Phase { specialised: None, ..phase(3) };
    let message = Timeline::new(Step(10), web(), vec![without]).unwrap_err().to_string();
    assert!(message.contains("weight of phase 0 = 0.2 must be 0 where no specialised source is named"), "{message}");
    let third = Weight::parse("0.333333333").unwrap();
    let message = Shares::new([("a", third), ("b", third), ("c", third)]).unwrap_err().to_string();
    assert_eq!(message, "shares of a, b, c = 0.999999999 must sum to 1");
    assert!(Shares::new([("a", Weight::ONE), ("a", Weight::ZERO)]).unwrap_err().to_string().contains("named twice"));
}

#[test]
fn phase_lookup() {
    let phase = |start, source: &str| Phase::constant(Step(start), source, Weight::ONE).unwrap();
    let t = Timeline::new(Step(10), Shares::one("web").unwrap(), vec![phase(3, "a"), phase(6, "b")]).unwrap();
    let at = |k| t.phase_at(Step(k)).and_then(|p| p.specialised.as_ref()).map(ToString::to_string);
    let name = |n: &str| Some(n.to_owned());
    assert_eq!([at(2), at(3), at(5), at(6), at(99)], [None, name("a"), name("a"), name("b"), name("b")]);
}

#[test]
fn files_say_what_is_wrong() {
    let parse = |text: &str| toml::from_str::<TimelineSpec>(text);
    let spec = parse(
        "end = \"128B tokens\"\ngeneral = \"C4\"\n[[phases]]\nstart = 6000\nweight = { from = 0, to = 0.2 }\n\
         specialised = { code = 0.75, math = \"0.25\" }\n",
    )
    .unwrap();
    let timeline = spec.build(Tokens(1024 * 2048)).unwrap();
    assert_eq!((timeline.end(), timeline.phases()[0].start), (Step(61_036), Step(6000)));
    for (text, expected) in [
        ("end = -1\ngeneral = \"a\"", "must not be negative"),
        ("end = \"ten\"\ngeneral = \"a\"", "span = ten must be a number of steps"),
        ("end = 1\ngeneral = { a = 0.5 }", "must sum to 1"),
        ("end = 1\ngeneral = 5", "a source's name, or a table"),
        ("end = 1\ngeneral = \"a\"\n[[phases]]\nstart = 0\nweight = 1.5", "1.5 must be a decimal"),
    ] {
        let message = parse(text).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

/// As they stand in files: a weight or a number, one of both.
#[test]
fn phases_in_files() {
    let read = |text: &str| toml::from_str::<Phase>(text).map_err(|e| e.to_string());
    let text = "start = 4\nsequences = 12\nspecialised = \"code\"\n";
    let phase = read(text).unwrap();
    assert_eq!(
        (phase.weight, toml::to_string(&phase).unwrap().contains("sequences = 12")),
        (WeightCurve::Sequences(12), true)
    );
    assert_eq!(read(&toml::to_string(&phase).unwrap()).unwrap(), phase);
    for bad in ["start = 4\nspecialised = \"code\"", "start = 4\nsequences = 1\nweight = 0.2\nspecialised = \"code\""] {
        assert!(read(bad).unwrap_err().contains("must have a weight or a number of sequences"), "{bad}");
    }
}

/// A run that is all warm-up, or all plateau, ends at its peak; after it comes the minimum.
#[test]
fn a_warm_up_as_long_as_the_run_reaches_the_peak() {
    for (warmup, total) in [(1, 1), (10, 10), (1000, 1000)] {
        for convention in
            [Convention::CosineWarmupWithMinLr, Convention::CosineWithMinLr, Convention::Litgpt { accumulation: 4 }]
        {
            let curve = |spec: LrSpec| spec.build().unwrap();
            let lr = curve(LrSpec::Cosine {
                peak: 1e-3,
                min: 1e-4,
                warmup: Step(warmup).into(),
                total: Step(total).into(),
                convention,
            });
            let last = lr.at(Step(total - 1));
            // Conventions that count from 0 are one count short of it, as their own software is.
            let expected = match convention {
                Convention::CosineWarmupWithMinLr => 1e-3,
                Convention::CosineWithMinLr => 1e-3 * (total - 1) as f64 / total as f64,
                Convention::Litgpt { accumulation } => {
                    1e-3 * (total * accumulation - 1) as f64 / (total * accumulation) as f64
                }
            };
            assert!((last - expected).abs() < 1e-15, "{convention:?} {total}: {last}");
            assert_eq!(lr.at(Step(total)), 1e-4);
            // No decay: the plateau goes on to the last step.
            let lr = curve(LrSpec::Wsd {
                peak: 1e-3,
                min: 1e-4,
                warmup: Step(0).into(),
                decay: Step(0).into(),
                shape: Decay::Linear,
                total: Step(total).into(),
                convention,
            });
            assert_eq!((lr.at(Step(total - 1)), lr.at(Step(total))), (1e-3, 1e-4));
        }
    }
}
