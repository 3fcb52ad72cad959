//! Tables and figures of several sizes, grids and paths, on the tiny study.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{changed, csv, example, stderr, tiny, words};

/// Another size of the tiny study.
const LARGE: &str = r#"
[[sizes]]
model_name = "large"
lr_peak = 5e-3

[sizes.model]
vocab_size = 400
hidden_size = 48
num_layers = 3
num_heads = 3
intermediate_size = 96
max_positions = 256
rotary_pct = 0.25
rotary_base = 10000.0
layer_norm_eps = 1e-5
parallel_residual = true
tanh_gelu = false
tie_embeddings = false
"#;

/// Three more cells of a grid of starts and weights.
const GRID: &str = r#"
[[arms]]
name = "early, more"
phases = [{ start = 10, weight = 0.4, specialised = "starcoder" }]

[[arms]]
name = "late"
phases = [{ start = 20, weight = 0.2, specialised = "starcoder" }]

[[arms]]
name = "late, more"
phases = [{ start = 20, weight = 0.4, specialised = "starcoder" }]
"#;

const SETS: &str = "[sft]\nepochs = 2";

/// The tiny study with more before its fine-tuning.
fn spec(dir: &Path, name: &str, more: &[&str]) -> String {
    changed(dir, name, &[(SETS, &format!("{}\n{SETS}", more.concat()))])
}

fn run(name: &str, dir: &Path, spec: &str, more: &[&str]) -> Output {
    let mut command = Command::new(example(name));
    command.current_dir(dir).args(["--quiet", "--out", name, "--spec", spec]).args(more);
    if !more.contains(&"--store") {
        command.args(["--store", "store"]);
    }
    command.output().unwrap()
}

/// What an example prints; its picture is there.
fn done(name: &str, dir: &Path, spec: &str, more: &[&str]) -> String {
    let output = run(name, dir, spec, more);
    assert!(output.status.success(), "{name}: {}", stderr(&output));
    let png = std::fs::read(dir.join(name).join("figures").join(format!("{name}.png"))).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 5_000, "{name}: {} bytes", png.len());
    let svg = std::fs::read_to_string(dir.join(name).join("figures").join(format!("{name}.svg"))).unwrap();
    assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{name}");
    String::from_utf8(output.stdout).unwrap()
}

type Rows = Vec<BTreeMap<String, String>>;

fn table(dir: &Path, name: &str, file: &str) -> Rows {
    let rows = csv(&std::fs::read_to_string(dir.join(name).join(file)).unwrap());
    assert!(!rows.is_empty(), "{name}: {file}");
    rows
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} = {}", row[column]))
}

/// Everything that speaks of several sizes.
#[test]
fn a_study_of_two_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let spec = spec(dir, "sizes.toml", &[LARGE]);

    let text = done("table8", dir, &spec, &[]);
    assert!(text.contains("tiny") && text.contains("large"), "{text}");
    let losses = table(dir, "table8", "tables/table8.csv");
    // Two sizes, two sets, two mixes.
    assert_eq!(losses.len(), 8);
    let of = |model: &str, set: &str, mix: &str| {
        let found = losses.iter().find(|r| r["model"] == model && r["dataset"] == set && r["mix"] == mix);
        number(found.unwrap(), "sft_loss")
    };
    assert_ne!(of("tiny", "Pycode", "C4"), of("large", "Pycode", "C4"));

    // The first size alone has the same numbers: it is the same jobs.
    let before = pretrained(dir);
    done("table2", dir, &tiny(), &[]);
    assert_eq!(pretrained(dir), before, "nothing is trained again");
    for row in table(dir, "table2", "tables/table2.csv") {
        assert_eq!(number(&row, "sft_loss"), of("tiny", &row["dataset"], &row["mix"]));
    }

    // Every rate that was tried, and which was chosen.
    done("table6", dir, &spec, &[]);
    let tried = table(dir, "table6", "tables/table6.csv");
    assert_eq!(tried.len(), 2 * 2 * 2, "rates, sets, sizes");
    done("table7", dir, &spec, &[]);
    let chosen = table(dir, "table7", "tables/table7.csv");
    for row in &chosen {
        for model in ["tiny", "large"] {
            let of = |r: &&BTreeMap<String, String>| r["model"] == model && r["dataset"] == row["dataset"];
            let loss = |r: &&BTreeMap<String, String>| number(r, "validation_loss");
            let best = tried.iter().filter(of).min_by(|a, b| loss(a).total_cmp(&loss(b))).unwrap();
            let column = row.keys().find(|name| name.starts_with("lr") && name.contains(model)).unwrap();
            assert_eq!(number(row, column), number(best, "lr"), "{row:?}");
        }
    }

    // Hyperparameters train nothing.
    let before = pretrained(dir);
    let output = run("table4", dir, &spec, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(pretrained(dir), before);
    let rows = table(dir, "table4", "tables/table4.csv");
    let rate = rows.iter().find(|r| r["hyperparameter"] == "Max LR").unwrap();
    let of = |model: &str| {
        let column = rate.keys().find(|name| name.starts_with("own") && name.contains(model)).unwrap();
        number(rate, column)
    };
    assert_eq!((of("tiny"), of("large")), (1e-2, 5e-3));

    // Proximity by two variants at both sizes: one mix is too few to correlate.
    let text = done("figure3", dir, &spec, &[]);
    assert!(words(&text).contains("may"), "what may be concluded is said: {text}");
    let points = table(dir, "figure3", "figures/figure3.csv");
    assert_eq!(points.len(), 2 * 2 * 2, "sizes, variants, sets");

    // The claims: what the study has arms for has figures and, with one seed, no verdict.
    let text = done("claims", dir, &spec, &[]);
    assert!(words(&text).contains("With one pretraining seed no verdict is given"), "{text}");
    let findings = table(dir, "claims", "tables/claims.csv");
    assert_eq!(findings.len(), 5);
    assert!(findings.iter().all(|r| ["none", "not testable"].contains(&r["verdict"].as_str())), "{findings:?}");
    assert_eq!(findings[2]["verdict"], "not testable", "there is no continued pretraining");
    assert!(findings[2].values().any(|words| words.contains("Ctd.")), "{findings:?}");
    let printed = table(dir, "claims", "tables/printed.csv");
    assert_eq!(printed[0]["verdict"], "holds");
    assert_eq!(table(dir, "claims", "tables/audit.csv").iter().filter(|r| r["agrees"] == "no").count(), 6);
}

/// Training states in the store.
fn pretrained(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("store/pretrain")).unwrap().count()
}

#[test]
fn paths_of_one_size() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let spec =
        changed(dir, "paths.toml", &[("path_stride = 1", "path_stride = 1\ncheckpoint_every = 10\nplane_points = 5")]);

    // Training losses step by step.
    done("figure8", dir, &spec, &[]);
    let curve = table(dir, "figure8", "figures/figure8.csv");
    let own = |mix: &str| curve.iter().filter(|r| r["mix"] == mix).map(|r| number(r, "loss")).collect::<Vec<_>>();
    let (control, code) = (own("C4"), own("Starcoder (20%)"));
    assert_eq!(control.len(), code.len());
    assert!(control.len() > 2 && control.last() < control.first(), "{control:?}");
    for row in &curve {
        assert!(number(row, "lowest") <= number(row, "loss") && number(row, "loss") <= number(row, "highest"));
        assert_eq!(row["seeds"], "2");
    }

    // Checkpoints: until the arm begins both runs are one.
    let text = done("figure5", dir, &spec, &[]);
    assert!(words(&text).contains("With one pretraining seed it may be concluded"), "{text}");
    let along = table(dir, "figure5", "tables/figure5.csv");
    assert_eq!(along.iter().map(|r| r["step"].as_str()).collect::<Vec<_>>(), ["10", "20", "30"]);
    assert_eq!((number(&along[0], "sft_delta"), number(&along[0], "c4_delta")), (0.0, 0.0));
    assert_ne!(number(&along[2], "sft_delta"), 0.0);
    // The last one is the table's.
    done("table2", dir, &spec, &[]);
    for row in table(dir, "table2", "tables/table2.csv").iter().filter(|r| r["dataset"] == "Pycode") {
        let column = if row["mix"] == "C4" { "control_sft_loss" } else { "sft_loss" };
        assert_eq!(number(row, "sft_loss"), number(&along[2], column), "{row:?}");
    }

    // A slice: its grid, and both ways, which end at the stored models.
    let text = done("figure1", dir, &spec, &[]);
    assert!(words(&text).contains("to the last bit"), "{text}");
    assert_eq!(table(dir, "figure1", "figures/figure1.csv").len(), 25);
    let states = table(dir, "figure1", "tables/states.csv");
    let of = |name: &str, column: &str| number(states.iter().find(|r| r["model"] == name).unwrap(), column);
    for (name, column) in [("control", "x"), ("control", "y"), ("midtrained", "y"), ("midtrained", "off_plane")] {
        assert!(of(name, column).abs() < 1e-3, "{name} {column}");
    }
    for start in ["control", "midtrained"] {
        assert!(of(&format!("{start}, fine-tuned"), "J_T") < of(start, "J_T"), "{start}");
    }
}

#[test]
fn starts_and_weights() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let spec = spec(dir, "grid.toml", &[GRID]);
    let text = done("figure4", dir, &spec, &["--iso-exposure"]);
    assert!(words(&text).contains("start under this curve of learning rates"), "{text}");
    let cells = table(dir, "figure4", "figures/figure4.csv");
    assert_eq!(cells.len(), 4);
    // 20 steps of 8 sequences, of which 20 % from step 10 on: 32.
    let fibres = table(dir, "figure4", "figures/figure4_exposure.csv");
    let places: Vec<(&str, &str)> =
        fibres.iter().map(|r| (r["start_step"].as_str(), r["sequences"].as_str())).collect();
    assert_eq!(places, [("10", "32"), ("20", "32")]);

    // The same rows of code, by what is trained on. The resolved study holds the arms that were added.
    let resolved = dir.join("figure4/spec.toml");
    let code = |start: u32| specialised(dir, &resolved, &format!("starcoder, 32 sequences from step {start}"));
    let (early, late) = (code(10), code(20));
    assert_eq!(early.len(), 32);
    assert_eq!(early, late);
    assert_eq!(specialised(dir, &resolved, "late, more").len(), 32, "as many, and the same");
    assert_eq!(specialised(dir, &resolved, "late, more"), early);
    assert_eq!(specialised(dir, &resolved, "early, more").len(), 64);

    // A constant rate is another run, and the page says which.
    let text = done("figure4", dir, &spec, &["--iso-exposure", "--curve", "constant"]);
    assert!(!words(&text).contains("start under this curve of learning rates"), "{text}");

    // Where there is one start, there is nothing to hold equal.
    let output = run("figure4", dir, &tiny(), &["--iso-exposure"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("needs a source that several arms mix in from different steps on"));
}

/// With pretraining seeds there are verdicts; sizes are told apart by what they are, not by their order in the file.
#[test]
fn verdicts_of_two_runs() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let small = LARGE.replace("\"large\"", "\"small\"").replace("hidden_size = 48", "hidden_size = 24");
    let spec = spec(dir, "runs.toml", &[GRID, &small]);
    let seeds = ["--pretrain-seeds", "2", "--seeds", "1"];
    done("claims", dir, &spec, &seeds);
    let findings = table(dir, "claims", "tables/claims.csv");
    assert_eq!(findings[3]["unit"], "pretraining seeds", "{findings:?}");
    assert!(["holds", "undecided", "fails", "holds, below the margin"].contains(&findings[3]["verdict"].as_str()));
    // The grid of the smallest size, of which figure4 speaks too.
    done("figure4", dir, &spec, &seeds);
    let of_small =
        |rows: Rows, column: &str| -> f64 { number(rows.iter().find(|row| row["model"] == "small").unwrap(), column) };
    let control = table(dir, "figure4", "tables/figure4.csv");
    let control = of_small(control.into_iter().filter(|row| row["mix"] == "C4").collect(), "sft_loss");
    let contrast = of_small(table(dir, "figure4", "tables/contrasts.csv"), "value");
    assert!((number(&findings[3], "contrast") - contrast / control).abs() < 1e-9, "{contrast} of {control}");
    // Bands and intervals are over runs.
    done("figure8", dir, &spec, &seeds);
    assert!(table(dir, "figure8", "figures/figure8.csv").iter().all(|row| row["seeds"] == "2"));
    let text = done("figure5", dir, &spec, &seeds);
    assert!(words(&text).contains("With 2 pretraining seeds"), "{text}");
}

/// A slice that was stopped goes on where it was, and is the same.
#[test]
fn a_stopped_slice_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let spec = changed(dir, "slice.toml", &[("path_stride = 1", "path_stride = 1\nplane_points = 15")]);
    done("figure1", dir, &spec, &["--store", "whole"]);
    std::fs::rename(dir.join("figure1"), dir.join("expected")).unwrap();
    let mut command = Command::new(example("figure1"));
    command.current_dir(dir).args(["--store", "store", "--quiet", "--out", "figure1", "--spec", &spec]);
    let mut child = command.args(["--jobs", "1", "--checkpoint-seconds", "0.01"]).spawn().unwrap();
    let plane = dir.join("store/plane");
    let begun = || {
        let folders = std::fs::read_dir(&plane).into_iter().flatten().flatten();
        folders.map(|entry| entry.path().join("points.json")).find(|path| path.exists())
    };
    let kept = loop {
        if let Some(path) = begun() {
            break path;
        }
        assert!(child.try_wait().unwrap().is_none(), "it was done before it could be stopped");
        std::thread::sleep(std::time::Duration::from_millis(1));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    let points: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    assert!(points.len() < 15 * 15, "{}", points.len());
    done("figure1", dir, &spec, &[]);
    assert!(!kept.exists());
    for file in ["figures/figure1.csv", "tables/states.csv"] {
        let read = |out: &str| std::fs::read_to_string(dir.join(out).join(file)).unwrap();
        assert_eq!(read("figure1"), read("expected"), "{file}");
    }
}

/// The rows of code that an arm is trained on, sorted.
fn specialised(dir: &Path, spec: &Path, arm: &str) -> Vec<Vec<u8>> {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_midtrain"));
    command.current_dir(dir).arg("export-batches").arg(spec);
    command.args(["--store", "store", "--arm", arm, "--steps", "0..30", "--quiet", "--out"]).arg(out.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let mut rows = Vec::new();
    for step in 0..30 {
        let bytes = std::fs::read(out.path().join(format!("step-{step:09}.safetensors"))).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let ids = file.tensor("input_ids").unwrap();
        let sources = file.tensor("sources").unwrap();
        let width = ids.data().len() / ids.shape()[0];
        let rows_of = ids.data().chunks_exact(width).zip(sources.data().chunks_exact(2));
        rows.extend(rows_of.filter(|(_, source)| *source != [0, 0]).map(|(row, _)| row.to_vec()));
    }
    rows.sort_unstable();
    rows
}

#[test]
fn what_a_study_lacks_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let refused = |name: &str, spec: &str, more: &[&str], said: &str| {
        let output = run(name, dir, spec, more);
        let text = stderr(&output);
        assert!(output.status.code() == Some(2) && text.contains(said), "{name}: {text}");
        assert!(!dir.join("store/pretrain").exists(), "{name}: before anything is trained");
    };
    refused("table3", &tiny(), &[], "arm = Ctd. pretrain (Starcoder) is not in the study");
    let apps = changed(dir, "sets.toml", &[("name = \"Pycode\"", "name = \"Other\"")]);
    for name in ["figure1", "figure5", "figure8", "figure4"] {
        refused(name, &apps, &[], "set = Pycode is not in the study; there are: Other, GSM8K");
    }
    let of = |name: &str, from: &str, to: &str| spec(dir, name, &[&LARGE.replace(from, to)]);
    refused(
        "table8",
        &of("a.toml", "vocab_size = 400", "vocab_size = 500"),
        &[],
        "model.vocab_size of large = 500 must be the study's, 400",
    );
    refused("table8", &of("b.toml", "\"large\"", "\"tiny\""), &[], "sizes.model_name = tiny is named twice");
    refused(
        "table8",
        &of("c.toml", "num_heads = 3", "num_heads = 5"),
        &[],
        "sizes = large cannot be used: model config: num_heads = 5 must divide",
    );
    refused(
        "table8",
        &of("d.toml", "lr_peak = 5e-3", "lr_peak = -1"),
        &[],
        "sizes = large cannot be used: pretrain: peak = -1",
    );
    refused("table8", &of("e.toml", "lr_peak", "lr_paek"), &[], "lr_paek");
    let points = changed(dir, "plane.toml", &[("path_stride = 1", "path_stride = 1\nplane_points = 1")]);
    refused("figure1", &points, &[], "eval.plane_points = 1 must be from 2 to 201");
    let every = changed(dir, "every.toml", &[("path_stride = 1", "path_stride = 1\ncheckpoint_every = 0")]);
    refused("figure5", &every, &[], "eval.checkpoint_every = 0");
    refused("table2", &tiny(), &["--curve", "square"], "square");
    refused("table2", &tiny(), &["--iso-exposure"], "--iso-exposure");
}
