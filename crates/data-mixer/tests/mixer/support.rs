//! Random specs and small stores that several test files share.

use std::path::Path;
use std::sync::Arc;

use corpus::{StoreDocument, StoreInfo, StoreWriter, TokenStore};
use data_mixer::{MixSpec, Pairing, SourceSize};
use proptest::prelude::*;
use schedule::{Phase, Shares, Step, Timeline, Weight, WeightCurve};

pub(crate) const GENERAL: [&str; 3] = ["books", "web", "wiki"];
pub(crate) const SPECIALISED: [&str; 4] = ["code", "facts", "math", "talk"];

pub(crate) fn config() -> ProptestConfig {
    ProptestConfig { cases: 1000, ..ProptestConfig::default() }
}

/// How many levels a tree of K leaves has.
pub(crate) fn depth(sources: usize) -> u32 {
    sources.next_power_of_two().trailing_zeros()
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

/// A phase's curve, or (in a third of all) a share of its slots, to be turned into a number of sequences.
fn curve_or_share() -> impl Strategy<Value = Result<WeightCurve, u64>> {
    prop_oneof![2 => curve().prop_map(Ok), 1 => (0u64..=100).prop_map(Err)]
}

/// Random shares of a random choice of sources.
fn shares(names: &'static [&'static str]) -> impl Strategy<Value = Shares> {
    prop::sample::subsequence(names, 1..=names.len()).prop_flat_map(|chosen| {
        let sizes = prop::collection::vec(prop_oneof![Just(1u64), Just(1000), 1u64..50], chosen.len());
        sizes.prop_map(move |sizes| {
            let sizes: Vec<(&str, u64)> = chosen.iter().copied().zip(sizes).collect();
            Shares::proportional(&sizes).unwrap()
        })
    })
}

/// One general source, as in most studies, or a random mixture.
fn general() -> impl Strategy<Value = Shares> {
    prop_oneof![Just(Shares::one("web").unwrap()), shares(&GENERAL)]
}

/// A random run: up to four phases, constant weights and ramps, several sources on both sides, generous sizes.
pub(crate) fn spec() -> impl Strategy<Value = MixSpec> {
    let phase = (curve(), shares(&SPECIALISED), prop::option::weighted(0.3, general()));
    (any::<u64>(), 1u64..9, 4u64..60, prop::collection::vec(phase, 0..4), any::<bool>(), general()).prop_flat_map(
        |(seed, batch, steps, phases, shift, general)| {
            let starts = prop::sample::subsequence((0..steps).collect::<Vec<_>>(), phases.len().min(steps as usize));
            starts.prop_map(move |starts| {
                let phases = starts.iter().zip(&phases).map(|(start, (weight, specialised, general))| Phase {
                    start: Step(*start),
                    weight: *weight,
                    specialised: Some(specialised.clone()),
                    general: general.clone(),
                });
                let sizes = GENERAL.iter().map(|n| (n, 97)).chain(SPECIALISED.iter().map(|n| (n, 41)));
                MixSpec {
                    seed,
                    batch,
                    time: 8,
                    timeline: Timeline::new(Step(steps), general.clone(), phases.collect()).unwrap(),
                    sources: sizes.map(|(name, n)| SourceSize::new(name, n)).collect(),
                    pairing: if shift { Pairing::Shift } else { Pairing::Displace },
                    max_epochs: 1000.0,
                }
            })
        },
    )
}

/// The same, with numbers of sequences among the phases, and sources that stand on both sides.
pub(crate) fn spec_with_shared() -> impl Strategy<Value = MixSpec> {
    const ALL: [&str; 5] = ["code", "facts", "math", "talk", "web"];
    let side = || prop_oneof![Just(Shares::one("web").unwrap()), shares(&ALL)];
    let phase = (curve_or_share(), shares(&ALL), prop::option::weighted(0.4, side()));
    let sizes = prop::collection::vec(3u64..90, ALL.len());
    (any::<u64>(), 1u64..9, 4u64..60, prop::collection::vec(phase, 0..4), any::<bool>(), side(), sizes).prop_flat_map(
        |(seed, batch, steps, phases, shift, general, sizes)| {
            let starts = prop::sample::subsequence((0..steps).collect::<Vec<_>>(), phases.len().min(steps as usize));
            starts.prop_map(move |starts| {
                let end = |i: usize| starts.get(i + 1).copied().unwrap_or(steps);
                let phases =
                    starts.iter().zip(&phases).enumerate().map(|(i, (start, (curve, specialised, general)))| {
                        let slots = (end(i) - start) * batch;
                        let weight =
                            curve.unwrap_or_else(|percent| WeightCurve::Sequences((slots * percent / 100).max(1)));
                        let (specialised, general) = (Some(specialised.clone()), general.clone());
                        Phase { start: Step(*start), weight, specialised, general }
                    });
                MixSpec {
                    seed,
                    batch,
                    time: 8,
                    timeline: Timeline::new(Step(steps), general.clone(), phases.collect()).unwrap(),
                    sources: ALL.iter().zip(&sizes).map(|(name, n)| SourceSize::new(name, *n)).collect(),
                    pairing: if shift { Pairing::Shift } else { Pairing::Displace },
                    max_epochs: 1000.0,
                }
            })
        },
    )
}

/// A store of `documents` documents; document d is `[base+d, base+d+1, …, 0]` with a prompt of two tokens.
pub(crate) fn store(dir: &Path, name: &str, documents: u32, base: u32) -> Arc<TokenStore> {
    let path = dir.join(name);
    let mut writer = StoreWriter::create(&path, StoreInfo::new(name, "test", 65_536)).unwrap();
    for d in 0..documents {
        let mut tokens: Vec<u32> = (0..3 + d % 7).map(|i| base + d + i).collect();
        tokens.push(0);
        writer.push(StoreDocument { tokens: &tokens, prompt: 2, text_bytes: 10, ..Default::default() }).unwrap();
    }
    writer.finish().unwrap();
    Arc::new(TokenStore::open(&path).unwrap())
}
