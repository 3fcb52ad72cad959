//! The command `midtrain`: studies by their files, and what every command writes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::{csv, program, stderr, tiny};

fn midtrain(dir: &Path, args: &[&str]) -> Output {
    program("midtrain").current_dir(dir).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Every file below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(files(&path));
        } else {
            out.push(path);
        }
    }
    out
}

#[test]
fn a_study_file_answers_several_questions() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let tiny = tiny();
    let plan = stdout(&midtrain(dir, &["plan", &tiny, "--question", "table2"]));
    assert!(plan.contains("arm Starcoder (20%)") && !dir.join("runs/tiny").exists(), "{plan}");
    let text = stdout(&midtrain(dir, &["run", &tiny, "--question", "table2,figure3,table1", "--quiet"]));
    assert!(text.contains("Losses after fine-tuning") && text.contains("Pearson r"), "{text}");
    for (question, file) in [
        ("table2", "tables/table2.csv"),
        ("figure3", "figures/figure3.csv"),
        ("figure3", "tables/figure3.csv"),
        ("table1", "tables/table1.csv"),
        ("table1", "spec.toml"),
    ] {
        assert!(dir.join("runs/tiny").join(question).join(file).exists(), "{question}/{file}");
    }
    let status = stdout(&midtrain(dir, &["status", &tiny, "--question", "table2"]));
    assert!(status.contains("done"), "{status}");
    assert!(stdout(&midtrain(dir, &["gc", "--list"])).contains("(optimiser)"), "what would be freed");
    let exported = stdout(&midtrain(dir, &["results", "export", "bundle.zst"]));
    assert!(exported.contains("results of 3 studies"), "{exported}");
    let imported = stdout(&midtrain(dir, &["results", "import", "bundle.zst", "--store", "other"]));
    assert!(imported.contains("results, 0 of them known"), "{imported}");
}

#[test]
fn what_cannot_be_asked_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, tiny) = (dir.path(), tiny());
    for (args, expected) in [
        (vec!["run", &tiny, "--question", "table22"], "[possible values: table1, table2"),
        (vec!["run", "nowhere.toml", "--question", "table2"], "nowhere.toml"),
        (vec!["plan", &tiny, "--question", "table2", "--export", "x"], "--export is for midtrain run, not for plan"),
        (vec!["run", &tiny, "--question", "table2", "--checkpoint-seconds", "nan"], "a number of seconds, 0 or more"),
        (vec!["run", &tiny, "--question", "table1,table2", "--engine", "slurm"], "one question at a time"),
        (
            vec!["run", &tiny, "--question", "table2", "--out", "/dev/null/x"],
            "--out = /dev/null/x/table2 cannot be written",
        ),
        (
            vec!["export-batches", &tiny, "--arm", "Math", "--steps", "0..1", "--out", "b"],
            "arm = Math is not in the study",
        ),
        (vec!["export-batches", &tiny, "--arm", "C4", "--steps", "3..99", "--out", "b"], "steps = 3..99 must end at"),
        (vec!["evaluate", "--model", "m", "--input", "i", "--output", "o", "--stride", "3"], "cannot be used with"),
        (vec!["evaluate", "--model", "m", "--text", "t", "--output", "o"], "cannot be used with"),
    ] {
        let output = midtrain(dir, &args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
        assert!(!dir.join("runs").exists() && !dir.join("b").exists(), "{args:?} left something behind");
    }
}

#[test]
fn exported_batches_are_those_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, tiny) = (dir.path(), tiny());
    let arm = "Starcoder (20%)";
    stdout(&midtrain(dir, &["run", &tiny, "--question", "table2", "--quiet"]));
    stdout(&midtrain(
        dir,
        &["export-batches", &tiny, "--arm", arm, "--steps", "10..13", "--out", "batches", "--quiet"],
    ));
    let mut ledgers = files(&dir.join("runs/store/pretrain"));
    ledgers.retain(|path| {
        path.ends_with("ledger") && std::fs::read_to_string(path).is_ok_and(|text| text.contains("starcoder"))
    });
    for step in 10..13 {
        let bytes = std::fs::read(dir.join(format!("batches/step-{step:09}.safetensors"))).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata: serde_json::Value = serde_json::from_str(&header.metadata().clone().unwrap()["batch"]).unwrap();
        assert_eq!(metadata["sources"], serde_json::json!(["general", "starcoder"]));
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for name in ["input_ids", "targets"] {
            assert_eq!(file.tensor(name).unwrap().shape(), [8, 32], "{name}");
        }
        let ledger = ledgers[0].to_str().unwrap();
        let digest = stdout(&midtrain(dir, &["ledger", "digest", &step.to_string(), ledger]));
        assert_eq!(digest.trim(), metadata["digest"], "step {step}");
    }
    // By the run's own folder: with its losses, and the weights that it began with.
    let run = ledgers[0].parent().unwrap().to_str().unwrap();
    stdout(&midtrain(dir, &["export-batches", run, "--steps", "0..12", "--out", "all", "--weights", "--quiet"]));
    let recipe: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(dir.join("all/recipe.json")).unwrap()).unwrap();
    assert_eq!(recipe["lr"].as_array().unwrap().len(), 12);
    let losses = csv(&std::fs::read_to_string(dir.join("all/losses.csv")).unwrap());
    assert_eq!(
        losses.iter().map(|row| row["step"].clone()).collect::<Vec<_>>(),
        (0..12).map(|s| s.to_string()).collect::<Vec<_>>()
    );
    assert!(dir.join("all/weights/model.safetensors").is_file());
    let same = |step: u64, of: &str| std::fs::read(dir.join(format!("{of}/step-{step:09}.safetensors"))).unwrap();
    assert_eq!(same(10, "all"), same(10, "batches"));
    // What a fine-tune is trained on: prompts are no targets where they are masked.
    let tuned = std::fs::read_dir(dir.join("runs/store/finetune")).unwrap().next().unwrap().unwrap().path();
    stdout(&midtrain(
        dir,
        &["export-batches", tuned.to_str().unwrap(), "--steps", "0..1", "--out", "tuned", "--quiet"],
    ));
    for (args, expected) in [
        (vec!["export-batches", run, "--arm", "C4", "--steps", "0..1", "--out", "x"], "arm = C4 is a study's"),
        (vec!["export-batches", run, "--steps", "0..9999", "--out", "x"], "must end at the run's"),
        (vec!["export-batches", run, "--steps", "0..1", "--out", "all"], "out = all is not empty"),
        (vec!["export-batches", run, "--steps", "1..2", "--weights", "--out", "x"], "must begin at 0 with --weights"),
        (vec!["export-batches", "runs/store", "--steps", "0..1", "--out", "x"], "must be STORE/pretrain/KEY"),
        (vec!["export-batches", "nowhere", "--steps", "0..1", "--out", "x"], "nowhere"),
        (vec!["verify-resume", run, "--steps", "1"], "steps = 1 must be from 2"),
        (vec!["verify-resume", run, "--at", "10"], "at = 10 must be from 1 to 9"),
        (vec!["log", "nowhere", "--out", "x"], "there is no log of a run"),
    ] {
        let output = midtrain(dir, &args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    // Stopping changes no bit.
    let proved = stdout(&midtrain(dir, &["verify-resume", run, "--steps", "12", "--quiet"]));
    assert!(proved.contains("12 steps are the same with a stop after 6"), "{proved}");
    let tuned = tuned.to_str().unwrap();
    assert!(
        stdout(&midtrain(dir, &["verify-resume", tuned, "--steps", "4", "--quiet"])).contains("4 steps are the same")
    );
    // Its log for other programs.
    stdout(&midtrain(dir, &["log", run, "--out", "logs"]));
    let rows = csv(&std::fs::read_to_string(dir.join("logs/log.csv")).unwrap());
    assert!(rows[0].contains_key("loss of starcoder"), "{:?}", rows[0]);
    assert_eq!(std::fs::read_dir(dir.join("logs/tensorboard")).unwrap().count(), 1);
}

/// Held-out sets along the runs, and items that fine-tuned models choose answers of.
#[test]
fn runs_are_evaluated_on_the_way_and_models_choose() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let items = "{\"question\": \"the river\", \"choices\": [\"runs\", \"a stone\", \"x = 1\"], \"gold\": 0}\n\
                 {\"question\": \"2 + 2 =\", \"choices\": [\"4\", \"5\"], \"gold\": 0}\n";
    std::fs::write(dir.join("items.jsonl"), items).unwrap();
    let text = std::fs::read_to_string(tiny()).unwrap();
    let with = text.replace("[eval]\n", "[eval]\nalong = 10\n").replacen(
        "name = \"Pycode\"\n",
        "name = \"Pycode\"\nitems = \"items.jsonl\"\n",
        1,
    );
    assert!(with.contains("along = 10") && with.contains("items.jsonl"), "{text}");
    std::fs::write(dir.join("with.toml"), with).unwrap();
    std::fs::write(dir.join("plain.toml"), text).unwrap();
    let plain = stdout(&midtrain(
        dir,
        &["run", "plain.toml", "--question", "table2", "--quiet", "--store", "a", "--out", "plain"],
    ));
    stdout(&midtrain(
        dir,
        &["run", "with.toml", "--question", "table2,figure5", "--quiet", "--store", "b", "--out", "with"],
    ));
    let read = |name: &str| csv(&std::fs::read_to_string(dir.join(name)).unwrap());
    let (without, with) = (read("plain/table2/tables/table2.csv"), read("with/table2/tables/table2.csv"));
    for (a, b) in without.iter().zip(&with) {
        assert!(a.iter().all(|(column, value)| b[column] == *value), "evaluating changes no result");
        let accuracy = b["accuracy"].parse::<f64>();
        assert_eq!(accuracy.is_ok(), b["dataset"] == "Pycode", "{b:?}");
        assert!(!a.contains_key("accuracy") && !plain.contains("acc"));
    }
    assert!(read("with/figure5/tables/figure5.csv")[0].contains_key("accuracy"));
    let evals = files(&dir.join("b/pretrain")).into_iter().filter(|path| path.ends_with("evals.jsonl")).count();
    assert!(evals > 0 && !files(&dir.join("a/pretrain")).iter().any(|path| path.ends_with("evals.jsonl")));
    // The items of one model by hand.
    let model = std::fs::read_dir(dir.join("b/finetune")).unwrap().next().unwrap().unwrap().path().join("model");
    let model = model.to_str().unwrap();
    let said = stdout(&midtrain(dir, &["evaluate", "--model", model, "--items", "items.jsonl", "--choices", "c.csv"]));
    assert!(said.contains("items           2\nacc  "), "{said}");
    assert_eq!(read("c.csv").len(), 5);
    let broken = midtrain(dir, &["evaluate", "--model", model, "--items", "plain.toml"]);
    assert!(broken.status.code() == Some(2) && stderr(&broken).contains("plain.toml: line 1"), "{}", stderr(&broken));
}

/// Every table of every kind of page: one header, and columns that are all numbers or all words.
#[test]
fn csv_files_hold_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, tiny) = (dir.path(), tiny());
    // Table 4's columns hold hyperparameters, numbers and words; Table 3 needs arms that the tiny study has not.
    let questions = "table1,table2,table5,table6,table7,table8,figure1,figure2,figure3,figure4,figure5,figure6,figure8,theory,claims";
    stdout(&midtrain(dir, &["run", &tiny, "--question", questions, "--quiet"]));
    let tables: Vec<PathBuf> =
        files(&dir.join("runs/tiny")).into_iter().filter(|f| f.extension().is_some_and(|e| e == "csv")).collect();
    assert!(tables.len() > 20, "{}", tables.len());
    // Digests are words that may look like numbers.
    for path in tables.iter().filter(|path| !path.ends_with("jobs.csv")) {
        let rows = csv(&std::fs::read_to_string(path).unwrap());
        for column in rows.first().map_or_else(Vec::new, |row| row.keys().collect()) {
            let given: Vec<&str> = rows.iter().map(|row| row[column].as_str()).filter(|v| !v.is_empty()).collect();
            let numbers = given.iter().filter(|v| v.parse::<f64>().is_ok()).count();
            assert!(numbers == 0 || numbers == given.len(), "{}: {column}: {given:?}", path.display());
        }
    }
}

/// Files are readable by whom the umask lets read: those of every command.
#[test]
fn the_umask_decides_who_may_read() {
    for (umask, mode) in [("022", 0o644), ("077", 0o600)] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let run = |args: &[&str]| {
            let script = format!("umask {umask}; exec \"$0\" \"$@\"");
            let program = env!("CARGO_BIN_EXE_midtrain");
            let output =
                Command::new("sh").current_dir(dir).args(["-c", &script, program]).args(args).output().unwrap();
            stdout(&output)
        };
        run(&["run", &tiny(), "--question", "table2", "--quiet"]);
        run(&["results", "export", "bundle.zst"]);
        run(&["export-batches", &tiny(), "--arm", "C4", "--steps", "0..1", "--out", "batches", "--quiet"]);
        let model = files(&dir.join("runs/store/finetune")).into_iter().find(|path| path.ends_with("config.json"));
        let model = model.unwrap().parent().unwrap().to_str().unwrap().to_owned();
        let tokenizer = format!("{model}/tokenizer.json");
        run(&["convert", "--model", &model, "--output", "converted", "--tokenizer", &tokenizer]);
        std::fs::write(dir.join("text.jsonl"), "{\"text\": \"some words of text\"}\n".repeat(50)).unwrap();
        let tokenize = ["tokenize", "--quiet", "--tokenizer", &tokenizer, "--out", "stores", "text.jsonl"];
        run(&tokenize);
        run(&["train-bpe", "--vocab", "300", "--out", "bpe.json", "text.jsonl"]);
        run(&["man", "man"]);
        std::fs::remove_file(dir.join("text.jsonl")).unwrap();
        let all = files(dir);
        for kind in ["ledger", "log.jsonl", "report.html", "config.json", "model.safetensors", "done.json", "bpe.json"]
        {
            assert!(all.iter().any(|path| path.ends_with(kind)), "{kind} was not written");
        }
        for path in all {
            let found = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "umask {umask}: {} has mode {found:o}", path.display());
        }
    }
}

#[test]
fn shells_and_manuals_know_it() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&midtrain(dir.path(), &["completions", shell])).contains("export-batches"), "{shell}");
    }
    stdout(&midtrain(dir.path(), &["man", "pages"]));
    let page = std::fs::read_to_string(dir.path().join("pages/midtrain-run.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("question"));
    let help = stdout(&midtrain(dir.path(), &["run", "--help"]));
    assert!(help.contains("Examples:") && help.contains("docs/study-file.md"), "{help}");
}
