//! A measurement as a process of its own, with an end.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Args;

/// When a part must be through.
pub(crate) struct Limit(Instant);

impl Limit {
    pub(crate) fn after(seconds: f64) -> Self {
        Self(Instant::now() + Duration::from_secs_f64(seconds))
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
        let mut value = failed("not run: the part's time was over".to_owned());
        value["not_run"] = true.into();
        return value;
    }
    // A group of its own, so that what it starts ends with it. Its input is open as long as this program lives.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let spawned = command.spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(e) => return failed(e.to_string()),
    };
    let (out, err) = (gather(child.stdout.take()), gather(child.stderr.take()));
    let status = wait(&mut child, limit);
    end_group(&child);
    let (out, err) = (gathered(&out), gathered(&err));
    let seconds = begun.elapsed().as_secs_f64();
    let last = out.lines().last().unwrap_or_default();
    let mut value = match (status, serde_json::from_str::<Value>(last)) {
        (Some(status), Ok(value)) if status.success() && value.is_object() => value,
        (None, _) => failed(format!("stopped after {seconds:.0} s; {}", end_of(&err))),
        (Some(status), _) if status.success() => failed("its last line is no JSON object".to_owned()),
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

/// The child's end, or none where the time is over.
fn wait(child: &mut Child, limit: &Limit) -> Option<std::process::ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if limit.left() > 0.0 => thread::sleep(Duration::from_millis(20)),
            _ => {
                end_group(child);
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

/// Ends what the child has started, and it.
fn end_group(child: &Child) {
    let group = format!("-{}", child.id());
    // There may be nothing left to end.
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
}

/// What is written to a pipe, once it is closed.
fn gather(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What a dying process still wrote is kept.
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        let _ = send.send(bytes);
    });
    receive
}

/// A process that has left its group may hold the pipe for ever: it is not waited for.
fn gathered(pipe: &mpsc::Receiver<Vec<u8>>) -> String {
    let bytes = pipe.recv_timeout(Duration::from_secs(2)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Ends this process when the one that started it does: its input is closed then.
pub(crate) fn end_with_the_parent() {
    thread::spawn(|| {
        let mut rest = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut rest);
        std::process::exit(3);
    });
}

/// What a short command prints, or none where it fails or takes longer than some seconds.
pub(crate) fn output(program: &str, args: &[&str]) -> Option<String> {
    let mut child = Command::new(program)
        .args(args)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let out = gather(child.stdout.take());
    let status = wait(&mut child, &Limit::after(20.0))?;
    status.success().then(|| gathered(&out).trim().to_owned())
}

/// The end of what was said, shortened.
fn end_of(text: &str) -> String {
    let from = text.len().saturating_sub(1500);
    let from = (from..text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(from);
    text[from..].trim().to_owned()
}
