//! One store for many: processes beside each other, kills, runs that diverge, bundles, freed space.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::{FILES, changed, example, fixture, read, run_tiny, stderr, table2, tiny, words};

/// Starts `table2` on the folder's store, with an output folder of its own.
fn start(dir: &Path, spec: &str, out: &str, more: &[&str]) -> Child {
    let mut command = Command::new(example("table2"));
    command.current_dir(dir).args(["--store", "store", "--out", out, "--spec", spec]).args(more);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Every log has one line a step, in order.
fn logs_are_whole(store: &Path) {
    let mut logs = 0;
    for kind in ["pretrain", "finetune"] {
        for job in std::fs::read_dir(store.join(kind)).unwrap().flatten() {
            let log = std::fs::read_to_string(job.path().join("log.jsonl")).unwrap();
            let step = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap();
            let steps: Vec<u64> = log.lines().map(step).collect();
            assert!(!steps.is_empty() && steps.windows(2).all(|pair| pair[1] == pair[0] + 1), "{steps:?}");
            logs += 1;
        }
    }
    assert!(logs > 4);
}

fn leftovers(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            out.extend(leftovers(&entry.path()));
        } else if name.starts_with("step-") || name.starts_with(".tmp") || name == "origin.json" {
            out.push(entry.path().display().to_string());
        }
    }
    out
}

fn same_as(dir: &Path, out: &str, expected: &Path) {
    for file in FILES {
        let found = std::fs::read(dir.join(out).join(file)).unwrap();
        assert!(found == std::fs::read(expected.join("out").join(file)).unwrap(), "{out}/{file} differs");
    }
}

#[test]
fn processes_share_a_store() {
    let alone = tempfile::tempdir().unwrap();
    let longer = [("steps = 30", "steps = 300"), ("general = 220", "general = 900"), ("start = 10", "start = 150")];
    let spec = changed(alone.path(), "spec.toml", &longer);
    let output = table2(alone.path(), &["--spec", &spec, "--quiet"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    for delays in [[0, 0, 0], [0, 300, 900]] {
        let dir = tempfile::tempdir().unwrap();
        let mut children = Vec::new();
        for (i, delay) in delays.iter().enumerate() {
            std::thread::sleep(Duration::from_millis(*delay));
            children.push((format!("out{i}"), start(dir.path(), &spec, &format!("out{i}"), &[])));
        }
        for (out, child) in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            same_as(dir.path(), &out, alone.path());
        }
        logs_are_whole(&dir.path().join("store"));
        assert_eq!(leftovers(&dir.path().join("store")), [""; 0]);
    }
}

#[test]
fn two_processes_survive_kills() {
    let whole = tempfile::tempdir().unwrap();
    run_tiny(whole.path(), &["--quiet"]);
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny();
    let every_step = ["--checkpoint-seconds", "0"];
    // Where kills land is up to the machine; wherever it is, the end is the same.
    for kill in 0..6u64 {
        let children: Vec<Child> = (0..2).map(|i| start(dir.path(), &tiny, &format!("out{i}"), &every_step)).collect();
        std::thread::sleep(Duration::from_millis(120 + 310 * kill));
        for mut child in children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
    let children: Vec<Child> = (0..2).map(|i| start(dir.path(), &tiny, &format!("out{i}"), &every_step)).collect();
    for (i, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        same_as(dir.path(), &format!("out{i}"), whole.path());
    }
    logs_are_whole(&dir.path().join("store"));
    assert_eq!(leftovers(&dir.path().join("store")), [""; 0]);
}

/// Learning rates so high that losses are not finite on any processor: the cells say so, everything else is done, and again the same.
#[test]
fn what_diverges_is_named_and_poisons_nothing() {
    let cases = [
        // Fine-tuning with one rate.
        (
            vec![("[sft.lr.sweep_base]\ngrid = [1e-3, 3e-3]", "[sft.lr.fixed]\nlr = 1e30")],
            "C4 on GSM8K, lr 1e30, seed 0, evaluated on GSM8K's test split: the loss is not finite",
        ),
        // Every rate of a sweep.
        (
            vec![("grid = [1e-3, 3e-3]", "grid = [1e30, 3e30]")],
            "learning rate of GSM8K (tried on C4): no learning rate of the grid (1e30, 3e30) gives a finite loss; the first: C4 on \
             GSM8K, lr 1e30, seed 0, evaluated on GSM8K's validation split: the loss is not finite",
        ),
        // Pretraining.
        (
            vec![
                ("lr_peak = 1e-2", "lr_peak = 1e30"),
                ("lr_min = 1e-4", "lr_min = 1e29"),
                ("steps = 30", "steps = 11"),
                ("start = 10", "start = 5"),
            ],
            "general text, seed 0 at step 11, evaluated on general text: the loss is not finite",
        ),
    ];
    for (changes, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let spec = changed(dir.path(), "spec.toml", &changes);
        let run = || table2(dir.path(), &["--spec", &spec, "--quiet"]).output().unwrap();
        let (first, files) = (run(), |dir: &Path| FILES.map(|file| read(dir, file)));
        assert_eq!(first.status.code(), Some(1), "{}", stderr(&first));
        assert!(stderr(&first).contains(expected), "{}", stderr(&first));
        let text = String::from_utf8_lossy(&first.stdout).into_owned();
        assert!(
            words(&text).contains("GSM8K C4 failed") && (text.contains("failed: ") || text.contains("failed (")),
            "{text}"
        );
        let written = files(dir.path());
        // No number where there is none.
        assert!(!written.iter().any(|text| text.contains("NaN") || text.contains("inf")), "{written:?}");
        let again = run();
        assert_eq!((again.status.code(), &again.stdout, &again.stderr), (Some(1), &first.stdout, &first.stderr));
        assert_eq!(files(dir.path()), written);
    }
}

/// A diverged rate of a sweep loses the sweep, and nothing else.
#[test]
fn a_diverged_rate_loses_its_sweep() {
    let dir = tempfile::tempdir().unwrap();
    let spec = changed(dir.path(), "spec.toml", &[("grid = [1e-3, 3e-3]", "grid = [1e30, 3e-3]")]);
    let output = table2(dir.path(), &["--spec", &spec, "--quiet"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(read(dir.path(), "report.html").contains("diverged"));
    let single = changed(dir.path(), "single.toml", &[("grid = [1e-3, 3e-3]", "grid = [3e-3]")]);
    let expected = read(dir.path(), "tables/table2.csv");
    let output = table2(dir.path(), &["--spec", &single, "--quiet"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(read(dir.path(), "tables/table2.csv"), expected);
}

/// The analyses say what failed too. (Of weights that are huge but finite, representations are compared: each pair of layers
/// that cannot be has its reason.)
#[test]
fn analyses_of_what_failed() {
    let dir = tempfile::tempdir().unwrap();
    let changes = [("[sft.lr.sweep_base]\ngrid = [1e-3, 3e-3]", "[sft.lr.fixed]\nlr = 1e30")];
    let spec = changed(dir.path(), "spec.toml", &changes);
    let run = |name: &str| {
        let mut command = Command::new(example(name));
        command.current_dir(dir.path()).args(["--store", "store", "--out", name, "--quiet", "--spec", &spec]);
        command.output().unwrap()
    };
    for name in ["theory", "figure3"] {
        let output = run(name);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {text}");
        assert!(
            text.contains("failed, everything that does not depend on them is done:") && !text.contains("panicked"),
            "{name}: {text}"
        );
        assert!(String::from_utf8_lossy(&output.stdout).contains("failed"), "{name} does not say so");
    }
    let output = run("figure6");
    assert!(output.status.success(), "{}", stderr(&output));
    let cells = std::fs::read_to_string(dir.path().join("figure6/figures/figure6.csv")).unwrap();
    assert!(cells.contains("not finite"), "{cells}");
}

#[test]
fn an_added_arm_trains_its_own_steps() {
    let dir = tempfile::tempdir().unwrap();
    run_tiny(dir.path(), &["--quiet"]);
    let states = |dir: &Path| std::fs::read_dir(dir.join("store/pretrain")).unwrap().count();
    assert_eq!(states(dir.path()), 3);
    let before = read(dir.path(), "tables/table2.csv");
    let mut text = std::fs::read_to_string(fixture("tiny.toml")).unwrap();
    text += "\n[[arms]]\nname = \"Late\"\nphases = [{ start = 20, weight = \"0.5\", specialised = \"starcoder\" }]\n";
    std::fs::write(dir.path().join("more.toml"), text).unwrap();
    let output = table2(dir.path(), &["--spec", "more.toml", "--quiet"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    // Its fork and its end.
    assert_eq!(states(dir.path()), 5);
    let after = read(dir.path(), "tables/table2.csv");
    assert!(before.lines().all(|line| after.lines().any(|l| l == line)), "{before}\n{after}");
    logs_are_whole(&dir.path().join("store"));
}

#[test]
fn results_are_exported_and_imported() {
    let dir = tempfile::tempdir().unwrap();
    run_tiny(dir.path(), &["--quiet", "--export", "results.bundle"]);
    let other = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("results.bundle").display().to_string();
    run_tiny(other.path(), &["--quiet", "--import", &bundle]);
    same_as(other.path(), "out", dir.path());
    assert!(
        !other.path().join("store/finetune").read_dir().unwrap().flatten().any(|e| e.path().join("model").exists())
    );
    // Far smaller than what it stands for.
    assert!(std::fs::metadata(&bundle).unwrap().len() < 100_000);
    let output = table2(other.path(), &["--spec", &tiny(), "--quiet", "--import", "nowhere"]).output().unwrap();
    assert!(
        output.status.code() == Some(2) && stderr(&output).contains("nowhere: No such file"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn space_is_freed_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let csv = run_tiny(dir.path(), &["--quiet"]);
    let output = table2(dir.path(), &["--spec", &tiny(), "--quiet", "--gc", "list"]).output().unwrap();
    let listed = stderr(&output);
    assert!(listed.contains("(model)") && listed.contains("(optimiser)"), "{listed}");
    let output = table2(dir.path(), &["--spec", &tiny(), "--quiet", "--gc", "studies"]).output().unwrap();
    assert_eq!(stderr(&output).lines().count(), listed.lines().count());
    assert_eq!(run_tiny(dir.path(), &["--quiet"]), csv);
    // A mistyped name is found before anything is run.
    let empty = tempfile::tempdir().unwrap();
    let output = table2(empty.path(), &["--spec", &tiny(), "--quiet", "--gc", "nobody"]).output().unwrap();
    assert!(output.status.code() == Some(2) && !empty.path().join("store").exists());
    assert!(stderr(&output).contains("study = nobody is not in the store"), "{}", stderr(&output));
}
