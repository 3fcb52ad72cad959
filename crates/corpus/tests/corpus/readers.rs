//! Readers: every format, every fault with its file and line.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use corpus::{Document, OnMalformed, ReadError, ReadReport, SourceFiles, Template, TextUnit};
use proptest::prelude::*;
use serde_json::json;

fn read_with(path: &Path, set: &SourceFiles) -> Result<(Vec<Document>, ReadReport), ReadError> {
    let mut out = Vec::new();
    let report = set.read(path, &mut |d| {
        out.push(d);
        ControlFlow::Continue(())
    })?;
    assert_eq!(report.documents, out.len() as u64);
    Ok((out, report))
}

fn read(path: &Path, set: &SourceFiles) -> Result<Vec<Document>, ReadError> {
    read_with(path, set).map(|(documents, _)| documents)
}

fn skipping() -> SourceFiles {
    SourceFiles { malformed: OnMalformed::Skip, ..plain() }
}

fn plain() -> SourceFiles {
    SourceFiles::folder("")
}

fn compress(kind: &str, text: &[u8]) -> Vec<u8> {
    match kind {
        "gz" => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(text).unwrap();
            out.finish().unwrap()
        }
        "zst" => zstd::encode_all(text, 3).unwrap(),
        _ => text.to_vec(),
    }
}

#[test]
fn every_format_plain_and_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let qa = Document::answered("Why?\n", "Because.");
    let cases = [
        ("txt", "first line\n\n second line \n", vec![Document::plain("first line"), Document::plain(" second line ")]),
        ("jsonl", "{\"question\":\"Why?\",\"answer\":\"Because.\"}\n\n", vec![qa.clone()]),
        ("json", "[{\"question\":\"Why?\",\"answer\":[\"Because.\",\"So.\"]}]", vec![qa.clone()]),
        ("json", "\n{\"text\":\"a\"}\n {\"text\":\"b\"}", vec![Document::plain("a"), Document::plain("b")]),
        ("json", " ", vec![]),
        (
            "csv",
            "question,answer\nWhy?,Because.\n\"A,\n\"\"B\"\"\",x\n",
            vec![qa.clone(), Document::answered("A,\n\"B\"\n", "x")],
        ),
        ("tsv", "Why?\tBecause.\nA\\nB?\tx\n", vec![qa.clone(), Document::answered("A\\nB?\n", "x")]),
    ];
    for (format, text, expected) in cases {
        for kind in ["", "gz", "zst"] {
            let name = if kind.is_empty() { format!("f.{format}") } else { format!("f.{format}.{kind}") };
            let path = dir.path().join(name);
            std::fs::write(&path, compress(kind, text.as_bytes())).unwrap();
            assert_eq!(read(&path, &plain()).unwrap(), expected, "{}", path.display());
        }
    }
}

#[test]
fn columns_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.tsv");
    std::fs::write(&path, "id\tq\ta\n1\tWhy?\tSo.\n").unwrap();
    let set = SourceFiles { header: Some(true), template: Some(Template::parse("{q} ", "{a}").unwrap()), ..plain() };
    assert_eq!(read(&path, &set).unwrap(), [Document::answered("Why? ", "So.")]);
}

#[test]
fn faults_name_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let good = "{\"text\":\"fine\"}\n".repeat(3000);
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("a.jsonl", format!("{good}{{\"text\": oops}}\n{good}").into(), "a.jsonl:3001: malformed JSON"),
        (
            "b.jsonl",
            b"{\"title\":\"x\"}\n".to_vec(),
            "b.jsonl:1: no known layout has the fields title: give a template",
        ),
        (
            "c.jsonl",
            b"{\"text\":\"x\"}\n{\"body\":\"y\"}\n".to_vec(),
            "c.jsonl:2: no field \"text\"; fields here: body",
        ),
        ("d.tsv", b"a\tb\nc\n".to_vec(), "d.tsv:2: 1 columns, the first line has 2"),
        ("e.txt", b"ok\n\xff\xfe\n".to_vec(), "e.txt:2: is not UTF-8"),
        ("d.csv", b"text,n\na,1\nb\n".to_vec(), "d.csv:3: 1 columns, the first line has 2"),
        ("e.csv", b"text\nok\n\xff\n".to_vec(), "e.csv:3: is not UTF-8"),
        ("f.parquet", b"PAR1 but not really PAR1".to_vec(), "f.parquet:0: is no readable Parquet file"),
        ("f.jsonl", b"{\"text\":{\"inner\":\"x\"}}\n".to_vec(), "f.jsonl:1: a field that is a group of fields"),
        ("f.json", b"[{\"text\":\"x\"},\n".to_vec(), "f.json:"),
        ("g.md", b"x".to_vec(), "g.md: unknown format; known: .txt"),
        ("h.jsonl", b"\"just text\"\n".to_vec(), "h.jsonl:1: a record must be an object"),
    ];
    for (name, bytes, expected) in cases {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let message = read(&path, &plain()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    for kind in ["gz", "zst"] {
        // Lines that do not compress away, so that half the file is half the lines.
        let text: String =
            (0..20_000u64).map(|i| format!("{{\"text\":\"{:x}\"}}\n", i.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
        let whole = compress(kind, text.as_bytes());
        let path = dir.path().join(format!("t.jsonl.{kind}"));
        for keep in [whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..keep]).unwrap();
            let message = read(&path, &plain()).unwrap_err().to_string();
            assert!(message.contains("truncated or damaged"), "{kind} {keep}: {message}");
        }
    }
}

#[test]
fn patterns_that_match_nothing_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let message = SourceFiles::folder("math").paths(dir.path()).unwrap_err().to_string();
    assert!(message.contains("math"), "{message}");
}

/// Skipping leaves out the malformed record alone, counts it and says what the first was.
#[test]
fn malformed_records_can_be_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8], usize, &str); 4] = [
        (
            "a.jsonl",
            b"{\"text\":\"a\"}\nnot json\n{\"body\":1}\n\xff\n{\"text\":\"b\"}\n",
            3,
            "a.jsonl:2: malformed JSON",
        ),
        ("b.csv", b"text,n\na,1\nshort\n\xfe,2\nb,3\n", 2, "b.csv:3: 1 columns"),
        ("c.tsv", b"a\nx\ty\nb\n", 1, "c.tsv:2: 2 columns"),
        ("d.txt", b"a\n\xff\xfe\nb\n", 1, "d.txt:2: is not UTF-8"),
    ];
    for (name, bytes, skipped, first) in cases {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let (documents, report) = read_with(&path, &skipping()).unwrap();
        assert_eq!(documents, [Document::plain("a"), Document::plain("b")], "{name}");
        assert_eq!(report.skipped, skipped as u64, "{name}");
        assert!(report.first_skipped.as_ref().unwrap().contains(first), "{report:?}");
        assert!(read(&path, &plain()).is_err());
    }
    // What cannot be read on is an error whatever the policy.
    let path = dir.path().join("e.json");
    std::fs::write(&path, "[{\"text\":\"a\"}, oops]").unwrap();
    assert!(read_with(&path, &skipping()).unwrap_err().to_string().contains("malformed JSON"));
}

/// Files that another writer made: nested columns, nulls, several row groups, two codecs.
#[test]
fn parquet_rows_are_records() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = "{id}|{text}|{score}|{meta.lang}|{answers[1]}|{note}";
    let set = SourceFiles { template: Some(Template::parse("", text).unwrap()), ..plain() };
    for file in ["zstd.parquet", "snappy.parquet"] {
        let documents = read(&fixtures.join(file), &set).unwrap();
        assert_eq!(documents.len(), 10);
        assert_eq!(documents[3].text, "3|document 3 ✓|0.75|rust|b3|x");
        assert_eq!(documents[4].text, "4|document 4 ✓|1.0|go|b4|");
        assert_eq!(read(&fixtures.join(file), &plain()).unwrap()[7], Document::plain("document 7 ✓"));
        // Half a file has no footer.
        let dir = tempfile::tempdir().unwrap();
        let half = dir.path().join(file);
        let bytes = std::fs::read(fixtures.join(file)).unwrap();
        std::fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
        assert!(read(&half, &plain()).unwrap_err().to_string().contains("is no readable Parquet file"));
    }
}

/// A file that fuzzing found: its footer puts a column at a negative place, and the crate that reads it panics.
#[test]
fn a_parquet_file_with_impossible_places_is_an_error() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/damaged.parquet");
    let message = read(&path, &plain()).unwrap_err().to_string();
    assert!(message.contains("damaged.parquet:0: is no readable Parquet file: column"), "{message}");
}

#[test]
fn filters_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.jsonl");
    let line = |i: i32, set: &str| json!({"text": format!("t{i}"), "meta": {"set": set}}).to_string() + "\n";
    std::fs::write(&path, line(0, "a") + &line(1, "b") + &line(2, "c")).unwrap();
    let values = |names: &[&str]| [("meta.set".to_owned(), names.iter().map(|n| (*n).to_owned()).collect())].into();
    let only = SourceFiles { only: values(&["a", "c"]), ..plain() };
    assert_eq!(read(&path, &only).unwrap(), [Document::plain("t0"), Document::plain("t2")]);
    let except = SourceFiles { except: values(&["a", "c"]), ..plain() };
    assert_eq!(read(&path, &except).unwrap(), [Document::plain("t1")]);
    let unknown = SourceFiles { only: [("lang".to_owned(), vec!["x".to_owned()])].into(), ..plain() };
    assert!(read(&path, &unknown).unwrap_err().to_string().contains("f.jsonl:1: no field \"lang\""));
}

#[test]
fn text_by_line_paragraph_or_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.txt");
    let text = "one\ntwo\n\n\nthree\n";
    std::fs::write(&path, text).unwrap();
    let of = |unit| read(&path, &SourceFiles { unit, ..plain() }).unwrap();
    assert_eq!(of(TextUnit::Line).len(), 3);
    assert_eq!(of(TextUnit::Paragraph), [Document::plain("one\ntwo"), Document::plain("three")]);
    assert_eq!(of(TextUnit::File), [Document::plain(text)]);
}

#[test]
fn reading_stops_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    // What comes after the stop is never looked at.
    for (name, text) in [
        ("a.txt", "a\nb\n\u{0}"),
        ("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"}\noops\n"),
        ("a.json", "[{\"text\":\"a\"},{\"text\":\"b\"},oops"),
        ("a.csv", "text\na\nb\nx,y\n"),
        ("a.tsv", "a\nb\nx\ty\n"),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mut seen = 0;
        let report = plain().read(&path, &mut |_| {
            seen += 1;
            if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((report.unwrap().documents, seen), (2, 2), "{name}");
    }
}

#[test]
fn folders_hold_the_files_that_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let math = dir.path().join("math");
    std::fs::create_dir(&math).unwrap();
    for name in ["b.jsonl.zst", "a.csv", "README.md", "c.parquet"] {
        std::fs::write(math.join(name), "").unwrap();
    }
    let names = |patterns: &[&str]| {
        let paths = SourceFiles::matching(patterns.iter().copied()).paths(dir.path()).unwrap();
        paths.iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&["math"]), ["a.csv", "b.jsonl.zst", "c.parquet"]);
    assert_eq!(names(&["math/*.csv", "math/[ab]*", "**/*.csv"]), ["a.csv", "b.jsonl.zst"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// A damaged Parquet file is an error or documents: the panics of the crate that reads them do not come through.
    #[test]
    fn damaged_parquet_files_are_errors(
        snappy: bool,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
    ) {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let mut bytes = std::fs::read(fixtures.join(if snappy { "snappy.parquet" } else { "zstd.parquet" })).unwrap();
        // The footer, which says where everything is, is the last third.
        let footer = bytes.len() * 2 / 3;
        for (at, value, in_footer) in flips {
            let from = if in_footer { footer } else { 0 };
            let at = from + at.index(bytes.len() - from);
            bytes[at] = value;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.parquet");
        std::fs::write(&path, &bytes).unwrap();
        for set in [plain(), skipping()] {
            if let Err(error) = read_with(&path, &set) {
                prop_assert!(error.to_string().contains("f.parquet:"));
            }
        }
    }

    /// No bytes, in any format, make a reader panic, and a policy of skipping never loses a good record before.
    #[test]
    fn any_bytes_are_an_error_or_documents(mut bytes in prop::collection::vec(any::<u8>(), 0..300), structured: bool) {
        if structured {
            // Made of what the formats are made of.
            const ALPHABET: &[u8] = b"{}[]\":,\t\n\r\\ \"text\"a0\xc3\xa9";
            bytes.iter_mut().for_each(|b| *b = ALPHABET[usize::from(*b) % ALPHABET.len()]);
        }
        let dir = tempfile::tempdir().unwrap();
        for ending in ["txt", "jsonl", "json", "csv", "tsv", "jsonl.gz", "json.zst", "parquet"] {
            let path = dir.path().join(format!("f.{ending}"));
            std::fs::write(&path, &bytes).unwrap();
            for set in [plain(), skipping()] {
                let _ = read_with(&path, &set);
            }
        }
    }
}
