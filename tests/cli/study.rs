//! A whole study: what it writes, what its numbers depend on.

use std::collections::BTreeMap;

use crate::harness::{csv, fixture, read, run_tiny, stderr, table2, tiny};

/// Rows of a table by set and mix.
fn rows(text: &str) -> BTreeMap<(String, String), BTreeMap<String, String>> {
    csv(text).into_iter().map(|row| ((row["dataset"].clone(), row["mix"].clone()), row)).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let [a, b, c] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let first = run_tiny(a.path(), &["--quiet"]);
    assert_eq!(first, run_tiny(b.path(), &["--quiet"]));
    let other = run_tiny(c.path(), &["--quiet", "--study-seed", "4"]);
    for (key, row) in rows(&first) {
        for column in ["sft_loss", "c4_loss", "c4_before"] {
            assert_ne!(row[column], rows(&other)[&key][column], "{key:?} {column}");
        }
    }
    // Another number of fine-tuning seeds leaves pretraining alone.
    let more = run_tiny(a.path(), &["--quiet", "--seeds", "3"]);
    for (key, row) in rows(&first) {
        assert_eq!(row["c4_before"], rows(&more)[&key]["c4_before"]);
        assert_eq!(rows(&more)[&key]["seeds"], "3");
    }
}

/// With one seed of each kind intervals are over held-out documents; with more, those stand beside. Every table says over what.
#[test]
fn one_seed_has_intervals_over_documents() {
    let dir = tempfile::tempdir().unwrap();
    let of = |seeds: &str| {
        let table = run_tiny(dir.path(), &["--quiet", "--seeds", seeds]);
        (rows(&table), csv(&read(dir.path(), "tables/comparison.csv")))
    };
    let (one, compared) = of("1");
    let mixed = &one[&("Pycode".to_owned(), "Starcoder (20%)".to_owned())];
    assert_eq!((mixed["unit"].as_str(), mixed["seeds"].as_str()), ("documents, one model each", "1"));
    assert!(!mixed["sft_delta_ci_low"].is_empty());
    assert_eq!(mixed["sft_delta_ci_low"], mixed["sft_delta_document_ci_low"]);
    for row in &compared {
        assert_eq!(
            (row["ci_low"].as_str(), row["ci_high"].as_str()),
            (row["document_ci_low"].as_str(), row["document_ci_high"].as_str())
        );
        let number = |name: &str| row[name].parse::<f64>().unwrap();
        let difference = number("difference");
        assert!(number("ci_low") <= difference && difference <= number("ci_high"), "{row:?}");
        assert!(number("detectable") > 0.0 && row["family"].starts_with("1 mix on"), "{row:?}");
        assert!((0.0..=1.0).contains(&number("p_adjusted")), "{row:?}");
    }
    let (two, compared) = of("2");
    let mixed = &two[&("Pycode".to_owned(), "Starcoder (20%)".to_owned())];
    assert_eq!(mixed["unit"], "fine-tuning seeds of one checkpoint");
    assert_ne!(mixed["sft_delta_ci_low"], mixed["sft_delta_document_ci_low"]);
    // With one pretraining seed forgetting is the general loss less a constant: no p of its own, as wide an interval.
    let of = |loss: &str| compared.iter().find(|r| r["dataset"] == "Pycode" && r["loss"] == loss).unwrap();
    let width = |loss: &str| {
        let number = |name: &str| of(loss)[name].parse::<f64>().unwrap();
        number("ci_high") - number("ci_low")
    };
    assert!(of("forgetting")["p"].is_empty() && !of("c4")["p"].is_empty());
    assert!((width("forgetting") - width("c4")).abs() < 1e-9);
}

#[test]
fn what_it_writes() {
    let dir = tempfile::tempdir().unwrap();
    let csv = run_tiny(dir.path(), &["--quiet"]);
    assert!(csv.starts_with(
        "model,dataset,mix,mix_weight,sft_loss,sft_delta,sft_delta_ci_low,sft_delta_ci_high,c4_loss,c4_delta,"
    ));
    let rows = rows(&csv);
    assert_eq!(rows.len(), 4);
    let control = &rows[&("Pycode".to_owned(), "C4".to_owned())];
    assert_eq!((control["sft_delta"].as_str(), control["seeds"].as_str()), ("0", "2"));
    let comparison = read(dir.path(), "tables/comparison.csv");
    // One arm beside the control: two sets, three losses.
    assert_eq!(comparison.lines().count(), 1 + 6, "{comparison}");
    assert!(comparison.starts_with(
        "dataset,loss,mix,seeds,control,arm,difference,ci_low,ci_high,unit,p,p_adjusted,family,detectable,document_ci_low,"
    ));
    for file in ["tables/table2.md", "figures/table2.csv", "plan.txt", "report.html", "spec.toml"] {
        assert!(!read(dir.path(), file).is_empty(), "{file}");
    }
    assert!(read(dir.path(), "figures/table2.svg").starts_with("<svg"));
    assert!(std::fs::read(dir.path().join("out/figures/table2.png")).unwrap().starts_with(b"\x89PNG"));
    // Training is real: well below what a model without context can reach.
    let before = crate::harness::csv(&read(dir.path(), "tables/before.csv"));
    let number = |row: &BTreeMap<String, String>, column: &str| row[column].parse::<f64>().unwrap();
    let entropy = number(&before[0], "unigram_entropy");
    for m in crate::harness::csv(&read(dir.path(), "tables/measurements.csv")) {
        assert!(number(&m, "c4_before") < entropy - 0.1, "{m:?} against {entropy}");
        // Each number's folder holds it.
        let stored = |of: &str| -> serde_json::Value {
            let folder = dir.path().join("store").join(&m[&format!("{of}_address")]);
            let done = std::fs::read_to_string(folder.join("done.json")).unwrap();
            serde_json::from_str::<serde_json::Value>(&done).unwrap()["result"].clone()
        };
        for loss in ["sft_loss", "c4_loss", "c4_before"] {
            // Losses by document are kept; they add up, to the last bit. Of documents there are several.
            let documents = stored(loss).as_array().unwrap().clone();
            let sum = |what: &str| documents.iter().map(|d| d[what].as_f64().unwrap()).sum::<f64>();
            assert_eq!(sum("nats") / sum("tokens"), number(&m, loss), "{loss}");
            assert!(documents.len() > 1);
        }
        // A token of the tiny BPE is one to four bytes.
        assert!(number(&m, "sft_document_se") > 0.0 && number(&m, "c4_document_se") > 0.0);
        let bits = number(&m, "c4_bits_per_byte") / (number(&m, "c4_loss") / std::f64::consts::LN_2);
        assert!((0.25..1.0).contains(&bits), "{bits} tokens a byte");
    }
    // Every job behind the page is named; training states with the digest of what they saw.
    let jobs = crate::harness::csv(&read(dir.path(), "tables/jobs.csv"));
    assert!(jobs.iter().all(|job| dir.path().join("store").join(&job["address"]).join("done.json").exists()));
    assert!(jobs.iter().any(|job| job["kind"] == "pretrain" && job["ledger"].len() == 16), "{jobs:?}");
    // The resolved spec gives the same study, all of it already there.
    let spec = dir.path().join("out/spec.toml").display().to_string();
    let started = std::fs::read_dir(dir.path().join("store/finetune")).unwrap().count();
    let output = std::process::Command::new(crate::harness::example("table2"))
        .current_dir(dir.path())
        .args(["--store", "store", "--out", "again", "--quiet", "--spec", &spec])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(dir.path().join("again/tables/table2.csv")).unwrap(), csv);
    assert_eq!(std::fs::read_dir(dir.path().join("store/finetune")).unwrap().count(), started);
}

#[test]
fn one_changed_document_changes_the_rows_that_depend_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let generator = corpus::Generator::new(2);
    let write = |role: &str, domain, count: usize, change: bool| {
        let folder = data.join(role);
        std::fs::create_dir_all(&folder).unwrap();
        let mut text = String::new();
        for (i, d) in generator.documents(domain).take(count).enumerate() {
            // In front: what is appended may lie beyond the longest row.
            let extra = if change && i == 3 { "A word more. " } else { "" };
            text += &serde_json::json!({"question": extra.to_owned() + &d.prompt, "answer": d.text}).to_string();
            text.push('\n');
        }
        std::fs::write(folder.join("a.jsonl"), text).unwrap();
    };
    write("general", corpus::Domain::General, 220, false);
    write("starcoder", corpus::Domain::Code, 120, false);
    write("sft/pycode", corpus::Domain::Pycode, 60, false);
    write("sft/gsm8k", corpus::Domain::Gsm8k, 60, false);
    write("probe", corpus::Domain::Problems, 60, false);
    let mut spec = std::fs::read_to_string(fixture("tiny.toml")).unwrap();
    let (from, to) = (spec.find("[data.generated]").unwrap(), spec.find("[tokenizer.bpe]").unwrap());
    let role = |r: &str| format!("[data.files.sources.\"{r}\"]\nsets = [{{ files = [\"{r}/*.jsonl\"] }}]\n");
    let files = ["general", "starcoder", "sft/pycode", "sft/gsm8k", "probe"].map(role).join("");
    spec.replace_range(from..to, &format!("[data.files]\ndir = \"data\"\n{files}\n"));
    // A tokenizer that does not change with the data.
    let texts = generator.documents(corpus::Domain::General).take(100).map(|d| d.text);
    corpus::train_bpe(texts, 400).unwrap().save(&dir.path().join("tokenizer.json")).unwrap();
    let (from, to) = (spec.find("[tokenizer.bpe]").unwrap(), spec.find("[splits]").unwrap());
    spec.replace_range(from..to, "[tokenizer.file]\npath = \"tokenizer.json\"\n\n");
    std::fs::write(dir.path().join("spec.toml"), spec).unwrap();
    let run = || {
        let output = table2(dir.path(), &["--spec", "spec.toml", "--quiet"]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        rows(&read(dir.path(), "tables/table2.csv"))
    };
    let before = run();
    write("sft/gsm8k", corpus::Domain::Gsm8k, 60, true);
    let after = run();
    for (key, row) in &before {
        assert_eq!(row["c4_before"], after[key]["c4_before"]);
        assert_eq!(row == &after[key], key.0 == "Pycode", "{key:?}");
    }
    write("starcoder", corpus::Domain::Code, 120, true);
    let last = run();
    for (key, row) in &after {
        assert_eq!(row["sft_loss"] == last[key]["sft_loss"], key.1 == "C4", "{key:?}");
    }
}

#[test]
fn a_plan_is_printed_without_training() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny();
    let output = table2(dir.path(), &["--spec", &tiny, "--print-plan"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    for words in
        ["arm Starcoder (20%)", "0.2 of starcoder from step 10", "without shared prefixes", "time: about", "disk"]
    {
        assert!(text.contains(words), "{text}");
    }
    assert!(!dir.path().join("store/pretrain").exists() && !dir.path().join("out").exists());
    let output = table2(dir.path(), &["--preset", "paper", "--print-plan"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("127926272000 tokens an arm"), "{text}");
}
