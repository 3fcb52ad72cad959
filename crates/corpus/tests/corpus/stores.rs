//! Stores: what is written is read; damage is noticed.

use std::path::{Path, PathBuf};

use corpus::{StoreDocument, StoreInfo, StoreWriter, TokenStore, finish_store};
use proptest::prelude::*;

fn written(dir: &Path, largest: u32) -> PathBuf {
    let path = dir.join("a.tokens");
    let mut writer = StoreWriter::create(&path, StoreInfo::new("a", "tok", largest + 1)).unwrap();
    for d in 0..500u32 {
        let tokens: Vec<u32> = (0..d % 50).map(|i| (d * 31 + i * 7) % largest).chain([largest]).collect();
        let prompt = (d % 3).min(d % 50);
        writer.push(StoreDocument { tokens: &tokens, prompt, text_bytes: d, ..Default::default() }).unwrap();
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
            assert_eq!((store.prompt_len(u64::from(d)), store.text_bytes(u64::from(d))), ((d % 3).min(d % 50), d));
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

/// Every byte but the header's blanks, the header's own too.
#[test]
fn every_flipped_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), 1000);
    let bytes = std::fs::read(&path).unwrap();
    for at in (0..700).chain((700..bytes.len()).step_by(61)) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        let noticed = TokenStore::open(&path).and_then(|s| s.verify());
        assert!(noticed.is_err(), "byte {at}");
    }
}

/// A folder of shards is one store; what is wrong with one of them is said of that one.
#[test]
fn shards_are_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let make = |dir: &Path, file: &str, documents: std::ops::Range<u32>, info: StoreInfo| {
        let mut writer = StoreWriter::create(&dir.join(file), info).unwrap();
        for d in documents {
            let tokens: Vec<u32> = (0..=d % 5).map(|i| d * 7 + i).collect();
            let later = [3..4];
            let later_prompts = if d % 5 == 4 { &later[..] } else { &[] };
            let prompt = u32::from(d % 5 > 1);
            writer.push(StoreDocument { tokens: &tokens, prompt, later_prompts, ..Default::default() }).unwrap();
        }
        writer.finish().unwrap();
    };
    let info = || StoreInfo::new("s", "tok", 1000);
    let parts = dir.path().join("parts");
    // An empty shard in the middle must not matter.
    for (file, documents) in [("0", 0..40), ("1", 40..40), ("2", 40..41), ("3", 41..100)] {
        make(&parts, file, documents, info());
    }
    let files: Vec<String> = ["0", "1", "2", "3"].map(str::to_owned).to_vec();
    let message = TokenStore::open(&parts).unwrap_err().to_string();
    assert!(message.contains("holds no store.json"), "{message}");
    finish_store(&parts, &files).unwrap();
    make(dir.path(), "whole", 0..100, info());
    let (sharded, whole) = (TokenStore::open(&parts).unwrap(), TokenStore::open(&dir.path().join("whole")).unwrap());
    sharded.verify().unwrap();
    assert_eq!((sharded.document_count(), sharded.token_count()), (whole.document_count(), whole.token_count()));
    for from in 0..whole.token_count() {
        let len = (whole.token_count() - from).min(60) as usize;
        let (mut a, mut b) = (vec![0; len], vec![0; len]);
        sharded.read(from, &mut a).unwrap();
        whole.read(from, &mut b).unwrap();
        assert_eq!(a, b);
        let mut signed = vec![0; len];
        sharded.read_i32(from, &mut signed).unwrap();
        assert!(signed.iter().zip(&a).all(|(s, t)| *s as u32 == *t));
        let range = from..from + len as u64;
        let touched: Vec<_> = sharded.documents_in(range.clone()).collect();
        assert_eq!(touched, whole.documents_in(range.clone()).collect::<Vec<_>>());
        // Together they cover the range without gaps.
        assert!(touched[0].start <= range.start && touched[touched.len() - 1].end >= range.end);
        assert!(touched.windows(2).all(|pair| pair[0].end == pair[1].start));
    }
    for d in 0..100 {
        assert_eq!(sharded.document(d).unwrap(), whole.document(d).unwrap());
        assert_eq!(sharded.prompts(d).collect::<Vec<_>>(), whole.prompts(d).collect::<Vec<_>>());
        assert_eq!(sharded.document_hash(d), whole.document_hash(d));
    }
    let summary = sharded.inspect();
    assert_eq!((summary.documents, summary.lengths, summary.shards.len()), (100, Some([1, 3, 5]), 4));

    // Damage in the third shard is said of the third shard.
    let third = parts.join("2");
    let bytes = std::fs::read(&third).unwrap();
    let mut damaged = bytes.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    std::fs::write(&third, &damaged).unwrap();
    let message = TokenStore::open(&parts).unwrap().verify().unwrap_err().to_string();
    assert!(message.contains("parts/2: checksum differs"), "{message}");
    std::fs::write(&third, &bytes[..bytes.len() - 4]).unwrap();
    let message = TokenStore::open(&parts).unwrap_err().to_string();
    assert!(message.contains("parts/2: is") && message.contains("truncated"), "{message}");
    std::fs::remove_file(&third).unwrap();
    assert!(TokenStore::open(&parts).unwrap_err().to_string().contains("parts/2: No such file"));
    // Another file in its place, of the same store; then of another tokenizer.
    make(&parts, "2", 50..51, info());
    assert!(
        TokenStore::open(&parts).unwrap_err().to_string().contains("parts/2: is another file than store.json lists")
    );
    make(&parts, "2", 40..41, StoreInfo { tokenizer: "other".into(), ..info() });
    let message = finish_store(&parts, &files).unwrap_err().to_string();
    assert!(message.contains("parts/2: was made by the tokenizer other, not tok"), "{message}");
    let message = TokenStore::open_of(&dir.path().join("whole"), "other").unwrap_err().to_string();
    assert!(message.contains("whole: was made by the tokenizer tok, not other"), "{message}");
    // A list that reaches outside its folder.
    for (list, reason) in [
        ("{\"format\":1,\"shards\":[]}", "lists no shards"),
        ("{\"format\":3,\"shards\":[]}", "format = 3 must be 1, with shards, or 2"),
        (
            "{\"format\":1,\"shards\":[{\"file\":\"../whole\",\"documents\":1,\"tokens\":1,\"checksum\":\"\"}]}",
            "no file name",
        ),
        ("[1", "is no list of shards"),
    ] {
        std::fs::write(parts.join("store.json"), list).unwrap();
        let message = TokenStore::open(&parts).unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Whatever bytes a file has, it is a store or an error.
    #[test]
    fn any_file_is_a_store_or_an_error(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut writer = StoreWriter::create(&path, StoreInfo::new("a", "t", 50)).unwrap();
        writer.push(StoreDocument { tokens: &[1, 2, 3], prompt: 1, later_prompts: &[2..3], ..Default::default() }).unwrap();
        writer.push(StoreDocument { tokens: &[4], ..Default::default() }).unwrap();
        writer.finish().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(store) = TokenStore::open(&path) {
            // Reading a damaged store may give nonsense or an error, never a panic.
            let _ = (store.verify(), store.inspect(), store.document(0), store.document(1));
            let _ = (store.prompts(0).count(), store.documents_in(0..4).count(), store.fingerprint());
        }
    }
}

#[test]
fn hostile_headers_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let header = |json: &str| {
        let mut bytes = b"MTTOKEN2".to_vec();
        bytes.extend((json.len() as u64).to_le_bytes());
        bytes.extend(json.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(64) + 16, 0);
        bytes
    };
    let huge = |documents: u64, tokens: u64| {
        header(&format!(
            "{{\"name\":\"x\",\"tokenizer\":\"t\",\"vocabulary\":9,\"later_prompts\":0,\"text_bytes\":0,\"documents\":{documents},\"tokens\":{tokens},\"token_bytes\":2,\"checksum\":\"\"}}"
        ))
    };
    let mut long = b"MTTOKEN2".to_vec();
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
    let mut writer = StoreWriter::create(&path, StoreInfo::new("a", "t", 10)).unwrap();
    writer.push(StoreDocument { tokens: &[1, 2, 3], ..Default::default() }).unwrap();
    let document =
        |tokens, prompt, later_prompts| StoreDocument { tokens, prompt, later_prompts, ..Default::default() };
    for (document, reason) in [
        (document(&[1, 10], 0, &[]), "token id 10 is not below its vocabulary of 10"),
        (document(&[1], 2, &[]), "a prompt ends at 2 of a document of 1 tokens"),
        (document(&[1, 2, 3], 2, &[1..3]), "prompt 1..3 begins before 2"),
    ] {
        let message = writer.push(document).unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }
    drop(writer);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(StoreWriter::create(&path, StoreInfo::new("a", "t", u32::MAX)).is_err());
}

#[test]
fn fingerprints_follow_content_and_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let print = |tokenizer: &str, last: u32| {
        let path = dir.path().join("f");
        let mut writer = StoreWriter::create(&path, StoreInfo::new("f", tokenizer, 10)).unwrap();
        writer.push(StoreDocument { tokens: &[1, last], ..Default::default() }).unwrap();
        writer.finish().unwrap();
        TokenStore::open(&path).unwrap().fingerprint()
    };
    assert_eq!(print("t", 5), print("t", 5));
    assert_ne!(print("t", 5), print("t", 6));
    assert_ne!(print("t", 5), print("u", 5));
}

/// A store of several shards, with prompts of later turns.
fn sharded(dir: &Path, documents: &[Vec<u32>], shard: usize) -> TokenStore {
    let mut files = Vec::new();
    for (i, documents) in documents.chunks(shard).enumerate() {
        let file = format!("{i:05}-0000.tokens");
        let mut writer = StoreWriter::create(&dir.join(&file), StoreInfo::new("a", "tok", 1000)).unwrap();
        for tokens in documents {
            let (prompt, hash) = (u32::from(tokens.len() > 2), Some(tokens.iter().map(|t| u64::from(*t)).sum()));
            let later = [2..tokens.len() as u32];
            let later_prompts = if tokens.len() > 4 { &later[..] } else { &[] };
            writer
                .push(StoreDocument { tokens, prompt, later_prompts, text_bytes: tokens.len() as u32 * 3, hash })
                .unwrap();
        }
        writer.finish().unwrap();
        files.push(file);
    }
    finish_store(dir, &files).unwrap();
    TokenStore::open(dir).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Some documents of a store are, in everything that can be asked, a store that was written with these alone; also
    /// selected once more from a selection.
    #[test]
    fn a_selection_is_a_store(
        documents in prop::collection::vec(prop::collection::vec(0u32..1000, 0..9), 1..40),
        shard in 1usize..12,
        picks in prop::collection::vec(any::<bool>(), 40),
        again in prop::collection::vec(any::<bool>(), 40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| { let path = dir.path().join(name); std::fs::create_dir(&path).unwrap(); path };
        let whole = sharded(&at("whole"), &documents, shard);
        let chosen: Vec<u64> = (0..documents.len()).filter(|i| picks[*i]).map(|i| i as u64).collect();
        let view = whole.select(chosen.iter().copied(), &dir.path().join("view")).unwrap();
        let second: Vec<u64> = (0..chosen.len()).filter(|i| again[*i]).map(|i| i as u64).collect();
        let nested = view.select(second.iter().copied(), &dir.path().join("nested")).unwrap();
        let twice: Vec<u64> = second.iter().map(|i| chosen[*i as usize]).collect();
        for (view, chosen, name) in [(view, chosen, "plain"), (nested, twice, "plain again")] {
            view.verify().unwrap();
            let texts: Vec<Vec<u32>> = chosen.iter().map(|i| documents[*i as usize].clone()).collect();
            prop_assert_eq!((view.document_count(), view.tokenizer()), (texts.len() as u64, "tok"));
            if texts.is_empty() {
                prop_assert_eq!(view.token_count(), 0);
                continue;
            }
            let plain = sharded(&at(name), &texts, 100);
            prop_assert_eq!(view.content_digest().unwrap(), plain.content_digest().unwrap());
            prop_assert_eq!(view.inspect().text_bytes, plain.inspect().text_bytes);
            prop_assert_eq!(view.inspect().lengths, plain.inspect().lengths);
            let tokens = plain.token_count();
            for d in 0..plain.document_count() {
                prop_assert_eq!(view.document(d).unwrap(), plain.document(d).unwrap());
                prop_assert_eq!(view.document_hash(d), plain.document_hash(d));
                prop_assert!(view.prompts(d).eq(plain.prompts(d)));
            }
            for from in 0..tokens {
                prop_assert_eq!(view.document_of(from), plain.document_of(from));
                let to = tokens.min(from + 11);
                prop_assert!(view.documents_in(from..to).eq(plain.documents_in(from..to)));
                let mut read = [vec![0; (to - from) as usize], vec![0; (to - from) as usize]];
                view.read(from, &mut read[0]).unwrap();
                plain.read(from, &mut read[1]).unwrap();
                prop_assert_eq!(&read[0], &read[1]);
            }
            prop_assert!(view.read(tokens, &mut [0]).is_err());
        }
    }
}

#[test]
fn selections_that_are_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("whole"), dir.path().join("view"));
    std::fs::create_dir(&from).unwrap();
    let documents: Vec<Vec<u32>> = (0..20).map(|i| vec![i; 3]).collect();
    let whole = sharded(&from, &documents, 7);
    for bad in [vec![3, 3], vec![4, 2], vec![20]] {
        let message = whole.select(bad, &to).unwrap_err().to_string();
        assert!(message.contains("of 20"), "{message}");
    }
    let message = whole.select([1], &from).unwrap_err().to_string();
    assert!(message.contains("is the folder of the store"), "{message}");
    assert_eq!(TokenStore::open(&from).unwrap().document_count(), 20);

    // Damage to the list of ranges is noticed, wherever it is; so is a list of another selection.
    let view = whole.select([1, 2, 9], &to).unwrap();
    assert_eq!((view.document_count(), view.document(2).unwrap()), (3, vec![9; 3]));
    let ranges = to.join("documents.select");
    let bytes = std::fs::read(&ranges).unwrap();
    for i in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[i] ^= 1;
        std::fs::write(&ranges, &damaged).unwrap();
        assert!(TokenStore::open(&to).is_err(), "byte {i}");
        std::fs::write(&ranges, &bytes[..i]).unwrap();
        assert!(TokenStore::open(&to).is_err(), "{i} bytes");
    }
    let other = whole.select([1, 3, 4, 9], &dir.path().join("other")).unwrap();
    assert_ne!(other.fingerprint(), view.fingerprint());
    std::fs::copy(dir.path().join("other/documents.select"), &ranges).unwrap();
    assert!(TokenStore::open(&to).unwrap_err().to_string().contains("is another list"));

    // Through a link to its folder, or a folder above it.
    #[cfg(unix)]
    for (link, rest, target) in [("link", "", "view"), ("above", "view", ".")] {
        let link = dir.path().join("elsewhere").join(link);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(dir.path().join(target), &link).unwrap();
        std::fs::write(&ranges, &bytes).unwrap();
        assert_eq!(TokenStore::open(&link.join(rest)).unwrap().document_count(), 3);
    }

    // Both move together; alone it finds nothing, and says where it looked.
    let moved = dir.path().join("moved");
    std::fs::create_dir(&moved).unwrap();
    std::fs::rename(&from, moved.join("whole")).unwrap();
    let message = TokenStore::open(&dir.path().join("other")).unwrap_err().to_string();
    assert!(message.contains(&from.display().to_string()), "{message}");
    std::fs::rename(dir.path().join("other"), moved.join("other")).unwrap();
    assert_eq!(TokenStore::open(&moved.join("other")).unwrap().document_count(), 4);
    // Another store in its place.
    std::fs::remove_dir_all(moved.join("whole")).unwrap();
    std::fs::create_dir(moved.join("whole")).unwrap();
    sharded(&moved.join("whole"), &documents[1..], 7);
    let message = TokenStore::open(&moved.join("other")).unwrap_err().to_string();
    assert!(message.contains("is a list of documents of another store"), "{message}");
}
