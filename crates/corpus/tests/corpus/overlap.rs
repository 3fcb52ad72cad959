//! Contamination: what is shared is found, nothing else.

use std::collections::HashSet;
use std::path::Path;

use corpus::{NgramIndex, StoreDocument, StoreInfo, StoreWriter, TokenStore};
use proptest::prelude::*;

fn store(dir: &Path, name: &str, documents: &[Vec<u32>]) -> TokenStore {
    let path = dir.join(name);
    let mut writer = StoreWriter::create(&path, StoreInfo::new(name, "t", 100)).unwrap();
    for tokens in documents {
        let tokens: Vec<u32> = tokens.iter().copied().chain([0]).collect();
        writer.push(StoreDocument { tokens: &tokens, ..Default::default() }).unwrap();
    }
    writer.finish().unwrap();
    TokenStore::open(&path).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// As the obvious way finds it: with sets of all sequences. Few tokens, so that much is shared.
    #[test]
    fn overlap_is_exact(
        training in prop::collection::vec(prop::collection::vec(1u32..4, 0..30), 0..8),
        evaluated in prop::collection::vec(prop::collection::vec(1u32..4, 0..30), 1..8),
        n in 1usize..8,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (store(dir.path(), "train", &training), store(dir.path(), "eval", &evaluated));
        let found = NgramIndex::new(&b, n).unwrap().overlap(&a).unwrap();
        let known: HashSet<&[u32]> = training.iter().flat_map(|d| d.windows(n)).collect();
        let shared = |d: &[u32]| d.windows(n).filter(|w| known.contains(w)).count() as u64;
        prop_assert_eq!(found.shared, evaluated.iter().map(|d| shared(d)).sum::<u64>());
        prop_assert_eq!(found.sequences, evaluated.iter().map(|d| d.windows(n).count() as u64).sum::<u64>());
        prop_assert_eq!(found.contaminated, evaluated.iter().filter(|d| shared(d) > 0).count() as u64);
        prop_assert_eq!(found.too_short, evaluated.iter().filter(|d| d.len() < n).count() as u64);
        for (document, own, of) in &found.worst {
            let tokens = &evaluated[*document as usize];
            prop_assert_eq!((*own, *of), (shared(tokens), tokens.windows(n).count() as u64));
        }
        let parts: Vec<f64> = found.worst.iter().map(|(_, own, of)| *own as f64 / *of as f64).collect();
        prop_assert!(parts.windows(2).all(|pair| pair[0] >= pair[1]));
    }
}

#[test]
fn other_tokenizers_and_lengths_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let eval = store(dir.path(), "eval", &[vec![1, 2, 3]]);
    let path = dir.path().join("other");
    StoreWriter::create(&path, StoreInfo::new("other", "u", 100)).unwrap().finish().unwrap();
    let other = TokenStore::open(&path).unwrap();
    let message = NgramIndex::new(&eval, 2).unwrap().overlap(&other).unwrap_err().to_string();
    assert!(message.contains("was made by the tokenizer u, not t"), "{message}");
    assert!(NgramIndex::new(&eval, 0).unwrap_err().to_string().contains("n = 0 must be at least 1"));
}
