//! Making stores: the same bytes whatever the threads, kept work after an interruption, duplicates, policies.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use corpus::{
    Division, Document, Domain, Generator, OnMalformed, SourceFiles, SpecialTokens, StoreBuilder, TextInput,
    TokenStore, TokenizeError, Tokenizer, permille_of, train_bpe,
};
use proptest::prelude::*;

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
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        files.insert(path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap());
    }
    files
}

#[test]
fn bytes_do_not_depend_on_threads_or_repetition() {
    let all = documents(300);
    let (a, b) = all.split_at(400);
    let run = |threads: usize| {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = tokenizer();
        let builder = StoreBuilder::new(&tokenizer, "x").threads(threads).shard_bytes(40_000);
        let report = builder.build(&[input("a", a), input("b", b)], dir.path(), &mut |_| {}).unwrap();
        assert!(report.shards_written > 3, "{report:?}");
        (tokenizer.fingerprint().to_owned(), contents(dir.path()))
    };
    let one = run(1);
    assert!(one == run(2) && one == run(5) && one == run(1));
}

#[test]
fn stores_hold_what_was_given() {
    let (all, tokenizer) = (documents(300), tokenizer());
    assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (700, 0));
    let dir = tempfile::tempdir().unwrap();
    let builder = StoreBuilder::new(&tokenizer, "x").shard_bytes(40_000);
    let (a, b) = all.split_at(250);
    let mut heard = 0;
    let report =
        builder.build(&[input("a", a), input("b", b)], dir.path(), &mut |p| heard = p.documents.max(heard)).unwrap();
    assert_eq!((heard, report.documents, report.read.documents), (600, 600, 600));
    let whole = TokenStore::open(dir.path()).unwrap();
    whole.verify().unwrap();
    let divided = Division { held_out_permille: 100, deduplicate: false }.divide(&whole, dir.path()).unwrap();
    assert_eq!((divided.train + divided.held_out, divided.duplicates), (600, 0));
    for (side, store) in [(None, "."), (Some(false), "train"), (Some(true), "held-out")] {
        let store = TokenStore::open(&dir.path().join(store)).unwrap();
        let of_side = |d: &&Document| side.is_none_or(|held_out| (permille_of(d.hash()) < 100) == held_out);
        let expected: Vec<&Document> = all.iter().filter(of_side).collect();
        assert_eq!(store.document_count(), expected.len() as u64);
        for (i, d) in (0..).zip(expected) {
            let ids = store.document(i).unwrap();
            assert_eq!(ids.last(), Some(&0));
            let (prompt, text) = ids[..ids.len() - 1].split_at(store.prompt_len(i) as usize);
            assert_eq!(tokenizer.decode(prompt, false).unwrap(), d.prompt);
            assert_eq!(tokenizer.decode(text, false).unwrap(), d.text);
            assert_eq!((store.document_hash(i), store.text_bytes(i)), (Some(d.hash()), d.len() as u32));
        }
    }
    // Nothing held out: an older side is not left behind.
    Division::default().divide(&whole, dir.path()).unwrap();
    assert!(!dir.path().join("held-out").exists());
    let path = dir.path().join("tokenizer.json");
    tokenizer.save(&path).unwrap();
    assert_eq!(Tokenizer::from_file(&path).unwrap().fingerprint(), tokenizer.fingerprint());
}

/// A build that fails half way keeps its finished shards; the next gives the bytes of one that did not fail.
#[test]
fn interrupted_builds_are_finished() {
    let (all, tokenizer) = (documents(400), tokenizer());
    let builder = StoreBuilder::new(&tokenizer, "x").shard_bytes(30_000);
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
        [TextInput::documents("all", "all documents", read)]
    };
    static FINE: AtomicBool = AtomicBool::new(false);
    static FAILING: AtomicBool = AtomicBool::new(true);
    let expected = builder.build(&inputs(&FINE), whole.path(), &mut |_| {}).unwrap();
    // A panic stands for a kill: nothing is tidied up.
    let killed = {
        let build = || builder.build(&inputs(&FAILING), broken.path(), &mut |_| {});
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(build))
    };
    assert!(killed.is_err());
    let message = TokenStore::open(broken.path()).unwrap_err().to_string();
    assert!(message.contains("holds no store.json"), "{message}");
    std::fs::write(broken.path().join(".tmpLeft"), "by a kill").unwrap();
    std::fs::write(broken.path().join(".claim-of-a-kill"), "").unwrap();
    let report = builder.build(&inputs(&FINE), broken.path(), &mut |_| {}).unwrap();
    assert_eq!(contents(whole.path()), contents(broken.path()));
    assert_eq!((report.documents, &report.read), (expected.documents, &expected.read));
    // And once more: nothing is left to do.
    let again = builder.build(&inputs(&FINE), broken.path(), &mut |_| {}).unwrap();
    assert_eq!((again.shards_written, again.shards_kept), (0, expected.shards_written));
    assert_eq!(again.read, expected.read);
    // A shard that was damaged since is made again.
    let path = contents(whole.path()).into_keys().find(|name| name.ends_with("-00001.tokens")).unwrap();
    let path = broken.path().join(path);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    builder.build(&inputs(&FINE), broken.path(), &mut |_| {}).unwrap();
    assert_eq!(contents(whole.path()), contents(broken.path()));
}

/// What changes is made again, and nothing else: also where an input is added before the others, or goes.
#[test]
fn only_what_changed_is_tokenised_again() {
    let (all, tokenizer) = (documents(200), tokenizer());
    let dir = tempfile::tempdir().unwrap();
    let builder = StoreBuilder::new(&tokenizer, "x");
    let (a, b) = all.split_at(150);
    let build = |builder: &StoreBuilder<'_>, inputs: &[TextInput<'_>]| {
        let report = builder.build(inputs, dir.path(), &mut |_| {}).unwrap();
        let fresh = tempfile::tempdir().unwrap();
        builder.build(inputs, fresh.path(), &mut |_| {}).unwrap();
        assert_eq!(contents(dir.path()), contents(fresh.path()));
        (report.shards_kept, report.shards_written, report.shards_removed)
    };
    assert_eq!(build(&builder, &[input("a", a), input("b", b)]), (0, 2, 0));
    assert_eq!(build(&builder, &[input("a", a), input("b", &b[1..])]), (1, 1, 1));
    assert_eq!(build(&builder, &[input("new", &a[..9]), input("a", a), input("b", &b[1..])]), (2, 1, 0));
    assert_eq!(build(&builder, &[input("b", &b[1..])]), (1, 0, 2));
    // The same documents under two names are there twice.
    assert_eq!(build(&builder, &[input("b", &b[1..]), input("copy", &b[1..])]), (2, 0, 0));
    assert_eq!(TokenStore::open(dir.path()).unwrap().document_count(), 2 * (b.len() as u64 - 1));
    let other = train_bpe(documents(300).iter().map(Document::whole), 600).unwrap();
    let refused = |tokenizer: &Tokenizer, name: &str| {
        StoreBuilder::new(tokenizer, name).build(&[input("a", a)], dir.path(), &mut |_| {}).unwrap_err().to_string()
    };
    // A store of something else is not replaced.
    assert!(refused(&other, "x").contains("holds a store of the tokenizer"));
    assert!(refused(&tokenizer, "y").contains("holds a store called \"x\", not \"y\""));
    assert_eq!(TokenStore::open(dir.path()).unwrap().tokenizer(), tokenizer.fingerprint());
    std::fs::remove_file(dir.path().join("store.json")).unwrap();
    assert_eq!(build(&StoreBuilder::new(&other, "x"), &[input("a", a), input("b", b)]), (0, 2, 1));
}

/// A file that is written to while it is read is not stored under the name of what it held.
#[test]
fn files_that_change_while_they_are_read_are_refused() {
    let tokenizer = tokenizer();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let line = |i: usize| format!("{{\"text\":\"{i} {}\"}}\n", "word ".repeat(200));
    let text: String = (0..3000).map(line).collect();
    std::fs::write(&path, &text).unwrap();
    let out = dir.path().join("out");
    let of = || [TextInput::file(SourceFiles::folder(""), path.clone()).unwrap()];
    let builder = StoreBuilder::new(&tokenizer, "x").shard_bytes(1 << 20);
    let inputs = of();
    std::fs::write(&path, text.to_uppercase().replace("TEXT", "text")).unwrap();
    let message = builder.build(&inputs, &out, &mut |_| {}).unwrap_err().to_string();
    assert!(message.contains("a.jsonl: was changed while it was read"), "{message}");
    assert!(contents(&out).keys().all(|name| !name.ends_with(".tokens")), "{:?}", contents(&out).keys());
    std::fs::write(&path, &text).unwrap();
    let report = builder.build(&of(), &out, &mut |_| {}).unwrap();
    assert_eq!((report.documents, report.shards_kept), (3000, 0));
}

/// Another process may make the same store of a folder at once, but no other.
#[test]
fn one_store_at_a_time_in_a_folder() {
    let (all, tokenizer) = (documents(50), tokenizer());
    let dir = tempfile::tempdir().unwrap();
    let mut message = String::new();
    StoreBuilder::new(&tokenizer, "x")
        .build(&[input("a", &all)], dir.path(), &mut |_| {
            let other = StoreBuilder::new(&tokenizer, "x").build(&[input("b", &all[1..])], dir.path(), &mut |_| {});
            message = other.unwrap_err().to_string();
        })
        .unwrap();
    assert!(message.contains("another process is making another store here"), "{message}");
    TokenStore::open(dir.path()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// However the inputs changed before, what is there is each content once, in its first place.
    #[test]
    fn a_deduplicated_store_loses_nothing(
        states in prop::collection::vec(prop::collection::vec(prop::collection::vec(0_u8..12, 0..6), 0..4), 1..5),
        permille in prop_oneof![Just(0_u16), Just(300)],
    ) {
        thread_local!(static TOKENIZER: Tokenizer = tokenizer());
        TOKENIZER.with(|tokenizer| {
            let dir = tempfile::tempdir().unwrap();
            for state in states {
                let files: Vec<Vec<Document>> = state
                    .iter()
                    .map(|file| file.iter().map(|word| Document::plain(format!("the text of {word}"))).collect())
                    .collect();
                let inputs: Vec<TextInput<'_>> = files.iter().map(|file| input("f", file)).collect();
                let builder = StoreBuilder::new(tokenizer, "x").shard_bytes(40).threads(1);
                let built = builder.build(&inputs, dir.path(), &mut |_| {});
                if files.iter().all(Vec::is_empty) {
                    assert!(matches!(built, Err(TokenizeError::NoDocuments { .. })));
                    continue;
                }
                built.unwrap();
                let whole = TokenStore::open(dir.path()).unwrap();
                let division = Division { held_out_permille: permille, deduplicate: true };
                let divided = division.divide(&whole, dir.path()).unwrap();
                let mut expected: Vec<u64> = Vec::new();
                for document in files.iter().flatten() {
                    if !expected.contains(&document.hash()) {
                        expected.push(document.hash());
                    }
                }
                let given = files.iter().flatten().count() as u64;
                assert_eq!(divided.duplicates, given - expected.len() as u64);
                let mut found = Vec::new();
                for side in ["train", "held-out"] {
                    let path = dir.path().join(side);
                    assert_eq!(path.exists(), side == "train" || permille > 0);
                    if path.exists() {
                        let store = TokenStore::open(&path).unwrap();
                        let hashes: Vec<u64> = (0..store.document_count()).filter_map(|d| store.document_hash(d)).collect();
                        assert!(hashes.is_sorted_by_key(|hash| expected.iter().position(|e| e == hash)));
                        found.extend(hashes);
                    }
                }
                found.sort_unstable();
                expected.sort_unstable();
                assert_eq!(found, expected);
            }
        });
    }
}

/// The split follows content: more files move no document to the other side.
#[test]
fn the_split_is_stable() {
    let (all, tokenizer) = (documents(200), tokenizer());
    let held_out = |inputs: &[TextInput<'_>]| {
        let dir = tempfile::tempdir().unwrap();
        StoreBuilder::new(&tokenizer, "x").build(inputs, dir.path(), &mut |_| {}).unwrap();
        let whole = TokenStore::open(dir.path()).unwrap();
        Division { held_out_permille: 200, deduplicate: false }.divide(&whole, dir.path()).unwrap();
        let store = TokenStore::open(&dir.path().join("held-out")).unwrap();
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
    std::fs::write(&path, "{\"text\":\"one\"}\noops\n{\"text\":\"\"}\n{\"text\":\"two\"}\n").unwrap();
    let empty = dir.path().join("b.jsonl");
    std::fs::write(&empty, "").unwrap();
    let input = |malformed| {
        let set = SourceFiles { malformed, ..SourceFiles::folder("") };
        [&path, &empty].map(|path| TextInput::file(set.clone(), path.clone()).unwrap())
    };
    let out = dir.path().join("out");
    let builder = StoreBuilder::new(&tokenizer, "x");
    let message = builder.build(&input(OnMalformed::Fail), &out, &mut |_| {}).unwrap_err().to_string();
    assert!(message.contains("a.jsonl:2: malformed JSON"), "{message}");
    assert!(!out.join("store.json").exists());
    // Tokenised now or before: what was left out is said.
    for kept in [0, 2] {
        let report = builder.build(&input(OnMalformed::Skip), &out, &mut |_| {}).unwrap();
        assert_eq!((report.documents, report.read.skipped, report.read.blank), (2, 1, 1));
        assert!(report.read.first_skipped.unwrap().contains("a.jsonl:2"));
        assert!(report.read.first_blank.unwrap().ends_with("a.jsonl:3"));
        assert_eq!((report.shards_kept, report.empty.len()), (kept, 1));
    }
    // A file that goes away while it is being tokenised.
    let gone = input(OnMalformed::Fail);
    std::fs::remove_file(&path).unwrap();
    let message = builder.build(&gone, &dir.path().join("other"), &mut |_| {}).unwrap_err().to_string();
    assert!(message.contains("a.jsonl: No such file"), "{message}");
}

/// The same bytes under another ending are other documents; a run that finds none takes the place of nothing.
#[test]
fn names_decide_how_bytes_are_read() {
    let tokenizer = tokenizer();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let build = |name: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, "{\"text\":\"the text\"}\n").unwrap();
        let input = TextInput::file(SourceFiles::folder(""), path).unwrap();
        StoreBuilder::new(&tokenizer, "x").build(&[input], &out, &mut |_| {}).unwrap();
        let store = TokenStore::open(&out).unwrap();
        tokenizer.decode(&store.document(0).unwrap(), true).unwrap()
    };
    assert_eq!((build("a.jsonl"), build("a.txt")), ("the text".to_owned(), "{\"text\":\"the text\"}".to_owned()));
    let before = contents(&out);
    let empty = dir.path().join("empty.jsonl");
    std::fs::write(&empty, "{\"text\":\"\"}\n").unwrap();
    let input = TextInput::file(SourceFiles::folder(""), empty).unwrap();
    let error = StoreBuilder::new(&tokenizer, "x").build(&[input], &out, &mut |_| {}).unwrap_err();
    assert!(matches!(&error, TokenizeError::NoDocuments { report } if report.read.blank == 1), "{error}");
    assert!(TokenStore::open(&out).unwrap().verify().is_ok());
    let after = contents(&out);
    assert!(before.iter().all(|(name, bytes)| name.starts_with('.') || after.get(name) == Some(bytes)));
}

/// Several processes at one folder share the work: each input is tokenised once, and both find the whole store.
#[test]
fn processes_share_the_work() {
    let (all, tokenizer) = (documents(400), tokenizer());
    let files: Vec<Vec<Document>> = all.chunks(40).map(<[Document]>::to_vec).collect();
    let inputs = || files.iter().enumerate().map(|(i, f)| input(&format!("file {i}"), f)).collect::<Vec<_>>();
    let (dir, alone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Locks are the opened file's, so that threads are as good as processes here.
    let build = |dir: &Path| {
        StoreBuilder::new(&tokenizer, "x").shard_bytes(9_000).threads(2).build(&inputs(), dir, &mut |_| {}).unwrap()
    };
    let expected = build(alone.path());
    let reports = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| build(dir.path()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(reports.iter().map(|report| report.shards_written).sum::<usize>(), expected.shards_written);
    assert!(reports.iter().all(|report| report.documents == 800 && report.read == expected.read));
    let left = |dir: &Path| {
        let mut files = contents(dir);
        files.retain(|name, _| !name.starts_with('.'));
        files
    };
    assert_eq!(left(dir.path()), left(alone.path()));
}

/// A special token in a text is text, unless the texts are said to hold such tokens.
#[test]
fn special_tokens_in_texts_are_text() {
    let control = tokenizer().with_special_tokens(SpecialTokens::Control);
    let text = tokenizer();
    assert_eq!((control.fingerprint(), text.special_tokens()), (text.fingerprint(), SpecialTokens::Text));
    for written in ["Write <|endoftext|> and stop.", "<|endoftext|>", "<|endoftext|><|endoftext|>x"] {
        let document = Document::answered("How?\n", written);
        let ids = text.encode_document(&document).unwrap().tokens;
        assert_eq!(ids.iter().filter(|id| **id == 0).count(), 1);
        assert_eq!(text.decode(&ids[..ids.len() - 1], false).unwrap(), format!("How?\n{written}"));
        let ids = control.encode_document(&document).unwrap().tokens;
        assert_eq!(ids.iter().filter(|id| **id == 0).count(), 1 + written.matches("<|endoftext|>").count());
    }
    // The two are not the same store.
    let (all, dir) = (documents(20), tempfile::tempdir().unwrap());
    let written = |tokenizer: &Tokenizer| {
        let builder = StoreBuilder::new(tokenizer, "x");
        builder.build(&[input("a", &all)], dir.path(), &mut |_| {}).unwrap().shards_written
    };
    assert_eq!((written(&text), written(&control), written(&control)), (1, 1, 0));
    // A file that lists the token without saying that it is special.
    let path = dir.path().join("tokenizer.json");
    text.save(&path).unwrap();
    let json = std::fs::read_to_string(&path).unwrap().replace("\"special\":true", "\"special\":false");
    std::fs::write(&path, json).unwrap();
    assert!(!Tokenizer::from_file(&path).unwrap().encode("a<|endoftext|>b").unwrap().contains(&0));
    // A tokenizer that makes it of what it does not know.
    let words = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,
        "model":{"type":"WordLevel","vocab":{"<|endoftext|>":0,"known":1},"unk_token":"<|endoftext|>"}}"#;
    std::fs::write(&path, words).unwrap();
    let words = Tokenizer::from_file(&path).unwrap();
    assert_eq!(words.encode("known known").unwrap(), [1, 1]);
    assert!(matches!(words.encode("known unknown"), Err(TokenizeError::EndInText)));
    let documents = [Document::plain("unknown")];
    let to = dir.path().join("words");
    let error = StoreBuilder::new(&words, "x").build(&[input("in.txt", &documents)], &to, &mut |_| {});
    assert!(error.unwrap_err().to_string().starts_with("in.txt: tokenizer: makes <|endoftext|> of ordinary text"));
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

/// Several builds of parts, put together, are one build of the whole: the same bytes, and nothing is tokenised again.
#[test]
fn parts_are_put_together() {
    let (all, tokenizer) = (documents(300), tokenizer());
    let files: Vec<Vec<Document>> = (0..6).map(|i| all[i * 40..i * 40 + 60].to_vec()).collect();
    let inputs: Vec<TextInput<'_>> = files.iter().enumerate().map(|(i, f)| input(&format!("file {i}"), f)).collect();
    let builder = StoreBuilder::new(&tokenizer, "x").shard_bytes(9_000);
    let whole = tempfile::tempdir().unwrap();
    let expected = builder.build(&inputs, whole.path(), &mut |_| {}).unwrap();
    for cuts in [vec![0, 6], vec![0, 1, 6], vec![0, 2, 3, 5, 6], vec![0, 1, 2, 3, 4, 5, 6]] {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("whole");
        let parts: Vec<_> = (1..cuts.len()).map(|number| dir.path().join(format!("part-{number}"))).collect();
        for (part, pair) in parts.iter().zip(cuts.windows(2)) {
            builder.build(&inputs[pair[0]..pair[1]], part, &mut |_| {}).unwrap();
            assert_eq!(builder.adopt(part, &inputs, &to).unwrap(), pair[1] - pair[0]);
        }
        // What is not among the inputs stays where it is.
        assert_eq!(builder.adopt(whole.path(), &inputs[..1], &dir.path().join("one")).unwrap(), 1);
        let report = builder.build(&inputs, &to, &mut |_| {}).unwrap();
        assert_eq!((report.shards_written, report.documents), (0, expected.documents), "{cuts:?}");
        assert_eq!(contents(&to), contents(whole.path()), "{cuts:?}");
        // The parts are as they were.
        for (part, pair) in parts.iter().zip(cuts.windows(2)) {
            let again = builder.build(&inputs[pair[0]..pair[1]], part, &mut |_| {}).unwrap();
            assert_eq!(again.shards_written, 0);
        }
    }
}

/// Asked to stop, it keeps what is finished; the next build goes on.
#[test]
fn a_build_stops_when_asked() {
    let (tokenizer, dir) = (tokenizer(), tempfile::tempdir().unwrap());
    // More than is tokenised at once, and more than a shard.
    let all: Vec<Document> = (0..6000).map(|i| Document::plain(format!("{i} {}", "word ".repeat(400)))).collect();
    let (asked, stop) = (AtomicUsize::new(0), AtomicBool::new(true));
    // After a chunk: it is asked when an input begins, while it is claimed and before each chunk.
    let when = || stop.load(Ordering::Relaxed) && asked.fetch_add(1, Ordering::Relaxed) > 2;
    let builder = StoreBuilder::new(&tokenizer, "x").shard_bytes(1 << 20).stop_when(&when);
    let inputs = [input("a", &all)];
    let error = builder.build(&inputs, dir.path(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, TokenizeError::Stopped), "{error}");
    stop.store(false, Ordering::Relaxed);
    let report = builder.build(&inputs, dir.path(), &mut |_| {}).unwrap();
    assert!(report.shards_kept > 0 && report.shards_written > 0 && report.documents == 6000, "{report:?}");
}
