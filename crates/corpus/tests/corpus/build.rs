//! Making stores: the same bytes whatever the threads, kept work after an interruption, duplicates, policies.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use corpus::{
    BuiltStores, Document, Domain, Generator, OnMalformed, SourceFiles, StoreBuilder, TextInput, Tokenizer,
    is_held_out, train_bpe,
};

fn documents(count: usize) -> Vec<Document> {
    let generator = Generator::new(5);
    generator.documents(Domain::General).take(count).chain(generator.documents(Domain::Gsm8k).take(count)).collect()
}

fn tokenizer() -> Tokenizer {
    train_bpe(documents(300).iter().map(Document::whole), 700).unwrap()
}

fn input<'a>(label: &str, documents: &'a [Document]) -> TextInput<'a> {
    let print = documents.iter().fold(0u64, |sum, d| sum.rotate_left(1) ^ d.hash());
    TextInput::documents(label, &format!("{print:x}"), move || documents.iter().cloned())
}

/// Every file of a folder, by its path.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for side in ["train", "held-out"] {
        for entry in std::fs::read_dir(dir.join(side)).unwrap() {
            let path = entry.unwrap().path();
            files.insert(path.strip_prefix(dir).unwrap().display().to_string(), std::fs::read(path).unwrap());
        }
    }
    files
}

#[test]
fn bytes_do_not_depend_on_threads_or_repetition() {
    let all = documents(300);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let dir = tempfile::tempdir().unwrap();
            let tokenizer = tokenizer();
            let builder = StoreBuilder::new(&tokenizer, "x").held_out_permille(100).shard_bytes(40_000);
            let report = builder.build(&[input("a", &all)], dir.path(), &mut |_| {}).unwrap();
            assert!(report.shards_written > 3, "{report:?}");
            (tokenizer.fingerprint().to_owned(), contents(dir.path()))
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(5) && one == run(1));
}

#[test]
fn stores_hold_what_was_given() {
    let (all, tokenizer) = (documents(300), tokenizer());
    assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (700, 0));
    let dir = tempfile::tempdir().unwrap();
    let builder = StoreBuilder::new(&tokenizer, "x").held_out_permille(100).shard_bytes(40_000);
    let (a, b) = all.split_at(250);
    let mut heard = Vec::new();
    let report = builder
        .build(&[input("a", a), input("b", b)], dir.path(), &mut |p| heard.push((p.input.to_owned(), p.documents)))
        .unwrap();
    let stores = BuiltStores::open(dir.path()).unwrap();
    for (held_out, store) in [(false, &stores.train), (true, &stores.held_out)] {
        store.verify().unwrap();
        let expected: Vec<&Document> = all.iter().filter(|d| is_held_out(d, 100) == held_out).collect();
        assert_eq!(store.document_count(), expected.len() as u64);
        assert_eq!(report.documents[usize::from(held_out)], expected.len() as u64);
        for (i, d) in (0..).zip(expected) {
            let ids = store.document(i).unwrap();
            assert_eq!(ids.last(), Some(&0));
            let (prompt, text) = ids[..ids.len() - 1].split_at(store.prompt_len(i) as usize);
            assert_eq!(tokenizer.decode(prompt, false).unwrap(), d.prompt);
            assert_eq!(tokenizer.decode(text, false).unwrap(), d.text);
            assert_eq!((store.document_hash(i), store.text_bytes(i)), (Some(d.hash()), d.len() as u32));
        }
    }
    assert_eq!(heard.last(), Some(&("b".to_owned(), 600)));
    let path = dir.path().join("tokenizer.json");
    tokenizer.save(&path).unwrap();
    assert_eq!(Tokenizer::from_file(&path).unwrap().fingerprint(), tokenizer.fingerprint());
}

/// A build that fails half way keeps its finished shards; the next gives the bytes of one that did not fail.
#[test]
fn interrupted_builds_are_finished() {
    let (all, tokenizer) = (documents(400), tokenizer());
    for deduplicate in [false, true] {
        // Some documents come twice, across the point of the interruption.
        let all: Vec<Document> = all.iter().chain(&all[100..160]).cloned().collect();
        let builder =
            StoreBuilder::new(&tokenizer, "x").held_out_permille(100).shard_bytes(30_000).deduplicate(deduplicate);
        let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let inputs = |failing: &'static AtomicBool| {
            let all = all.clone();
            let read = move || {
                let stop = if failing.load(Ordering::Relaxed) { 600 } else { usize::MAX };
                all.clone().into_iter().enumerate().map(move |(i, d)| {
                    assert!(i < stop, "the input breaks here");
                    d
                })
            };
            [input("first", &documents(20)).fingerprint().to_owned()]
                .map(|print| TextInput::documents("all", &print, read.clone()))
        };
        static FINE: AtomicBool = AtomicBool::new(false);
        static FAILING: AtomicBool = AtomicBool::new(true);
        let expected = builder.build(&inputs(&FINE), whole.path(), &mut |_| {}).unwrap();
        assert_eq!(expected.duplicates, if deduplicate { 60 } else { 0 });
        // A panic stands for a kill: nothing is tidied up.
        let killed = {
            let build = || builder.build(&inputs(&FAILING), broken.path(), &mut |_| {});
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(build))
        };
        assert!(killed.is_err() && !BuiltStores::exist(broken.path()));
        let message = BuiltStores::open(broken.path()).unwrap_err().to_string();
        assert!(message.contains("holds no store.json"), "{message}");
        std::fs::write(broken.path().join("train/.tmpLeft"), "by a kill").unwrap();
        let report = builder.build(&inputs(&FINE), broken.path(), &mut |_| {}).unwrap();
        assert_eq!(contents(whole.path()), contents(broken.path()));
        assert_eq!((report.documents, report.duplicates), (expected.documents, expected.duplicates));
        // And once more: nothing is left to do.
        let again = builder.build(&inputs(&FINE), broken.path(), &mut |_| {}).unwrap();
        assert_eq!((again.shards_written, again.shards_kept), (0, expected.shards_written));
        // A shard that was damaged since is made again.
        let path = broken.path().join("train/00000-0001.tokens");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        builder.build(&inputs(&FINE), broken.path(), &mut |_| {}).unwrap();
        assert_eq!(contents(whole.path()), contents(broken.path()));
    }
}

/// What changes is made again, and nothing else.
#[test]
fn changed_inputs_and_tokenizers_are_noticed() {
    let (all, tokenizer) = (documents(200), tokenizer());
    let dir = tempfile::tempdir().unwrap();
    let builder = StoreBuilder::new(&tokenizer, "x").held_out_permille(100);
    let (a, b) = all.split_at(150);
    builder.build(&[input("a", a), input("b", b)], dir.path(), &mut |_| {}).unwrap();
    let report = builder.build(&[input("a", a), input("b", &b[1..])], dir.path(), &mut |_| {}).unwrap();
    assert_eq!((report.shards_kept, report.shards_written), (1, 1));
    let other = train_bpe(documents(300).iter().map(Document::whole), 600).unwrap();
    let builder = StoreBuilder::new(&other, "x").held_out_permille(100);
    let report = builder.build(&[input("a", a), input("b", b)], dir.path(), &mut |_| {}).unwrap();
    assert_eq!((report.shards_kept, report.shards_written), (0, 2));
    assert_eq!(BuiltStores::open(dir.path()).unwrap().train.tokenizer(), other.fingerprint());
}

/// The split follows content: more files move no document to the other side.
#[test]
fn the_split_is_stable() {
    let (all, tokenizer) = (documents(200), tokenizer());
    let held_out = |inputs: &[TextInput<'_>]| {
        let dir = tempfile::tempdir().unwrap();
        StoreBuilder::new(&tokenizer, "x").held_out_permille(200).build(inputs, dir.path(), &mut |_| {}).unwrap();
        let store = BuiltStores::open(dir.path()).unwrap().held_out;
        (0..store.document_count()).filter_map(|d| store.document_hash(d)).collect::<Vec<u64>>()
    };
    let (a, b) = all.split_at(200);
    let alone = held_out(&[input("b", b)]);
    let both = held_out(&[input("a", a), input("b", b)]);
    assert!(alone.len() > 20 && both.ends_with(&alone));
    // The same documents with other white space, before or after: on the same side.
    let spaced: Vec<Document> =
        b.iter().map(|d| Document::plain(format!(" {}\n\n", d.whole().replace(' ', "\t ")))).collect();
    assert_eq!(held_out(&[input("spaced", &spaced)]), alone);
}

/// White space, and where the prompt ends, make no other document; anything else does.
#[test]
fn a_content_is_known_in_any_white_space() {
    let hash = |prompt: &str, text: &str| Document::answered(prompt, text).hash();
    let one = hash("", "What is 2 + 2?\n4");
    for (prompt, text) in [
        ("What is 2 + 2?\n", "4"),
        ("What is 2 + 2?", "\n4\n"),
        ("  What is\u{a0}2 + 2?\r\n", "\t4 \u{2003}"),
        ("What is 2 ", "+ 2? 4"),
        ("What is 2", " + 2? 4"),
        ("What i", "s 2 + 2? 4"),
        (" \n", "What is 2 + 2? 4"),
        ("\u{feff}What is 2 + 2?", "\n4\u{200b}"),
    ] {
        assert_eq!(hash(prompt, text), one, "{prompt:?} {text:?}");
    }
    let turn = corpus::Turn { prompt: "+ 2?".to_owned(), text: " 4".to_owned() };
    assert_eq!(Document { later: vec![turn], ..Document::answered("What is", " 2 ") }.hash(), one);
    for other in ["What is 2 + 2?4", "what is 2 + 2? 4", "What is 2 + 2? 4.", "What is 2 +2? 4", ""] {
        assert_ne!(hash("", other), one, "{other:?}");
    }
    assert_eq!(hash("", ""), hash(" ", "\n"));
}

#[test]
fn malformed_records_end_or_are_counted() {
    let tokenizer = tokenizer();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    std::fs::write(&path, "{\"text\":\"one\"}\noops\n{\"text\":\"two\"}\n").unwrap();
    let input =
        |malformed| [TextInput::file(SourceFiles { malformed, ..SourceFiles::folder("") }, path.clone()).unwrap()];
    let out = dir.path().join("out");
    let builder = StoreBuilder::new(&tokenizer, "x");
    let message = builder.build(&input(OnMalformed::Fail), &out, &mut |_| {}).unwrap_err().to_string();
    assert!(message.contains("a.jsonl:2: malformed JSON"), "{message}");
    assert!(!BuiltStores::exist(&out));
    let report = builder.build(&input(OnMalformed::Skip), &out, &mut |_| {}).unwrap();
    assert_eq!((report.documents, report.skipped), ([2, 0], 1));
    assert!(report.first_skipped.unwrap().contains("a.jsonl:2"));
    assert_eq!(BuiltStores::open(&out).unwrap().held_out.token_count(), 0);
    // A file that goes away while it is being tokenised.
    let gone = input(OnMalformed::Fail);
    std::fs::remove_file(&path).unwrap();
    let message = builder_error(&tokenizer, &gone, &dir.path().join("other"));
    assert!(message.contains("a.jsonl: No such file"), "{message}");
}

fn builder_error(tokenizer: &Tokenizer, inputs: &[TextInput<'_>], dir: &Path) -> String {
    StoreBuilder::new(tokenizer, "x").build(inputs, dir, &mut |_| {}).unwrap_err().to_string()
}

#[test]
fn one_process_at_a_time() {
    let (all, tokenizer) = (documents(50), tokenizer());
    let dir = tempfile::tempdir().unwrap();
    let builder = StoreBuilder::new(&tokenizer, "x");
    let mut message = String::new();
    builder
        .build(&[input("a", &all)], dir.path(), &mut |_| {
            message = builder_error(&tokenizer, &[], dir.path());
        })
        .unwrap();
    assert!(message.contains("another process is making stores here"), "{message}");
    BuiltStores::open(dir.path()).unwrap();
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

#[test]
fn inputs_stop_when_asked() {
    let all = documents(50);
    let mut seen = 0;
    let report = input("a", &all).read(&mut |_| {
        seen += 1;
        if seen < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert_eq!((seen, report.unwrap().documents), (3, 3));
}

/// Several builds of parts, put together, are one build of the whole: the same bytes; where duplicates are left out the
/// same content.
#[test]
fn parts_are_put_together() {
    let (all, tokenizer) = (documents(300), tokenizer());
    // The last part of each file comes again in the next one.
    let files: Vec<Vec<Document>> = (0..6).map(|i| all[i * 40..i * 40 + 60].to_vec()).collect();
    let inputs: Vec<TextInput<'_>> = files.iter().enumerate().map(|(i, f)| input(&format!("file {i}"), f)).collect();
    for deduplicate in [false, true] {
        let builder =
            StoreBuilder::new(&tokenizer, "x").held_out_permille(200).shard_bytes(9_000).deduplicate(deduplicate);
        let whole = tempfile::tempdir().unwrap();
        let expected = builder.build(&inputs, whole.path(), &mut |_| {}).unwrap();
        assert_eq!(expected.duplicates, if deduplicate { 100 } else { 0 });
        for cuts in [vec![0, 6], vec![0, 1, 6], vec![0, 2, 3, 5, 6], vec![0, 1, 2, 3, 4, 5, 6]] {
            let dir = tempfile::tempdir().unwrap();
            let to = dir.path().join("whole");
            for (number, pair) in cuts.windows(2).enumerate() {
                let part = dir.path().join(format!("part-{number}"));
                builder.build(&inputs[pair[0]..pair[1]], &part, &mut |_| {}).unwrap();
                builder.adopt(&part, pair[0], &to).unwrap();
            }
            let report = builder.build(&inputs, &to, &mut |_| {}).unwrap();
            assert_eq!((report.shards_written, report.documents), (0, expected.documents), "{cuts:?}");
            assert_eq!(report.duplicates, expected.duplicates, "{cuts:?}");
            if !deduplicate {
                assert_eq!(contents(&to), contents(whole.path()), "{cuts:?}");
            }
            let digests = |dir: &Path| {
                let stores = BuiltStores::open(dir).unwrap();
                stores.train.verify().unwrap();
                stores.held_out.verify().unwrap();
                [stores.train.content_digest().unwrap(), stores.held_out.content_digest().unwrap()]
            };
            assert_eq!(digests(&to), digests(whole.path()), "{cuts:?}");
            // The parts are as they were: what is written again is another file.
            for (number, pair) in cuts.windows(2).enumerate() {
                let part = dir.path().join(format!("part-{number}"));
                let again = builder.build(&inputs[pair[0]..pair[1]], &part, &mut |_| {}).unwrap();
                assert_eq!(again.shards_written, 0);
            }
        }
    }
}

/// Asked to stop, it keeps what is finished; the next build goes on.
#[test]
fn a_build_stops_when_asked() {
    let (tokenizer, dir) = (tokenizer(), tempfile::tempdir().unwrap());
    // More than is tokenised at once, and more than a shard.
    let all: Vec<Document> = (0..6000).map(|i| Document::plain(format!("{i} {}", "word ".repeat(400)))).collect();
    let (asked, stop) = (AtomicBool::new(false), AtomicBool::new(true));
    // At the second question.
    let when = || stop.load(Ordering::Relaxed) && asked.swap(true, Ordering::Relaxed);
    let builder = StoreBuilder::new(&tokenizer, "x").shard_bytes(1 << 20).stop_when(&when);
    let inputs = [input("a", &all)];
    let error = builder.build(&inputs, dir.path(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, corpus::TokenizeError::Stopped), "{error}");
    stop.store(false, Ordering::Relaxed);
    let report = builder.build(&inputs, dir.path(), &mut |_| {}).unwrap();
    assert!(report.shards_kept > 0 && report.shards_written > 0 && report.documents[0] == 6000, "{report:?}");
}
