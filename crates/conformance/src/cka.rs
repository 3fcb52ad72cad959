//! CKA: pairs of activation matrices, and layer × layer matrices of stored states, by every path there is.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use fused_ops::FusedOps;
use gptneox_model::{Site, load_pretrained};
use metrics_cka::{
    Accumulator, Activations, Cell, CkaOptions, Device, Form, Host, Layer, LayerValues, Matrix, Products, Real,
    Recorder, SumOptions, Treatment, compare,
};
use safetensors::SafeTensors;

use crate::fixture::{bytes, floats, i64s, json, number};
use crate::{Check, Line, line};

/// In f64, and from stored f32 states with sums in f32.
const EXACT: f64 = 1e-9;
const SINGLE: f64 = 1e-4;
/// From states of the project's own forward pass.
const OWN: f64 = 2e-4;
/// Examples of a batch, few enough that fixtures come in several.
const BATCH: usize = 16;

/// On this machine's cores, and with products on a backend's device.
pub(super) fn lines<B: FusedOps>(dir: &Path) -> Vec<Line> {
    let folder = dir.join("cka");
    let device: OnDevice = Arc::new(Device::<B>::with_product(Default::default(), fused_ops::transposed_product));
    let stored = layers(&folder, |left, right| paths(left, right, &device), states);
    let mut out = vec![line("cka/expected.json", cases(&folder, &device)), line("cka/layer_matrices.json", stored)];
    // Where the models are at hand: states of this project's own forward pass, through its observer.
    let expected = json(&folder.join("layer_matrices.json")).unwrap_or_default();
    let model = |letter: &str| dir.join("models").join(expected[format!("model_{letter}")].as_str().unwrap_or("?"));
    if model("a").is_dir() && model("b").is_dir() {
        let own = layers(
            &folder,
            |left, right| {
                Ok(vec![("own states".to_owned(), OWN, streamed::<f32>(left, right, Form::Features, Arc::new(Host))?)])
            },
            |file, letter, pooling| own_states::<B>(file, &model(letter), pooling),
        );
        out.push(line("cka/layer_matrices.json, own states", own));
    }
    out
}

type OnDevice = Arc<dyn Products<f32>>;

/// Examples by features.
struct Features {
    width: usize,
    values: Vec<f64>,
}

impl Features {
    fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    fn batch<T: Real>(&self, name: &str, from: usize) -> LayerValues<T> {
        let to = (from + BATCH).min(self.rows());
        let values = self.values[from * self.width..to * self.width].iter().map(|v| T::from_f64(*v)).collect();
        LayerValues { layer: Layer::new(name, self.width), values }
    }
}

fn name(i: usize) -> String {
    format!("state.{i}")
}

fn activations<T: Real>(states: &[Features], from: usize) -> Activations<T> {
    Activations::new(from as u64, states.iter().enumerate().map(|(i, s)| s.batch(&name(i), from)).collect())
}

fn layout(states: &[Features]) -> Vec<Layer> {
    states.iter().enumerate().map(|(i, s)| Layer::new(name(i), s.width)).collect()
}

/// Streamed in batches.
fn streamed<T: Real>(
    left: &[Features],
    right: &[Features],
    form: Form,
    products: Arc<dyn Products<T>>,
) -> Result<Matrix, String> {
    let options = SumOptions { form, chunk: 64, products, ..SumOptions::default() };
    let mut sums = Accumulator::<T>::new(&layout(left), &layout(right), options).map_err(|e| e.to_string())?;
    for from in (0..left[0].rows()).step_by(BATCH) {
        sums.push(&activations(left, from), &activations(right, from), 0).map_err(|e| e.to_string())?;
    }
    Ok(sums.finish())
}

/// Every path, with its tolerance.
fn paths(left: &[Features], right: &[Features], device: &OnDevice) -> Result<Vec<(String, f64, Matrix)>, String> {
    let mut out = Vec::new();
    for form in [Form::Features, Form::Gram] {
        out.push((format!("f64 {form:?}"), EXACT, streamed::<f64>(left, right, form, Arc::new(Host))?));
        out.push((format!("f32 {form:?}"), SINGLE, streamed::<f32>(left, right, form, Arc::new(Host))?));
    }
    out.push(("device".to_owned(), SINGLE, streamed::<f32>(left, right, Form::Features, device.clone())?));
    Ok(out)
}

/// A value, or a reason where the reference has no number.
fn compare_cell(
    check: &mut Check,
    cell: Cell,
    truth: Result<f64, String>,
    tolerance: f64,
    place: &str,
) -> Result<(), String> {
    match truth {
        Ok(truth) if !truth.is_nan() => {
            check.near(cell.value, truth, tolerance, place);
            Ok(())
        }
        _ => check.exact(cell.value.is_nan() && cell.reason.is_some(), &format!("{place} has a reason")),
    }
}

fn cases(folder: &Path, device: &OnDevice) -> Result<Check, String> {
    let mut check = Check::new();
    let data = bytes(&folder.join("cases.safetensors"))?;
    let file = SafeTensors::deserialize(&data).map_err(|e| e.to_string())?;
    let features = |name: String| -> Result<Features, String> {
        let (shape, values) = floats(&file, &name)?;
        let &[_, width] = shape.as_slice() else { return Err(format!("{name} has shape {shape:?}")) };
        Ok(Features { width, values })
    };
    for (name, case) in json(&folder.join("expected.json"))?.as_object().into_iter().flatten() {
        let (x, y) = ([features(format!("{name}.x"))?], [features(format!("{name}.y"))?]);
        for (path, tolerance, m) in paths(&x, &y, device)? {
            for (form, cell) in [("biased", m.biased[0][0]), ("debiased", m.debiased[0][0])] {
                compare_cell(&mut check, cell, number(case, form), tolerance, &format!("{form} of {name}, {path}"))?;
            }
        }
        if let Some(truth) = case["biased_after_unit_variance"].as_f64() {
            let options = CkaOptions { treatments: vec![Treatment::Standardised], groups: 1, ..CkaOptions::default() };
            let report = compare(&layout(&x), &layout(&y), options, |receive| {
                let mut starts = (0..x[0].rows()).step_by(BATCH);
                starts.try_for_each(|from| receive(&activations::<f64>(&x, from), &activations(&y, from), 0))
            });
            let report: Result<_, metrics_cka::Error> = report;
            let found = report.map_err(|e| e.to_string())?.results[0].matrix.biased[0][0].value;
            check.near(found, truth, EXACT, &format!("biased of standardised {name}"));
        }
    }
    Ok(check)
}

/// Matrices by name, path by path, from states that `states` gives for (file, model, pooling).
fn layers(
    folder: &Path,
    compared: impl Fn(&[Features], &[Features]) -> Result<Vec<(String, f64, Matrix)>, String>,
    states: impl Fn(&SafeTensors<'_>, &str, &str) -> Result<Vec<Features>, String>,
) -> Result<Check, String> {
    let mut check = Check::new();
    let data = bytes(&folder.join("layer_states.safetensors"))?;
    let file = SafeTensors::deserialize(&data).map_err(|e| e.to_string())?;
    let expected = json(&folder.join("layer_matrices.json"))?;
    for (name, case) in expected.as_object().into_iter().flatten().filter(|(_, case)| case.is_object()) {
        let (pooling, pair) = name.split_once('.').ok_or("names are pooling.pair")?;
        let (left, right) = pair.split_once('_').ok_or("pairs are two models")?;
        let (left, right) = (states(&file, left, pooling)?, states(&file, right, pooling)?);
        for (path, tolerance, m) in compared(&left, &right)? {
            for (form, found) in [("biased", &m.biased), ("debiased", &m.debiased)] {
                let rows = case[form].as_array().ok_or("a matrix is a list of rows")?;
                if rows.len() != found.len() {
                    return Err(format!("{name}: {} rows for {} states", rows.len(), found.len()));
                }
                for (i, (row, found)) in rows.iter().zip(found).enumerate() {
                    for (j, (truth, cell)) in row.as_array().into_iter().flatten().zip(found).enumerate() {
                        let truth = truth.as_f64().ok_or_else(|| format!("{name} [{i}, {j}] is no number"));
                        let place = format!("{form} {name} [{i}, {j}], {path}");
                        compare_cell(&mut check, *cell, truth, tolerance, &place)?;
                    }
                }
            }
        }
    }
    Ok(check)
}

/// All states of a model in the matrices' order, pooled to `[n, p]`.
fn states(file: &SafeTensors<'_>, model: &str, pooling: &str) -> Result<Vec<Features>, String> {
    let names = file.names();
    let numbered = (0..).map(|i| format!("{model}.hidden_states.{i}")).take_while(|n| names.contains(&n.as_str()));
    let mut order: Vec<String> = numbered.collect();
    order.push(format!("{model}.last_layer_output_before_final_norm"));
    order.iter().map(|name| pooled(floats(file, name)?, pooling)).collect()
}

/// The same from the model itself, on the fixture's inputs.
fn own_states<B: FusedOps>(file: &SafeTensors<'_>, dir: &Path, pooling: &str) -> Result<Vec<Features>, String> {
    let model = load_pretrained::<B>(dir, &Default::default()).map_err(|e| e.to_string())?;
    let (shape, ids) = i64s(file, "input_ids")?;
    let &[rows, time] = shape.as_slice() else { return Err(format!("input_ids has shape {shape:?}")) };
    let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
    let mut recorder = Recorder::new(&ids);
    let input = Tensor::<B, 2, Int>::from_data(TensorData::new(ids, [rows, time]), &Default::default());
    model.hidden(input, &mut |site: Site, hidden: &Tensor<B, 2>| recorder.record(site, hidden));
    let mut layers = recorder.finish().layers;
    // The matrices' last two states are the final norm's output, then the last block's.
    let last = layers.len() - 1;
    layers.swap(last - 1, last);
    let state = |l: LayerValues<f32>| {
        let shape = vec![rows, time, l.layer.width];
        pooled((shape, l.values.into_iter().map(f64::from).collect()), pooling)
    };
    layers.into_iter().map(state).collect()
}

fn pooled((shape, values): (Vec<usize>, Vec<f64>), pooling: &str) -> Result<Features, String> {
    let &[_, t, width] = shape.as_slice() else { return Err(format!("a state has shape {shape:?}")) };
    let rows = values.chunks_exact(t * width);
    let values = match pooling {
        "all_positions" => values.clone(),
        "mean_over_positions" => {
            let mean = |row: &[f64], c: usize| row.iter().skip(c).step_by(width).sum::<f64>() / t as f64;
            rows.flat_map(|row| (0..width).map(move |c| mean(row, c))).collect()
        }
        "last_position" => rows.flat_map(|row| &row[(t - 1) * width..]).copied().collect(),
        other => return Err(format!("unknown pooling {other}")),
    };
    Ok(Features { width, values })
}
