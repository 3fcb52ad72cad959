//! Slurm's commands.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Error;

/// What a queue says that is busy or away for a moment.
const BUSY: [&str; 4] = ["Socket timed out", "Unable to contact", "temporarily", "Resource"];
/// Time before it is asked again.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(30), Duration::from_secs(60)];

/// Submits a script; its job's number. A queue that is busy is asked again.
pub(super) fn submit(script: &str) -> Result<String, Error> {
    let mut pauses = PAUSES.iter();
    loop {
        match try_submit(script) {
            Err(Error::Slurm { reason, .. }) if BUSY.iter().any(|words| reason.contains(words)) => {
                match pauses.next() {
                    Some(pause) => std::thread::sleep(*pause),
                    None => return Err(Error::Slurm { command: "sbatch".to_owned(), reason }),
                }
            }
            other => return other,
        }
    }
}

fn try_submit(script: &str) -> Result<String, Error> {
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
        // One that refuses before it has read everything says why.
        let _ = input.write_all(script.as_bytes());
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

/// What the queue holds of some jobs.
///
/// # Errors
/// A queue that cannot be asked.
pub(super) fn queued(ids: &[String]) -> Result<Vec<Queued>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |reason: String| Error::Slurm { command: "squeue".to_owned(), reason };
    let output = Command::new("squeue").args(["--noheader", "--format=%i|%T|%R"]).output();
    let output = output.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => failed("is not on this machine's PATH".to_owned()),
        _ => failed(e.to_string()),
    })?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let of = |line: &str| {
        let mut fields = line.trim().splitn(3, '|');
        let (id, state, reason) = (fields.next()?, fields.next()?, fields.next()?);
        let job = id.split('_').next()?;
        let own = ids.iter().any(|known| known == job);
        own.then(|| Queued { id: id.to_owned(), state: state.to_owned(), reason: reason.to_owned() })
    };
    Ok(text.lines().filter_map(of).collect())
}
