//! Every fixture of other software within its tolerance. Needs MIDTRAIN_SHARED; says so when it is unset.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

fn shared() -> Option<PathBuf> {
    let shared = std::env::var_os("MIDTRAIN_SHARED").map(PathBuf::from);
    if shared.is_none() {
        eprintln!("skipped: MIDTRAIN_SHARED is not set");
    }
    shared
}

#[test]
fn reference_fixtures_agree() {
    let Some(shared) = shared() else { return };
    let output = Command::new(env!("CARGO_BIN_EXE_conformance")).arg(shared.join("reference")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.trim_end().ends_with("29 ok, 0 fail, 0 unsupported"), "{text}");
}

/// Files that Megatron's own writer wrote: the same ids, and mixtures of them those of our stores.
#[test]
fn megatrons_own_files_are_read() {
    let Some(shared) = shared() else { return };
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    let output = command.arg(shared.join("reference-wave2")).args(["--family", "megatron"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.trim_end().ends_with("2 ok, 0 fail, 0 unsupported"), "{text}");
}

/// Statistics that other software computed: exact vocabularies of samples, arms crossed with sets, documents, differences of
/// CKA.
#[test]
fn statistics_agree() {
    let Some(shared) = shared() else { return };
    for (family, files) in [("proximity_rarefied", 1), ("stats2", 2)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
        let output = command.arg(shared.join("reference-wave2")).args(["--family", family]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let all = format!("{files} ok, 0 fail, 0 unsupported");
        assert!(output.status.success() && text.trim_end().ends_with(&all), "{text}");
    }
}

/// Models of other spellings, groups of parameters, targets that are not predicted, multiple-choice items.
#[test]
fn the_second_wave_agrees() {
    let Some(shared) = shared() else { return };
    for (family, files, later) in [("models", 22, 0), ("train", 3, 2), ("cloze", 1, 0)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
        let output = command.arg(shared.join("reference-wave2")).args(["--family", family]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let all = format!("{files} ok, 0 fail, {later} unsupported");
        assert!(output.status.success() && text.trim_end().ends_with(&all), "{text}");
    }
}

/// One changed number of each family is found.
#[test]
fn one_changed_number_fails() {
    let Some(shared) = shared() else { return };
    let wave = shared.join("reference-wave2");
    for (family, folders, file, from, to) in [
        (
            "models",
            &["models/rope_linear"][..],
            "models/rope_linear/expected.json",
            "\"mean_loss\": ",
            "\"mean_loss\": 1",
        ),
        ("models", &["models/eos_list"], "models/eos_list/generate.json", "\"stopped_by\": 7", "\"stopped_by\": 31"),
        ("train", &["train", "models/t"], "train/groups.json", "\"lr_ratio\": 0.25", "\"lr_ratio\": 0.26"),
        ("train", &["train", "models/t"], "train/ignored_targets.json", "\"loss\": 4.7", "\"loss\": 4.8"),
        (
            "cloze",
            &["cloze", "cloze/model"],
            "cloze/expected.json",
            "\"log_likelihood\": -26.4207",
            "\"log_likelihood\": -26.4209",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for folder in folders {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
            for entry in std::fs::read_dir(wave.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    let name = path.file_name().unwrap();
                    std::fs::write(dir.path().join(folder).join(name), std::fs::read(&path).unwrap()).unwrap();
                }
            }
        }
        let run = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
            command.arg(dir.path()).args(["--family", family]).output().unwrap()
        };
        assert!(run().status.success(), "{family}");
        let path = dir.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file}: {from}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        assert_eq!(run().status.code(), Some(1), "{file}");
    }
}

#[test]
fn own_fixtures_agree() {
    let output = Command::new(env!("CARGO_BIN_EXE_conformance")).arg(fixture("reference")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.trim_end().ends_with("10 ok, 0 fail, 0 unsupported"), "{text}");
}

#[test]
fn a_changed_fixture_fails() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("models/parallel");
    std::fs::create_dir_all(&to).unwrap();
    for file in ["model.safetensors", "config.json", "expected.json", "expected.safetensors"] {
        std::fs::write(to.join(file), std::fs::read(fixture("reference/models/parallel").join(file)).unwrap()).unwrap();
    }
    let run = || Command::new(env!("CARGO_BIN_EXE_conformance")).arg(dir.path()).output().unwrap();
    assert!(run().status.success());
    let config = to.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"gelu_new\"")).unwrap();
    let output = run();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("FAIL        models/parallel/expected.safetensors"));
}

#[test]
fn a_folder_without_fixtures_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_conformance")).arg(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output =
        Command::new(env!("CARGO_BIN_EXE_conformance")).arg(dir.path()).args(["--family", "modls"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("families: models, generate"));
}
