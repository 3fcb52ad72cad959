//! Data from the command line: tables without training, tokenising that is killed or runs out of disk, ledgers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use crate::harness::{program, run_tiny, stderr, words};

fn run(name: &str, dir: &Path, args: &[&str]) -> Output {
    program(name).current_dir(dir).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Some megabytes of generated text, a line a document.
fn texts(dir: &Path, documents: usize) {
    let generator = corpus::Generator::new(4);
    let mut text = String::new();
    for document in generator.documents(corpus::Domain::General).take(documents) {
        writeln!(text, "{}", serde_json::json!({"text": document.text})).unwrap();
    }
    std::fs::write(dir.join("a.jsonl"), &text).unwrap();
    std::fs::write(dir.join("b.jsonl.zst"), zstd::encode_all(text.as_bytes(), 3).unwrap()).unwrap();
    let args = ["train-bpe", "--vocab", "600", "--max-mb", "1", "--out", "tokenizer.json", "a.jsonl"];
    stdout(&run("midtrain", dir, &args));
}

/// Every file below a folder.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            files.extend(contents(&path).into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else {
            files.insert(name, std::fs::read(path).unwrap());
        }
    }
    files
}

const TOKENIZE: [&str; 9] =
    ["tokenize", "--tokenizer", "tokenizer.json", "--name", "x", "--held-out-permille", "50", "--shard-mb", "1"];

/// Killed at any moment and run again: the bytes of a run that was not.
#[test]
fn tokenising_survives_kills() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    texts(dir, 4000);
    let tokenize = |out: &str| {
        let mut command = program("midtrain");
        command.current_dir(dir).args(TOKENIZE).args(["--deduplicate", "--out", out, "a.jsonl", "b.jsonl.zst"]);
        command
    };
    let started = Instant::now();
    let said = stdout(&tokenize("whole").output().unwrap());
    let duration = started.elapsed();
    assert!(said.contains("4000 duplicates"), "{said}");
    let expected = contents(&dir.join("whole"));
    let mut interrupted = 0;
    for tenth in [2, 4, 6, 8] {
        let out = format!("killed-{tenth}");
        let mut child = tokenize(&out).stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(duration * tenth / 10);
        child.kill().unwrap();
        child.wait().unwrap();
        interrupted += usize::from(!dir.join(&out).join("train/store.json").exists());
        let said = stdout(&tokenize(&out).output().unwrap());
        assert_eq!(contents(&dir.join(&out)), expected, "{said}");
    }
    assert!(interrupted > 0, "no kill came before the end");
    let verified = stdout(&run("midtrain", dir, &["verify", "whole/train"]));
    assert!(verified.contains("whole; fingerprint"), "{verified}");
    let inspected = stdout(&run("midtrain", dir, &["inspect", "whole/held-out"]));
    assert!(inspected.contains("x: ") && inspected.contains("vocabulary 600"), "{inspected}");
    // What is held out was never trained on.
    let overlap =
        stdout(&run("midtrain", dir, &["overlap", "--n", "400", "--evaluated", "whole/held-out", "whole/train"]));
    assert!(overlap.contains(": 0 training documents are evaluated ones") && overlap.contains("; 0 of "), "{overlap}");
}

/// A disk that fills up, as a limit on the size of files: an error that names the file, nothing half-written.
#[cfg(unix)]
#[test]
fn tokenising_says_when_the_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    texts(dir, 3000);
    let script = format!(
        "trap '' XFSZ; ulimit -f 256; exec {} {} --out out a.jsonl",
        env!("CARGO_BIN_EXE_midtrain"),
        TOKENIZE.join(" ")
    );
    let output = Command::new("bash").current_dir(dir).args(["-c", &script]).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("-00000.tokens: File too large"), "{message}");
    let left = contents(&dir.join("out"));
    assert!(left.keys().all(|name| !name.contains("tmp") && !name.contains("store.json")), "{:?}", left.keys());
    // With room again the same command finishes.
    let again = program("midtrain").current_dir(dir).args(TOKENIZE).args(["--out", "out", "a.jsonl"]).output();
    stdout(&again.unwrap());
    stdout(&run("midtrain", dir, &["verify", "out/train"]));
}

/// A data set by its name, from a cache in the layout of Hugging Face's own libraries.
#[test]
fn data_sets_come_from_the_hubs_cache() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    texts(dir, 100);
    let snapshot = dir.join("cache/datasets--tiny--texts/snapshots/0123/data");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(dir.join("cache/datasets--tiny--texts/refs")).unwrap();
    std::fs::write(dir.join("cache/datasets--tiny--texts/refs/main"), "0123").unwrap();
    std::fs::copy(dir.join("b.jsonl.zst"), snapshot.join("train.jsonl.zst")).unwrap();
    let tokenize = |file: &str| {
        let mut command = program("midtrain");
        command.current_dir(dir).env("HF_HUB_CACHE", dir.join("cache")).env("HF_HUB_OFFLINE", "1");
        command.args(TOKENIZE).args(["--out", "out", file]).output().unwrap()
    };
    assert!(stdout(&tokenize("hf://tiny/texts/data/*")).contains("documents"));
    let message = stderr(&tokenize("hf://tiny/tests/data/*"));
    assert!(message.contains("hf://tiny/tests@main: is not in the cache"), "{message}");
}

#[test]
fn bad_input_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    texts(dir, 100);
    let refused = |args: &[&str], expected: &str| {
        let output = run("midtrain", dir, args);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected) && !message.contains("panicked"), "{message}");
    };
    let tokenize = |file| [&TOKENIZE[..], &["--out", "o", file]].concat();
    std::fs::write(dir.join("bad.jsonl"), "{\"text\":\"a\"}\nx\n").unwrap();
    refused(&tokenize("bad.jsonl"), "bad.jsonl:2: malformed JSON");
    refused(&tokenize("none/*.jsonl"), "no file matches none/*.jsonl");
    refused(&tokenize("[.jsonl"), "pattern \"[.jsonl\"");
    refused(&["inspect", "a.jsonl"], "a.jsonl: is no token store of this version");
    refused(&["verify", "nowhere"], "nowhere: No such file");
    let skipping = [&TOKENIZE[..], &["--out", "s", "--skip-malformed", "bad.jsonl"]].concat();
    let said = stdout(&run("midtrain", dir, &skipping));
    assert!(said.contains("not read: 1 malformed records, the first: bad.jsonl:2"), "{said}");
    std::fs::write(dir.join("empty.jsonl"), "{\"text\":null}\n").unwrap();
    refused(&tokenize("empty.jsonl"), "is not made: there is no document in the files");
    refused(&tokenize("empty.jsonl"), "not read: 1 records without text, the first: empty.jsonl:1");
    let with = |args: &[&'static str]| [&TOKENIZE[..], &["--out", "o"], args, &["bad.jsonl"]].concat();
    refused(&with(&["--unit", "word"]), "unknown variant `word`, expected one of `line`, `paragraph`, `file`");
    refused(&with(&["--format", "xml"]), "unknown variant `xml`");
    refused(&with(&["--template", "{ turn = \"m\" }"]), "unknown field `turn`");
    refused(&with(&["--template", "{ turns = \"m\" }", "--text", "{a}"]), "cannot be used with");
    refused(&with(&["--special-tokens", "no"]), "expected `text` or `control`");
}

/// How files are read can be said; what is not read is listed; an added file is tokenised alone.
#[test]
fn tokenising_says_what_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    texts(dir, 100);
    std::fs::create_dir_all(dir.join("in/more")).unwrap();
    let chat = r#"{"messages":[{"role":"User","content":"Rain?"},{"role":"assistant","content":null,"tool_calls":[{"name":"rain"}]},{"role":"tool","content":"yes"},{"role":"narrator","content":"It rains."}]}"#;
    std::fs::write(dir.join("in/chat.ndjson"), chat).unwrap();
    std::fs::write(dir.join("in/more/chat.jsonl"), chat.replace("Rain", "Snow")).unwrap();
    std::fs::write(dir.join("in/README.md"), "not data").unwrap();
    let template = "{ turns = \"messages\", tool_calls = \"json\", answer_roles = [\"narrator\"] }";
    let tokenize = |out: &str, args: &[&str]| {
        let all = [&["tokenize", "--tokenizer", "tokenizer.json", "--out", out], args].concat();
        stdout(&run("midtrain", dir, &all))
    };
    let said = tokenize("chat", &["--template", template, "in"]);
    assert!(said.contains("2 training and 0 held-out documents"), "{said}");
    assert!(said.contains("not read: in/README.md: no known format"), "{said}");
    assert!(said.contains("2 shards written, 0 kept"), "{said}");
    assert!(!dir.join("chat/held-out").exists());
    // By paragraph; a file that comes first by its name is tokenised alone.
    std::fs::write(dir.join("b.txt"), "one\ntwo\n\nthree <|endoftext|>\n").unwrap();
    assert!(tokenize("text", &["--unit", "paragraph", "b.txt"]).contains("2 training"));
    std::fs::write(dir.join("a.txt"), "four\n").unwrap();
    assert!(
        tokenize("text", &["--unit", "paragraph", "a.txt", "b.txt"]).contains("1 shards written, 1 kept, 0 removed")
    );
    let tokens = |out: &str| {
        let store = corpus::TokenStore::open(&dir.join(out).join("train")).unwrap();
        (0..store.document_count()).map(|d| store.document(d).unwrap()).collect::<Vec<_>>()
    };
    let ends = |documents: &[Vec<u32>]| documents.iter().flatten().filter(|id| **id == 0).count();
    assert_eq!((tokens("text").len(), ends(&tokens("text"))), (3, 3));
    tokenize("control", &["--special-tokens", "control", "--unit", "paragraph", "b.txt"]);
    assert_eq!(ends(&tokens("control")), 3);
    // Columns by name, backslashes as FLAN has them, any name as a format that is given.
    std::fs::write(dir.join("part-0"), "q\ta\nx\\ny\tz\n").unwrap();
    let said = tokenize("t", &["--format", "tsv", "--header", "true", "--text", "{q}{a}", "part-0"]);
    assert!(said.contains("1 rows with \\n written out"), "{said}");
    let said =
        tokenize("t", &["--format", "tsv", "--header", "true", "--escapes", "backslash", "--text", "{q}{a}", "part-0"]);
    assert!(said.contains("1 shards written, 0 kept, 1 removed") && !said.contains("not read"), "{said}");
}

/// The paper's arms, planned without any data: all can be had but continued mathematics.
#[test]
fn the_papers_arms_are_planned() {
    let dir = tempfile::tempdir().unwrap();
    let plan = stdout(&run("table1", dir.path(), &["--preset", "paper", "--print-plan"]));
    assert!(plan.ends_with("32 arms: 31 fit, 1 refused\n"), "{plan}");
    let refused: Vec<&str> = plan.lines().filter(|line| line.ends_with("  REFUSED")).collect();
    assert_eq!(refused, ["Ctd. pretrain (Math)       REFUSED"]);
    let reason = plan.lines().find(|line| line.starts_with("REFUSED: ")).unwrap();
    for words in ["source math", "needs 22.93B tokens", "has 12.00B", "a start at step 55278 or later"] {
        assert!(reason.contains(words), "{reason}");
    }
    assert!(plan.contains("note: it starts at step 6000, before the warm-up ends (6100)"), "{plan}");
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "a plan writes nothing");
    let table = stdout(&run("table5", dir.path(), &["--preset", "paper", "--quiet"]));
    assert!(
        words(&table).contains("SciQ 13679 11679 Yes") && words(&table).contains("11 679 + 1 000 + 1 000"),
        "{table}"
    );
}

/// What two arms of a study have seen: the same until one leaves, then what its weight says.
#[test]
fn ledgers_can_be_asked_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    run_tiny(dir.path(), &["--quiet"]);
    let stretches: Vec<String> = std::fs::read_dir(dir.path().join("store/pretrain"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path().join("ledger").display().to_string())
        .collect();
    let begins = |step: &str, code: bool| {
        let found = stretches.iter().find(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().nth(2).unwrap().starts_with(&format!("{step} ")) && text.contains("starcoder") == code
        });
        found.unwrap().as_str()
    };
    // The general trunk up to the fork at step 10, its continuation, the arm with code.
    let (trunk, control, arm) = (begins("0", false), begins("10", false), begins("10", true));
    // 30 steps of 8 sequences of 32 tokens; from step 10 on a fifth is code.
    let seen = stdout(&run("ledger", dir.path(), &["seen-by", "30", trunk, arm]));
    let tokens: BTreeMap<&str, u64> =
        seen.lines().map(|line| line.split_once(' ').unwrap()).map(|(name, n)| (name, n.parse().unwrap())).collect();
    assert_eq!(tokens["general"] + tokens["starcoder"], 30 * 8 * 32);
    assert_eq!(tokens["starcoder"], 20 * 8 * 32 / 5);
    let diff = stdout(&run("ledger", dir.path(), &["diff", control, arm]));
    assert!(diff.starts_with("20 steps in common: ") && diff.contains("starcoder: 0 and 1024 tokens"), "{diff}");
    // The arm's learning rates are the control's: a phase of the mixture neither restarts nor bends the curve.
    let rates = |ledger: &str| {
        let log = std::fs::read_to_string(Path::new(ledger).with_file_name("log.jsonl")).unwrap();
        let rate = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["lr"].as_f64().unwrap();
        log.lines().map(rate).collect::<Vec<f64>>()
    };
    assert_eq!((rates(control).len(), rates(control)), (20, rates(arm)));
    assert!(rates(trunk).last() > rates(arm).first(), "the curve falls on across the fork");
    let digest = stdout(&run("ledger", dir.path(), &["digest", "12", control]));
    assert_eq!(digest.trim().len(), 16);
    let output = run("ledger", dir.path(), &["digest", "5", control]);
    assert!(stderr(&output).contains("step = 5 must be from 10 to 29"), "{}", stderr(&output));
}

/// A document that is held out in one file and stands in another is trained on nowhere; a set's own test split is its test
/// split. The plan says what was left out.
#[test]
fn held_out_files_are_held_out_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let generator = corpus::Generator::new(5);
    use corpus::Domain::{Code, Edited, General, Instructions, Knowledge, Math, Pycode};
    let lines = |domain, from: usize, count: usize| -> Vec<String> {
        let documents = generator.documents(domain).skip(from).take(count);
        documents.map(|d| serde_json::json!({ "question": d.prompt, "answer": d.text }).to_string() + "\n").collect()
    };
    let write = |file: &str, lines: &[String]| {
        let path = dir.join("data").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, lines.concat()).unwrap();
    };
    let general = lines(General, 0, 900);
    // All of what is held out stands in the crawl too, in other white space.
    let spaced: Vec<String> = general[..150].iter().map(|line| line.replace("\"}", "  \\n\"}")).collect();
    write("general/eval.jsonl", &general[..150]);
    write("general/crawl.jsonl", &[&spaced[..], &general[150..]].concat());
    for (role, domain) in
        [("starcoder", Code), ("math", Math), ("flan", Instructions), ("knowledgeqa", Knowledge), ("dclm", Edited)]
    {
        write(&format!("{role}/a.jsonl"), &lines(domain, 0, 600));
    }
    // Some test examples stand in a mix as well.
    let pycode = lines(Pycode, 0, 700);
    write("sft/pycode/train.jsonl", &pycode[..500]);
    write("sft/pycode/test.jsonl", &pycode[500..]);
    write("starcoder/b.jsonl", &pycode[500..520]);
    let set = |role: &str| format!("[{role:?}]\nsets = [{{ files = [\"{role}\"] }}]\n");
    let mut sources = "[general]\nheld_out = [\"general/eval.jsonl\"]\nsets = [{ files = [\"general\"] }]\n\
                       [\"sft/pycode\"]\nvalidation = 50\ntest = [\"sft/pycode/test.jsonl\"]\nsets = [{ files = [\"sft/pycode\"] }]\n"
        .to_owned();
    ["starcoder", "math", "flan", "knowledgeqa", "dclm"].iter().for_each(|role| sources += &set(role));
    std::fs::write(dir.join("sources.toml"), sources).unwrap();
    let plan = stdout(&run(
        "table1",
        dir,
        &["--data", "data", "--sources", "sources.toml", "--quiet", "--store", "store", "--print-plan"],
    ));
    let after = |role: &str| {
        let at = plan.lines().position(|line| line.trim_start().starts_with(role)).unwrap();
        plan.lines().skip(at).take(2).collect::<Vec<_>>().join("\n")
    };
    let different: std::collections::BTreeSet<&String> = general[..150].iter().collect();
    let general_line = after("general ");
    assert!(general_line.contains(&format!("for validation, {} for test", different.len())), "{plan}");
    assert!(general_line.contains("that are held out (general, test)"), "{plan}");
    assert!(after("starcoder ").contains("20 that are held out (sft/pycode, test)"), "{plan}");
    assert!(after("sft/pycode").contains("50 for validation"), "{plan}");
    // The stores themselves: nothing of the test splits in any training store.
    let splits: Vec<_> = std::fs::read_dir(dir.join("store/split")).unwrap().map(|job| job.unwrap().path()).collect();
    let mut args = vec!["overlap".to_owned(), "--n".to_owned(), "100000".to_owned()];
    for job in &splits {
        let test = corpus::TokenStore::open(&job.join("test")).unwrap();
        if test.document_count() > 0 {
            args.extend(["--evaluated".to_owned(), job.join("test").display().to_string()]);
        }
    }
    args.extend(splits.iter().map(|job| job.join("train").display().to_string()));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let overlap = stdout(&run("midtrain", dir, &args));
    let lines: Vec<&str> = overlap.lines().collect();
    assert_eq!(lines.len(), 2 * splits.len(), "{overlap}");
    assert!(lines.iter().all(|line| line.contains(": 0 training documents are evaluated ones")), "{overlap}");
}
