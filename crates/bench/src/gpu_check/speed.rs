//! Training steps at real sizes, and PyTorch's beside them.

use std::process::Command;

use bench::peer::{TrainStep, Work};
use gptneox_model::GptNeoXConfig;
use midtrain::Backend;
use serde_json::{Value, json};

use crate::Args;
use crate::child::{Limit, measure, run};

/// Micro-batch of a size at 2048 tokens, as the PyTorch side's.
fn batch(size: &str) -> usize {
    match size {
        "410m" => 8,
        "1b" => 4,
        _ => 16,
    }
}

/// Steps before those that are timed, and those.
const WARMUP: usize = 4;
const STEPS: usize = 10;
const TIME: usize = 2048;

/// One size of the ladder, `SIZE` or `SIZE,recompute`.
pub(crate) fn step(backend: Backend, what: &str, args: &Args) -> Result<Value, String> {
    let (size, recompute) = match what.split_once(',') {
        Some((size, option)) => (size, option == "recompute"),
        None => (what, false),
    };
    let (model, batch, seq, steps, warmup) = if args.tiny {
        (GptNeoXConfig::of_size(512, 64, 2, 2), 2, 48, 2, 1)
    } else {
        (GptNeoXConfig::pythia(size).map_err(|e| e.to_string())?, batch(size), TIME, STEPS, WARMUP)
    };
    let precision = if args.backend == "vulkan" { "f32" } else { "bf16" };
    let step = TrainStep {
        name: if args.tiny { "tiny".to_owned() } else { format!("pythia-{size}") },
        model,
        batch,
        accum: 1,
        seq,
        steps,
        warmup,
        seed: 0,
        work: Work::Train,
        precision: midtrain::parse_precision(precision).map_err(|e| e.to_string())?,
        recompute,
        weights: None,
        ids: None,
        peak: Some(args.peak),
    };
    step.run(backend).map_err(|e| e.to_string())
}

pub(crate) fn part(
    args: &Args,
    limit: &Limit,
    keep: &mut dyn FnMut(Value) -> Result<(), String>,
) -> Result<(), String> {
    for size in sizes(args) {
        keep(measure(&format!("speed:{size}"), args, limit)?)?;
    }
    Ok(())
}

/// One size is enough where all are replaced by a tiny one.
fn sizes(args: &Args) -> impl Iterator<Item = &String> {
    args.sizes.iter().take(if args.tiny { 1 } else { usize::MAX })
}

/// PyTorch's step, eager and compiled, and ours in turn.
pub(crate) fn peer(
    args: &Args,
    limit: &Limit,
    keep: &mut dyn FnMut(Value) -> Result<(), String>,
) -> Result<(), String> {
    let Some(script) = &args.peer else {
        return keep(json!({ "what": "peer", "skipped": "no --peer: the path of torch_train_step.py" }));
    };
    for size in sizes(args) {
        let theirs = |form: &[&str]| {
            let mut command = Command::new("python3");
            command.arg(script).args(["--config", &format!("pythia-{size}"), "--batch", &batch(size).to_string()]);
            command.args(["--seq", &TIME.to_string(), "--dtype", "bf16", "--device", "cuda", "--fused"]);
            command.args(["--steps", &STEPS.to_string(), "--warmup", &WARMUP.to_string()]);
            command.args(["--peak", &args.peak.to_string()]).args(form);
            run(&format!("torch:{size}{}", form.concat()), command, limit)
        };
        let eager = theirs(&[]);
        keep(eager.clone())?;
        let ours = measure(&format!("speed:{size}"), args, limit)?;
        keep(ours.clone())?;
        let compiled = theirs(&["--compile"]);
        keep(compiled.clone())?;
        let rate = |v: &Value| v["tokens_per_s"].as_f64();
        let ratio = |their: &Value| Some(rate(&ours)? / rate(their).filter(|rate| *rate > 0.0)?);
        let (of_eager, of_compiled) = (ratio(&eager), ratio(&compiled));
        keep(json!({
            "what": format!("ours / torch, {size}"), "eager": of_eager, "compiled": of_compiled,
            "failed": of_eager.is_none() || of_compiled.is_none(),
            "eager_memory_mib": eager["peak_memory_mib"], "our_memory_mib": ours["device_memory_mib"],
        }))?;
    }
    Ok(())
}

/// A result in a line.
pub(crate) fn text(line: &Value) -> String {
    const SHOWN: [&str; 23] = [
        "skipped",
        "case",
        "tokens_per_s",
        "mfu",
        "median_step_s",
        "min_step_s",
        "max_step_s",
        "device_memory_mib",
        "peak_memory_mib",
        "first_loss",
        "last_loss",
        "cases",
        "failures",
        "worst",
        "worst_of_tolerance",
        "loss_difference",
        "way_difference",
        "same_bits_twice",
        "eager",
        "compiled",
        "process_seconds",
        "error",
        "warnings",
    ];
    let what = line["what"].as_str().unwrap_or("");
    let word = match (&line["failed"], &line["skipped"]) {
        (_, Value::String(_)) => "skip",
        (Value::Bool(true), _) => "FAIL",
        _ => "ok",
    };
    let mut out = format!("{word:<5} {what:<24}");
    for field in SHOWN {
        match &line[field] {
            Value::Null => {}
            // An error holds the end of what was said.
            Value::String(_) if *field == *"warnings" && !line["error"].is_null() => {}
            Value::String(text) => out += &format!(" {field} {text}"),
            Value::Number(n) if n.is_f64() => out += &format!(" {field} {:.6}", n.as_f64().unwrap_or(f64::NAN)),
            other => out += &format!(" {field} {other}"),
        }
    }
    for case in line["lines"].as_array().into_iter().flatten() {
        match case {
            Value::String(text) if text.starts_with("FAIL") => out += &format!("\n      {text}"),
            Value::Object(_) if case["failed"] == true => {
                out += &format!("\n      {} worst {} {}", case["case"], case["worst"], case["error"]);
            }
            Value::Object(_) if !case["ms"].is_null() => {
                let show = |field: &str| case[field].as_f64().map_or(String::new(), |v| format!("{v:9.3}"));
                let name = case["case"].as_str().unwrap_or("");
                out += &format!(
                    "\n      {name:<34} {} ms {} GB/s {} TFLOP/s",
                    show("ms"),
                    show("gb_per_s"),
                    show("tflop_per_s")
                );
            }
            _ => {}
        }
    }
    out
}
