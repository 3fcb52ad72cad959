//! Slurm's commands.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::Error;

/// Submits a script; its job's number.
pub(super) fn submit(script: &str) -> Result<String, Error> {
    let failed = |reason: String| Error::Slurm { command: "sbatch".to_owned(), reason };
    let mut child = Command::new("sbatch")
        .arg("--parsable")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => failed("is not on this machine's PATH".to_owned()),
            _ => failed(e.to_string()),
        })?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes()).map_err(|e| failed(e.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    // NUMBER, or NUMBER;CLUSTER.
    let text = String::from_utf8_lossy(&output.stdout);
    let id = text.trim().split(';').next().unwrap_or_default();
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit()) {
        return Err(failed(format!("answered {:?}, not a job's number", text.trim())));
    }
    Ok(id.to_owned())
}

/// A line of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Queued {
    /// Number, with its tasks.
    pub(super) id: String,
    /// PENDING, RUNNING, ….
    pub(super) state: String,
    /// Why it waits, or where it runs.
    pub(super) reason: String,
}

/// What the queue holds of some jobs; `None` where there is no Slurm to be asked.
pub(super) fn queued(ids: &[String]) -> Option<Vec<Queued>> {
    if ids.is_empty() {
        return Some(Vec::new());
    }
    let output = Command::new("squeue").args(["--noheader", "--format=%i|%T|%R"]).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let of = |line: &str| {
        let mut fields = line.trim().splitn(3, '|');
        let (id, state, reason) = (fields.next()?, fields.next()?, fields.next()?);
        let job = id.split('_').next()?;
        let own = ids.iter().any(|known| known == job);
        own.then(|| Queued { id: id.to_owned(), state: state.to_owned(), reason: reason.to_owned() })
    };
    Some(text.lines().filter_map(of).collect())
}
