//! `peer-bench` prints what the scripts of other software print.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peer-bench")).args(args).output().unwrap()
}

#[test]
fn a_training_step_prints_the_fields_of_the_pytorch_script() {
    let tiny = ["train-step", "--hidden", "32", "--layers", "2", "--heads", "2", "--vocab", "100", "--seq", "16"];
    let line = |more: &[&str]| -> serde_json::Value {
        let output = run(&[&tiny[..], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let train = line(&["--steps", "3", "--warmup", "1", "--batch", "3", "--accum", "2", "--peak", "1", "--fused"]);
    for field in ["median_step_s", "forward_s", "backward_s", "clip_and_optimizer_s", "tokens_per_s", "mfu", "threads"]
    {
        assert!(train[field].as_f64().is_some_and(|v| v > 0.0), "{field}: {train}");
    }
    assert_eq!((&train["batch"], &train["accum"], &train["steps"]), (&3.into(), &2.into(), &3.into()));
    let first =
        |more: &[&str]| line(&[&["--steps", "1", "--warmup", "0"], more].concat())["first_loss"].as_f64().unwrap();
    let full = first(&[]);
    assert_eq!((first(&["--no-optimizer"]), first(&["--recompute"])), (full, full));
    assert!((first(&["--forward-only"]) - full).abs() < 1e-5);
    let low = first(&["--dtype", "bf16"]);
    assert!(low != full && (low - full).abs() < 0.05, "{low} and {full}");
    let output = run(&["train-step", "--seq", "1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("seq = 1 must be at least 2"));
}
