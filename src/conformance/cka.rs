//! CKA: pairs of activation matrices, and layer × layer matrices of stored states.

use std::path::Path;

use ndarray::{Array2, ArrayView3, Axis};
use safetensors::SafeTensors;

use super::fixture::{bytes, floats, json, number};
use super::{Check, Line, line};

const EXACT: f64 = 1e-9;

pub(super) fn lines(folder: &Path) -> Vec<Line> {
    vec![line("cka/expected.json", cases(folder)), line("cka/layer_matrices.json", layers(folder))]
}

fn cases(folder: &Path) -> Result<Check, String> {
    let mut check = Check::new();
    let data = bytes(&folder.join("cases.safetensors"))?;
    let file = SafeTensors::deserialize(&data).map_err(|e| e.to_string())?;
    let matrix = |name: String| -> Result<Array2<f64>, String> {
        let (shape, values) = floats(&file, &name)?;
        Array2::from_shape_vec((shape[0], shape[1]), values).map_err(|e| e.to_string())
    };
    for (name, case) in json(&folder.join("expected.json"))?.as_object().into_iter().flatten() {
        let (x, y) = (matrix(format!("{name}.x"))?, matrix(format!("{name}.y"))?);
        let forms: [(&str, fn(_, _) -> _); 2] = [("biased", metrics_cka::biased), ("debiased", metrics_cka::debiased)];
        for (form, function) in forms {
            let place = format!("{form} of {name}");
            match (function(x.view(), y.view()), number(case, form)) {
                (Ok(found), Ok(truth)) => check.near(found, truth, EXACT, &place),
                // No value on either side: undefined there, an error here.
                (Err(_), Err(_)) => check.exact(true, &place)?,
                (Err(_), Ok(truth)) => check.exact(truth.is_nan(), &place)?,
                (Ok(found), Err(_)) => return Err(format!("{place}: {found}, but the reference has no value")),
            }
        }
    }
    Ok(check)
}

fn layers(folder: &Path) -> Result<Check, String> {
    let mut check = Check::new();
    let data = bytes(&folder.join("layer_states.safetensors"))?;
    let file = SafeTensors::deserialize(&data).map_err(|e| e.to_string())?;
    let expected = json(&folder.join("layer_matrices.json"))?;
    for (name, case) in expected.as_object().into_iter().flatten().filter(|(_, case)| case.is_object()) {
        let (pooling, pair) = name.split_once('.').ok_or("names are pooling.pair")?;
        let (left, right) = pair.split_once('_').ok_or("pairs are two models")?;
        let (left, right) = (states(&file, left, pooling)?, states(&file, right, pooling)?);
        let forms: [(&str, fn(_, _) -> _); 2] = [("biased", metrics_cka::biased), ("debiased", metrics_cka::debiased)];
        for (form, function) in forms {
            let rows = case[form].as_array().ok_or("a matrix is a list of rows")?;
            if rows.len() != left.len() {
                return Err(format!("{name}: {} rows for {} states", rows.len(), left.len()));
            }
            for (i, (row, x)) in rows.iter().zip(&left).enumerate() {
                for (j, (truth, y)) in row.as_array().into_iter().flatten().zip(&right).enumerate() {
                    let found = function(x.view(), y.view()).map_err(|e| e.to_string())?;
                    let truth = truth.as_f64().unwrap_or(f64::NAN);
                    check.near(found, truth, EXACT, &format!("{form} {name} [{i}, {j}]"));
                }
            }
        }
    }
    Ok(check)
}

/// All states of a model in the matrices' order, pooled to `[n, p]`.
fn states(file: &SafeTensors<'_>, model: &str, pooling: &str) -> Result<Vec<Array2<f64>>, String> {
    let names = file.names();
    let numbered = (0..).map(|i| format!("{model}.hidden_states.{i}")).take_while(|n| names.contains(&n.as_str()));
    let mut order: Vec<String> = numbered.collect();
    order.push(format!("{model}.last_layer_output_before_final_norm"));
    order
        .iter()
        .map(|name| {
            let (shape, values) = floats(file, name)?;
            let (b, t, c) = (shape[0], shape[1], shape[2]);
            let cube = ArrayView3::from_shape((b, t, c), &values).map_err(|e| e.to_string())?;
            match pooling {
                "all_positions" => Array2::from_shape_vec((b * t, c), values.clone()).map_err(|e| e.to_string()),
                "mean_over_positions" => cube.mean_axis(Axis(1)).ok_or_else(|| "no positions".to_owned()),
                "last_position" => Ok(cube.index_axis(Axis(1), t - 1).to_owned()),
                other => Err(format!("unknown pooling {other}")),
            }
        })
        .collect()
}
