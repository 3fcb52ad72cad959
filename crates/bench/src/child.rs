//! A measurement as a process of its own, with an end.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Args;

/// When a part must be through.
pub(crate) struct Limit(Instant);

impl Limit {
    pub(crate) fn after(seconds: f64) -> Self {
        Self(Instant::now() + Duration::from_secs_f64(seconds.clamp(1.0, 1e6)))
    }

    /// Seconds left.
    pub(crate) fn left(&self) -> f64 {
        self.0.saturating_duration_since(Instant::now()).as_secs_f64()
    }
}

/// Runs one measurement of this program: its line, with what it is called, or why there is none.
pub(crate) fn measure(what: &str, args: &Args, limit: &Limit) -> Result<Value, String> {
    let program = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
    let mut command = Command::new(program);
    command.args(["--one", what, "--backend", &args.backend, "--peak", &args.peak.to_string()]);
    command.arg("--reference").arg(&args.reference);
    if args.tiny {
        command.arg("--tiny");
    }
    Ok(run(what, command, limit))
}

/// Runs a command whose last line of output is JSON. What went wrong is in the field `error`.
pub(crate) fn run(what: &str, mut command: Command, limit: &Limit) -> Value {
    let begun = Instant::now();
    let failed = |error: String| json!({ "what": what, "failed": true, "error": error });
    if limit.left() < 2.0 {
        return failed("not run: the part's time was over".to_owned());
    }
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(e) => return failed(e.to_string()),
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let gather = |pipe: Option<Box<dyn std::io::Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What a dying process still wrote is kept.
            let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = gather(out.map(|p| Box::new(p) as Box<dyn std::io::Read + Send>));
    let err = gather(err.map(|p| Box::new(p) as Box<dyn std::io::Read + Send>));
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if limit.left() > 0.0 => thread::sleep(Duration::from_millis(20)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
        }
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    let seconds = begun.elapsed().as_secs_f64();
    let last = out.lines().last().unwrap_or_default();
    let mut value = match (status, serde_json::from_str::<Value>(last)) {
        (Some(status), Ok(value)) if status.success() && value.is_object() => value,
        (None, _) => failed(format!("stopped after {seconds:.0} s; {}", end_of(&err))),
        (Some(status), _) => failed(format!("{status}; {}", end_of(&err))),
    };
    value["what"] = what.into();
    value["succeeded"] = status.is_some_and(|status| status.success()).into();
    value["process_seconds"] = ((seconds * 100.0).round() / 100.0).into();
    let warnings = end_of(&err);
    if !warnings.is_empty() {
        value["warnings"] = warnings.into();
    }
    value
}

/// The end of what was said, shortened.
fn end_of(text: &str) -> String {
    let from = text.len().saturating_sub(1500);
    let from = (from..text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(from);
    text[from..].trim().to_owned()
}
