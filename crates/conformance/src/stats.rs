//! Correlations, summaries, paired tests, bootstraps.

use std::path::Path;

use forgetting_eval::{
    Block, Error, Paired, Summary, pearson, pearson_within_blocks, percentile_interval, spearman, t_quantile,
    t_two_sided_p,
};
use serde_json::Value;

use crate::fixture::{json, list, number, pair, values};
use crate::{Check, Line, line};

const EXACT: f64 = 1e-12;
const P: f64 = 1e-6;

pub(super) fn lines(folder: &Path) -> Vec<Line> {
    let result = json(&folder.join("expected.json")).and_then(|expected| {
        let mut check = Check::new();
        correlations(&mut check, &expected["correlation"])?;
        samples(&mut check, &expected)?;
        bootstraps(&mut check, &expected)?;
        within_blocks(&mut check, &expected["blockwise_z"])?;
        distribution(&mut check, &expected)?;
        Ok(check)
    });
    vec![line("stats/expected.json", result)]
}

/// A p-value, relative to itself (SciPy's underflow to 0 included).
fn near_p(check: &mut Check, found: f64, expected: f64, place: &str) {
    let scale = if expected == 0.0 { 1e-300 } else { expected };
    check.near(found / scale, expected / scale, P, place);
}

fn correlations(check: &mut Check, cases: &Value) -> Result<(), String> {
    for (name, case) in cases.as_object().into_iter().flatten() {
        let (x, y) = (values(case, "x")?, values(case, "y")?);
        let place = format!("correlation {name}");
        if case["warnings"].as_array().is_some_and(|w| !w.is_empty()) {
            let refused = matches!(pearson(&x, &y), Err(Error::Constant { .. }));
            check.exact(refused, &format!("{place} is an error"))?;
            continue;
        }
        let found = pearson(&x, &y).map_err(|e| format!("{place}: {e}"))?;
        check.near(found.r, number(case, "r")?, if name == "large_offset" { 1e-6 } else { EXACT }, &place);
        if name != "large_offset" {
            near_p(check, found.p, number(case, "p_two_sided")?, &format!("p of {place}"));
            if let Ok((low, high)) = pair(case, "fisher_ci95") {
                let found = found.interval(0.95).ok_or_else(|| format!("{place} has no interval"))?;
                check.near(found.0, low, EXACT, &format!("interval of {place}"));
                check.near(found.1, high, EXACT, &format!("interval of {place}"));
            }
        }
        let ranked = spearman(&x, &y).map_err(|e| format!("{place}: {e}"))?;
        check.near(ranked.rho, number(case, "spearman_rho")?, EXACT, &format!("Spearman of {place}"));
        near_p(check, ranked.p, number(case, "spearman_p_two_sided")?, &format!("Spearman's p of {place}"));
    }
    Ok(())
}

fn samples(check: &mut Check, expected: &Value) -> Result<(), String> {
    for case in list(expected, "five_seeds")? {
        let s = Summary::of(&values(case, "values")?);
        check.near(s.mean, number(case, "mean")?, EXACT, "mean of five seeds");
        check.near(s.sd.unwrap_or(f64::NAN), number(case, "std_ddof1")?, EXACT, "their deviation");
        check.near(s.standard_error().unwrap_or(f64::NAN), number(case, "sem")?, EXACT, "their standard error");
        let (low, high) = pair(case, "ci95")?;
        let found = s.interval(0.95).ok_or("five seeds have no interval")?;
        check.near(found.0, low, EXACT, "their interval");
        check.near(found.1, high, EXACT, "their interval");
    }
    for case in list(expected, "paired_t")? {
        let paired = Paired::of(&values(case, "a")?, &values(case, "b")?).map_err(|e| e.to_string())?.summary;
        let (t, p) = paired.t_test().ok_or("no paired t")?;
        check.near(paired.mean, number(case, "mean_difference_a_minus_b")?, EXACT, "paired difference");
        // t itself has no stated tolerance: relative, since it is a ratio.
        check.near(t / number(case, "t")?, 1.0, 1e-10, "paired t");
        near_p(check, p, number(case, "p_two_sided")?, "p of the paired t");
        let (low, high) = pair(case, "ci95_of_difference")?;
        let found = paired.interval(0.95).ok_or("no interval of a paired difference")?;
        check.near(found.0, low, EXACT, "interval of a paired difference");
        check.near(found.1, high, EXACT, "interval of a paired difference");
    }
    Ok(())
}

fn bootstraps(check: &mut Check, expected: &Value) -> Result<(), String> {
    for case in list(expected, "bootstrap")? {
        let (x, y) = (values(case, "x")?, values(case, "y")?);
        let (mut means, mut correlations) = (Vec::new(), Vec::new());
        for draw in list(case, "indices")? {
            let draw: Vec<usize> =
                draw.as_array().into_iter().flatten().filter_map(|i| Some(i.as_u64()? as usize)).collect();
            let of = |v: &[f64]| draw.iter().map(|i| v[*i]).collect::<Vec<f64>>();
            means.push(Summary::of(&of(&x)).mean);
            if !case["pearson_ci95"].is_null() {
                correlations.push(pearson(&of(&x), &of(&y)).map_err(|e| e.to_string())?.r);
            }
        }
        for (found, first, ci, what) in [
            (&means, "mean_resamples_first5", "mean_ci95", "bootstrap mean"),
            (&correlations, "pearson_resamples_first5", "pearson_ci95", "bootstrap correlation"),
        ] {
            if found.is_empty() {
                continue;
            }
            for (found, expected) in found.iter().zip(values(case, first)?) {
                check.near(*found, expected, EXACT, what);
            }
            let (low, high) = pair(case, ci)?;
            let found = percentile_interval(found, 0.95).map_err(|e| e.to_string())?;
            check.near(found.0, low, EXACT, &format!("{what}'s interval"));
            check.near(found.1, high, EXACT, &format!("{what}'s interval"));
        }
    }
    Ok(())
}

fn within_blocks(check: &mut Check, case: &Value) -> Result<(), String> {
    let blocks = list(case, "blocks")?
        .iter()
        .map(|b| Ok(Block { x: values(b, "u")?, y: values(b, "v")? }))
        .collect::<Result<Vec<_>, String>>()?;
    let found = pearson_within_blocks(&blocks).map_err(|e| e.to_string())?;
    check.near(found.r, number(case, "r")?, EXACT, "correlation within blocks");
    near_p(check, found.p, number(case, "p_two_sided")?, "p of the correlation within blocks");
    check.exact(found.n as f64 == number(case, "n")?, "pairs of the correlation within blocks")
}

fn distribution(check: &mut Check, expected: &Value) -> Result<(), String> {
    for (df, t) in expected["t_quantiles_0.975"].as_object().into_iter().flatten() {
        let df: f64 = df.parse().map_err(|_| format!("df = {df}"))?;
        let t = t.as_f64().ok_or("a quantile that is no number")?;
        check.near(t_quantile(0.975, df), t, EXACT * t.max(1.0), "t quantile");
    }
    for case in list(expected, "t_two_sided_p")? {
        let found = t_two_sided_p(number(case, "t")?, number(case, "df")?);
        near_p(check, found, number(case, "p")?, "p of t");
    }
    Ok(())
}
