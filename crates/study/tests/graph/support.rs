//! Studies of milliseconds on a real backend, and what their runs left in the store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::backend::Autodiff;
use fused_ops::backends::Flex;
use schedule::{Phase, Span, Weight};
use serde_json::Value;
use study::{
    Answer, ArmSpec, Data, LocalEngine, LrChoice, OnDevice, Progress, Question, Splits, StopSignal, Store, Study,
    StudySpec, answer, prepare,
};

pub(crate) const STEPS: u64 = 24;

/// The tiny study of the command-line tests with a smaller model and shorter runs; a control and no other arm.
pub(crate) fn spec() -> StudySpec {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny.toml");
    let mut spec = StudySpec::read(&path).unwrap();
    spec.model.hidden_size = 16;
    spec.model.intermediate_size = 32;
    spec.model.num_layers = 1;
    spec.pretrain.steps = STEPS;
    spec.pretrain.batch = 4;
    spec.pretrain.time = 16;
    spec.tokenizer = match spec.tokenizer {
        study::TokenizerSpec::Bpe { vocab_size, max_bytes, .. } => study::TokenizerSpec::Bpe {
            vocab_size,
            max_bytes,
            roles: ["general", "starcoder", "math"].map(str::to_owned).to_vec(),
        },
        other => other,
    };
    spec.sft.epochs = 1;
    spec.sft.batch = 4;
    spec.sft.lr = LrChoice::fixed(1e-3);
    spec.sft.sets.truncate(1);
    spec.sft.sets[0].examples = Some(16);
    let sets: Vec<String> = spec.sft.sets.iter().map(|set| set.role.clone()).collect();
    spec.splits.retain(|role, _| role == "general" || sets.contains(role));
    sets.into_iter().for_each(|role| drop(spec.splits.insert(role, Splits::documents(8, 8))));
    spec.sft_seeds = 1;
    spec.eval.general_sequences = 8;
    spec.arms = vec![ArmSpec::control("C4")];
    spec
}

/// An arm of phases: start, role, weight.
pub(crate) fn arm(name: &str, phases: &[(u64, &str, &str)]) -> ArmSpec {
    let phase = |(start, role, weight): &(u64, &str, &str)| {
        Phase::constant(Span::from(*start), role, Weight::parse(weight).unwrap()).unwrap()
    };
    ArmSpec { phases: phases.iter().map(phase).collect(), ..ArmSpec::control(name) }
}

pub(crate) fn engine() -> LocalEngine {
    engine_with(StopSignal::default())
}

pub(crate) fn engine_with(signal: StopSignal) -> LocalEngine {
    LocalEngine::new(Box::new(OnDevice::<Autodiff<Flex>>::new("flex", Default::default(), 1e9)), signal)
}

pub(crate) fn quiet() -> Progress {
    Progress::new((), StopSignal::default())
}

pub(crate) fn data(study: &Study, store: &Store) -> Data {
    prepare(study, store, &mut engine(), &mut quiet()).unwrap()
}

/// Asks a study a question.
pub(crate) fn ask(spec: &StudySpec, store: &Store, question: &dyn Question) -> Answer {
    let study = Study::new(spec.clone()).unwrap();
    let data = data(&study, store);
    answer(question, &study, &data, store, &mut engine(), &mut quiet()).unwrap()
}

/// What lies in a folder of the store.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) step: u64,
    pub(crate) ledger: u64,
    /// Step, ledger after it, loss to the last bit.
    pub(crate) log: Vec<(u64, u64, u64)>,
    /// What it went on from.
    pub(crate) from: Option<String>,
}

impl Run {
    /// Left on the way of another run: its log is that one's.
    pub(crate) fn is_kept(&self) -> bool {
        self.label.ends_with("(kept)")
    }

    pub(crate) fn lineage(&self) -> &str {
        self.name.split('-').next().unwrap()
    }
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// All training states of a store, by name.
pub(crate) fn runs(store: &Store) -> BTreeMap<String, Run> {
    let folder = store.root().join("pretrain");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            let dir = entry.path();
            let name = entry.file_name().into_string().unwrap();
            let (job, done) = (json(&dir.join("job.json")), json(&dir.join("done.json")));
            let log = std::fs::read_to_string(dir.join("log.jsonl")).unwrap();
            let line = |line: &str| {
                let record: Value = serde_json::from_str(line).unwrap();
                let loss = record["loss"].as_f64().unwrap().to_bits();
                (record["step"].as_u64().unwrap(), record["ledger"].as_u64().unwrap(), loss)
            };
            let run = Run {
                label: job["job"]["pretrain"]["label"].as_str().unwrap().to_owned(),
                step: job["job"]["pretrain"]["step"].as_u64().unwrap(),
                ledger: done["result"]["ledger"].as_u64().unwrap(),
                log: log.lines().map(line).collect(),
                from: done["result"]["from"].as_str().map(|a| a.trim_start_matches("pretrain/").to_owned()),
                name: name.clone(),
            };
            (name, run)
        })
        .collect()
}

/// Optimiser steps of pretraining that a store's runs took.
pub(crate) fn steps_trained(store: &Store) -> usize {
    runs(store).values().filter(|run| !run.is_kept()).map(|run| run.log.len()).sum()
}

/// Folders of a kind.
pub(crate) fn count(store: &Store, kind: &str) -> usize {
    std::fs::read_dir(store.root().join(kind)).map_or(0, |entries| entries.flatten().count())
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            out.extend(files(&entry.path()));
        } else {
            out.push(entry.path());
        }
    }
    out.sort_unstable();
    out
}

/// A copy of a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let to = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(file, to).unwrap();
    }
}
