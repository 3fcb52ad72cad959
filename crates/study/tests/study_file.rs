//! docs/study-file.md names every field of a study file, and none that there is not; its example is one.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use study::{
    ArmSpec, DataSpec, EvalSpec, FinetuneCurve, FinetuneSpec, LrChoice, PretrainSpec, ProbeSpec, ReplaySpec, RoleFiles,
    SftSetSpec, SizeSpec, Splits, Study, StudySpec, TokenizerSpec,
};

fn page() -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/study-file.md")).unwrap()
}

/// The fields of a type: it is asked to read one that it does not have, and says which there are.
fn fields<T: DeserializeOwned>(file: &str) -> BTreeSet<String> {
    let Err(error) = toml::from_str::<T>(file) else { panic!("{file} was read") };
    let text = error.message().to_owned();
    let mut found: BTreeSet<String> = match text.split_once("available keys: ") {
        Some((_, keys)) => keys.split(", ").map(str::to_owned).collect(),
        None => text.split('`').skip(3).step_by(2).map(str::to_owned).collect(),
    };
    // What records of older stores call `general_sequences`; what `test` is called too.
    found.retain(|name| !["c4_sequences", "held_out"].contains(&name.as_str()));
    assert!(!found.is_empty(), "{text}");
    found
}

/// The fields that the page lists below a heading.
fn listed(page: &str, heading: &str) -> BTreeSet<String> {
    let section = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no heading {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let cell = |line: &str| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned());
    section.lines().filter_map(cell).collect()
}

#[test]
fn every_field_is_described_and_no_other() {
    const UNKNOWN: &str = "unknown = 1";
    let within = |variant: &str| format!("[{variant}]\n{UNKNOWN}");
    let types = [
        ("The study", fields::<StudySpec>(UNKNOWN)),
        ("splits.ROLE", fields::<Splits>(UNKNOWN)),
        ("data.generated", fields::<DataSpec>(&within("generated"))),
        ("data.files", fields::<DataSpec>(&within("files"))),
        ("data.stated", fields::<DataSpec>(&within("stated"))),
        ("data.files.sources.ROLE", fields::<RoleFiles>(UNKNOWN)),
        ("data.files.sources.ROLE.sets", fields::<corpus::SourceFiles>(UNKNOWN)),
        ("data.files.sources.ROLE.sets.template", fields::<corpus::Template>(UNKNOWN)),
        ("tokenizer.bpe", fields::<TokenizerSpec>(&within("bpe"))),
        ("tokenizer.file", fields::<TokenizerSpec>(&within("file"))),
        ("model", fields::<gptneox_model::GptNeoXConfig>(UNKNOWN)),
        ("sizes", fields::<SizeSpec>(UNKNOWN)),
        ("pretrain", fields::<PretrainSpec>(UNKNOWN)),
        ("pretrain.optimizer, sft.optimizer", fields::<trainer::AdamWSpec>(UNKNOWN)),
        ("arms", fields::<ArmSpec>(UNKNOWN)),
        ("arms.phases", fields::<schedule::Phase<schedule::Span>>(UNKNOWN)),
        ("sft", fields::<FinetuneSpec>(UNKNOWN)),
        ("sft.replay", fields::<ReplaySpec>(UNKNOWN)),
        ("sft.curve", fields::<FinetuneCurve>(UNKNOWN)),
        ("sft.lr.fixed", fields::<LrChoice>(&within("fixed"))),
        ("sft.lr.sweep_base, sft.lr.sweep_each", fields::<LrChoice>(&within("sweep_base"))),
        ("sft.sets", fields::<SftSetSpec>(UNKNOWN)),
        ("eval", fields::<EvalSpec>(UNKNOWN)),
        ("probes", fields::<ProbeSpec>(UNKNOWN)),
    ];
    let page = page();
    for (heading, fields) in &types {
        assert!(!fields.is_empty(), "{heading}");
        assert_eq!(&listed(&page, heading), fields, "{heading}");
    }
    // No heading describes something that was not looked at.
    assert_eq!(page.matches("\n## ").count(), types.len());
}

#[test]
fn the_example_is_a_study() {
    let page = page();
    let text = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let study = Study::new(StudySpec::parse("example".as_ref(), text).unwrap()).unwrap();
    assert_eq!((study.arms().count(), study.sets().count()), (2, 1));
    let again = StudySpec::parse("again".as_ref(), &study.spec().to_toml().unwrap()).unwrap();
    assert_eq!(&again, study.spec());
}
