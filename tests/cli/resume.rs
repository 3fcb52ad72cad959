//! Killed anywhere and started again: the same tables, from the last checkpoint.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{FILES, read, run_tiny, stderr, table2, tiny};

/// Checkpoints and temporary files below a folder.
fn leftovers(dir: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let left = name.starts_with("step-") || name.starts_with(".tmp");
            usize::from(left) + if entry.path().is_dir() { leftovers(&entry.path()) } else { 0 }
        })
        .sum()
}

#[test]
fn a_kill_at_any_time_changes_nothing() {
    let whole = tempfile::tempdir().unwrap();
    let started = Instant::now();
    run_tiny(whole.path(), &["--quiet"]);
    let duration = started.elapsed();
    let expected = FILES.map(|file| read(whole.path(), file));
    let tiny = tiny();
    let mut restored = false;
    for tenth in [1, 3, 5, 7, 9] {
        let dir = tempfile::tempdir().unwrap();
        // A checkpoint after every step: a kill nearly always lands inside a job.
        let args = ["--spec", &tiny, "--checkpoint-seconds", "0"];
        let mut child = table2(dir.path(), &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(duration * tenth / 10);
        child.kill().unwrap();
        child.wait().unwrap();
        let again = table2(dir.path(), &args).output().unwrap();
        assert!(again.status.success(), "{}", stderr(&again));
        restored |= stderr(&again).contains("restored the checkpoint of step");
        assert_eq!(leftovers(&dir.path().join("store")), 0, "checkpoints or temporary files are left");
        for (file, expected) in FILES.iter().zip(&expected) {
            assert_eq!(&read(dir.path(), file), expected, "{file} after a kill at {tenth}0 %");
        }
    }
    assert!(restored, "none of the kills landed inside a job");
}

#[test]
fn sigterm_leaves_a_checkpoint_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny();
    let mut child =
        table2(dir.path(), &["--spec", &tiny]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let pretrain = dir.path().join("store/pretrain");
    let deadline = Instant::now() + Duration::from_secs(120);
    while !pretrain.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let kill = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(143));
    assert!(!dir.path().join("out").exists());
    run_tiny(dir.path(), &["--quiet"]);
}

/// What a kill left of a model that was being written is no part of the result, and is removed.
#[test]
fn a_model_that_was_half_written_is_no_result() {
    let dir = tempfile::tempdir().unwrap();
    run_tiny(dir.path(), &["--quiet"]);
    let job = std::fs::read_dir(dir.path().join("store/finetune")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(job.join("done.json")).unwrap();
    std::fs::create_dir(job.join(".tmp-model-1-0")).unwrap();
    std::fs::write(job.join(".tmp-model-1-0/model.safetensors"), "half").unwrap();
    run_tiny(dir.path(), &["--quiet"]);
    assert_eq!(leftovers(&dir.path().join("store")), 0);
    let record = std::fs::read_to_string(job.join("done.json")).unwrap();
    assert!(record.contains("model/model.safetensors") && !record.contains(".tmp"), "{record}");
}
