//! Arms crossed with sets, ranks, influence, documents, families of comparisons, differences of CKA.

use std::path::Path;

use forgetting_eval::{
    Crossed, DocumentDifferences, DocumentLosses, HeldOut, holm, leave_one_pair_out, spearman, t_quantile,
};
use metrics_cka::{Accumulator, Activations, Form, Jackknifed, Layer, LayerValues, SumOptions};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::fixture::{bytes, floats, i64s, ids, json, list, number, pair, values};
use crate::{Check, Line, line};

const EXACT: f64 = 1e-12;
const CKA: f64 = 1e-9;
/// p of t, relative.
const P: f64 = 1e-6;
/// More permutations than any case has.
const MOST: usize = 1_000_000;

pub(super) fn lines(folder: &Path) -> Vec<Line> {
    let result = json(&folder.join("expected.json")).and_then(|expected| {
        let mut check = Check::new();
        permutations(&mut check, &expected["joint_permutation"])?;
        ranks(&mut check, &expected["spearman"])?;
        influence(&mut check, &expected)?;
        documents(&mut check, &expected)?;
        families(&mut check, &expected)?;
        Ok(check)
    });
    let cka =
        json(&folder.join("expected.json")).and_then(|expected| cka(folder, &expected["cka_difference_jackknife"]));
    vec![line("stats2/expected.json", result), line("stats2/jackknife.safetensors", cka)]
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn table(value: &Value, field: &str) -> Result<Vec<Vec<f64>>, String> {
    let row = |row: &Value| {
        let numbers = row.as_array().ok_or_else(|| format!("{field} holds no rows"))?;
        numbers.iter().map(|v| v.as_f64().ok_or_else(|| format!("{field} holds something else"))).collect()
    };
    list(value, field)?.iter().map(row).collect()
}

fn interval(
    check: &mut Check,
    found: Option<(f64, f64)>,
    case: &Value,
    field: &str,
    tolerance: f64,
    place: &str,
) -> Result<(), String> {
    let (low, high) = pair(case, field)?;
    let found = found.ok_or_else(|| format!("{place} has no interval"))?;
    check.near(found.0, low, tolerance, &format!("interval of {place}"));
    check.near(found.1, high, tolerance, &format!("interval of {place}"));
    Ok(())
}

fn permutations(check: &mut Check, cases: &Value) -> Result<(), String> {
    for (name, case) in cases.as_object().into_iter().flatten().filter(|(_, case)| case["x"].is_array()) {
        let raw = Crossed::new(table(case, "x")?, table(case, "y")?).map_err(text)?;
        let standardised = raw.standardised().map_err(text)?;
        for (crossed, field) in [(&raw, "raw"), (&standardised, "z_scored_within_sets")] {
            let (truth, place) = (&case[field], format!("{name}, {field}"));
            let found = crossed.permute_arms(MOST, 0).map_err(text)?;
            check.near(found.r, number(truth, "r")?, EXACT, &format!("r of {place}"));
            check.near(crossed.r().map_err(text)?, found.r, EXACT, &format!("r of {place}"));
            for (field, count) in [
                ("permutations", found.permuted.len()),
                ("as_large_two_sided", found.as_large()),
                ("as_large_one_sided_greater", found.as_high()),
            ] {
                check.exact(truth[field].as_u64() == Some(count as u64), &format!("{field} of {place}"))?;
            }
            check.near(found.p(), number(truth, "p_two_sided")?, EXACT, &format!("p of {place}"));
            check.near(
                found.p_greater(),
                number(truth, "p_one_sided_greater")?,
                EXACT,
                &format!("one-sided p of {place}"),
            );
            let all = values(truth, "r_of_every_permutation_lexicographic")?;
            check.exact(all.len() == found.permuted.len(), &format!("permutations of {place}"))?;
            for (i, (found, truth)) in found.permuted.iter().zip(&all).enumerate() {
                check.near(*found, *truth, EXACT, &format!("r of permutation {i} of {place}"));
            }
        }
    }
    Ok(())
}

fn ranks(check: &mut Check, cases: &Value) -> Result<(), String> {
    for (name, case) in cases.as_object().into_iter().flatten() {
        let place = format!("Spearman {name}");
        let found = spearman(&values(case, "x")?, &values(case, "y")?).map_err(text)?;
        check.near(found.rho, number(case, "rho")?, EXACT, &place);
        check.exact(found.n as f64 == number(case, "n")?, &format!("pairs of {place}"))?;
        if case["bonett_wright_ci95"].is_null() {
            check.exact(found.interval(0.95).is_none(), &format!("{place} has no interval"))?;
        } else {
            interval(check, found.interval(0.95), case, "bonett_wright_ci95", EXACT, &place)?;
        }
    }
    Ok(())
}

fn influence(check: &mut Check, expected: &Value) -> Result<(), String> {
    for (i, case) in list(expected, "leave_one_pair_out")?.iter().enumerate() {
        let place = format!("pairs {i}");
        let found = leave_one_pair_out(&values(case, "x")?, &values(case, "y")?).map_err(text)?;
        check.near(found.r, number(case, "r")?, EXACT, &format!("r of {place}"));
        for (found, truth) in found.without.iter().zip(values(case, "r_without_pair")?) {
            check.near(*found, truth, EXACT, &format!("r without one of {place}"));
        }
        let (low, high) = found.range();
        check.near(low, number(case, "smallest_r")?, EXACT, &format!("smallest r of {place}"));
        check.near(high, number(case, "largest_r")?, EXACT, &format!("largest r of {place}"));
        let most = case["most_influential_pair"].as_u64() == Some(found.most_influential as u64);
        check.exact(most, &format!("most influential of {place}"))?;
        let without = found.without_most_influential();
        check.near(
            without,
            number(case, "r_without_it")?,
            EXACT,
            &format!("r without the most influential of {place}"),
        );
    }
    Ok(())
}

fn documents(check: &mut Check, expected: &Value) -> Result<(), String> {
    for (i, case) in list(expected, "paired_documents")?.iter().enumerate() {
        let tokens = ids(&case["tokens"]);
        let losses = |field: &str| -> Result<DocumentLosses, String> {
            let documents = values(case, field)?.into_iter().zip(&tokens);
            Ok(DocumentLosses::new(documents.map(|(nats, m)| HeldOut { nats, tokens: *m as u64, bytes: None })))
        };
        let differences = DocumentDifferences::of(&losses("nats_a")?, &losses("nats_b")?).map_err(text)?;
        let found = differences.compare(0.95).map_err(text)?;
        let place = format!("documents {i}");
        check.exact(found.documents as f64 == number(case, "documents")?, &format!("number of {place}"))?;
        check.near(found.difference, number(case, "difference_a_minus_b")?, EXACT, &format!("difference of {place}"));
        let over = found.linearised;
        check.near(over.standard_error, number(case, "standard_error")?, EXACT, &format!("error of {place}"));
        let jackknife = number(case, "delete_one_jackknife_standard_error")?;
        check.near(found.jackknife.standard_error, jackknife, EXACT, &format!("jackknife error of {place}"));
        let df = number(case, "df")?;
        check.near(t_quantile(0.975, df), number(case, "t_0.975")?, EXACT * 10.0, &format!("t of {place}"));
        interval(check, Some(over.interval), case, "ci95", EXACT, &place)?;
        let p = number(case, "p_two_sided")?;
        check.near(over.p.unwrap_or(f64::NAN) / p, 1.0, P, &format!("p of {place}"));
    }
    Ok(())
}

fn families(check: &mut Check, expected: &Value) -> Result<(), String> {
    for case in list(expected, "holm")? {
        let place = case["family"].as_str().unwrap_or_default();
        let ps: Vec<Option<f64>> = values(case, "p")?.into_iter().map(Some).collect();
        let (found, truth) = (holm(&ps), values(case, "p_adjusted")?);
        check.exact(found.len() == truth.len(), &format!("members of {place}"))?;
        for (found, truth) in found.into_iter().zip(truth) {
            check.near(found.unwrap_or(f64::NAN), truth, EXACT, &format!("adjusted p of {place}"));
        }
    }
    Ok(())
}

/// Rows of one state, and the group of each.
struct State {
    width: usize,
    values: Vec<f64>,
}

fn cka(folder: &Path, cases: &Value) -> Result<Check, String> {
    let mut check = Check::new();
    let data = bytes(&folder.join("jackknife.safetensors"))?;
    let file = SafeTensors::deserialize(&data).map_err(text)?;
    for (name, case) in cases.as_object().into_iter().flatten() {
        let state = |which: &str| -> Result<State, String> {
            let (shape, values) = floats(&file, &format!("{name}.{which}"))?;
            let &[_, width] = shape.as_slice() else { return Err(format!("{which} has shape {shape:?}")) };
            Ok(State { width, values })
        };
        let (base, arm, control) = (state("base")?, state("arm")?, state("control")?);
        let groups: Vec<usize> = i64s(&file, &format!("{name}.group"))?.1.into_iter().map(|g| g as usize).collect();
        for form in [Form::Features, Form::Gram] {
            let place = format!("{name}, {form:?}");
            let (with, without) =
                (jackknifed(&base, &arm, &groups, form)?, jackknifed(&base, &control, &groups, form)?);
            let difference = with.less(&without).map_err(text)?;
            let sizes = values(case, "group_sizes")?;
            check.exact(
                sizes.iter().map(|m| *m as u64).eq(difference.sizes().iter().copied()),
                &format!("groups of {place}"),
            )?;
            let error = |of: &Jackknifed| of.standard_error().unwrap_or(f64::NAN);
            for (field, found) in [
                ("cka_base_arm", with.value()),
                ("cka_base_control", without.value()),
                ("difference_arm_minus_control", difference.value()),
                ("bias_corrected_difference", difference.bias_corrected().unwrap_or(f64::NAN)),
                ("standard_error", error(&difference)),
                ("standard_error_base_arm", error(&with)),
                ("standard_error_base_control", error(&without)),
            ] {
                check.near(found, number(case, field)?, CKA, &format!("{field} of {place}"));
            }
            for (field, found) in [
                ("cka_base_arm_without_group", &with),
                ("cka_base_control_without_group", &without),
                ("difference_without_group", &difference),
            ] {
                for (found, truth) in found.without().iter().zip(values(case, field)?) {
                    check.near(*found, truth, CKA, &format!("{field} of {place}"));
                }
            }
            interval(&mut check, difference.interval(0.95), case, "ci95", CKA, &place)?;
        }
    }
    Ok(check)
}

/// Debiased CKA of two states, row by row in the file's order, so that a group's rows come apart.
fn jackknifed(left: &State, right: &State, groups: &[usize], form: Form) -> Result<Jackknifed, String> {
    let layer = |state: &State| Layer::new("state", state.width);
    let count = groups.iter().max().map_or(1, |most| most + 1);
    let options = SumOptions { form, groups: count, ..SumOptions::default() };
    let mut sums = Accumulator::<f64>::new(&[layer(left)], &[layer(right)], options).map_err(text)?;
    for (row, group) in groups.iter().enumerate() {
        let side = |state: &State| {
            let values = state.values[row * state.width..(row + 1) * state.width].to_vec();
            Activations::new(row as u64, vec![LayerValues { layer: layer(state), values }])
        };
        sums.push(&side(left), &side(right), *group).map_err(text)?;
    }
    sums.finish().jackknifed(0, 0).cloned().ok_or_else(|| "no jackknife".to_owned())
}
