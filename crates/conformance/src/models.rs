//! Models: logits, hidden states, losses, gradients; greedy continuations.

use std::path::{Path, PathBuf};

use burn::module::AutodiffModule as _;
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use fused_ops::{FusedOps, Precision, TrainingBackend};
use gptneox_model::{
    Checkpoint, Continuation, Ending, GptNeoX, GptNeoXConfig, Site, export_gradients, load_pretrained, parse_config,
};
use safetensors::SafeTensors;

use crate::fixture::{bytes, f32s, i64s, ids, json, list, number};
use crate::{Check, Line, line};

const STATE: f64 = 5e-5;
const MEAN_LOSS: f64 = 1e-5;
const NORM: f64 = 2e-5;
/// Two bf16 implementations differ from each other about as much as each from f32.
const BF16_LARGEST: f64 = 0.15;
const BF16_RMS: f64 = 2e-2;
const BF16_LOSS: f64 = 5e-3;

pub(super) fn lines<AB: TrainingBackend>(folder: &Path) -> Vec<Line> {
    fixtures(folder)
        .iter()
        .flat_map(|dir| {
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            let tensors = line(format!("models/{name}/expected.safetensors"), states::<AB>(dir));
            let scalars = line(format!("models/{name}/expected.json"), losses::<AB>(dir));
            let mut lines = vec![tensors, scalars];
            for other in spellings(dir) {
                let file = other.file_name().unwrap_or_default().to_string_lossy();
                lines.push(line(format!("models/{name}/{file}"), same_config(dir, &other)));
            }
            if dir.join("generate.json").exists() {
                lines.push(line(format!("models/{name}/generate.json"), ended::<AB>(dir)));
            }
            lines
        })
        .collect()
}

/// Other ways to write the same configuration.
fn spellings(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("config.") && name != "config.json" && name.ends_with(".json")
    });
    found.sort();
    found
}

fn fixtures(folder: &Path) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    dirs.retain(|d| d.join("expected.safetensors").exists());
    dirs.sort();
    dirs
}

/// The same models with products in bf16, beside the logits and losses of f32.
pub(super) fn low_precision_lines<AB: TrainingBackend>(folder: &Path) -> Vec<Line> {
    let name = |dir: &Path| format!("models/{}/logits, bf16", dir.file_name().unwrap_or_default().to_string_lossy());
    fixtures(folder).iter().map(|dir| line(name(dir), low_precision::<AB>(dir))).collect()
}

fn low_precision<AB: TrainingBackend>(dir: &Path) -> Result<Check, String> {
    let mut check = Check::new();
    let data = bytes(&dir.join("expected.safetensors"))?;
    let file = SafeTensors::deserialize(&data).map_err(|e| e.to_string())?;
    let model =
        midtrain::load_model::<AB>(dir, Precision::Bf16, &Default::default()).map_err(|e| e.to_string())?.valid();
    let (shape, ids) = i64s(&file, "input_ids")?;
    let (rows, time) = (shape[0], shape[1]);
    let truth = f32s(&file, "logits")?;
    let logits = values(model.logits(tensor(ids.clone(), rows)))?;
    check.all_near(&logits, &truth, BF16_LARGEST, "logits, largest difference")?;
    let squares: f64 = logits.iter().zip(&truth).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    check.near((squares / truth.len() as f64).sqrt(), 0.0, BF16_RMS, "logits, root mean square");
    if let Ok(mean) = json(&dir.join("expected.json")).and_then(|e| number(&e, "mean_loss")) {
        let targets = shifted(&ids, time);
        let count = targets.iter().filter(|t| **t >= 0).count();
        let losses = values(model.token_losses(tensor(ids, rows), tensor(targets, rows)))?;
        let found = losses.iter().map(|l| f64::from(*l)).sum::<f64>() / count as f64;
        check.near(found, mean, BF16_LOSS, "mean loss");
    }
    Ok(check)
}

fn config(path: &Path) -> Result<GptNeoXConfig, String> {
    parse_config(&json(path)?).map_err(|e| format!("{}: {e}", path.display()))
}

fn same_config(dir: &Path, legacy: &Path) -> Result<Check, String> {
    let mut check = Check::new();
    check.exact(config(legacy)? == config(&dir.join("config.json"))?, "the model of config.json")?;
    Ok(check)
}

fn load<AB: TrainingBackend>(dir: &Path) -> Result<GptNeoX<AB>, String> {
    load_pretrained(dir, &Default::default()).map_err(|e| e.to_string())
}

fn tensor<B: FusedOps>(values: Vec<i64>, rows: usize) -> Tensor<B, 2, Int> {
    let time = values.len() / rows.max(1);
    Tensor::from_data(TensorData::new(values, [rows, time]), &Default::default())
}

fn values<B: FusedOps, const D: usize>(t: Tensor<B, D>) -> Result<Vec<f32>, String> {
    t.into_data().convert::<f32>().into_vec().map_err(|e| format!("{e:?}"))
}

/// The targets that Hugging Face's shifted labels mean.
pub(super) fn shifted(labels: &[i64], time: usize) -> Vec<i64> {
    (0..labels.len()).map(|i| if i % time == time - 1 { -1 } else { labels[i + 1].max(-1) }).collect()
}

fn states<AB: TrainingBackend>(dir: &Path) -> Result<Check, String> {
    let mut check = Check::new();
    let data = bytes(&dir.join("expected.safetensors"))?;
    let file = SafeTensors::deserialize(&data).map_err(|e| e.to_string())?;
    let model = load::<AB>(dir)?;
    let (shape, ids) = i64s(&file, "input_ids")?;
    let (rows, time) = (shape[0], shape[1]);
    let plain = model.valid();
    check.all_near(&values(plain.logits(tensor(ids.clone(), rows)))?, &f32s(&file, "logits")?, STATE, "logits")?;
    let names = file.names();
    let layers = plain.config().num_layers;
    let mut seen: Vec<(Site, Vec<f32>)> = Vec::new();
    plain.hidden(tensor(ids.clone(), rows), &mut |site: Site, hidden: &Tensor<AB::InnerBackend, 2>| {
        seen.push((site, values(hidden.clone()).unwrap_or_default()));
    });
    for (site, hidden) in seen {
        let name = match site {
            Site::Embed => "hidden_states.0".to_owned(),
            Site::Block(i) if i + 1 == layers => "last_layer_output_before_final_norm".to_owned(),
            Site::Block(i) => format!("hidden_states.{}", i + 1),
            Site::FinalNorm => format!("hidden_states.{layers}"),
        };
        if names.contains(&name.as_str()) {
            check.all_near(&hidden, &f32s(&file, &name)?, STATE, &name)?;
        }
    }
    // Prefixes of other lengths.
    for part in ["short", "mid"].into_iter().filter(|part| names.contains(&format!("{part}.input_ids").as_str())) {
        let (shape, ids) = i64s(&file, &format!("{part}.input_ids"))?;
        let name = format!("{part}.logits");
        check.all_near(&values(plain.logits(tensor(ids, shape[0])))?, &f32s(&file, &name)?, STATE, &name)?;
    }
    let targets = shifted(&ids, time);
    if names.contains(&"token_loss") {
        let losses = values(plain.token_losses(tensor(ids.clone(), rows), tensor(targets.clone(), rows)))?;
        let kept: Vec<f32> = losses.chunks_exact(time).flat_map(|row| row[..time - 1].iter().copied()).collect();
        check.all_near(&kept, &f32s(&file, "token_loss")?, STATE, "token_loss")?;
    }
    if names.iter().any(|n| n.starts_with("grad.")) {
        let count = targets.iter().filter(|t| **t >= 0).count();
        let loss = model.loss(tensor(ids, rows), tensor(targets, rows), 1.0 / count as f64);
        let grads = GradientsParams::from_grads(loss.scaled_sum.backward(), &model);
        for grad in export_gradients(&model, &grads) {
            let name = format!("grad.{}", grad.name);
            let truth = f32s(&file, &name)?;
            let largest = truth.iter().fold(0f32, |a, v| a.max(v.abs()));
            check.all_near(&grad.values, &truth, 2e-5 * f64::from(largest) + 1e-7, &name)?;
        }
    }
    Ok(check)
}

fn losses<AB: TrainingBackend>(dir: &Path) -> Result<Check, String> {
    let mut check = Check::new();
    let expected = json(&dir.join("expected.json"))?;
    let data = bytes(&dir.join("expected.safetensors"))?;
    let file = SafeTensors::deserialize(&data).map_err(|e| e.to_string())?;
    let model = load::<AB>(dir)?;
    let (shape, ids) = i64s(&file, "input_ids")?;
    let mut one = |labels: &[i64], loss_field: &str, norm_field: Option<&str>| -> Result<(), String> {
        let targets = shifted(labels, shape[1]);
        let count = targets.iter().filter(|t| **t >= 0).count();
        let counted = if loss_field == "mean_loss" { "targets_in_mean" } else { "masked_targets" };
        if let Ok(truth) = number(&expected, counted) {
            check.exact(count as f64 == truth, counted)?;
        }
        let loss = model.loss(tensor(ids.clone(), shape[0]), tensor(targets, shape[0]), 1.0 / count as f64);
        let mean = f64::from(values(loss.scaled_sum.clone())?[0]);
        check.near(mean, number(&expected, loss_field)?, MEAN_LOSS, loss_field);
        if let Some(field) = norm_field {
            let grads = GradientsParams::from_grads(loss.scaled_sum.backward(), &model);
            let squares =
                export_gradients(&model, &grads).into_iter().flat_map(|g| g.values).map(|v| f64::from(v).powi(2));
            let truth = number(&expected, field)?;
            check.near(squares.sum::<f64>().sqrt(), truth, NORM * truth, field);
        }
        Ok(())
    };
    one(&ids, "mean_loss", expected.get("grad_norm").map(|_| "grad_norm"))?;
    if expected.get("masked_mean_loss").is_some() {
        let (_, labels) = i64s(&file, "labels_masked")?;
        one(&labels, "masked_mean_loss", Some("masked_grad_norm"))?;
    }
    if let Ok(frequencies) = crate::fixture::values(&expected, "rotary_inverse_frequencies_f64") {
        let found = model.config().rotary_frequencies(shape[1]);
        check.exact(found.len() == frequencies.len(), "number of rotary frequencies")?;
        for (found, truth) in found.into_iter().zip(frequencies) {
            check.near(f64::from(found), truth, 1e-6 * truth, "rotary frequencies");
        }
    }
    if let Ok(parameters) = number(&expected, "parameters") {
        let count = model.config().parameter_count().total as f64;
        check.near(count, parameters, 0.5, "parameters");
    }
    Ok(check)
}

/// Greedy continuations up to one of several end tokens.
fn ended<AB: TrainingBackend>(dir: &Path) -> Result<Check, String> {
    let mut check = Check::new();
    let expected = json(&dir.join("generate.json"))?;
    let checkpoint = Checkpoint::open(dir).map_err(|e| e.to_string())?;
    let model = checkpoint.model::<AB>(&Default::default()).map_err(|e| e.to_string())?.valid();
    let stop = checkpoint.metadata().end_tokens().unwrap_or_default();
    check.exact(
        ids(&expected["eos_token_id"]) == stop.iter().map(|id| i64::from(*id)).collect::<Vec<_>>(),
        "end tokens",
    )?;
    for (i, case) in list(&expected, "cases")?.iter().enumerate() {
        let prompt: Vec<u32> = ids(&case["prompt"]).into_iter().map(|id| id as u32).collect();
        let count = number(case, "max_new_tokens")? as usize;
        let spec = Continuation { stop: stop.clone(), ..Continuation::greedy(count) };
        let mut generation = model.generate(&prompt, spec).map_err(|e| e.to_string())?;
        let found = generation.by_ref().collect::<Result<Vec<u32>, _>>().map_err(|e| e.to_string())?;
        let found: Vec<i64> = found.into_iter().map(i64::from).collect();
        check.exact(found == ids(&case["new_tokens"]), &format!("continuation of prompt {i}"))?;
        let by = case["stopped_by"].as_u64().map_or(Ending::Count, |id| Ending::Token(id as u32));
        check.exact(generation.ending() == Some(by), &format!("ending of prompt {i}"))?;
    }
    Ok(check)
}

/// Greedy continuations.
pub(super) fn generated<AB: TrainingBackend>(dir: &Path) -> Vec<Line> {
    let check = || -> Result<Check, String> {
        let mut check = Check::new();
        let cases = json(&dir.join("generate/greedy.json"))?;
        for (i, case) in cases.as_array().into_iter().flatten().enumerate() {
            let model = load::<AB>(&dir.join("models").join(case["model"].as_str().unwrap_or_default()))?.valid();
            let prompt: Vec<u32> = ids(&case["prompt"]).into_iter().map(|id| id as u32).collect();
            let expected = ids(&case["new_tokens"]);
            let found = model.generate(&prompt, Continuation::greedy(expected.len())).map_err(|e| e.to_string())?;
            let found = found.collect::<Result<Vec<u32>, _>>().map_err(|e| e.to_string())?;
            let found: Vec<i64> = found.into_iter().map(i64::from).collect();
            check.exact(found == expected, &format!("continuation of prompt {i}"))?;
        }
        Ok(check)
    };
    vec![line("generate/greedy.json", check())]
}
