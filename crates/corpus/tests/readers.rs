//! Readers and tokenising: every format, every fault with its file and line.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::path::Path;

use corpus::{Document, Domain, Generator, ReadError, SourceFiles, Template, TokenStore, Tokenizer, train_bpe};

fn read(path: &Path, set: &SourceFiles) -> Result<Vec<Document>, ReadError> {
    let mut out = Vec::new();
    set.read(path, &mut |d| out.push(d))?;
    Ok(out)
}

fn any() -> SourceFiles {
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
    let qa = Document { prompt: "Why?\n".into(), text: "Because.".into() };
    let cases = [
        ("txt", "first line\n\n second line \n", vec![Document::plain("first line"), Document::plain("second line")]),
        ("jsonl", "{\"question\":\"Why?\",\"answer\":\"Because.\"}\n\n", vec![qa.clone()]),
        ("json", "[{\"question\":\"Why?\",\"answer\":[\"Because.\",\"So.\"]}]", vec![qa.clone()]),
        ("tsv", "Why?\tBecause.\nA\\nB?\tx\n", vec![qa, Document { prompt: "A\nB?\n".into(), text: "x".into() }]),
    ];
    for (format, text, expected) in cases {
        for kind in ["", "gz", "zst"] {
            let name = if kind.is_empty() { format!("f.{format}") } else { format!("f.{format}.{kind}") };
            let path = dir.path().join(name);
            std::fs::write(&path, compress(kind, text.as_bytes())).unwrap();
            assert_eq!(read(&path, &any()).unwrap(), expected, "{}", path.display());
        }
    }
}

#[test]
fn columns_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.tsv");
    std::fs::write(&path, "id\tq\ta\n1\tWhy?\tSo.\n").unwrap();
    let set = SourceFiles { header: true, template: Some(Template::parse("{q} ", "{a}").unwrap()), ..any() };
    assert_eq!(read(&path, &set).unwrap(), [Document { prompt: "Why? ".into(), text: "So.".into() }]);
}

#[test]
fn faults_name_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let good = "{\"text\":\"fine\"}\n".repeat(3000);
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("a.jsonl", format!("{good}{{\"text\": oops}}\n{good}").into(), "a.jsonl:3001: malformed JSON"),
        (
            "b.jsonl",
            b"{\"title\":\"x\"}\n".to_vec(),
            "b.jsonl:1: no template given and no known layout has the fields title",
        ),
        (
            "c.jsonl",
            b"{\"text\":\"x\"}\n{\"body\":\"y\"}\n".to_vec(),
            "c.jsonl:2: no field \"text\"; fields here: body",
        ),
        ("d.tsv", b"a\tb\nc\n".to_vec(), "d.tsv:2: 1 columns, the first line has 2"),
        ("e.txt", b"ok\n\xff\xfe\n".to_vec(), "e.txt:2: is not UTF-8"),
        ("f.json", b"[{\"text\":\"x\"},\n".to_vec(), "f.json:"),
        ("g.md", b"x".to_vec(), "g.md: unknown format; known: .txt"),
        ("h.jsonl", b"\"just text\"\n".to_vec(), "h.jsonl:1: a record must be an object"),
    ];
    for (name, bytes, expected) in cases {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let message = read(&path, &any()).unwrap_err().to_string();
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
            let message = read(&path, &any()).unwrap_err().to_string();
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

#[test]
fn bpe_and_stores_do_not_depend_on_threads_or_repetition() {
    let generator = Generator::new(5);
    let documents =
        || generator.documents(Domain::General).take(300).chain(generator.documents(Domain::Gsm8k).take(300));
    let texts: Vec<String> = documents().map(|d| d.prompt + &d.text).collect();
    let dir = tempfile::tempdir().unwrap();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let tokenizer = train_bpe(texts.clone().into_iter(), 700).unwrap();
            let path = dir.path().join(format!("{threads}.tokens"));
            tokenizer.write_store(&path, "x", documents()).unwrap();
            (tokenizer.fingerprint().to_owned(), std::fs::read(path).unwrap())
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(1));
    let tokenizer = train_bpe(texts.clone().into_iter(), 700).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (700, 0));
    let store = TokenStore::open(&dir.path().join("1.tokens")).unwrap();
    for (i, d) in documents().enumerate() {
        let ids = store.document(i as u64).unwrap();
        assert_eq!(ids.last(), Some(&0));
        let (prompt, text) = ids[..ids.len() - 1].split_at(store.prompt_len(i as u64) as usize);
        assert_eq!(tokenizer.decode(prompt, false).unwrap(), d.prompt);
        assert_eq!(tokenizer.decode(text, false).unwrap(), d.text);
    }
    let path = dir.path().join("tokenizer.json");
    tokenizer.save(&path).unwrap();
    assert_eq!(Tokenizer::from_file(&path).unwrap().fingerprint(), tokenizer.fingerprint());
}

#[test]
fn broken_tokenizers_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    assert!(Tokenizer::from_file(&path).unwrap_err().to_string().contains("tokenizer.json"));
    std::fs::write(&path, "{\"model\": 3}").unwrap();
    assert!(Tokenizer::from_file(&path).unwrap_err().to_string().contains("is no tokenizer file"));
    assert!(train_bpe(std::iter::once("abc".to_owned()), 100).unwrap_err().to_string().contains("at least 257"));
}
