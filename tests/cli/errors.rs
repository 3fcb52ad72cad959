//! Wrong input: a clear error, exit status 2, nothing trained, nothing left behind.

use std::io::Write as _;
use std::path::Path;

use crate::harness::{stderr, table2, tiny};

/// Runs `table2`, expects exit status 2 and these words, and neither output nor training.
fn refused(dir: &Path, args: &[&str], expected: &[&str]) {
    let output = table2(dir, args).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
    for words in expected {
        assert!(message.contains(words), "{args:?}: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
    for folder in ["out", "store/pretrain", "store/data"] {
        assert!(!dir.join(folder).exists(), "{args:?} left {folder} behind");
    }
}

/// The tiny study with one change.
fn changed(dir: &Path, from: &str, to: &str) -> String {
    let text = std::fs::read_to_string(tiny()).unwrap();
    assert!(text.contains(from), "{from}");
    let path = dir.join("changed.toml");
    std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    path.display().to_string()
}

/// A data directory with every role in the layout that is recognised.
fn data(dir: &Path) -> std::path::PathBuf {
    let root = dir.join("data");
    let generator = corpus::Generator::new(9);
    use corpus::Domain::{Code, Edited, General, Gsm8k, Instructions, Knowledge, Lima, Math, Pycode, Sciq};
    let roles = [
        ("general", General, 3000),
        ("starcoder", Code, 600),
        ("math", Math, 600),
        ("flan", Instructions, 600),
        ("knowledgeqa", Knowledge, 600),
        ("dclm", Edited, 200),
        ("sft/pycode", Pycode, 200),
        ("sft/gsm8k", Gsm8k, 200),
        ("sft/lima", Lima, 200),
        ("sft/sciq", Sciq, 200),
    ];
    for (role, domain, count) in roles {
        std::fs::create_dir_all(root.join(role)).unwrap();
        let mut file = std::fs::File::create(root.join(role).join("a.jsonl")).unwrap();
        for document in generator.documents(domain).take(count) {
            writeln!(file, "{}", serde_json::json!({"question": document.prompt, "answer": document.text})).unwrap();
        }
    }
    root
}

/// What the run would refuse, the plan of the same study refuses: a set that has fewer examples than are held out of it.
#[test]
fn plans_refuse_what_runs_do() {
    let dir = tempfile::tempdir().unwrap();
    let root = data(dir.path());
    let few: String = (0..5).map(|i| format!("{{\"question\":\"q{i}\",\"answer\":\"a{i}\"}}\n")).collect();
    std::fs::write(root.join("sft/gsm8k/a.jsonl"), few).unwrap();
    let root = root.display().to_string();
    for args in [vec!["--data", &root], vec!["--data", &root, "--print-plan"]] {
        let output = table2(dir.path(), &args).output().unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
        assert!(message.contains("exceeds the 5 different documents that sft/gsm8k has"), "{args:?}: {message}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn options() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    refused(dir, &["--preset", "tiny"], &["preset = tiny is unknown; presets: smoke, mini, paper"]);
    refused(dir, &["--backend", "tpu"], &["backend = tpu is not in this build", "flex"]);
    refused(dir, &["--seeds", "0"], &["sft_seeds = 0 must be at least 1"]);
    refused(dir, &["--pretrain-seeds", "0"], &["pretrain_seeds = 0"]);
    refused(dir, &["--seeds", "-1"], &["unexpected argument '-1'"]);
    refused(dir, &["--data", "nowhere"], &["--data = nowhere is no directory"]);
    refused(dir, &["--tokenizer", "nowhere.json"], &["nowhere.json"]);
    refused(dir, &["--spec", "nowhere.toml"], &["nowhere.toml"]);
    refused(dir, &["--preset", "paper"], &["--print-plan"]);
    refused(dir, &["--nonsense"], &["--nonsense"]);
}

#[test]
fn specs() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let cases = [
        ("weight = \"0.2\"", "weight = 1.5", "1.5 must be a decimal number from 0 to 1"),
        ("weight = \"0.2\"", "weight = -0.1", "-0.1 must be a decimal number"),
        ("start = 10", "start = 30", "start of starcoder = 30 must be before the end, step 30"),
        ("start = 10", "begin = 10", "unknown field `begin`"),
        ("time = 32", "time = 257", "model.max_positions = 256 is shorter than the longest sequence, 257"),
        (
            "vocab_size = 400\nhidden",
            "vocab_size = 300\nhidden",
            "model.vocab_size = 300 is smaller than the tokenizer's",
        ),
        ("max_time = 256", "max_time = 4", "fine-tuning length = 4 leaves no predicted token of any of the"),
        ("batch = 8", "batch = 0", "pretrain.batch = 0"),
        ("warmup = 3", "warmup = 31", "warmup = 31 must not exceed total = 30"),
        ("grid = [1e-3, 3e-3]", "grid = []", "sft.lr.sweep_base.grid = [] must hold"),
        ("num_heads = 2", "num_heads = 3", "num_heads = 3 must divide hidden_size 32"),
        ("specialised = \"starcoder\"", "specialised = \"cobol\"", "role = cobol is not generated"),
    ];
    for (from, to, expected) in cases {
        // These show only once there are tokens: what was tokenised stays, complete, for the corrected study.
        let spec = changed(dir, from, to);
        if to.contains("300") || to == "max_time = 4" {
            let output = table2(dir, &["--spec", &spec]).output().unwrap();
            assert_eq!(output.status.code(), Some(2));
            assert!(stderr(&output).contains(expected), "{}", stderr(&output));
            assert!(!dir.join("out").exists() && !dir.join("store/pretrain").exists());
            let _ = std::fs::remove_dir_all(dir.join("store"));
        } else {
            refused(dir, &["--spec", &spec], &[expected]);
        }
    }
    // More data than there is: need, have, and what would fit.
    let spec = changed(dir, "specialised = 120", "specialised = 1");
    let output = table2(dir, &["--spec", &spec]).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("source starcoder: the plan needs"), "{message}");
}

#[test]
fn files() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let data = data(dir);
    let path = data.display().to_string();
    let args = ["--data", &path];
    let original = std::fs::read(data.join("math/a.jsonl")).unwrap();
    let restore = || std::fs::write(data.join("math/a.jsonl"), &original).unwrap();

    let mut broken = original.clone();
    broken.extend(b"{\"question\": \"x\", \"answer\": }\n");
    std::fs::write(data.join("math/a.jsonl"), &broken).unwrap();
    refused(dir, &args, &["role math:", "a.jsonl:601: malformed JSON"]);

    let mut renamed = original.clone();
    renamed.extend(b"{\"question\": \"x\", \"reply\": \"y\"}\n");
    std::fs::write(data.join("math/a.jsonl"), &renamed).unwrap();
    refused(dir, &args, &["a.jsonl:601: no field \"answer\"; fields here: question, reply"]);
    restore();

    let whole = zstd::encode_all(&original[..], 3).unwrap();
    std::fs::write(data.join("math/b.jsonl.zst"), &whole[..whole.len() / 2]).unwrap();
    refused(dir, &args, &["b.jsonl.zst:", "truncated or damaged"]);
    std::fs::remove_file(data.join("math/b.jsonl.zst")).unwrap();

    std::fs::rename(data.join("dclm"), data.join("dclm-away")).unwrap();
    refused(dir, &args, &["role dclm: no file matches"]);
    std::fs::rename(data.join("dclm-away"), data.join("dclm")).unwrap();

    let tokenizer = dir.join("tokenizer.json");
    std::fs::write(&tokenizer, "{\"version\": \"1.0\"").unwrap();
    refused(
        dir,
        &["--data", &path, "--tokenizer", &tokenizer.display().to_string()],
        &["tokenizer.json: is no tokenizer file"],
    );

    let sources = dir.join("sources.toml");
    std::fs::write(&sources, "[general]\nsets = [{ files = [\"general/*\"], template = { text = \"{body}\" } }]\n")
        .unwrap();
    let sources = sources.display().to_string();
    refused(dir, &["--data", &path, "--sources", &sources], &["sources = starcoder is missing; roles given: general"]);
}
