//! Training: learning-rate curves and 20-step trajectories with accumulation and masked targets.

use std::path::Path;

use data_mixer::Batch;
use fused_ops::TrainingBackend;
use gptneox_model::{export_parameters, load_pretrained};
use safetensors::SafeTensors;
use schedule::{Convention, LrSpec, Step};
use serde_json::Value;
use trainer::{AdamWSpec, DecayGroup, TrainSpec, Trainer};

use crate::fixture::{bytes, f32s, i64s, json, list, number};
use crate::models::shifted;
use crate::{Check, Line, line};

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

pub(super) fn trajectories<AB: TrainingBackend>(dir: &Path) -> Vec<Line> {
    let path = dir.join("train/trajectory.json");
    if !path.exists() {
        return Vec::new();
    }
    let spec = match json(&path) {
        Ok(spec) => spec,
        Err(e) => return vec![line("train/trajectory.json", Err(e))],
    };
    let runs = spec["runs"].as_object().cloned().unwrap_or_default();
    runs.iter()
        .map(|(name, run)| line(format!("train/{name}.safetensors"), trajectory::<AB>(dir, &spec, name, run)))
        .collect()
}

fn trajectory<AB: TrainingBackend>(dir: &Path, spec: &Value, name: &str, run: &Value) -> Result<Check, String> {
    let mut check = Check::new();
    let data = bytes(&dir.join("train/batches.safetensors"))?;
    let batches = SafeTensors::deserialize(&data).map_err(|e| e.to_string())?;
    let (shape, ids) = i64s(&batches, "input_ids")?;
    let (_, labels) = i64s(&batches, "labels")?;
    let (micro, rows, time) = (shape[1], shape[2], shape[3]);
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
        },
        clip: number(spec, "clip_global_norm")?,
        // One micro-batch of the fixture at a time.
        micro_tokens: rows * time,
        max_skipped: 0,
        ..TrainSpec::new(LrSpec::constant(0.0))
    };
    let device = Default::default();
    let model = dir.join("models").join(spec["model"].as_str().unwrap_or_default());
    let model = load_pretrained::<AB>(&model, &device).map_err(|e| e.to_string())?;
    let mut trainer = Trainer::new(model, recipe, &device).map_err(|e| e.to_string())?;
    let data = bytes(&dir.join(format!("train/{name}.safetensors")))?;
    let expected = SafeTensors::deserialize(&data).map_err(|e| e.to_string())?;
    let per_step = micro * rows * time;
    for (i, truth) in list(run, "steps")?.iter().enumerate() {
        let slice = i * per_step..(i + 1) * per_step;
        let as_i32 = |values: &[i64]| values.iter().map(|v| *v as i32).collect::<Vec<_>>();
        let batch = Batch {
            time,
            inputs: as_i32(&ids[slice.clone()]),
            targets: as_i32(&shifted(&labels[slice], time)),
            sources: vec![0; micro * rows],
            ..Batch::default()
        };
        let record = trainer.step(&batch).map_err(|e| e.to_string())?;
        check.near(record.loss, number(truth, "loss")?, 2e-5, &format!("loss of step {i}"));
        let norm = number(truth, "grad_norm_before_clip")?;
        check.near(record.grad_norm, norm, 2e-5 * norm, &format!("gradient norm of step {i}"));
        let lr = number(truth, "lr")?;
        check.near(record.lr, lr, 1e-12 * lr, &format!("learning rate of step {i}"));
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
