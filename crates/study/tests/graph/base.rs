//! Studies that begin at a checkpoint: with its model and tokenizer, at its losses, and resumed exactly.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use study::{Store, Study, StudySpec, Table2, answer, prepare};

use crate::support::{ask, engine, engine_with, json, quiet, runs, spec};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/base")
}

/// A study of the fixture's texts that names nothing of the model but the checkpoint.
fn file(base: &Path) -> String {
    let texts = fixture();
    format!(
        r#"
model_name = "continued"
base = "{base}"
study_seed = 1
pretrain_seeds = 2
sft_seeds = 1

[data.files]
dir = "{texts}"
[data.files.sources.general]
held_out = ["general/eval.jsonl"]
sets = [{{ files = ["general/*.jsonl"] }}]
[data.files.sources.starcoder]
sets = [{{ files = ["starcoder/*.jsonl"] }}]
[data.files.sources."sft/pycode"]
validation = 4
test = 8
sets = [{{ files = ["sft/pycode/*.jsonl"] }}]

[pretrain]
steps = 12
batch = 2
time = 16
lr_peak = 1e-3
lr_min = 1e-4
warmup = 2
convention = "cosine_warmup_with_min_lr"
clip = 1.0
micro_tokens = 64
max_epochs = 1.0
[pretrain.optimizer]
beta1 = 0.9
beta2 = 0.95
eps = 1e-8
weight_decay = 0.1
decay = "all"

[[arms]]
name = "C4"
[[arms]]
name = "Code"
phases = [{{ start = 0, sequences = 9, specialised = "starcoder" }}]

[sft]
epochs = 1
batch = 8
max_time = 32
clip = 1.0
sets = [{{ name = "Pycode", role = "sft/pycode", mask_prompt = true }}]
[sft.curve]
warmup = 0.1
min = 0
convention = "cosine_warmup_with_min_lr"
[sft.lr.fixed]
lr = 1e-3
[sft.optimizer]
beta1 = 0.9
beta2 = 0.95
eps = 1e-8
weight_decay = 0.1
decay = "all"

[eval]
general_sequences = 1000
"#,
        base = base.display(),
        texts = texts.display()
    )
}

/// What the table of losses before fine-tuning says of a mix.
fn before(page: &study::report::Page, mix: &str) -> f64 {
    let csv = page.tables.iter().find(|table| table.name() == "before").unwrap().csv();
    let row = csv.lines().find(|line| line.starts_with(&format!("{mix},"))).unwrap();
    row.split(',').nth(1).unwrap().parse().unwrap()
}

/// Before any training the loss is the one that transformers gives on the same sequences; training goes on from there, and
/// from a kill in the middle of it to the last bit.
#[test]
fn a_study_begins_at_a_checkpoint() {
    let spec = StudySpec::parse("study.toml".as_ref(), &file(&fixture().join("model"))).unwrap();
    assert_eq!((spec.model.hidden_size, spec.model.vocab_size), (16, 320));
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(&dir.path().join("whole"));
    let page = ask(&spec, &store, &Table2).page;
    let expected = json(&fixture().join("expected.json"));
    assert_eq!(expected["time"], spec.pretrain.time);
    let (loss, at_base) = (expected["loss"].as_f64().unwrap(), before(&page, "(the base)"));
    assert!((at_base - loss).abs() < 1e-5, "{at_base} is not {loss}");
    // Both arms have learnt since, which first weights would not show within 12 steps.
    assert!(before(&page, "C4") < loss - 0.05 && before(&page, "Code") < loss, "{}", page.text(80));
    // Seeds differ in the order of their data alone; each has its own trajectory.
    let lineages: std::collections::BTreeSet<String> = runs(&store).values().map(|r| r.lineage().to_owned()).collect();
    assert_eq!(lineages.len(), 2);

    // Stopped after a few steps, and gone on.
    let stopped = Store::new(&dir.path().join("stopped"));
    let study = Study::new(spec.clone()).unwrap();
    let data = prepare(&study, &stopped, &mut engine(), &mut quiet()).unwrap();
    let signal = study::StopSignal::default();
    let mut progress = study::Progress::new(StopAt { left: 5.into(), signal: signal.clone() }, signal.clone());
    let ended = answer(&Table2, &study, &data, &stopped, &mut engine_with(signal), &mut progress);
    assert!(matches!(ended, Err(study::Error::Stopped { .. })), "{ended:?}");
    let again = ask(&spec, &stopped, &Table2).page;
    assert_eq!(again.text(200), page.text(200));
    assert_eq!(
        runs(&stopped).values().map(|run| (run.name.clone(), run.ledger)).collect::<Vec<_>>(),
        runs(&store).values().map(|run| (run.name.clone(), run.ledger)).collect::<Vec<_>>()
    );
}

/// Asks to stop after some reports of progress.
#[derive(Debug)]
struct StopAt {
    left: AtomicU32,
    signal: study::StopSignal,
}

impl study::Watcher for StopAt {
    fn at(&self, _: f64, _: &dyn Fn() -> String) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.signal.raise(15);
        }
    }
}

/// The address of a state holds the content of the base: the same weights elsewhere are the same base, others are not.
#[test]
fn the_base_is_known_by_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(fixture().join("model").join(name), copy.join(name)).unwrap();
    }
    let store = Store::new(&dir.path().join("store"));
    let spec = |base: &Path| StudySpec::parse("study.toml".as_ref(), &file(base)).unwrap();
    ask(&spec(&fixture().join("model")), &store, &Table2);
    let states = runs(&store).len();
    ask(&spec(&copy), &store, &Table2);
    assert_eq!(runs(&store).len(), states, "the same weights in another folder");
    // One bit of one weight.
    let mut bytes = std::fs::read(copy.join("model.safetensors")).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(copy.join("model.safetensors"), bytes).unwrap();
    ask(&spec(&copy), &store, &Table2);
    assert_eq!(runs(&store).len(), 2 * states);
}

#[test]
fn bases_that_cannot_be_had_are_refused() {
    let refused = |base: &Path, expected: &str| {
        let message = StudySpec::parse("study.toml".as_ref(), &file(base)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    refused("nowhere".as_ref(), "base = nowhere is no folder");
    refused("hf://one".as_ref(), "base = hf://one cannot be had: ");
    let dir = tempfile::tempdir().unwrap();
    refused(dir.path(), "config.json");
    std::fs::copy(fixture().join("model/config.json"), dir.path().join("config.json")).unwrap();
    refused(dir.path(), "holds no tokenizer.json: name one");
    std::fs::copy(fixture().join("model/tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    // Found when it is read: no weights.
    let of = |spec: StudySpec| {
        let store = Store::new(&dir.path().join("store"));
        let study = Study::new(spec).unwrap();
        prepare(&study, &store, &mut engine(), &mut quiet()).unwrap_err().to_string()
    };
    let message = of(StudySpec::parse("study.toml".as_ref(), &file(dir.path())).unwrap());
    assert!(message.contains("model.safetensors"), "{message}");
    // Another model than the checkpoint's.
    let mut other = StudySpec::parse("study.toml".as_ref(), &file(&fixture().join("model"))).unwrap();
    other.model.num_layers = 1;
    let message = of(other);
    assert!(
        message.contains("base = ")
            && message.contains("is another model than the study's: its num_layers is 2, not 1"),
        "{message}"
    );
    // A file that names everything itself needs no folder to be read.
    let whole = StudySpec { base: Some("gone".to_owned()), ..spec() };
    assert_eq!(StudySpec::parse("a".as_ref(), &whole.to_toml().unwrap()).unwrap().base.as_deref(), Some("gone"));
}
