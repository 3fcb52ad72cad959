//! Proximity: similarities of corpora and mixtures, and proximity advantage.

use std::path::Path;

use metrics_proximity::{Counts, Distribution, JsForm, Similarity, SimilarityOptions, proximity_advantage, similarity};
use serde_json::Value;

use crate::fixture::{ids, json, list, number};
use crate::{Check, Line, line};

const EXACT: f64 = 1e-12;

pub(super) fn lines(folder: &Path) -> Vec<Line> {
    vec![line("proximity/expected.json", check(folder))]
}

/// Square roots of values near 0.
const ROOT: f64 = 1e-7;

/// From counts by token id.
fn of_counts(counts: &Value) -> Result<Distribution, String> {
    let counts = ids(counts).into_iter().map(|n| n as u64).collect();
    Distribution::of(&Counts::from_counts(counts)).map_err(|e| e.to_string())
}

/// Appendix D, with either Jensen–Shannon similarity.
fn options(js: JsForm) -> SimilarityOptions {
    SimilarityOptions { js, ..SimilarityOptions::default() }
}

fn compare(
    check: &mut Check,
    (a, b): (&Distribution, &Distribution),
    truth: &Value,
    place: &str,
) -> Result<(), String> {
    let of = |js| similarity(a, b, &options(js)).map_err(|e| e.to_string());
    let found: Similarity = of(JsForm::Divergence)?;
    for (field, value) in [
        ("types_a", a.types() as f64),
        ("types_b", b.types() as f64),
        ("jaccard", found.jaccard),
        ("overlap_min", found.overlap),
        ("overlap_a", found.overlap_left),
        ("overlap_b", found.overlap_right),
        ("overlap_probability_mass", found.shared_mass),
        ("cosine", found.cosine),
        ("jsd_bits", found.jsd_bits),
        ("jsd_nats", found.jsd_nats()),
        ("js_similarity_divergence", found.js(JsForm::Divergence)),
        ("combined_divergence", found.combined),
    ] {
        // Mixtures' expectations leave some fields out.
        if !truth[field].is_null() {
            check.near(value, number(truth, field)?, EXACT, &format!("{field} of {place}"));
        }
    }
    for (field, value) in [
        ("js_distance_base2", found.jsd_bits.sqrt()),
        ("js_distance_basee", found.jsd_nats().sqrt()),
        ("js_similarity_distance", found.js(JsForm::DistanceBits)),
        ("combined_distance", of(JsForm::DistanceBits)?.combined),
    ] {
        if !truth[field].is_null() {
            check.near(value, number(truth, field)?, ROOT, &format!("{field} of {place}"));
        }
    }
    check.exact(!truth["combined_divergence"].is_null(), &format!("the expectations of {place}"))
}

fn check(folder: &Path) -> Result<Check, String> {
    let mut check = Check::new();
    let expected = json(&folder.join("expected.json"))?;
    let vocabulary = number(&expected, "vocab")? as usize;
    let corpus = |name: &Value| -> Result<Distribution, String> {
        let documents = list(&expected["corpora"], name.as_str().unwrap_or_default())?;
        let tokens = documents.iter().flat_map(ids).map(|id| id as u32);
        let counts = Counts::of_tokens(vocabulary, tokens).map_err(|e| e.to_string())?;
        Distribution::of(&counts).map_err(|e| e.to_string())
    };
    for pair in list(&expected, "pairs")? {
        let place = format!("{} and {}", pair["a"], pair["b"]);
        compare(&mut check, (&corpus(&pair["a"])?, &corpus(&pair["b"])?), pair, &place)?;
    }
    for case in list(&expected, "edge_cases")? {
        compare(&mut check, (&of_counts(&case["a"])?, &of_counts(&case["b"])?), case, &case["name"].to_string())?;
    }
    for case in list(&expected, "mixtures")? {
        let weight = case["weight_special"].as_str().unwrap_or_default();
        let (a, b) = weight.split_once('/').unwrap_or((weight, "1"));
        let weight = a.parse::<f64>().map_err(|e| e.to_string())? / b.parse::<f64>().map_err(|e| e.to_string())?;
        let (base, target) = (corpus(&case["base"])?, corpus(&case["target"])?);
        let special = corpus(&case["special"])?;
        let mixture = Distribution::mixture(&[(&base, 1.0 - weight), (&special, weight)]).map_err(|e| e.to_string())?;
        let place = format!("mixture {}", case["weight_special"]);
        for (found, exact) in mixture.as_slice().iter().zip(list(case, "mixture")?) {
            check.near(*found, exact.as_f64().unwrap_or(f64::NAN), EXACT, &format!("a frequency of {place}"));
        }
        compare(&mut check, (&mixture, &target), &case["mixture_vs_target"], &place)?;
        compare(&mut check, (&base, &target), &case["base_vs_target"], &format!("the base of {place}"))?;
        for (js, field, tolerance) in [
            (JsForm::Divergence, "proximity_advantage_divergence", EXACT),
            (JsForm::DistanceBits, "proximity_advantage_distance", ROOT),
        ] {
            let found = proximity_advantage(&mixture, &base, &target, &options(js)).map_err(|e| e.to_string())?;
            check.near(found, number(case, field)?, tolerance, &format!("{field} of {place}"));
        }
        let cosine = SimilarityOptions { weights: [1.0, 0.0, 0.0], ..SimilarityOptions::default() };
        let found = proximity_advantage(&mixture, &base, &target, &cosine).map_err(|e| e.to_string())?;
        let truth = number(case, "proximity_advantage_cosine_only")?;
        check.near(found, truth, EXACT, &format!("proximity advantage by cosine of {place}"));
    }
    let empty = of_counts(&expected["empty_corpus"]["a"]);
    check.exact(empty.is_err(), "an empty corpus is an error")?;
    Ok(check)
}
