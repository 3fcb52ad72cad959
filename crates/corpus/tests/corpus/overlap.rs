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
        sets in prop::collection::vec(prop::collection::vec(prop::collection::vec(1u32..4, 0..30), 1..8), 1..4),
        n in 1usize..8,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let a = store(dir.path(), "train", &training);
        let stores: Vec<TokenStore> =
            sets.iter().enumerate().map(|(i, set)| store(dir.path(), &format!("eval{i}"), set)).collect();
        let found = NgramIndex::new(&stores.iter().collect::<Vec<_>>(), n).unwrap().contamination(&a).unwrap();
        let known: HashSet<&[u32]> = training.iter().flat_map(|d| d.windows(n)).collect();
        let shared = |d: &[u32]| d.windows(n).filter(|w| known.contains(w)).count() as u64;
        let mut all: HashSet<&[u32]> = HashSet::new();
        for (evaluated, found) in sets.iter().zip(&found.sets) {
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
            let own: HashSet<&[u32]> = evaluated.iter().flat_map(|d| d.windows(n)).collect();
            let holders = training.iter().filter(|d| d.windows(n).any(|w| own.contains(w))).count() as u64;
            prop_assert_eq!(found.holders, holders);
            all.extend(own);
        }
        let holders: Vec<u64> =
            (0..training.len()).filter(|i| training[*i].windows(n).any(|w| all.contains(w))).map(|i| i as u64).collect();
        prop_assert_eq!(found.documents, holders);
    }
}

/// A text that repeats one sequence, against itself: as many comparisons as it has tokens, not their square. (The square
/// would be 4·10¹² here, and the test would never end.)
#[test]
fn a_text_that_repeats_itself_takes_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let text: Vec<u32> = (0..2_000_000).map(|i| 1 + i % 2).collect();
    let evaluated = store(dir.path(), "eval", &[text]);
    let found = NgramIndex::new(&[&evaluated], 13).unwrap().contamination(&evaluated).unwrap();
    assert_eq!((found.sets[0].shared, found.sets[0].holders), (2_000_000 - 12, 1));
    assert_eq!(found.documents, [0]);
}

#[test]
fn other_tokenizers_and_lengths_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let eval = store(dir.path(), "eval", &[vec![1, 2, 3]]);
    let path = dir.path().join("other");
    StoreWriter::create(&path, StoreInfo::new("other", "u", 100)).unwrap().finish().unwrap();
    let other = TokenStore::open(&path).unwrap();
    let message = NgramIndex::new(&[&eval], 2).unwrap().contamination(&other).unwrap_err().to_string();
    assert!(message.contains("was made by the tokenizer u, not t"), "{message}");
    let refused = |sets: &[&TokenStore], n: usize| NgramIndex::new(sets, n).unwrap_err().to_string();
    assert!(refused(&[&eval], 0).contains("n = 0 must be at least 1"));
    assert!(refused(&[], 2).contains("evaluation sets = 0 must be from 1 to 64"));
    assert!(refused(&[&eval; 65], 2).contains("evaluation sets = 65"));
    assert!(refused(&[&eval, &other], 2).contains("was made by the tokenizer u, not t"));
}
