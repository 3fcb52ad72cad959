//! Token arrays: other programs' files and other orders of documents are mixed as stores are.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use corpus::{MegatronStore, StoreDocument, StoreInfo, StoreWriter, TokenArray, TokenStore};
use data_mixer::{
    BatchSource as _, Ledger, MixPlan, MixSpec, MixedBatches, Pairing, Sequences, ShuffledDocuments, SourceSize,
};
use proptest::prelude::*;
use schedule::{Step, Timeline, Weight};

/// What Megatron's own writer writes: little-endian, one sequence a document.
fn megatron(prefix: &Path, documents: &[Vec<u32>], code: u8) {
    let (mut tokens, mut lengths, mut places, mut borders) = (Vec::new(), Vec::new(), Vec::new(), vec![0i64]);
    for (i, document) in documents.iter().enumerate() {
        places.extend((tokens.len() as i64).to_le_bytes());
        lengths.extend((document.len() as i32).to_le_bytes());
        borders.push(i as i64 + 1);
        for id in document {
            match code {
                8 => tokens.extend((*id as u16).to_le_bytes()),
                4 => tokens.extend((*id as i32).to_le_bytes()),
                _ => tokens.extend(i64::from(*id).to_le_bytes()),
            }
        }
    }
    let mut index = b"MMIDIDX\0\0".to_vec();
    index.extend(1u64.to_le_bytes());
    index.push(code);
    index.extend((documents.len() as u64).to_le_bytes());
    index.extend((borders.len() as u64).to_le_bytes());
    index.extend(lengths);
    index.extend(places);
    index.extend(borders.into_iter().flat_map(i64::to_le_bytes));
    std::fs::write(prefix.with_extension("idx"), index).unwrap();
    std::fs::write(prefix.with_extension("bin"), tokens).unwrap();
}

fn ours(path: &Path, documents: &[Vec<u32>]) -> Arc<TokenStore> {
    let mut writer = StoreWriter::create(path, StoreInfo::new("ours", "t", 70_000)).unwrap();
    for tokens in documents {
        writer.push(StoreDocument { tokens, ..Default::default() }).unwrap();
    }
    writer.finish().unwrap();
    Arc::new(TokenStore::open(path).unwrap())
}

/// A mixture of two arrays: 12 steps of 5 sequences of 8 tokens, half of them of the second from step 3 on.
fn mixture(web: Arc<dyn TokenArray>, code: Arc<dyn TokenArray>) -> Option<MixedBatches> {
    let open = |array| Sequences::new(array, 8).unwrap().with_document_mask(true);
    let (web, code) = (open(web), open(code));
    let plan = MixPlan::build(MixSpec {
        seed: 3,
        batch: 5,
        time: 8,
        timeline: Timeline::midtrain(Step(12), Step(3), "web", "code", Weight::parse("0.5").unwrap()).unwrap(),
        sources: vec![SourceSize::new("web", web.len()), SourceSize::new("code", code.len())],
        pairing: Pairing::Displace,
        max_epochs: 1e6,
    });
    Some(MixedBatches::new(plan.ok()?, vec![web, code]).unwrap())
}

fn documents() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(0u32..65_536, 0..40), 4..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A mixture of Megatron's files is that of the same documents in our store.
    #[test]
    fn megatrons_files_mix_as_stores_do(web in documents(), code in documents(), kind in 0usize..3) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, documents) in [("web", &web), ("code", &code)] {
            megatron(&at(name), documents, [8, 4, 5][kind]);
        }
        let open = |name: &str| Arc::new(MegatronStore::open(&at(name), "t", 65_536).unwrap());
        let stores = [ours(&at("a"), &web), ours(&at("b"), &code)];
        open("web").verify().unwrap();
        let theirs = open("web");
        prop_assert_eq!((theirs.document_count(), theirs.token_count()), (web.len() as u64, stores[0].token_count()));
        for (d, tokens) in (0..).zip(&web) {
            prop_assert_eq!(&theirs.document(d).unwrap(), tokens);
            prop_assert_eq!(theirs.document_range(d), stores[0].document_range(d));
        }
        for token in 0..theirs.token_count() {
            prop_assert_eq!(theirs.document_of(token), stores[0].document_of(token));
        }
        let [a, b] = stores;
        let (Some(own), Some(other)) = (mixture(a, b), mixture(open("web"), open("code"))) else { return Ok(()) };
        prop_assert_eq!(Ledger::of(&own, 0..12).unwrap(), Ledger::of(&other, 0..12).unwrap());
    }

    /// Shuffled, an array holds the same documents, each once, in another order; and is one like any other.
    #[test]
    fn shuffled_documents_are_all_there(all in documents(), seed in any::<u64>(), cut in any::<(u16, u16)>()) {
        let dir = tempfile::tempdir().unwrap();
        let store = ours(&dir.path().join("s"), &all);
        let shuffled = Arc::new(ShuffledDocuments::new(store.clone(), seed).unwrap());
        prop_assert_eq!((shuffled.token_count(), shuffled.document_count()), (store.token_count(), all.len() as u64));
        let read = |array: &dyn TokenArray, range: Range<u64>| {
            let mut ids = vec![0; (range.end - range.start) as usize];
            array.read_i32(range.start, &mut ids).unwrap();
            ids
        };
        let mut found: Vec<Vec<i32>> = Vec::new();
        let mut end = 0;
        for d in 0..shuffled.document_count() {
            let range = shuffled.document_range(d).unwrap();
            prop_assert_eq!(range.start, end);
            end = range.end;
            for token in range.clone() {
                prop_assert_eq!(shuffled.document_of(token), Some(d));
            }
            found.push(read(&*shuffled, range));
        }
        prop_assert_eq!((end, shuffled.document_range(all.len() as u64)), (shuffled.token_count(), None));
        // Any range is that of the whole.
        let whole = found.concat();
        let (a, b) = (u64::from(cut.0) % (end + 1), u64::from(cut.1) % (end + 1));
        let range = a.min(b)..a.max(b);
        prop_assert_eq!(read(&*shuffled, range.clone()), &whole[range.start as usize..range.end as usize]);
        shuffled.will_need(range);
        prop_assert!(shuffled.read_i32(end, &mut [0]).is_err());
        let count = |documents: &[Vec<i32>]| documents.iter().fold(HashMap::new(), |mut n, d| {
            *n.entry(d.clone()).or_insert(0) += 1;
            n
        });
        let given: Vec<Vec<i32>> = all.iter().map(|d| d.iter().map(|id| *id as i32).collect()).collect();
        prop_assert_eq!(count(&found), count(&given));
        if all.len() > 20 {
            prop_assert_ne!(&found, &given);
            let other = ShuffledDocuments::new(store.clone(), seed ^ 1).unwrap();
            prop_assert_ne!(read(&other, 0..end), whole);
        }
        // Sequences with their documents' borders.
        if let Some(batches) = mixture(shuffled, store) {
            let batch = batches.batch(1).unwrap();
            prop_assert_eq!(batch.document_starts().unwrap().len(), 40);
        }
    }
}

/// Files that are none, or of another index, are refused; damage is found.
#[test]
fn damaged_files_of_megatron_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("x");
    let documents = vec![vec![1, 2, 3], vec![], vec![4, 5]];
    megatron(&prefix, &documents, 8);
    let (idx, bin) = (prefix.with_extension("idx"), prefix.with_extension("bin"));
    let (index, tokens) = (std::fs::read(&idx).unwrap(), std::fs::read(&bin).unwrap());
    let open = || MegatronStore::open(&prefix, "t", 6);
    let fine = open().unwrap();
    fine.verify().unwrap();
    // By the prefix or either name.
    for path in [&idx, &bin] {
        assert_eq!(MegatronStore::open(path, "t", 6).unwrap().document(2).unwrap(), [4, 5]);
    }
    assert_eq!((fine.name(), fine.sequences_of(1), fine.sequences_of(3)), ("x", Some(1..2), None));
    assert!(fine.document(3).unwrap_err().to_string().contains("documents 3..4 of 3"));
    assert!(fine.sequence(3).unwrap_err().to_string().contains("sequences 3..4 of 3"));
    let with = |at: usize, byte: u8| {
        let mut changed = index.clone();
        changed[at] = byte;
        changed
    };
    let mut longer = index.clone();
    longer.extend([0; 3]);
    for (bytes, reason) in [
        (b"MMIDIDX".to_vec(), "is no index of Megatron"),
        (with(9, 2), "version = 2 must be 1"),
        (with(17, 6), "type of ids = 6 must be"),
        (with(18, 4), "its header says"),
        (with(25, 128), "its header says more than can be counted"),
        (with(33, 128), "its header says more than can be counted"),
        (index[..index.len() - 1].to_vec(), "truncated or overwritten"),
        (longer, "has modes of sequences"),
        (with(index.len() - 8, 9), "do not span its sequences"),
        (Vec::new(), "is empty"),
    ] {
        std::fs::write(&idx, bytes).unwrap();
        let message = open().unwrap_err().to_string();
        assert!(message.contains("x.idx") && message.contains(reason), "{message}");
    }
    std::fs::write(&idx, &index).unwrap();
    std::fs::write(&bin, &tokens[1..]).unwrap();
    assert!(open().unwrap_err().to_string().contains("its index says 10"));
    std::fs::write(&bin, &tokens).unwrap();
    // An id that is none: whoever reads it is told, never given.
    let small = MegatronStore::open(&prefix, "t", 4).unwrap();
    assert!(small.verify().unwrap_err().to_string().contains("has the id 5, not below the vocabulary of 4"));
    assert_eq!(small.document(0).unwrap(), [1, 2, 3]);
    // Borders and lengths out of order, sizes as before.
    for (at, byte) in [(34, 1), (34 + 12, 3), (34 + 36 + 8, 3)] {
        std::fs::write(&idx, with(at, byte)).unwrap();
        let damaged = open().unwrap();
        assert!(damaged.verify().is_err(), "{at}");
        for token in 0..5 {
            let _ = damaged.document_of(token).map(|d| damaged.document(d));
        }
    }
    // A length that claims more than there is: no room is made for it.
    std::fs::write(&idx, with(34 + 3, 44)).unwrap();
    assert!(open().unwrap().sequence(0).unwrap_err().to_string().contains("of 5"));
    megatron(&prefix, &[], 4);
    let empty = open().unwrap();
    empty.verify().unwrap();
    assert_eq!((empty.token_count(), empty.document_count()), (0, 0));
}
