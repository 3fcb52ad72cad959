//! What is evaluated is trained on nowhere: whatever files it stands in, in whatever white space and order.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use corpus::{TokenStore, Tokenizer, train_bpe};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use study::{DataSpec, HoldOut, Sources, Splits, Store, Study, StudySpec, TokenizerSpec, prepare};

use crate::support::{arm, ask, engine, quiet, spec};

/// A content, the file that it stands in, and its white space there.
type Place = (usize, usize, usize);

const FILES: [(&str, &str); 8] = [
    ("general", "g0"),
    ("general", "g1"),
    ("general", "g2"),
    ("starcoder", "s0"),
    ("starcoder", "s1"),
    ("sft/pycode", "p0"),
    ("sft/pycode", "p1"),
    ("probe", "q0"),
];

/// The words of a content, different for each.
fn words(content: usize) -> Vec<String> {
    (0..6 + content % 5).map(|i| format!("w{content}x{i}")).collect()
}

fn written(content: usize, space: usize) -> serde_json::Value {
    let words = words(content);
    let text = match space % 5 {
        0 => words.join(" "),
        1 => format!("{}\n", words.join(" ")),
        2 => format!("  {}\t", words.join("\n\n")),
        3 => words.join("\u{a0}\r\n"),
        _ => return serde_json::json!({ "prompt": words[..2].join(" ") + " ", "response": words[2..].join(" ") }),
    };
    serde_json::json!({ "prompt": "", "response": text })
}

/// A study of files with these contents.
fn study_of(dir: &Path, places: &[Place], splits: &BTreeMap<String, Splits>, deduplicate: bool) -> StudySpec {
    let mut lines: BTreeMap<(&str, &str), String> = BTreeMap::new();
    for (content, file, space) in places {
        let _ = writeln!(lines.entry(FILES[file % FILES.len()]).or_default(), "{}", written(*content, *space));
    }
    // One document that is in no other, so that no role is empty.
    for (i, (role, file)) in FILES.iter().enumerate() {
        let text = lines.entry((role, file)).or_default();
        let _ = writeln!(text, "{}", written(1000 + i, 0));
        let folder = dir.join("data").join(role);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{file}.jsonl")), text).unwrap();
    }
    let roles: BTreeSet<String> = FILES.iter().map(|(role, _)| (*role).to_owned()).collect();
    let roles: Vec<String> = roles.into_iter().collect();
    let sources = Sources::folders(&roles, &HoldOut::default(), &dir.join("data"));
    let tokenizer = dir.join("tokenizer.json");
    let all = places.iter().map(|(content, ..)| words(*content).join(" "));
    let base = spec();
    train_bpe(all.chain((0..8).map(|i| words(1000 + i).join(" "))), 270).unwrap().save(&tokenizer).unwrap();
    StudySpec {
        data: DataSpec::Files { dir: dir.join("data"), sources, part_bytes: None },
        tokenizer: TokenizerSpec::File { path: tokenizer },
        splits: splits.clone(),
        special_tokens: Default::default(),
        deduplicate,
        // One step trains too.
        sft: study::FinetuneSpec {
            curve: study::FinetuneCurve { shape: study::CurveShape::Constant, ..base.sft.curve },
            ..base.sft.clone()
        },
        arms: vec![study::ArmSpec::control("C4"), arm("Code", &[(8, "starcoder", "0.5")])],
        ..base
    }
}

/// The contents of a role's parts in the store: of what is trained on, of the validation split, of the test split.
fn parts(store: &Store, tokenizer: &Tokenizer) -> BTreeMap<String, [Vec<String>; 3]> {
    let mut parts = BTreeMap::new();
    for job in std::fs::read_dir(store.root().join("split")).unwrap().flatten() {
        let record = crate::support::json(&job.path().join("job.json"));
        let role = record["job"]["split"]["role"].as_str().unwrap().to_owned();
        let texts = |side: &str| {
            let tokens = TokenStore::open(&job.path().join(side)).unwrap();
            let text = |d| tokenizer.decode(&tokens.document(d).unwrap(), true).unwrap();
            let folded = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
            (0..tokens.document_count()).map(|d| folded(text(d))).collect::<Vec<_>>()
        };
        assert!(parts.insert(role, ["train", "validation", "test"].map(texts)).is_none());
    }
    parts
}

fn split() -> impl Strategy<Value = HoldOut> {
    let of = |base: HoldOut| HoldOut { files: vec!["general/g1*".to_owned()], ..base };
    prop_oneof![
        Just(HoldOut::permille(300)),
        Just(HoldOut::documents(2)),
        Just(HoldOut::files(["general/g0.jsonl"])),
        Just(HoldOut::files(["general/g[12].jsonl"])),
        Just(of(HoldOut::permille(500))),
        Just(of(HoldOut::documents(1))),
    ]
}

fn set_splits() -> impl Strategy<Value = Splits> {
    let with = |validation: HoldOut, test: HoldOut| Splits { validation, test };
    prop_oneof![
        Just(Splits::documents(2, 2)),
        Just(with(HoldOut::documents(1), HoldOut::files(["sft/pycode/p0*"]))),
        Just(with(HoldOut::permille(200), HoldOut::documents(1))),
        Just(with(HoldOut::documents(1), HoldOut::permille(300))),
        Just(with(HoldOut::files(["sft/pycode/p1*"]), HoldOut::permille(250))),
    ]
}

#[test]
fn nothing_evaluated_is_trained_on() {
    let places = prop::collection::vec((0usize..30, 0usize..8, 0usize..5), 20..90);
    let mix = prop_oneof![3 => Just(Splits::default()), 1 => Just(Splits::test(HoldOut::documents(1)))];
    let cases = (places, split(), set_splits(), mix, any::<bool>());
    let config = ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() };
    let prepared = Cell::new(0);
    TestRunner::new(config)
        .run(&cases, |(places, general, set, mix, deduplicate)| {
            prepared.set(prepared.get() + u32::from(case(&places, general, set, mix, deduplicate)?));
            Ok(())
        })
        .unwrap();
    assert!(prepared.get() > 60, "only {} of 120 studies could be prepared", prepared.get());
}

/// Whether the study could be prepared; if so, what is to hold of its stores does.
fn case(
    places: &[Place],
    general: HoldOut,
    set: Splits,
    mix: Splits,
    deduplicate: bool,
) -> Result<bool, TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let splits: BTreeMap<String, Splits> =
        [("general", Splits::test(general)), ("sft/pycode", set), ("starcoder", mix)]
            .into_iter()
            .map(|(role, splits)| (role.to_owned(), splits))
            .collect();
    let spec = study_of(dir.path(), places, &splits, deduplicate);
    let (study, store) = (Study::new(spec).unwrap(), Store::new(&dir.path().join("store")));
    let tokenizer = Tokenizer::from_file(&dir.path().join("tokenizer.json")).unwrap();
    if let Err(error) = prepare(&study, &store, &mut engine(), &mut quiet()) {
        // Everything held out, or not as much there: said so, and nothing half done.
        let message = error.to_string();
        let known = [
            "to train on",
            "holds out no document",
            "exceeds the",
            "beside what its test split",
            "holds no document to evaluate",
        ];
        prop_assert!(known.iter().any(|part| message.contains(part)), "{message}");
        return Ok(false);
    }
    let parts = parts(&store, &tokenizer);
    let evaluated: BTreeSet<&String> = parts.values().flat_map(|[_, v, t]| v.iter().chain(t)).collect();
    let mut standing: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (content, file, _) in places {
        standing.entry(FILES[*file].0).or_default().insert(words(*content).join(" "));
    }
    for (i, (role, _)) in FILES.iter().enumerate() {
        standing.entry(role).or_default().insert(words(1000 + i).join(" "));
    }
    for (role, [train, validation, test]) in &parts {
        for text in train {
            prop_assert!(!evaluated.contains(text), "{role} trains on {text:?}, which is evaluated");
        }
        let unique = |texts: &Vec<String>| texts.iter().cloned().collect::<BTreeSet<_>>();
        for texts in [validation, test] {
            prop_assert_eq!(unique(texts).len(), texts.len(), "evaluated twice");
        }
        prop_assert!(unique(validation).is_disjoint(&unique(test)));
        if deduplicate {
            prop_assert_eq!(unique(train).len(), train.len());
        }
        // Nothing is lost: what stands in the role is trained on, or somebody evaluates it or holds it out.
        let lost: Vec<&String> =
            standing[role.as_str()].iter().filter(|t| !train.contains(t) && !evaluated.contains(t)).collect();
        prop_assert!(lost.is_empty(), "{role} lost {lost:?}");
    }
    Ok(true)
}

/// The same documents in other files, in another order and in other white space: the same splits, the same training text but
/// for its order.
#[test]
fn splits_follow_content() {
    let splits: BTreeMap<String, Splits> =
        [("general", Splits::test(HoldOut::permille(300))), ("sft/pycode", Splits::documents(3, 4))]
            .into_iter()
            .map(|(role, splits)| (role.to_owned(), splits))
            .collect();
    let places: Vec<Place> = (0..60).map(|i| (i, i % 7, i % 5)).collect();
    let moved: Vec<Place> = places
        .iter()
        .rev()
        .map(|(content, file, space)| {
            let other = match file {
                0..3 => (file + 1) % 3,
                3 | 4 => 7 - file,
                _ => 11 - file,
            };
            (*content, other, space + 1)
        })
        .collect();
    let found = [places, moved].map(|places| {
        let dir = tempfile::tempdir().unwrap();
        let spec = study_of(dir.path(), &places, &splits, false);
        let store = Store::new(&dir.path().join("store"));
        prepare(&Study::new(spec).unwrap(), &store, &mut engine(), &mut quiet()).unwrap();
        let tokenizer = Tokenizer::from_file(&dir.path().join("tokenizer.json")).unwrap();
        let mut parts = parts(&store, &tokenizer);
        parts.values_mut().flatten().for_each(|texts| texts.sort_unstable());
        parts
    });
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0]["sft/pycode"].each_ref().map(Vec::len)[1..], [3, 4]);
}

/// A number beside thousandths: of what these leave, exactly as many.
#[test]
fn numbers_are_taken_of_what_the_test_split_leaves() {
    let places: Vec<Place> = (0..200).map(|i| (i, 5 + i % 2, 0)).collect();
    for validation in [1, 30, 120] {
        let dir = tempfile::tempdir().unwrap();
        let with = Splits { validation: HoldOut::documents(validation), test: HoldOut::permille(300) };
        let splits = [("general", Splits::test(HoldOut::documents(1))), ("sft/pycode", with)];
        let splits = splits.into_iter().map(|(role, splits)| (role.to_owned(), splits)).collect();
        let spec = study_of(dir.path(), &places, &splits, false);
        let store = Store::new(&dir.path().join("store"));
        prepare(&Study::new(spec).unwrap(), &store, &mut engine(), &mut quiet()).unwrap();
        let tokenizer = Tokenizer::from_file(&dir.path().join("tokenizer.json")).unwrap();
        let [train, found, test] = &parts(&store, &tokenizer)["sft/pycode"];
        assert_eq!(found.len() as u64, validation);
        assert_eq!(train.len() + found.len() + test.len(), 202);
    }
}

/// What is evaluated of a split is decided by contents and the seed: not by where these stand.
#[test]
fn samples_follow_content() {
    let splits: BTreeMap<String, Splits> =
        [("general", Splits::test(HoldOut::permille(400))), ("sft/pycode", Splits::documents(10, 20))]
            .into_iter()
            .map(|(role, splits)| (role.to_owned(), splits))
            .collect();
    let places: Vec<Place> = (0..160).map(|i| (i, [0, 1, 2, 5][i % 4], 0)).collect();
    let moved: Vec<Place> = places.iter().rev().map(|(c, f, _)| (*c, if *f < 3 { 2 - f } else { 6 }, 0)).collect();
    let found = [places, moved].map(|places| {
        let dir = tempfile::tempdir().unwrap();
        let mut spec = study_of(dir.path(), &places, &splits, false);
        spec.eval.examples = Some(5);
        (spec.eval.general_sequences, spec.eval.path_rows, spec.eval.probe_documents) = (2, 2, 3);
        let store = Store::new(&dir.path().join("store"));
        prepare(&Study::new(spec).unwrap(), &store, &mut engine(), &mut quiet()).unwrap();
        let mut parts = parts(&store, &Tokenizer::from_file(&dir.path().join("tokenizer.json")).unwrap());
        parts.values_mut().flatten().for_each(|texts| texts.sort_unstable());
        parts
    });
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0]["sft/pycode"].each_ref().map(Vec::len)[1..], [5, 5]);
    assert!((3..30).contains(&found[0]["general"][2].len()));
}

/// Text that shares a sequence of tokens with evaluated text is reported; left out where the study says so, with the count.
#[test]
fn shared_sequences_are_reported_or_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let splits: BTreeMap<String, Splits> =
        [("general", Splits::test(HoldOut::files(["general/g0.jsonl"]))), ("sft/pycode", Splits::documents(1, 1))]
            .into_iter()
            .map(|(role, splits)| (role.to_owned(), splits))
            .collect();
    let places: Vec<Place> = (0..40).map(|i| (i, i % 7, 0)).collect();
    let mut spec = study_of(dir.path(), &places, &splits, false);
    // Another document around the words of one that is held out.
    let inside = format!("before {} after", words(1000).join(" "));
    let file = dir.path().join("data/starcoder/s1.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}{}\n", serde_json::json!({ "prompt": "", "response": inside }))).unwrap();
    let store = Store::new(&dir.path().join("store"));
    let table = |spec: &StudySpec| {
        let page = ask(spec, &store, &study::Table2).page;
        let data = page.details.iter().find(|table| table.name() == "data").unwrap().csv();
        let row = data.lines().find(|line| line.starts_with("starcoder")).unwrap().to_owned();
        (row, page.details.iter().find(|table| table.name() == "contamination").unwrap().csv())
    };
    let (kept, shared) = table(&spec);
    assert!(kept.ends_with(",1,kept"), "{kept}");
    assert!(
        shared.lines().any(|line| line.starts_with("starcoder,\"general, test\",") && line.ends_with(",1")),
        "{shared}"
    );
    spec.decontaminate = vec!["starcoder".to_owned()];
    let (left, _) = table(&spec);
    assert!(left.ends_with(",1,left out"), "{left}");
    let documents = |row: &str| row.split(',').nth(1).unwrap().parse::<u64>().unwrap();
    assert_eq!(documents(&left) + 1, documents(&kept));
    // A preamble that all documents have: nothing would be left.
    for file in ["s0", "s1"] {
        let line =
            |i: usize| serde_json::json!({ "prompt": "", "response": format!("{inside} {i}") }).to_string() + "\n";
        std::fs::write(dir.path().join(format!("data/starcoder/{file}.jsonl")), line(1) + &line(2)).unwrap();
    }
    let study = Study::new(spec).unwrap();
    let message = prepare(&study, &store, &mut engine(), &mut quiet()).unwrap_err().to_string();
    assert!(message.contains("decontaminate = starcoder leaves none of its 4 documents"), "{message}");
}

/// Patterns that name nothing, or what is not the role's; numbers that are not there.
#[test]
fn splits_that_cannot_be_had_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let places: Vec<Place> = (0..60).map(|i| (i, i % 7, 0)).collect();
    let refused = |role: &str, split: HoldOut, expected: &str| {
        let mut splits: BTreeMap<String, Splits> =
            [("general", Splits::test(HoldOut::permille(300))), ("sft/pycode", Splits::documents(3, 4))]
                .into_iter()
                .map(|(role, splits)| (role.to_owned(), splits))
                .collect();
        splits.get_mut(role).unwrap().test = split;
        let study = Study::new(study_of(dir.path(), &places, &splits, false)).unwrap();
        let store = Store::new(&dir.path().join("store"));
        let message = prepare(&study, &store, &mut engine(), &mut quiet()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    refused("general", HoldOut::files(["general/none*"]), "general/none*");
    refused("general", HoldOut::files(["starcoder/s0*"]), "which is none of the files of general: add it to them");
    refused("general", HoldOut::documents(500), "splits.general.test = 500 exceeds the");
    refused(
        "sft/pycode",
        HoldOut::files(["sft/pycode/*"]),
        "splits.sft/pycode.validation = 3 exceeds the 0 different documents that sft/pycode, beside what its test split has, has",
    );
    refused("general", HoldOut::everything(), "documents of role = general gives none to train on");
}

/// A tokenizer that a study trains has not seen what is held out: a word that stands nowhere else is no token of it.
#[test]
fn a_bpe_is_not_trained_on_what_is_held_out() {
    let dir = tempfile::tempdir().unwrap();
    let places: Vec<Place> = (0..60).map(|i| (i, i % 7, 0)).collect();
    let splits =
        [("general", Splits::test(HoldOut::files(["general/g0.jsonl"]))), ("sft/pycode", Splits::documents(1, 1))];
    let splits = splits.into_iter().map(|(role, splits)| (role.to_owned(), splits)).collect();
    let mut spec = study_of(dir.path(), &places, &splits, false);
    spec.tokenizer = TokenizerSpec::Bpe {
        vocab_size: 270,
        roles: vec!["general".to_owned(), "starcoder".to_owned()],
        max_bytes: 100_000,
    };
    let line = |i: usize| serde_json::json!({ "prompt": "", "response": format!("{} {i}", "QZQZ ".repeat(50)) });
    let file = dir.path().join("data/general/g0.jsonl");
    let tokens = |file: &Path, held_out: bool| {
        let text: String = (0..40).map(|i| format!("{}\n", line(i))).collect();
        std::fs::write(file, text).unwrap();
        let store = Store::new(&dir.path().join(format!("store-{held_out}")));
        let mut spec = spec.clone();
        if !held_out {
            spec.splits.insert("general".to_owned(), Splits::test(HoldOut::documents(1)));
        }
        prepare(&Study::new(spec).unwrap(), &store, &mut engine(), &mut quiet()).unwrap();
        let made = crate::support::files(&store.root().join("tokenizer"));
        let made = made.into_iter().find(|path| path.ends_with("tokenizer.json")).unwrap();
        Tokenizer::from_file(&made).unwrap().encode("QZQZ").unwrap().len()
    };
    assert_eq!(tokens(&file, true), 4, "a byte each");
    assert!(tokens(&file, false) < 4, "it would be learnt where it is not held out");
}
