//! Whether a GPU computes what a CPU does, and how fast: everything that a short time on a GPU can tell, in one program.
//!
//! ```sh
//! gpu-check --backend cuda --out gpu.json                         # all parts
//! gpu-check --part speed --peer torch_train_step.py --out gpu.json # one part, merged into the file
//! ```
//!
//! Each measurement is a process of its own with a limit in seconds, so that one which hangs or dies costs only itself, and
//! its memory is its own. The file is written after each.

mod cases;
mod child;
mod environment;
mod kernels;
mod parity;
mod speed;
mod study;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};

use midtrain::protocol::{ARMS, Protocol, SFT};
use midtrain::study::Table2;

use crate::child::Limit;

midtrain::allocator!();

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Operations, models and training steps beside a CPU's and beside fixtures.
    Parity,
    /// Time, rates and memory of each operation.
    Kernels,
    /// Tokens a second, utilisation and memory of training steps.
    Speed,
    /// The same of PyTorch, in turn with ours.
    Peer,
    /// The smoke study's Table 2, whole.
    Study,
}

#[derive(Debug, Parser)]
#[command(about = "Whether a GPU computes what a CPU does, and how fast")]
pub(crate) struct Args {
    /// Parts, in this order; all by default.
    #[arg(long, value_delimiter = ',')]
    part: Vec<Part>,
    /// What computes: cuda, or vulkan (with Mesa's llvmpipe: no GPU, tiny sizes).
    #[arg(long, default_value = "cuda")]
    backend: String,
    /// The results as JSON; parts that it holds already are kept unless they run again.
    #[arg(long, default_value = "gpu-check.json")]
    out: PathBuf,
    /// Fixtures of other software, for parity.
    #[arg(long, default_value = "tests/fixtures/reference")]
    reference: PathBuf,
    /// PyTorch's side of a training step, for peer.
    #[arg(long)]
    peer: Option<PathBuf>,
    /// Models, for speed and peer.
    #[arg(long, value_delimiter = ',', default_value = "70m,160m,410m,1b")]
    sizes: Vec<String>,
    /// Peak TFLOP/s of bf16 products, for utilisation; 989 is an H100's and an H200's.
    #[arg(long, default_value_t = 989.0, value_parser = positive)]
    peak: f64,
    /// Sizes that a CPU can simulate a GPU with.
    #[arg(long)]
    tiny: bool,
    /// Seconds for a part, at most (1 to 86400).
    #[arg(long, default_value_t = 240.0, value_parser = seconds)]
    seconds: f64,
    /// One measurement, in this process.
    #[arg(long, hide = true)]
    one: Option<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().map_err(|e| e.to_string())?;
    if (1.0..=86_400.0).contains(&value) { Ok(value) } else { Err("must be from 1 to 86400".to_owned()) }
}

fn positive(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().map_err(|e| e.to_string())?;
    if value > 0.0 && value.is_finite() { Ok(value) } else { Err("must be above 0".to_owned()) }
}

fn main() -> ExitCode {
    if std::env::var_os(study::AS).is_some_and(|name| name == study::TABLE2) {
        return midtrain::run("table2", &Protocol { arms: ARMS, sft: SFT, ..Protocol::PAPER }, Table2);
    }
    let args = Args::parse();
    let done = match &args.one {
        Some(what) => one(what, &args),
        None => all(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// One measurement: its result is the last line of the output.
fn one(what: &str, args: &Args) -> Result<bool, String> {
    child::end_with_the_parent();
    let backend = args.backend.parse().map_err(|e: midtrain::UnknownBackend| e.to_string())?;
    let (name, rest) = what.split_once(':').unwrap_or((what, ""));
    let value = match name {
        "cases" => cases::compare(backend, rest == "bf16")?,
        "large" => cases::large(backend, args.tiny)?,
        "steps" => parity::steps(backend, rest == "bf16", args.tiny)?,
        "fixtures" => parity::fixtures(backend, &args.reference, rest)?,
        "kernels" => kernels::times(backend, rest, args.tiny)?,
        "speed" => speed::step(backend, rest, args)?,
        _ => return Err(format!("--one = {what} is not a measurement")),
    };
    println!("{value}");
    Ok(true)
}

/// All parts that were asked for; whether nothing failed.
fn all(args: &Args) -> Result<bool, String> {
    let _: midtrain::Backend = args.backend.parse().map_err(|e: midtrain::UnknownBackend| e.to_string())?;
    for size in &args.sizes {
        gptneox_model::GptNeoXConfig::pythia(size).map_err(|e| format!("--sizes = {size}: {e}"))?;
    }
    let mut report = read(&args.out)?;
    let _lock = lock(&args.out)?;
    let found = environment::look(&args.backend);
    println!("{}", environment::text(&found));
    if let Some(missing) = found["missing"].as_array().filter(|m| !m.is_empty()) {
        return Err(missing.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n       "));
    }
    let every = [Part::Parity, Part::Kernels, Part::Speed, Part::Peer, Part::Study];
    let parts = if args.part.is_empty() { every.to_vec() } else { args.part.clone() };
    let mut good = true;
    for part in parts {
        let begun = Instant::now();
        let limit = Limit::after(args.seconds);
        let name = format!("{part:?}").to_lowercase();
        println!("\n== {name}");
        let mut keep = |mut line: Value| {
            println!("{}", speed::text(&line));
            good &= !line["failed"].as_bool().unwrap_or(false);
            line["gpu"] = found["gpu"].clone();
            merge(&mut report, &name, line);
            report[&name]["environment"] = found.clone();
            write(&args.out, &report)
        };
        match part {
            Part::Parity => parity::part(args, &limit, &mut keep)?,
            Part::Kernels => kernels::part(args, &limit, &mut keep)?,
            Part::Speed => speed::part(args, &limit, &mut keep)?,
            Part::Peer => speed::peer(args, &limit, &mut keep)?,
            Part::Study => study::part(args, &limit, &mut keep)?,
        }
        println!("   {:.0} s", begun.elapsed().as_secs_f64());
    }
    println!("\n{}", args.out.display());
    Ok(good)
}

/// Puts a result into its part, in the place of one of the same name. What was not run replaces nothing.
fn merge(report: &mut Value, part: &str, line: Value) {
    let mut results = report[part]["results"].as_array().cloned().unwrap_or_default();
    let known = results.iter().position(|old| old["what"] == line["what"]);
    match known {
        Some(_) if line["not_run"] == true => {}
        Some(at) => results[at] = line,
        None => results.push(line),
    }
    report[part] = json!({ "results": results });
}

/// Another gpu-check on the same file would lose this one's results.
fn lock(path: &std::path::Path) -> Result<std::fs::File, String> {
    let beside = path.with_extension("lock");
    let wrong = |e: String| format!("--out = {}: {e}", path.display());
    let file = std::fs::File::create(&beside).map_err(|e| wrong(e.to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(wrong("another gpu-check writes it".to_owned())),
        Err(std::fs::TryLockError::Error(e)) => Err(wrong(e.to_string())),
    }
}

/// What the file holds; nothing yet where there is none.
fn read(path: &std::path::Path) -> Result<Value, String> {
    let wrong = |e: String| format!("--out = {}: {e}", path.display());
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(json!({})),
        Err(e) => return Err(wrong(e.to_string())),
        Ok(data) if !data.is_file() => return Err(wrong("is no plain file".to_owned())),
        Ok(data) if data.len() == 0 => return Ok(json!({})),
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    let value: Value = serde_json::from_str(&text).map_err(|e| wrong(format!("is no result of gpu-check: {e}")))?;
    let parts = value.as_object().is_some_and(|parts| parts.values().all(Value::is_object));
    if parts { Ok(value) } else { Err(wrong("is no result of gpu-check: its parts are not objects".to_owned())) }
}

/// Whole or not at all.
fn write(path: &std::path::Path, report: &Value) -> Result<(), String> {
    let text = serde_json::to_string_pretty(report).map_err(|e| e.to_string())? + "\n";
    atomic_file::write(path, text.as_bytes()).map_err(|e| format!("--out = {}: {e}", path.display()))
}
