//! Every fixture of other software within its tolerance. Needs MIDTRAIN_SHARED; says so when it is unset.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::example;

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
    let output = Command::new(example("conformance")).arg(shared.join("reference")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.trim_end().ends_with("26 ok, 0 fail, 2 unsupported"), "{text}");
}

#[test]
fn a_changed_fixture_fails() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    for file in ["model.safetensors", "config.json", "expected.json", "expected.safetensors"] {
        let to = dir.path().join("models/a").join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(shared.join("reference/models/a").join(file), to).unwrap();
    }
    let run = || Command::new(example("conformance")).arg(dir.path()).output().unwrap();
    assert!(run().status.success());
    let config = dir.path().join("models/a/config.json");
    let text =
        std::fs::read_to_string(&config).unwrap().replace("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"gelu_new\"");
    std::fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(&config, text).unwrap();
    let output = run();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("FAIL        models/a/expected.safetensors"));
}

#[test]
fn a_folder_without_fixtures_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(example("conformance")).arg(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = Command::new(example("conformance")).arg(dir.path()).args(["--family", "modls"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("families: models, generate"));
}
