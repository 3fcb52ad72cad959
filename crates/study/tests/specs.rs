//! Study files from anyone: whatever they hold, a plan or an error.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use study::{DataSpec, Plan, Sources, StudySpec};

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
    if let Ok(spec) = toml::from_str::<StudySpec>(text)
        && let Ok(plan) = Plan::stated(&spec)
    {
        let _ = plan.describe(None, None);
        // What is accepted survives being written.
        assert_eq!(toml::from_str::<StudySpec>(&toml::to_string(&spec).unwrap()).unwrap(), spec);
    }
}

#[test]
fn the_unchanged_file_is_planned() {
    let spec: StudySpec = toml::from_str(&text()).unwrap();
    let plan = Plan::stated(&spec).unwrap();
    assert!(plan.describe(None, None).contains("0.2 of starcoder from step 10"));
    let many = StudySpec { pretrain_seeds: 1_000_000_000, ..spec };
    let message = Plan::stated(&many).unwrap_err().to_string();
    assert!(message.contains("pretrain_seeds = 1000000000 must not exceed 10000"), "{message}");
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
