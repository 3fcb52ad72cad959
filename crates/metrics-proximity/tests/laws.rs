//! Laws of proximity, on random corpora.
#![allow(clippy::unwrap_used, reason = "tests")]

use metrics_proximity::{
    Corpora, Counts, Distribution, Documents, Draws, Error, JsForm, Rarefied, SimilarityMatrix, SimilarityOptions,
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
    prop_oneof![Just(JsForm::Divergence), Just(JsForm::DistanceBits), Just(JsForm::DistanceNats)]
        .prop_map(|js| SimilarityOptions { js, ..SimilarityOptions::default() })
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

    /// What a sample shows grows with it, from the first token to all types; of two samples no more than both have.
    #[test]
    fn rarefied_types_grow_to_the_observed(tokens in tokens(), other in tokens()) {
        let of = |tokens: &[u32]| Counts::of_tokens(VOCABULARY, tokens.iter().copied()).unwrap();
        let (a, b) = (of(&tokens), of(&other));
        let mut last = 0.0;
        for budget in 1..=a.total() {
            let sample = Rarefied::of(&a, budget).unwrap();
            prop_assert!(sample.expected_types() >= last - 1e-12);
            prop_assert!(sample.as_slice().iter().all(|q| (0.0..=1.0).contains(q)));
            last = sample.expected_types();
        }
        prop_assert!((Rarefied::of(&a, 1).unwrap().expected_types() - 1.0).abs() < 1e-12);
        prop_assert!((last - a.types() as f64).abs() < 1e-9);
        let least = a.total().min(b.total());
        let (x, y) = (Rarefied::of(&a, least).unwrap(), Rarefied::of(&b, least).unwrap());
        let shared = x.shared_with(&y).unwrap();
        prop_assert!(shared.intersection <= x.expected_types().min(y.expected_types()) + 1e-12);
        prop_assert!((shared.intersection + shared.union - x.expected_types() - y.expected_types()).abs() < 1e-9);
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
    fn counts_of_documents_are_counts(documents in prop::collection::vec(tokens(), 1..20)) {
        let by_document = Documents::new(VOCABULARY, &documents).unwrap();
        prop_assert_eq!(by_document.len(), documents.len());
        prop_assert_eq!(by_document.counts(), Counts::of_tokens(VOCABULARY, documents.concat()).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever the corpora, their lengths and the budget: as many tokens on either side, all of them numbers, symmetric;
    /// nothing mixed in is exactly nothing; too large a budget is an error that names the corpus.
    #[test]
    fn controlled_laws(
        general in corpus_of_documents(), special in corpus_of_documents(), target in corpus_of_documents(),
        weight in 0.0f64..=1.0, seed in any::<u64>(), groups in 0usize..30, draws in 1usize..9,
    ) {
        let corpora = Corpora {
            corpora: vec![("general".into(), general), ("special".into(), special), ("target".into(), target)],
            general: 0,
            mixtures: vec![
                ("nothing".into(), vec![(0, 1.0), (1, 0.0)]),
                ("mix".into(), vec![(1, weight), (0, 1.0 - weight)]),
            ],
            targets: vec![("target".into(), 2), ("special".into(), 1), ("general".into(), 0)],
        };
        let options = SimilarityOptions::default();
        let asked = Draws { draws, groups, seed, ..Draws::default() };
        let (basis, advantages) = corpora.advantages(&options, &asked).unwrap();
        let (same, matrix) = corpora.similarities(&options, &asked).unwrap();
        prop_assert_eq!(&basis, &same);
        let least = corpora.corpora.iter().map(|(_, documents)| documents.tokens()).min().unwrap();
        prop_assert!(basis.budget >= 1 && 2 * basis.budget <= least);
        for advantage in &advantages[0] {
            prop_assert_eq!(advantage.advantage.value(), 0.0);
            prop_assert!(advantage.advantage.interval(0.95).is_none_or(|ends| ends == (0.0, 0.0)));
        }
        for (i, row) in matrix.cells.iter().enumerate() {
            for (j, cell) in row.iter().enumerate() {
                prop_assert!(cell.values().iter().all(|v| (-1e-12..=1.0 + 1e-12).contains(v)), "{cell:?}");
                // On the diagonal one half is compared with the other.
                prop_assert!(i == j || *cell == matrix.cells[j][i].turned());
            }
        }
        for advantage in advantages.iter().flatten() {
            let inside = |(low, high)| low <= advantage.advantage.value() && advantage.advantage.value() <= high;
            prop_assert!(advantage.advantage.interval(0.95).is_none_or(inside));
            let difference = advantage.mixture - advantage.general;
            prop_assert!((advantage.advantage.value() - difference).abs() < 1e-12);
        }
        prop_assert_eq!((basis.clone(), advantages), corpora.advantages(&options, &asked).unwrap());
        let more = Draws { budget: Some(basis.budget + 1), ..asked };
        let refused = corpora.advantages(&options, &more);
        let named = matches!(refused, Err(Error::Budget { most, .. }) if most == basis.budget);
        prop_assert!(named, "a larger budget is refused");
    }
}

fn corpus_of_documents() -> impl Strategy<Value = Documents> {
    prop::collection::vec(prop::collection::vec(0u32..VOCABULARY as u32, 1..40), 2..60)
        .prop_map(|documents| Documents::new(VOCABULARY, documents).unwrap())
}

/// Documents of a corpus that uses the ids from `from` on, ten of them, unevenly.
fn documents(from: u32, count: u32) -> Documents {
    let document = |d: u32| (0..60).map(|i| from + (i * i + d * 7 + i * d) % (2 + d % 9)).collect::<Vec<u32>>();
    Documents::new(VOCABULARY, (0..count).map(document)).unwrap()
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
        targets: vec![("target".into(), 2), ("general".into(), 0)],
    }
}

#[test]
fn what_is_mixed_in_shows() {
    let options = SimilarityOptions::default();
    let (_, advantages) = landscape().advantages(&options, &Draws::default()).unwrap();
    let code = &advantages[2][0].advantage;
    let (low, high) = code.interval(0.95).unwrap();
    assert!(low > 0.0 && low < code.value() && code.value() < high, "{code:?}");
    let (bias, error) = advantages[2][0].bias.unwrap();
    assert!(bias.abs() < 3.0 * error && error > 0.0, "{bias} {error}");
    assert!((bias - code.bias().unwrap()).abs() < 1e-9);
    assert_eq!(advantages[0][0].bias, Some((0.0, 0.0)));
    // A millionth of code is no whole token here; towards general text code costs.
    assert_eq!(advantages[1][0].advantage.value(), 0.0);
    assert!(advantages[2][1].advantage.value() < 0.0);
    // Two halves of the general corpus are alike, not the same.
    let (_, matrix) = landscape().similarities(&options, &Draws::default()).unwrap();
    let itself = matrix.cells[4][4].combined;
    assert!(itself > 0.8 && itself < 1.0, "{itself}");
}

/// Few documents: values, but no intervals, and it is said how many groups there were.
#[test]
fn intervals_need_documents() {
    let mut few = landscape();
    few.corpora[2].1 = documents(8, 9);
    let of = |corpora: &Corpora| {
        let (basis, advantages) = corpora.advantages(&SimilarityOptions::default(), &Draws::default()).unwrap();
        let (_, matrix) = corpora.similarities(&SimilarityOptions::default(), &Draws::default()).unwrap();
        (basis.groups, advantages[2][0].advantage.clone(), matrix.intervals)
    };
    let (groups, code, intervals) = of(&few);
    assert_eq!((groups, code.interval(0.95), intervals), (None, None, None));
    assert!(code.value() > 0.0);
    few.corpora[2].1 = documents(8, 14);
    let (groups, code, intervals) = of(&few);
    assert!(groups == Some(7) && code.interval(0.95).is_some() && intervals.is_some());
    let (basis, _) = few.advantages(&SimilarityOptions::default(), &Draws::default()).unwrap();
    assert_eq!(basis.smallest, "target");
}

#[test]
fn errors_name_what_they_are_about() {
    let text = |l: Corpora| {
        let controlled = l.advantages(&SimilarityOptions::default(), &Draws::default()).unwrap_err().to_string();
        (controlled, l.observed(&SimilarityOptions::default()).map_or_else(|e| e.to_string(), |_| String::new()))
    };
    let mut empty = landscape();
    empty.corpora[1].1 = Documents::new(VOCABULARY, [[0; 0]; 0]).unwrap();
    let (controlled, observed) = text(empty);
    assert_eq!(observed, "code: an empty corpus has no token distribution");
    assert!(controlled.starts_with("code: 0 document(s) with tokens: at least 2"), "{controlled}");
    let mut foreign = landscape();
    foreign.mixtures[2].1[1].0 = 9;
    let named = "code (20%) names corpus 9; there are 3".to_owned();
    assert_eq!(text(foreign), (named.clone(), named));
    let mut heavy = landscape();
    heavy.mixtures[2].1[1].1 = 0.4;
    assert!(text(heavy).0.contains("must each be from 0 to 1 and add up to 1"));
    let mut lost = landscape();
    lost.general = 7;
    assert_eq!(text(lost).0, "general names corpus 7; there are 3");
    let mut other = landscape();
    other.corpora[1].1 = Documents::new(9, [[1, 2], [3, 4]]).unwrap();
    assert_eq!(text(other).0, "code: vocabularies of 30 and 9 tokens cannot be compared");
    let refused = |draws: Draws| {
        landscape().similarities(&SimilarityOptions::default(), &draws).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(refused(Draws { draws: 0, ..Draws::default() }), "draws = 0 must be at least 1");
    assert!(refused(Draws { budget: Some(0), ..Draws::default() }).contains("budget = 0"));
    let much = refused(Draws { budget: Some(5000), ..Draws::default() });
    assert!(much.starts_with("budget = 5000 tokens a side: either half of the documents of target"), "{much}");
}

#[test]
fn a_matrix_says_what_is_not_comparable() {
    let all = landscape().distributions().unwrap();
    let labelled: Vec<_> = ["general", "code", "target"].map(str::to_owned).into_iter().zip(all).collect();
    let matrix = SimilarityMatrix::of(&labelled, &labelled, &SimilarityOptions::default()).unwrap();
    assert!(matrix.values(|s| s.combined).iter().enumerate().all(|(i, row)| (row[i] - 1.0).abs() < 1e-12));
    // The target has 2 400 tokens, the others 3 600.
    assert_eq!(matrix.warnings.len(), 4);
}
