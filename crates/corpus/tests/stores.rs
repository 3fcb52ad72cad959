//! Stores: what is written is read; damage is noticed.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use corpus::{StoreWriter, TokenStore};

fn written(dir: &Path, largest: u32) -> PathBuf {
    let path = dir.join("a.tokens");
    let mut writer = StoreWriter::create(&path, "a", "tok").unwrap();
    for d in 0..500u32 {
        let tokens: Vec<u32> = (0..d % 50).map(|i| (d * 31 + i * 7) % largest).chain([largest]).collect();
        writer.push(&tokens, d % 3, d).unwrap();
    }
    writer.finish().unwrap();
    path
}

#[test]
fn both_widths_round_trip() {
    for largest in [65_535, 65_536] {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::open(&written(dir.path(), largest)).unwrap();
        store.verify().unwrap();
        assert_eq!(store.document_count(), 500);
        let mut all = vec![0; store.token_count() as usize];
        store.read(0, &mut all).unwrap();
        let mut at = 0;
        for d in 0..500u32 {
            let expected: Vec<u32> = (0..d % 50).map(|i| (d * 31 + i * 7) % largest).chain([largest]).collect();
            assert_eq!(store.document(u64::from(d)).unwrap(), expected);
            assert_eq!(all[at..at + expected.len()], expected);
            at += expected.len();
            assert_eq!((store.prompt_len(u64::from(d)), store.text_bytes(u64::from(d))), (d % 3, d));
        }
        assert!(store.document(500).unwrap_err().to_string().contains("documents 500..501 of 500"));
        let mut beyond = [0; 2];
        assert!(store.read(store.token_count() - 1, &mut beyond).is_err());
    }
}

#[test]
fn every_truncation_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), 1000);
    let bytes = std::fs::read(&path).unwrap();
    for len in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        std::fs::write(&path, &bytes[..len]).unwrap();
        assert!(TokenStore::open(&path).is_err(), "{len} of {} bytes", bytes.len());
    }
    std::fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
    assert!(TokenStore::open(&path).unwrap_err().to_string().contains("its header says"));
}

#[test]
fn every_flipped_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), 1000);
    let bytes = std::fs::read(&path).unwrap();
    let header = 16 + u64::from_le_bytes(bytes[8..16].try_into().unwrap()) as usize;
    let payload = header.next_multiple_of(64);
    for at in (payload..bytes.len()).step_by(61) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        let noticed = TokenStore::open(&path).and_then(|s| s.verify());
        assert!(noticed.is_err(), "byte {at}");
    }
}

#[test]
fn hostile_headers_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let header = |json: &str| {
        let mut bytes = b"MTTOKEN1".to_vec();
        bytes.extend((json.len() as u64).to_le_bytes());
        bytes.extend(json.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(64) + 16, 0);
        bytes
    };
    let huge = |documents: u64, tokens: u64| {
        header(&format!(
            "{{\"name\":\"x\",\"tokenizer\":\"t\",\"documents\":{documents},\"tokens\":{tokens},\"token_bytes\":2,\"checksum\":\"\"}}"
        ))
    };
    let mut long = b"MTTOKEN1".to_vec();
    long.extend(u64::MAX.to_le_bytes());
    let cases = [
        b"nothing".to_vec(),
        b"not a token store at all".to_vec(),
        long,
        header("{}"),
        huge(u64::MAX, 1),
        huge(1, u64::MAX),
        huge(3, 3),
    ];
    for bytes in cases {
        std::fs::write(&path, &bytes).unwrap();
        assert!(TokenStore::open(&path).is_err());
    }
}

#[test]
fn an_unfinished_store_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tokens");
    let mut writer = StoreWriter::create(&path, "a", "t").unwrap();
    writer.push(&[1, 2, 3], 0, 3).unwrap();
    drop(writer);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let mut writer = StoreWriter::create(&path, "a", "t").unwrap();
    assert!(writer.push(&[u32::MAX], 0, 1).unwrap_err().to_string().contains("4294967295"));
}

#[test]
fn fingerprints_follow_content_and_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let print = |tokenizer: &str, last: u32| {
        let path = dir.path().join("f");
        let mut writer = StoreWriter::create(&path, "f", tokenizer).unwrap();
        writer.push(&[1, last], 0, 2).unwrap();
        writer.finish().unwrap();
        TokenStore::open(&path).unwrap().fingerprint()
    };
    assert_eq!(print("t", 5), print("t", 5));
    assert_ne!(print("t", 5), print("t", 6));
    assert_ne!(print("t", 5), print("u", 5));
}
