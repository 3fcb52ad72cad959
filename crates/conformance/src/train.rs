//! Training: learning-rate curves and 20-step trajectories with accumulation and masked targets.

use std::path::Path;

use data_mixer::Batch;
use fused_ops::TrainingBackend;
use gptneox_model::{export_parameters, load_pretrained};
use safetensors::SafeTensors;
use schedule::{Convention, LrSpec, Step};
use serde_json::Value;
use trainer::{AdamWSpec, DecayGroup, ParameterGroup, TrainSpec, Trainer};

use crate::fixture::{bytes, f32s, i64s, json, list, number};
use crate::{Check, Line, line, unsupported};

pub(super) fn schedules(folder: &Path) -> Vec<Line> {
    let path = folder.join("lr_schedule.json");
    if !path.exists() {
        return Vec::new();
    }
    let check = || -> Result<Check, String> {
        let mut check = Check::new();
        for table in json(&path)?.as_array().into_iter().flatten() {
            let whole = |field: &str| number(table, field).map(|v| v as u64);
            let (total, warmup) = (whole("total_steps")?, whole("warmup_steps")?);
            let (peak, min) = (number(table, "peak")?, number(table, "min")?);
            for row in list(table, "rows")? {
                let step = Step(number(row, "step")? as u64);
                for column in row.as_object().into_iter().flat_map(|r| r.keys()).filter(|k| *k != "step") {
                    let convention = match column.as_str() {
                        "hf_cosine_with_min_lr" => Convention::CosineWithMinLr,
                        "hf_cosine_warmup_with_min_lr" => Convention::CosineWarmupWithMinLr,
                        other => {
                            let g = other.strip_prefix("litgpt_accum").and_then(|g| g.parse().ok());
                            let accumulation = g.ok_or_else(|| format!("unknown convention {other}"))?;
                            Convention::Litgpt { accumulation }
                        }
                    };
                    // Beyond the end the reference rises again where ours, by design, stays at the minimum.
                    if step.0 >= total && convention == Convention::CosineWarmupWithMinLr {
                        continue;
                    }
                    let (warmup, total) = (warmup.into(), total.into());
                    let lr = LrSpec::Cosine { peak, min, warmup, total, convention };
                    let found = lr.build().map_err(|e| e.to_string())?.at(step);
                    let truth = number(row, column)?;
                    check.near(found, truth, 1e-12 * truth, &format!("{column} at step {step}"));
                }
            }
        }
        Ok(check)
    };
    vec![line("train/lr_schedule.json", check())]
}

/// Files that hold runs.
const RUNS: [&str; 3] = ["trajectory.json", "groups.json", "ignored_targets.json"];
/// Runs of optimisers and curves that this project does not have yet.
const LATER: [(&str, &str); 2] = [("muon.json", "Muon"), ("wsd_branch.json", "branches of a stable rate")];

pub(super) fn trajectories<AB: TrainingBackend>(dir: &Path) -> Vec<Line> {
    let mut lines = Vec::new();
    for file in RUNS {
        let path = dir.join("train").join(file);
        if !path.exists() {
            continue;
        }
        match json(&path) {
            Ok(spec) => {
                let runs = spec["runs"].as_object().cloned().unwrap_or_default();
                lines.extend(runs.iter().map(|(name, run)| {
                    line(format!("train/{name}.safetensors"), trajectory::<AB>(dir, &spec, name, run))
                }));
            }
            Err(e) => lines.push(line(format!("train/{file}"), Err(e))),
        }
    }
    for (file, what) in LATER {
        if dir.join("train").join(file).exists() {
            lines.push(unsupported(&format!("train/{file}"), &format!("{what} are not there yet")));
        }
    }
    lines
}

/// The global batch of each step: the rows of its micro-batches, one after the other.
fn batches(file: &SafeTensors<'_>) -> Result<Vec<Batch>, String> {
    let mut parts = Vec::new();
    if file.names().contains(&"input_ids") {
        parts.push((i64s(file, "input_ids")?, i64s(file, "labels")?.1));
    }
    for i in 0.. {
        if !file.names().contains(&format!("micro{i}.input_ids").as_str()) {
            break;
        }
        parts.push((i64s(file, &format!("micro{i}.input_ids"))?, i64s(file, &format!("micro{i}.labels"))?.1));
    }
    let steps = parts.first().map_or(0, |((shape, _), _)| shape[0]);
    (0..steps)
        .map(|step| {
            let (mut inputs, mut targets, mut time) = (Vec::new(), Vec::new(), 1);
            for ((shape, ids), labels) in &parts {
                let per_step: usize = shape[1..].iter().product();
                time = shape[shape.len() - 1];
                let slice = step * per_step..(step + 1) * per_step;
                inputs.extend(ids[slice.clone()].iter().map(|id| *id as i32));
                // What the labels say, their own mark for what is not predicted included.
                let labels = &labels[slice];
                targets
                    .extend((0..labels.len()).map(|i| if i % time == time - 1 { -100 } else { labels[i + 1] as i32 }));
            }
            let rows = inputs.len() / time;
            Batch::new(time, inputs, targets, vec![0; rows]).map_err(|e| e.to_string())
        })
        .collect()
}

/// Groups of parameters by their names.
fn groups(run: &Value) -> Result<Vec<ParameterGroup>, String> {
    let of = |group: &Value| {
        Ok(ParameterGroup {
            names: list(group, "parameters")?.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect(),
            weight_decay: number(group, "weight_decay")?,
            lr_ratio: number(group, "lr_ratio")?,
        })
    };
    run["groups"].as_array().into_iter().flatten().map(of).collect()
}

fn trajectory<AB: TrainingBackend>(dir: &Path, spec: &Value, name: &str, run: &Value) -> Result<Check, String> {
    let mut check = Check::new();
    let data = spec["batches"].as_str().unwrap_or("batches.safetensors");
    let data = bytes(&dir.join("train").join(data))?;
    let batches = batches(&SafeTensors::deserialize(&data).map_err(|e| e.to_string())?)?;
    let first = batches.first().ok_or("no batches")?;
    let (rows, time) = (first.rows(), first.time());
    let accumulation = number(spec, "accumulation")? as u64;
    let convention =
        if name.ends_with("microstep") { Convention::Litgpt { accumulation } } else { Convention::CosineWithMinLr };
    let betas = list(spec, "betas")?;
    let beta = |i: usize| betas.get(i).and_then(Value::as_f64).ok_or("betas are two numbers");
    let recipe = TrainSpec {
        lr: LrSpec::Cosine {
            peak: number(spec, "peak_lr")?,
            min: number(spec, "min_lr")?,
            warmup: (number(spec, "warmup_steps")? as u64).into(),
            total: (number(spec, "total_steps")? as u64).into(),
            convention,
        },
        optimizer: AdamWSpec {
            beta1: beta(0)?,
            beta2: beta(1)?,
            eps: number(spec, "eps")?,
            weight_decay: number(spec, "weight_decay")?,
            decay: if name.starts_with("wd_2d") { DecayGroup::Matrices } else { DecayGroup::All },
            groups: groups(run)?,
        },
        clip: number(spec, "clip_global_norm")?,
        // One micro-batch of the fixture at a time; of those whose rows differ in number, as many rows as fit evenly.
        micro_tokens: rows / accumulation as usize * time,
        max_skipped: 0,
        ..TrainSpec::new(LrSpec::constant(0.0))
    };
    let device = Default::default();
    let model = dir.join("models").join(spec["model"].as_str().unwrap_or_default());
    let model = load_pretrained::<AB>(&model, &device).map_err(|e| e.to_string())?;
    let mut trainer = Trainer::new(model, recipe, &device).map_err(|e| e.to_string())?;
    let data = bytes(&dir.join(format!("train/{name}.safetensors")))?;
    let expected = SafeTensors::deserialize(&data).map_err(|e| e.to_string())?;
    for (i, (truth, batch)) in list(run, "steps")?.iter().zip(&batches).enumerate() {
        if let Ok(targets) = list(truth, "targets_per_microbatch") {
            let targets: u64 = targets.iter().filter_map(Value::as_u64).sum();
            check.exact(targets == batch.target_count() as u64, &format!("targets of step {i}"))?;
        }
        let record = trainer.step(batch).map_err(|e| e.to_string())?;
        check.near(record.loss, number(truth, "loss")?, 2e-5, &format!("loss of step {i}"));
        let norm = number(truth, "grad_norm_before_clip")?;
        check.near(record.grad_norm, norm, 2e-5 * norm, &format!("gradient norm of step {i}"));
        let lr = number(truth, "lr")?;
        check.near(record.lr, lr, 1e-12 * lr, &format!("learning rate of step {i}"));
        if let Ok(truth) = number(truth, "lr_of_the_group_without_decay") {
            let ratio =
                trainer.spec().optimizer.groups.iter().find(|g| g.weight_decay == 0.0).map_or(1.0, |g| g.lr_ratio);
            check.near(
                record.lr * ratio,
                truth,
                1e-12 * truth,
                &format!("rate of the group without decay in step {i}"),
            );
        }
        if i == 1 {
            parameters(&mut check, &trainer, &expected, "after_step_1", spec)?;
        }
    }
    parameters(&mut check, &trainer, &expected, "final", spec)?;
    Ok(check)
}

/// All entries within 1e-4, and 99.9 % of them within 1e-5, without the idle key biases.
fn parameters<AB: TrainingBackend>(
    check: &mut Check,
    trainer: &Trainer<AB>,
    expected: &SafeTensors<'_>,
    prefix: &str,
    spec: &Value,
) -> Result<(), String> {
    let idle: Vec<usize> =
        list(spec, "qkv_bias_entries_not_to_compare")?.iter().filter_map(|v| v.as_u64().map(|v| v as usize)).collect();
    let (mut far, mut all) = (0u64, 0u64);
    for parameter in export_parameters(trainer.model()) {
        let name = format!("{prefix}.{}", parameter.name);
        let truth = f32s(expected, &name)?;
        let skip = |i: &usize| parameter.name.ends_with("query_key_value.bias") && idle.contains(i);
        for i in (0..truth.len()).filter(|i| !skip(i)) {
            let (a, b) = (f64::from(parameter.values[i]), f64::from(truth[i]));
            check.near(a, b, 1e-4, &name);
            far += u64::from((a - b).abs() > 1e-5);
            all += 1;
        }
    }
    check.near(far as f64 / all as f64, 0.0, 1e-3, &format!("share of {prefix} beyond 1e-5"));
    Ok(())
}
