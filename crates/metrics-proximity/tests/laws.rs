//! Laws of proximity, on random corpora.
#![allow(clippy::unwrap_used, reason = "tests")]

use metrics_proximity::{
    Corpora, Counts, Distribution, DocumentCounts, JsForm, Resampling, SimilarityMatrix, SimilarityOptions,
    kl_reduction, proximity_advantage, similarity,
};
use proptest::prelude::*;

const VOCABULARY: usize = 30;

fn tokens() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0u32..VOCABULARY as u32, 1..200)
}

fn corpus() -> impl Strategy<Value = Distribution> {
    tokens().prop_map(|t| Distribution::of(&Counts::of_tokens(VOCABULARY, t).unwrap()).unwrap())
}

fn options() -> impl Strategy<Value = SimilarityOptions> {
    let support = prop_oneof![Just(SimilarityOptions::paper()), (1f64..1e9).prop_map(SimilarityOptions::controlled)];
    let form = prop_oneof![Just(JsForm::Divergence), Just(JsForm::DistanceBits), Just(JsForm::DistanceNats)];
    (support, form).prop_map(|(options, js)| SimilarityOptions { js, ..options })
}

fn mix(parts: &[(&Distribution, f64)]) -> Distribution {
    Distribution::mixture(parts).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn symmetric_bounded_and_one_on_itself(a in corpus(), b in corpus(), o in options()) {
        let (ab, ba) = (similarity(&a, &b, &o).unwrap(), similarity(&b, &a, &o).unwrap());
        for (x, y) in [
            (ab.jaccard, ba.jaccard), (ab.overlap, ba.overlap), (ab.overlap_left, ba.overlap_right),
            (ab.shared_mass, ba.shared_mass), (ab.cosine, ba.cosine), (ab.jsd_bits, ba.jsd_bits), (ab.combined, ba.combined),
        ] {
            prop_assert!((x - y).abs() < 1e-12);
            prop_assert!((-1e-12..=1.0 + 1e-12).contains(&x));
        }
        // Rounding of 1e-16 in a divergence is 1e-8 in its root.
        let same = similarity(&a, &a, &o).unwrap();
        prop_assert!((same.combined - 1.0).abs() < 1e-7 && same.jsd_bits < 1e-12);
    }

    #[test]
    fn a_mixture_at_its_ends_is_its_parts(a in corpus(), b in corpus(), t in corpus(), o in options()) {
        let (zero, one) = (mix(&[(&a, 1.0), (&b, 0.0)]), mix(&[(&a, 0.0), (&b, 1.0)]));
        prop_assert_eq!(similarity(&zero, &t, &o).unwrap(), similarity(&a, &t, &o).unwrap());
        prop_assert_eq!(similarity(&one, &t, &o).unwrap(), similarity(&b, &t, &o).unwrap());
        prop_assert_eq!(proximity_advantage(&zero, &a, &t, &o).unwrap(), 0.0);
        prop_assert_eq!(kl_reduction(&zero, &a, &t, 0.01).unwrap(), 0.0);
    }

    /// Any number of parts: in any order and any nesting the same distribution.
    #[test]
    fn mixtures_nest(a in corpus(), b in corpus(), c in corpus(), w in 0.01f64..0.99, v in 0.01f64..0.99) {
        let flat = mix(&[(&a, 1.0 - w), (&b, w * (1.0 - v)), (&c, w * v)]);
        let turned = mix(&[(&c, w * v), (&a, 1.0 - w), (&b, w * (1.0 - v))]);
        let nested = mix(&[(&a, 1.0 - w), (&mix(&[(&b, 1.0 - v), (&c, v)]), w)]);
        for other in [turned, nested] {
            for (x, y) in flat.as_slice().iter().zip(other.as_slice()) {
                prop_assert!((x - y).abs() < 1e-15);
            }
        }
        let sum: f64 = flat.as_slice().iter().sum();
        prop_assert!((sum - 1.0).abs() < 1e-12);
    }

    /// With expected supports nothing jumps when a first trace of specialised data is mixed in.
    #[test]
    fn controlled_proximity_is_continuous_in_the_weight(a in corpus(), b in corpus(), t in corpus()) {
        let little = mix(&[(&a, 1.0 - 1e-9), (&b, 1e-9)]);
        let advantage = proximity_advantage(&little, &a, &t, &SimilarityOptions::controlled(1000.0)).unwrap();
        prop_assert!(advantage.abs() < 1e-4, "{advantage}");
    }

    /// What a budget shows grows with it, from the first token to all types.
    #[test]
    fn expected_types_grow_to_the_observed(a in corpus()) {
        let mut last = 0.0;
        for budget in [1.0, 10.0, 1e3, 1e6] {
            let types = a.expected_types(budget);
            prop_assert!(types >= last && types <= a.types() as f64 + 1e-9);
            last = types;
        }
        prop_assert!((a.expected_types(1.0) - 1.0).abs() < 1e-12);
        prop_assert!((a.expected_types(1e9) - a.types() as f64).abs() < 1e-6);
    }

    #[test]
    fn counts_merge(a in prop::collection::vec(0u32..30, 0..50), b in prop::collection::vec(0u32..30, 0..50)) {
        let mut merged = Counts::of_tokens(VOCABULARY, a.clone()).unwrap();
        merged.merge(&Counts::of_tokens(VOCABULARY, b.clone()).unwrap()).unwrap();
        let whole = Counts::of_tokens(VOCABULARY, a.into_iter().chain(b)).unwrap();
        prop_assert_eq!(&merged, &whole);
        let text = serde_json::to_string(&whole).unwrap();
        prop_assert_eq!(serde_json::from_str::<Counts>(&text).unwrap(), whole);
    }

    #[test]
    fn counts_by_document_are_counts(documents in prop::collection::vec(tokens(), 1..20)) {
        let by_document = DocumentCounts::of_documents(VOCABULARY, documents.clone()).unwrap();
        prop_assert_eq!(by_document.len(), documents.len());
        prop_assert_eq!(by_document.total(), Counts::of_tokens(VOCABULARY, documents.concat()).unwrap());
    }
}

/// Documents of a corpus that uses the ids from `from` on, ten of them, unevenly.
fn documents(from: u32, count: u32) -> DocumentCounts {
    let document = |d: u32| (0..60).map(|i| from + (i * i + d * 7 + i * d) % (2 + d % 9)).collect::<Vec<u32>>();
    DocumentCounts::of_documents(VOCABULARY, (0..count).map(document)).unwrap()
}

fn landscape() -> Corpora {
    Corpora {
        corpora: vec![
            ("general".into(), documents(0, 60)),
            ("code".into(), documents(13, 60)),
            ("target".into(), documents(8, 40)),
        ],
        general: 0,
        mixtures: vec![
            ("C4".into(), vec![(0, 1.0)]),
            ("a trace".into(), vec![(0, 1.0 - 1e-6), (1, 1e-6)]),
            ("code (20%)".into(), vec![(0, 0.8), (1, 0.2)]),
        ],
        targets: vec![2, 0],
    }
}

#[test]
fn intervals_and_floors() {
    let found = landscape().advantages(&SimilarityOptions::controlled(2400.0), &Resampling::default()).unwrap();
    assert_eq!(found.len(), 6);
    // Nothing mixed in: 0, also in every resample.
    assert_eq!((found[0].value, found[0].interval), (0.0, Some((0.0, 0.0))));
    let code = &found[4];
    let (low, high) = code.interval.unwrap();
    assert!(low > 0.0 && low <= code.value && code.value <= high, "{code:?}");
    assert!(code.value > code.noise_floor.unwrap() && code.kl_reduction > 0.0);
    // A millionth of code is below what halves of the general corpus differ by; towards general text it costs.
    assert!(found[2].value.abs() < found[2].noise_floor.unwrap());
    assert!(found[5].value < 0.0);
    assert_eq!(found, landscape().advantages(&SimilarityOptions::controlled(2400.0), &Resampling::default()).unwrap());
    let plain = Resampling { resamples: 0, splits: 0, ..Resampling::default() };
    let bare = landscape().advantages(&SimilarityOptions::controlled(2400.0), &plain).unwrap();
    assert_eq!((bare[4].value, bare[4].interval, bare[4].noise_floor), (code.value, None, None));
    assert!(found.iter().all(|a| a.interval.is_some_and(|(low, high)| low <= a.value && a.value <= high)));
}

#[test]
fn errors_name_what_they_are_about() {
    let text = |l: Corpora| l.advantages(&SimilarityOptions::paper(), &Resampling::default()).unwrap_err().to_string();
    let mut empty = landscape();
    empty.corpora[1].1 = DocumentCounts::of_documents(VOCABULARY, []).unwrap();
    assert_eq!(text(empty), "code: an empty corpus has no token distribution");
    let mut foreign = landscape();
    foreign.mixtures[2].1[1].0 = 9;
    assert_eq!(text(foreign), "code (20%) names corpus 9; there are 3");
    let mut heavy = landscape();
    heavy.mixtures[2].1[1].1 = 0.4;
    assert!(text(heavy).contains("must each be from 0 to 1 and add up to 1"));
    let mut lost = landscape();
    lost.general = 7;
    assert_eq!(text(lost), "general names corpus 7; there are 3");
}

#[test]
fn a_matrix_says_what_is_not_comparable() {
    let all = landscape().distributions().unwrap();
    let labelled: Vec<_> = ["general", "code", "target"].map(str::to_owned).into_iter().zip(all).collect();
    let matrix = SimilarityMatrix::of(&labelled, &labelled, &SimilarityOptions::paper()).unwrap();
    assert!(matrix.values(|s| s.combined).iter().enumerate().all(|(i, row)| (row[i] - 1.0).abs() < 1e-12));
    // The target has 2 400 tokens, the others 3 600.
    assert_eq!(matrix.warnings.len(), 4);
    let matrix = SimilarityMatrix::of(&labelled, &labelled, &SimilarityOptions::controlled(2400.0)).unwrap();
    assert!(matrix.warnings.is_empty());
}
