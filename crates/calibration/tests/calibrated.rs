//! Intervals cover and tests reject as often as they say, in fewer repetitions than the recorded ones (docs/results). Seeds are
//! fixed: nothing here depends on chance. Bounds leave room for what so few repetitions leave open.
#![allow(clippy::unwrap_used, reason = "tests")]

use calibration::proximity::{Mixtures, coverage, sized};
use calibration::{Rate, arms, documents, representations, seeds};

fn assert_rates(rates: &[Rate], low: f64, high: f64) {
    assert!(!rates.is_empty());
    for rate in rates {
        assert!((low..=high).contains(&rate.rate()), "{} to {}: {}", low, high, calibration::row(rate));
    }
}

/// Of those that say how often something should be `stated`.
fn stated(rates: Vec<Rate>, stated: f64) -> Vec<Rate> {
    rates.into_iter().filter(|rate| (rate.stated - stated).abs() < 1e-9).collect()
}

/// At the sizes of real corpora.
#[test]
fn intervals_of_proximity_advantage_cover() {
    let rates = coverage(Mixtures::First, 200, 0);
    assert_rates(&rates, 0.9, 1.0);
    // Nor are they as wide as you like.
    assert!(rates.iter().all(|rate| (0.8..1.5).contains(&rate.error_ratio.unwrap())), "{rates:?}");
}

/// Every measure, of samples of one distribution at sizes N, 20 N and 200 N: the same on average, and within their intervals.
#[test]
fn sizes_change_no_similarity() {
    let all = sized(60, 0);
    assert_eq!(all.len(), 8 * 3);
    for of in all {
        let error = (of.mean.1.powi(2) + of.equal.1.powi(2)).sqrt();
        assert!((of.mean.0 - of.equal.0).abs() < 3.5 * error, "{} x {}: {of:?}", of.measure, of.factor);
        assert!(of.mean.1 < 0.01 * of.mean.0, "{of:?}");
        assert_rates(&[of.covered], 0.85, 1.0);
    }
}

#[test]
fn exchanging_mixes_rejects_as_often_as_stated_however_much_they_differ() {
    assert_rates(&arms::permutation(1000, 0), 0.03, 0.07);
}

/// Where shares differ, ranks are the safer ones.
#[test]
fn exchanging_mixes_of_unlike_shares() {
    let (ranks, z): (Vec<Rate>, Vec<Rate>) =
        arms::scales(500, 0).into_iter().partition(|rate| rate.setting.ends_with("ranks"));
    assert_rates(&ranks, 0.01, 0.1);
    assert_rates(&z, 0.02, 0.25);
}

#[test]
fn intervals_of_rank_correlations_cover() {
    assert_rates(&arms::ranks(500, 0), 0.9, 1.0);
}

#[test]
fn differences_over_seeds_are_as_sure_as_stated() {
    assert_rates(&stated(seeds::differences(1000, 0), 0.95), 0.93, 0.97);
    assert_rates(&stated(seeds::differences(1000, 0), 0.05), 0.03, 0.07);
}

#[test]
fn effects_are_found_and_marks_are_right_as_often_as_stated() {
    assert_rates(&stated(seeds::power_and_marks(1000, 0), 0.8), 0.76, 0.84);
    // Adjusted for all pairs: at most as often.
    assert_rates(&stated(seeds::power_and_marks(1000, 0), 0.05), 0.0, 0.06);
}

#[test]
fn differences_over_documents_are_as_sure_as_stated() {
    // Where lengths spread widely and effects depend on them, no estimate of so few documents is exact.
    let (hard, rates): (Vec<Rate>, Vec<Rate>) = documents::differences(500, 0)
        .into_iter()
        .partition(|rate| rate.setting.contains("spread by 1.5") && rate.setting.contains("by length 0.5"));
    assert!(rates.iter().filter_map(|rate| rate.error_ratio).all(|ratio| (0.8..1.4).contains(&ratio)), "{rates:?}");
    assert_rates(&stated(rates.clone(), 0.95), 0.91, 0.98);
    assert_rates(&stated(rates, 0.05), 0.02, 0.09);
    assert_rates(&stated(hard, 0.05), 0.02, 0.14);
}

#[test]
fn intervals_of_representations_cover() {
    let rates = representations::differences(100, 0);
    assert!(rates.iter().filter_map(|rate| rate.error_ratio).all(|ratio| (0.8..1.6).contains(&ratio)), "{rates:?}");
    assert_rates(&rates, 0.9, 1.0);
}
