//! Proximity: similarities of corpora and mixtures, and proximity advantage.

use std::path::Path;

use metrics_proximity::{Counts, Mixture, Similarity, Variant, proximity_advantage, similarity};
use serde_json::Value;

use super::fixture::{ids, json, list, number};
use super::{Check, Line, line};

const EXACT: f64 = 1e-12;

pub(super) fn lines(folder: &Path) -> Vec<Line> {
    vec![line("proximity/expected.json", check(folder))]
}

/// From counts by token id.
fn of_counts(counts: &Value) -> Result<Counts, String> {
    let counts = ids(counts);
    let tokens = counts.iter().enumerate().flat_map(|(id, n)| std::iter::repeat_n(id as u32, *n as usize));
    Counts::of_tokens(counts.len(), tokens).map_err(|e| e.to_string())
}

fn compare(check: &mut Check, found: &Similarity, truth: &Value, place: &str) -> Result<(), String> {
    let values = [
        ("jaccard", found.jaccard),
        ("overlap_min", found.overlap),
        ("cosine", found.cosine),
        ("jsd_bits", found.jsd_bits),
        ("combined_divergence", found.combined),
    ];
    for (field, value) in values {
        check.near(value, number(truth, field)?, EXACT, &format!("{field} of {place}"));
    }
    Ok(())
}

fn check(folder: &Path) -> Result<Check, String> {
    let mut check = Check::new();
    let expected = json(&folder.join("expected.json"))?;
    let vocabulary = number(&expected, "vocab")? as usize;
    let corpus = |name: &Value| -> Result<Counts, String> {
        let documents = list(&expected["corpora"], name.as_str().unwrap_or_default())?;
        let tokens = documents.iter().flat_map(ids).map(|id| id as u32);
        Counts::of_tokens(vocabulary, tokens).map_err(|e| e.to_string())
    };
    for pair in list(&expected, "pairs")? {
        let found =
            similarity(&corpus(&pair["a"])?, &corpus(&pair["b"])?, Variant::Paper).map_err(|e| e.to_string())?;
        compare(&mut check, &found, pair, &format!("{} and {}", pair["a"], pair["b"]))?;
    }
    for case in list(&expected, "edge_cases")? {
        let found = similarity(&of_counts(&case["a"])?, &of_counts(&case["b"])?, Variant::Paper);
        compare(&mut check, &found.map_err(|e| e.to_string())?, case, &case["name"].to_string())?;
    }
    for case in list(&expected, "mixtures")? {
        let weight = case["weight_special"].as_str().unwrap_or_default();
        let (a, b) = weight.split_once('/').unwrap_or((weight, "1"));
        let weight = a.parse::<f64>().map_err(|e| e.to_string())? / b.parse::<f64>().map_err(|e| e.to_string())?;
        let (base, target) = (corpus(&case["base"])?, corpus(&case["target"])?);
        let mixture = Mixture::new(&base, &corpus(&case["special"])?, weight).map_err(|e| e.to_string())?;
        let place = format!("mixture {}", case["weight_special"]);
        let found = mixture.similarity(&target, Variant::Paper).map_err(|e| e.to_string())?;
        compare(&mut check, &found, &case["mixture_vs_target"], &place)?;
        let advantage = proximity_advantage(&mixture, &target, Variant::Paper).map_err(|e| e.to_string())?;
        let truth = number(case, "proximity_advantage_divergence")?;
        check.near(advantage, truth, EXACT, &format!("proximity advantage of {place}"));
    }
    let empty = &expected["empty_corpus"];
    let undefined = similarity(&of_counts(&empty["a"])?, &of_counts(&empty["b"])?, Variant::Paper);
    check.exact(undefined.is_err(), "an empty corpus is an error")?;
    Ok(check)
}
