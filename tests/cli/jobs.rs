//! Several jobs at once, in processes: the same bytes, whoever is killed, and nothing left behind.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{FILES, changed, read, run_tiny, stderr, table2, tiny};

/// Processes whose command line has a word.
fn processes(word: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let words = std::fs::read(entry.path().join("cmdline")).ok()?;
            words.split(|b| *b == 0).any(|w| w == word.as_bytes()).then_some(pid)
        })
        .collect()
}

fn signal(name: &str, pid: u32) {
    std::process::Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
}

/// A study long enough to be hit, in a folder; `mark`: seconds between checkpoints, told from those of other tests.
fn start(dir: &Path, spec: &str, mark: &str) -> Child {
    let args = ["--spec", spec, "--jobs", "2", "--checkpoint-seconds", mark];
    table2(dir, &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A tiny study of a second and more.
fn longer(dir: &Path) -> String {
    changed(
        dir,
        "longer.toml",
        &[("steps = 30", "steps = 300"), ("start = 10", "start = 150"), ("max_epochs = 1.0", "max_epochs = 100.0")],
    )
}

fn wait_for(what: &str, found: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !found() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_number_of_jobs_changes_no_byte() {
    let one = tempfile::tempdir().unwrap();
    run_tiny(one.path(), &["--quiet", "--jobs", "1"]);
    for jobs in ["2", "4"] {
        let dir = tempfile::tempdir().unwrap();
        run_tiny(dir.path(), &["--quiet", "--jobs", jobs]);
        for file in FILES {
            assert_eq!(read(dir.path(), file), read(one.path(), file), "{file} with --jobs {jobs}");
        }
        // Again, from what is there: no process is needed.
        run_tiny(dir.path(), &["--quiet", "--jobs", jobs]);
    }
}

/// Killed anywhere, parent or child: no process stays, nothing is lost.
#[cfg(target_os = "linux")]
#[test]
fn kills_leave_no_orphan_and_change_no_byte() {
    let whole = tempfile::tempdir().unwrap();
    let spec = longer(whole.path());
    let output = table2(whole.path(), &["--spec", &spec, "--quiet", "--jobs", "1"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let dir = tempfile::tempdir().unwrap();
    // Also the mark by which processes are found.
    let mark = format!("0.0{}", std::process::id());
    for (i, name) in ["-KILL", "-TERM", "-KILL", "-INT"].into_iter().enumerate() {
        let mut parent = start(dir.path(), &spec, &mark);
        // Or its end, on a machine so fast that nothing is left to do.
        while processes(&mark).len() < 2 && parent.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(150 * i as u64));
        signal(name, parent.id());
        let status = parent.wait().unwrap();
        if let Some(code) = status.code() {
            // It may have been done already.
            assert!([0, 130, 143].contains(&code), "{name}: {status}");
        }
        let until = Instant::now() + Duration::from_secs(5);
        while !processes(&mark).is_empty() {
            assert!(Instant::now() < until, "{name}: {:?} are left", processes(&mark));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // What is left is done, and was not changed.
    let output = table2(dir.path(), &["--spec", &spec, "--quiet", "--jobs", "2"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    for file in FILES {
        assert_eq!(read(dir.path(), file), read(whole.path(), file), "{file}");
    }
    for name in ["-KILL", "-TERM"] {
        a_child_is_ended(name, &spec, whole.path());
    }
}

/// Its job is tried once more, in another process.
#[cfg(target_os = "linux")]
fn a_child_is_ended(name: &str, spec: &str, whole: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let mark = format!("0.0{}{}", std::process::id(), name.len());
    let args = ["--spec", spec, "--jobs", "2", "--checkpoint-seconds", &mark];
    let parent = table2(dir.path(), &args).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    // While it trains.
    wait_for("a training", || dir.path().join("store/pretrain").exists());
    std::thread::sleep(Duration::from_millis(50));
    let children = processes(&mark).into_iter().filter(|pid| *pid != parent.id());
    children.for_each(|child| signal(name, child));
    let output = parent.wait_with_output().unwrap();
    assert!(output.status.success(), "{name}: {}", stderr(&output));
    assert!(stderr(&output).contains("it is tried once more"), "{name}: {}", stderr(&output));
    for file in FILES {
        assert_eq!(read(dir.path(), file), read(whole, file), "{file} after {name}");
    }
}

#[test]
fn what_the_store_holds_is_told_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny();
    let run = |args: &[&str]| {
        let output = table2(dir.path(), &[&["--spec", &tiny], args].concat()).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        (String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output))
    };
    assert!(run(&["--status"]).0.contains("nothing is known of it in store"));
    assert!(!dir.path().join("store").exists());
    let table = run(&["--quiet"]).0;
    let status = run(&["--status"]).0;
    let line = status.lines().find(|line| line.starts_with("finetune")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["finetune", "10", "0", "0", "0"], "{status}");
    let (again, said) = run(&["--verify"]);
    assert!(said.contains("0 damaged") && again == table, "{said}");
    let model = std::fs::read_dir(dir.path().join("store/finetune")).unwrap().flatten().next().unwrap().path();
    let path = model.join("model/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (again, said) = run(&["--verify"]);
    assert!(said.contains("1 damaged") && said.contains("model/model.safetensors") && again == table, "{said}");
    assert!(run(&["--verify"]).1.contains("0 damaged"));
}
