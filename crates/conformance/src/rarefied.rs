//! Exact vocabularies of samples of given sizes: of corpora, of pairs of them, of mixtures.

use std::path::Path;

use metrics_proximity::{Counts, Rarefied};
use serde_json::Value;

use crate::fixture::{ids, json, list, number};
use crate::{Check, Line, line};

/// Of types, intersections and unions, relative; of Jaccard and its advantage, absolute.
const EXACT: f64 = 1e-9;

pub(super) fn lines(folder: &Path) -> Vec<Line> {
    vec![line("proximity_rarefied/expected.json", check(folder))]
}

fn counts(value: &Value) -> Counts {
    Counts::from_counts(ids(value).into_iter().map(|n| n as u64).collect())
}

fn tokens(value: &Value, field: &str) -> Result<u64, String> {
    value[field].as_u64().ok_or_else(|| format!("no number {field}"))
}

fn relative(check: &mut Check, found: f64, case: &Value, field: &str, place: &str) -> Result<(), String> {
    let truth = number(case, field)?;
    check.near(found, truth, EXACT * truth.abs().max(f64::MIN_POSITIVE), &format!("{field} of {place}"));
    Ok(())
}

/// Everything that is expected of two samples.
fn pair(check: &mut Check, (a, b): (&Rarefied, &Rarefied), case: &Value, place: &str) -> Result<f64, String> {
    relative(check, a.expected_types(), case, "expected_types_a", place)?;
    relative(check, b.expected_types(), case, "expected_types_b", place)?;
    let shared = a.shared_with(b).map_err(|e| e.to_string())?;
    relative(check, shared.intersection, case, "expected_intersection", place)?;
    relative(check, shared.union, case, "expected_union", place)?;
    let jaccard = shared.jaccard().unwrap_or(f64::NAN);
    check.near(jaccard, number(case, "jaccard_ratio_of_expectations")?, EXACT, &format!("Jaccard of {place}"));
    Ok(jaccard)
}

fn check(folder: &Path) -> Result<Check, String> {
    let mut check = Check::new();
    let expected = json(&folder.join("expected.json"))?;
    let corpus = |name: &Value| counts(&expected["counts"][name.as_str().unwrap_or_default()]);
    let sample = |counts: &Counts, budget: u64| Rarefied::of(counts, budget).map_err(|e| e.to_string());
    for case in list(&expected, "expected_types")? {
        let (counts, budget) = (corpus(&case["corpus"]), tokens(case, "budget")?);
        let place = format!("{} at {budget}", case["corpus"]);
        check.exact(counts.total() == tokens(case, "tokens")?, &format!("tokens of {place}"))?;
        relative(&mut check, sample(&counts, budget)?.expected_types(), case, "expected_types", &place)?;
    }
    for case in list(&expected, "pairs")? {
        let budget = tokens(case, "budget")?;
        let (a, b) = (sample(&corpus(&case["a"]), budget)?, sample(&corpus(&case["b"]), budget)?);
        pair(&mut check, (&a, &b), case, &format!("{} and {} at {budget}", case["a"], case["b"]))?;
    }
    for case in list(&expected, "mixtures")? {
        let (special, base) = (corpus(&case["special"]), corpus(&case["base"]));
        let (from_special, from_base) = (tokens(case, "tokens_from_special")?, tokens(case, "tokens_from_base")?);
        let parts = [(&special, from_special), (&base, from_base)];
        let mixture = Rarefied::mixture(&parts).map_err(|e| e.to_string())?;
        let budget = tokens(case, "budget")?;
        let place = format!("mixture {} at {budget}", case["weight_special"]);
        relative(&mut check, mixture.expected_types(), case, "expected_types_of_the_mixture", &place)?;
        let (target, base) = (sample(&corpus(&case["target"]), budget)?, sample(&base, budget)?);
        let with = pair(&mut check, (&mixture, &target), &case["mixture_vs_target"], &place)?;
        let without = pair(&mut check, (&base, &target), &case["base_vs_target"], &format!("the base of {place}"))?;
        check.near(with - without, number(case, "jaccard_advantage")?, EXACT, &format!("advantage of {place}"));
    }
    undefined(&mut check, &expected["undefined"], &corpus)?;
    let invariance = &expected["invariance"];
    let small = counts(&invariance["counts_a"]);
    for case in list(invariance, "rows")? {
        let (size, budget) = (tokens(case, "tokens_b")?, tokens(case, "budget")?);
        let other = counts(&invariance["counts_b"][size.to_string()]);
        let (a, b) = (sample(&small, budget)?, sample(&other, budget)?);
        pair(&mut check, (&a, &b), case, &format!("samples of {} and {size} at {budget}", small.total()))?;
    }
    Ok(check)
}

fn undefined(check: &mut Check, expected: &Value, corpus: &dyn Fn(&Value) -> Counts) -> Result<(), String> {
    let above = &expected["budget_above_the_tokens"];
    let refused = Rarefied::of(&corpus(&above["corpus"]), tokens(above, "budget")?).is_err();
    check.exact(refused, "a budget above the tokens is an error")?;
    let none = Rarefied::of(&corpus(&above["corpus"]), 0).map_err(|e| e.to_string())?;
    let shared = none.shared_with(&none).map_err(|e| e.to_string())?;
    check.exact(none.expected_types() == 0.0 && shared.jaccard().is_none(), "a budget of 0 has no Jaccard")
}
