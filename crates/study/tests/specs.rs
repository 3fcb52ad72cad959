//! Study files from anyone: whatever they hold, a plan or an error.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use study::{DataSpec, Plan, Sources, Study, StudySpec, Table2};

/// The tiny study of the command-line tests, on stated counts.
fn text() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let mut spec: StudySpec = toml::from_str(&text).unwrap();
    let tokens = ["general", "starcoder"].map(|role| (role.to_owned(), 100_000));
    spec.data = DataSpec::Stated { tokens: tokens.into() };
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
    refused(&|s| s.sft.lr = study::LrChoice::SweepBase { grid: vec![1e-3, 1e-3], extend: 0 }, "is given twice");
    refused(&|s| s.sft.lr = study::LrChoice::SweepEach { grid: vec![1e-3], extend: 4 }, "sft.lr.extend = 4");
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
