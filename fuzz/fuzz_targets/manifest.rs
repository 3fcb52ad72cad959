//! Any text as `store.json`, any bytes as a list of documents, any bytes as Megatron's index: a store or an error, and what opens
//! can be read.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use corpus::{MegatronStore, StoreDocument, StoreInfo, StoreWriter, TokenArray, TokenStore, finish_store};
use libfuzzer_sys::fuzz_target;

/// A finished store of two shards, and a selection of it.
static MADE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let whole = dir.path().join("whole");
    for name in ["a.tokens", "b.tokens"] {
        let mut writer = StoreWriter::create(&whole.join(name), StoreInfo::new("s", "t", 100)).expect("a folder");
        for document in 0..5u32 {
            let tokens: Vec<u32> = (0..=document).collect();
            writer.push(StoreDocument { tokens: &tokens, prompt: document / 2, ..Default::default() }).expect("room");
        }
        writer.finish().expect("room");
    }
    finish_store(&whole, &["a.tokens".to_owned(), "b.tokens".to_owned()]).expect("room");
    TokenStore::open(&whole).and_then(|s| s.select([1, 2, 6, 9], &dir.path().join("part"))).expect("room");
    dir
});

fn read(array: &dyn TokenArray) {
    let all = array.token_count();
    for document in (0..array.document_count()).take(20) {
        let _ = array.document_range(document);
    }
    for token in (0..all).take(20) {
        let _ = array.document_of(token);
    }
    let mut ids = vec![0; all.min(1000) as usize];
    let _ = array.read_i32(0, &mut ids);
    array.will_need(0..all);
    array.will_need(all / 2..u64::MAX);
}

fn open(dir: &Path) {
    if let Ok(store) = TokenStore::open(dir) {
        let _ = store.verify();
        let _ = store.fingerprint();
        let _ = store.content_digest();
        read(&store);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let (whole, part) = (MADE.path().join("whole"), MADE.path().join("part"));
    let file = match choice % 4 {
        0 => whole.join("store.json"),
        1 => part.join("store.json"),
        2 => part.join("documents.select"),
        _ => {
            let dir = tempfile::tempdir().expect("a temporary folder");
            // An index and its tokens, cut somewhere.
            let at = data.len().min(31 + usize::from(*choice));
            std::fs::write(dir.path().join("x.idx"), &data[..at]).expect("room");
            std::fs::write(dir.path().join("x.bin"), &data[at..]).expect("room");
            if let Ok(store) = MegatronStore::open(&dir.path().join("x"), "t", 100) {
                let _ = store.verify();
                for i in 0..store.sequence_count().min(20) {
                    let _ = (store.sequence(i), store.document(i), store.sequences_of(i));
                }
                read(&store);
            }
            return;
        }
    };
    let before = std::fs::read(&file).expect("what was made");
    std::fs::write(&file, data).expect("room");
    open(&whole);
    open(&part);
    std::fs::write(&file, before).expect("room");
    // As it was.
    assert!(TokenStore::open(&part).and_then(|s| s.verify()).is_ok());
});
