//! Study files from anyone: whatever they hold, a plan or an error.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use std::collections::BTreeMap;

use study::{DataSpec, FixedRate, HoldOut, LrChoice, Plan, Sources, Splits, StatedExamples, Study, StudySpec, Table2};

/// The tiny study of the command-line tests, on stated counts.
fn text() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let mut spec: StudySpec = toml::from_str(&text).unwrap();
    let tokens = ["general", "starcoder"].map(|role| (role.to_owned(), 100_000));
    let examples =
        ["sft/pycode", "sft/gsm8k"].map(|role| (role.to_owned(), StatedExamples { train: 300, ..Default::default() }));
    spec.data = DataSpec::Stated { tokens: tokens.into(), examples: examples.into() };
    toml::to_string(&spec).unwrap()
}

/// Values that a file may have in place of another.
const VALUES: [&str; 16] = [
    "0",
    "-1",
    "1",
    "18446744073709551615",
    "9223372036854775807",
    "1e300",
    "nan",
    "\"\"",
    "\"0.5\"",
    "\"12.6B tokens\"",
    "[]",
    "{}",
    "true",
    "\"starcoder\"",
    "{ from = 0, to = 1 }",
    "{ starcoder = 0.5, math = 0.5 }",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// One or two values replaced by others.
    #[test]
    fn changed_values(changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(&VALUES[..])), 1..3)) {
        let text = text();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (at, value) in changes {
            let at = at.index(lines.len());
            if let Some((name, _)) = lines[at].split_once(" = ") {
                lines[at] = format!("{name} = {value}");
            }
        }
        plan(&lines.join("\n"));
    }

    /// A few bytes replaced by others.
    #[test]
    fn changed_bytes(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = text().into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(text) = String::from_utf8(bytes) {
            plan(&text);
        }
    }
}

fn plan(text: &str) {
    if let Ok(spec) = StudySpec::parse("changed.toml".as_ref(), text)
        && let Ok(study) = Study::new(spec.clone())
        // As many jobs as seeds and sets: not what is tested here.
        && spec.pretrain_seeds * spec.sft_seeds < 50
        && let Ok(plan) = Plan::stated(&Table2, &study)
    {
        let _ = plan.describe(&study);
        // What is accepted survives being written.
        assert_eq!(toml::from_str::<StudySpec>(&toml::to_string(&spec).unwrap()).unwrap(), spec);
    }
}

#[test]
fn the_unchanged_file_is_planned() {
    let study = Study::new(StudySpec::parse("tiny.toml".as_ref(), &text()).unwrap()).unwrap();
    let plan = Plan::stated(&Table2, &study).unwrap();
    assert!(plan.describe(&study).contains("0.2 of starcoder from step 10"));
    let many = StudySpec { pretrain_seeds: 1_000_000_000, ..study.spec().clone() };
    let message = Study::new(many).unwrap_err().to_string();
    assert!(message.contains("pretrain_seeds = 1000000000 must not exceed 10000"), "{message}");
}

#[test]
fn an_unknown_format_is_refused_by_name() {
    let parse = |text: &str| StudySpec::parse("study.toml".as_ref(), text).map(|spec| spec.format);
    assert_eq!(parse(&text()).unwrap(), 1);
    // A file without it is of the first.
    assert_eq!(parse(&text().replacen("format = 1\n", "", 1)).unwrap(), 1);
    // Whatever else it holds: fields of a later format are not what is wrong with it.
    let later = format!("format = 2\nnew_field = true\n{}", text().replacen("format = 1\n", "", 1));
    let message = parse(&later).unwrap_err().to_string();
    assert_eq!(message, "study.toml: format = 2 is unknown; this program reads format = 1");
}

#[test]
fn what_a_study_checks() {
    let spec = StudySpec::parse("tiny.toml".as_ref(), &text()).unwrap();
    let refused = |change: &dyn Fn(&mut StudySpec), expected: &str| {
        let mut spec = spec.clone();
        change(&mut spec);
        let message = Study::new(spec).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    refused(&|s| s.pretrain.keep_every = Some(0), "pretrain.keep_every = 0 must be at least 1");
    refused(&|s| s.sft.lr = LrChoice::SweepBase { grid: vec![1e-3, 1e-3], extend: 0 }, "is given twice");
    refused(&|s| s.sft.lr = LrChoice::SweepEach { grid: vec![1e-3, 2e-3], extend: 4 }, "sft.lr.sweep_each.extend = 4");
    refused(
        &|s| s.sft.lr = LrChoice::SweepEach { grid: vec![1e-3], extend: 1 },
        "sft.lr.sweep_each.extend = 1 needs a grid of at least two rates",
    );
    refused(&|s| s.pretrain.steps = u64::MAX, "pretrain.steps = 18446744073709551615 must not exceed 10000000");
    let bpe = |vocab_size, roles: &[&str]| study::TokenizerSpec::Bpe {
        vocab_size,
        roles: roles.iter().map(|r| (*r).to_owned()).collect(),
        max_bytes: 1000,
    };
    refused(&|s| s.tokenizer = bpe(1 << 62, &["general"]), "model.vocab_size = 400 is smaller than the tokenizer's");
    refused(&|s| s.tokenizer = bpe(300, &[]), "tokenizer.bpe.roles = [] must hold at least one role");
    refused(&|s| s.pretrain.micro_tokens = 0, "pretrain.micro_tokens = 0 must be at least 1");
    refused(&|s| s.pretrain.optimizer.beta1 = f64::NAN, "pretrain.optimizer.beta1 = NaN");
    refused(&|s| s.sft.clip = f64::NAN, "sft.clip = NaN must be positive");
    refused(&|s| s.arms.retain(|arm| !arm.is_control()), "hold no control");
    refused(&|s| s.sft.sets.clear(), "must hold at least one set");
    refused(&|s| s.arms[1].name = "C4".into(), "arms = C4 is named twice");
    // Rates by set: each set has one, and nothing else is named.
    let by_set = |names: &[&str]| {
        let rates: BTreeMap<String, f64> = names.iter().map(|name| ((*name).to_owned(), 1e-3)).collect();
        LrChoice::Fixed { lr: FixedRate::BySet(rates) }
    };
    refused(&|s| s.sft.lr = by_set(&["Pycode"]), "sft.lr.fixed.lr = [] must hold at least one learning rate for GSM8K");
    refused(&|s| s.sft.lr = by_set(&["Pycode", "GSM8K", "LIMA"]), "sft.lr.fixed.lr = LIMA is no set of the study");
}

/// What is evaluated must be held out; what is held out must be named rightly.
#[test]
fn what_a_study_checks_of_its_splits() {
    let spec = StudySpec::parse("tiny.toml".as_ref(), &text()).unwrap();
    let refused = |role: &str, splits: Splits, expected: &str| {
        let mut spec = spec.clone();
        spec.splits.insert(role.to_owned(), splits);
        let message = Study::new(spec).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    let only = |validation: HoldOut, test: HoldOut| Splits { validation, test };
    refused("general", Splits::default(), "splits.general.test = none must hold something out: losses on general text");
    refused("sft/pycode", Splits::default(), "splits.sft/pycode.test = none must hold something out: losses are");
    refused(
        "sft/pycode",
        Splits::test(HoldOut::documents(3)),
        "splits.sft/pycode.validation = none must hold something",
    );
    refused("probe", Splits::test(HoldOut::documents(3)), "splits = probe is read by a probe alone");
    refused("sft/lima", Splits::documents(1, 1), "splits = sft/lima is no role of the study; there are: general");
    refused("general", Splits::test(HoldOut::permille(0)), "splits.general.test.permille = 0 must be from 1 to 500");
    refused("general", Splits::test(HoldOut::documents(0)), "splits.general.test = 0 must be at least 1");
    refused(
        "starcoder",
        only(HoldOut::permille(300), HoldOut::permille(300)),
        "thousandths held out of starcoder = 600 must not exceed 500",
    );
    let mut unknown = spec.clone();
    unknown.decontaminate = vec!["math".to_owned()];
    assert!(Study::new(unknown).unwrap_err().to_string().contains("decontaminate = math is no role of the study"));
    // Rates that are given need no validation split.
    let mut given = spec.clone();
    given.sft.lr = LrChoice::fixed(1e-3);
    given
        .sft
        .sets
        .iter()
        .for_each(|set| drop(given.splits.insert(set.role.clone(), Splits::test(HoldOut::documents(5)))));
    Study::new(given).unwrap();
}

/// As they stand in files: each form is read, written and read again; others are refused with what they may be.
#[test]
fn what_is_held_out_in_words() {
    let read = |text: &str| toml::from_str::<Splits>(text).map_err(|e| e.to_string());
    let limited = HoldOut { files: vec!["a/*".to_owned()], ..HoldOut::permille(7) };
    for (text, test) in [
        ("", HoldOut::default()),
        ("test = \"none\"", HoldOut::default()),
        ("test = \"all\"", HoldOut::everything()),
        ("test = 12", HoldOut::documents(12)),
        ("held_out = [\"a/*\", \"b\"]", HoldOut::files(["a/*", "b"])),
        ("test = { permille = 7, files = [\"a/*\"] }", limited),
        ("test = { documents = 7 }", HoldOut::documents(7)),
    ] {
        let splits = read(text).unwrap();
        assert_eq!(splits, Splits::test(test), "{text}");
        assert_eq!(read(&toml::to_string(&splits).unwrap()).unwrap(), splits, "{text}");
    }
    for text in ["test = \"most\"", "test = -1", "test = true", "test = 0.1", "test = { permil = 3 }"] {
        assert!(
            read(text).unwrap_err().contains("must be \"none\", \"all\", a number of documents, a list of patterns"),
            "{text}"
        );
    }
    assert!(read("test = {}").unwrap_err().contains("must name permille or documents"));
    assert!(read("test = { permille = 1, documents = 1 }").unwrap_err().contains("must name permille or documents"));
    assert!(read("test = { permille = 1, files = [] }").unwrap_err().contains("files must name one"));
    assert!(read("test = []").unwrap_err().contains("must name one"));
    assert!(read("tests = 3").unwrap_err().contains("unknown field"));
}

/// A curve that would leave every weight as it is.
#[test]
fn a_fine_tune_that_trains_nothing_is_refused() {
    let mut spec = StudySpec::parse("tiny.toml".as_ref(), &text()).unwrap();
    spec.sft.epochs = 1;
    spec.sft.sets.iter_mut().for_each(|set| set.examples = Some(5));
    let plan = |spec: &StudySpec| Plan::stated(&Table2, &Study::new(spec.clone()).unwrap()).map(drop);
    let message = plan(&spec).unwrap_err().to_string();
    assert!(message.contains("sft.curve = cosine has a rate of 0 at each of the 1 steps on Pycode"), "{message}");
    let remedied = |change: &dyn Fn(&mut StudySpec)| {
        let mut spec = spec.clone();
        change(&mut spec);
        plan(&spec).unwrap();
    };
    remedied(&|s| s.sft.curve.shape = study::CurveShape::Constant);
    remedied(&|s| s.sft.curve.min = study::schedule::Weight::parse("0.1").unwrap());
    remedied(&|s| s.sft.epochs = 2);
}

/// The shipped file: every role of the paper, with what is stated of it.
#[test]
fn the_papers_sources_are_whole() {
    let sources = Sources::paper().unwrap().0;
    let stated: Vec<(&str, u64)> =
        sources.iter().filter_map(|(role, files)| Some((role.as_str(), files.stated_tokens?))).collect();
    let billions = |b: f64| (b * 1e9) as u64;
    // Table 1, and C4.
    assert_eq!(
        stated,
        [
            ("dclm", billions(51.0)),
            ("flan", billions(3.5)),
            ("general", billions(156.0)),
            ("knowledgeqa", billions(9.6)),
            ("math", billions(12.0)),
            ("starcoder", billions(196.0)),
        ]
    );
    let examples: Vec<u64> = sources.values().filter_map(|files| files.stated_examples).collect();
    assert_eq!(examples, [7500, 1000, 5000, 13_679]);
    assert!(sources.values().all(|files| files.note.is_some()));
    for pattern in sources.values().flat_map(|files| &files.sets).flat_map(|set| &set.files) {
        corpus::HubPath::parse(pattern.strip_prefix("hf://").unwrap()).unwrap();
    }
}
