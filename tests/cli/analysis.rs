//! Figures and the theory's terms on the tiny study.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::harness::{csv, example, read, stderr, tiny, words};

/// An example on the tiny study; all of these share a store. What it prints.
fn run(name: &str, dir: &Path) -> String {
    run_on(name, dir, &tiny(), "out")
}

/// An example on a study file.
fn run_on(name: &str, dir: &Path, spec: &str, out: &str) -> String {
    let mut command = Command::new(example(name));
    let output =
        command.current_dir(dir).args(["--store", "store", "--quiet", "--out", out, "--spec", spec]).output().unwrap();
    assert!(output.status.success(), "{name}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} = {}", row[column]))
}

fn has_pictures(dir: &Path, name: &str) {
    let png = std::fs::read(dir.join("out/figures").join(format!("{name}.png"))).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000, "{} bytes", png.len());
    let svg = read(dir, &format!("figures/{name}.svg"));
    assert!(svg.starts_with("<svg") && svg.matches("<text").count() > 10);
    assert!(read(dir, "report.html").contains("<svg"));
}

#[test]
fn analyses_of_a_study() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();

    // The theory's terms: the path is walked again and ends at the very model.
    let text = run("theory", dir);
    assert!(text.contains("0e0"), "{text}");
    has_pictures(dir, "theory");
    let paths = csv(&read(dir, "tables/theory.csv"));
    assert_eq!(paths.len(), 4);
    for row in &paths {
        let parts = number(row, "A_alignment") + number(row, "B_energy");
        assert!((number(row, "eq3") - parts).abs() < 2e-4, "{row:?}");
        assert!(number(row, "J_T_last") < number(row, "J_T_first"));
        assert!(number(row, "eq5") > number(row, "eq4"));
        let bound = number(row, "steps_bound");
        assert_eq!(row["holds"] == "yes", number(row, "forgetting") <= bound, "{row:?}");
        assert!((number(row, "tightness") - number(row, "forgetting") / bound).abs() < 1e-9, "{row:?}");
        for steps in ["eq2_steps", "eq7_steps", "eq8_steps", "eq13_steps"] {
            let (held, all) = row[steps].split_once(" of ").unwrap();
            let [held, all] = [held, all].map(|n| n.parse::<u32>().unwrap());
            assert!(held <= all && all > 1, "{row:?}");
        }
    }
    let moved = csv(&read(dir, "tables/midtraining.csv"));
    assert_eq!(moved.len(), 2, "the control has no midtraining");
    for row in &moved {
        assert_eq!(number(row, "steps"), 20.0);
        let holds = number(row, "J_T_after") <= number(row, "eq14");
        assert_eq!(row["eq14_holds"] == "yes", holds, "{row:?}");
        assert!(["refuted", "not refuted"].contains(&row["eq15"].as_str()));
        assert!(number(row, "path_length") >= number(row, "delta_norm"));
        assert!(number(row, "eq17") >= number(row, "path_length") - 1e-3);
    }
    let paths = read(dir, "tables/theory.csv");
    assert_eq!(run("theory", dir), text);
    assert_eq!(read(dir, "tables/theory.csv"), paths);

    // With several steps between points there are no sums over steps.
    let strided = std::fs::read_to_string(tiny()).unwrap().replace("path_stride = 1", "path_stride = 3");
    std::fs::write(dir.join("strided.toml"), strided).unwrap();
    let text = run_on("theory", dir, "strided.toml", "strided");
    assert!(words(&text).contains("eval.path_stride = 1 gives them"), "{text}");
    let paths = csv(&std::fs::read_to_string(dir.join("strided/tables/theory.csv")).unwrap());
    for row in &paths {
        for absent in ["A_alignment", "eq3", "eq5", "eta_L_T", "eq8_steps"] {
            assert_eq!(row[absent], "", "{absent}");
        }
        assert!(!row["steps_bound"].is_empty());
    }

    // Representations: both probes, all layers, with intervals.
    for (name, probe) in [("figure6", "APPS"), ("figure11", "C4")] {
        let text = run(name, dir);
        assert!(words(&text).contains(&format!("tokens of {probe}")), "{text}");
        for ending in ["", "-standardised", "-without-massive"] {
            has_pictures(dir, &format!("{name}{ending}"));
        }
        let cells = csv(&read(dir, &format!("figures/{name}.csv")));
        // Six pairs of four states, four layers each.
        assert_eq!(cells.len(), 6 * 16);
        for cell in &cells {
            let (d, low, high) =
                (number(cell, "debiased"), number(cell, "debiased_ci_low"), number(cell, "debiased_ci_high"));
            assert!((-0.5..=1.0 + 1e-6).contains(&d) && low <= d + 1e-4 && d <= high + 1e-4, "{cell:?}");
            assert_eq!(cell["reason"], "");
        }
    }

    // All of them share what was trained: the fork, and both arms' ends.
    assert_eq!(std::fs::read_dir(dir.join("store/pretrain")).unwrap().count(), 3);

    // Proximity, and what it predicts.
    let text = run("figure3", dir);
    assert!(words(&text).contains("No correlation: two pairs lie on a line"), "{text}");
    has_pictures(dir, "figure3");
    // One mix: two pairs, which lie on a line, and nothing to exchange it with.
    let rows = csv(&read(dir, "tables/correlation.csv"));
    assert!(rows[0]["value"].is_empty() && rows[0]["p"].is_empty() && rows[0]["ci_low"].is_empty(), "{rows:?}");
    assert!(rows[2]["how"].starts_with("fewer than three mixes"), "{rows:?}");
    for (name, size) in [("figure2", 4), ("figure7", 16)] {
        run(name, dir);
        has_pictures(dir, name);
        assert_eq!(csv(&read(dir, &format!("figures/{name}.csv"))).len(), 2 * size);
    }
    let pa = csv(&read(dir, "tables/proximity_advantage.csv"));
    let of = |set: &str, mix: &str| pa.iter().find(|r| r["dataset"] == set && r["mix"] == mix).unwrap();
    assert_eq!(number(of("Pycode", "C4"), "PA"), 0.0);
    let code = of("Pycode", "Starcoder (20%)");
    assert!(number(code, "pa_ci_low") > 0.0 && code["closest"] == "1" && code["unit"] == "documents", "{code:?}");
    assert!(number(code, "bias_error") > 0.0 && !code["family"].is_empty(), "{code:?}");
    let difference = number(code, "prox_mix") - number(code, "prox_general");
    assert!((number(code, "PA") - difference).abs() < 1e-12, "{code:?}");
}

#[test]
fn analyses_name_what_they_lack() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = std::fs::read_to_string(tiny()).unwrap();
    let try_spec = |name: &str, text: &str| {
        std::fs::write(dir.path().join("spec.toml"), text).unwrap();
        let args = ["--store", "store", "--out", "out", "--quiet", "--spec", "spec.toml"];
        let output = Command::new(example(name)).current_dir(dir.path()).args(args).output().unwrap();
        (output.status.code(), stderr(&output))
    };
    let (code, text) = try_spec("figure6", &tiny.replace("role = \"probe\"", "role = \"starcoder\""));
    assert_eq!(code, Some(2));
    assert!(text.contains("probes = starcoder is a role that something is trained on"), "{text}");
    let (code, text) = try_spec("figure6", &tiny.replace("path_rows = 8", "path_rows = 0"));
    assert!(code == Some(2) && text.contains("eval.path_rows = 0 must be at least 1"), "{text}");
    let (code, text) = try_spec("figure6", &tiny.replace("name = \"APPS\"", "name = \"Apps\""));
    assert!(code == Some(2) && text.contains("probe = APPS is not in the study; there are: Apps, C4"), "{text}");
    let output = Command::new(example("figure2")).args(["--preset", "paper"]).output().unwrap();
    assert!(output.status.code() == Some(2) && stderr(&output).contains("a similarity needs the data"));
}
