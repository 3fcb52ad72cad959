//! Laws of proximity, on random corpora.
#![allow(clippy::unwrap_used, reason = "tests")]

use metrics_proximity::{Counts, Mixture, Variant, proximity_advantage, similarity};
use proptest::prelude::*;

const VOCABULARY: usize = 30;

fn corpus() -> impl Strategy<Value = Counts> {
    prop::collection::vec(0u32..VOCABULARY as u32, 1..200).prop_map(|t| Counts::of_tokens(VOCABULARY, t).unwrap())
}

fn variant() -> impl Strategy<Value = Variant> {
    prop_oneof![Just(Variant::Paper), (1f64..1e9).prop_map(|budget| Variant::Controlled { budget })]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn symmetric_bounded_and_one_on_itself(a in corpus(), b in corpus(), v in variant()) {
        let (ab, ba) = (similarity(&a, &b, v).unwrap(), similarity(&b, &a, v).unwrap());
        for (x, y) in [(ab.jaccard, ba.jaccard), (ab.overlap, ba.overlap), (ab.cosine, ba.cosine), (ab.jsd_bits, ba.jsd_bits), (ab.combined, ba.combined)] {
            prop_assert!((x - y).abs() < 1e-12);
            prop_assert!((-1e-12..=1.0 + 1e-12).contains(&x));
        }
        let same = similarity(&a, &a, v).unwrap();
        prop_assert!((same.combined - 1.0).abs() < 1e-12 && same.jsd_bits < 1e-12);
    }

    #[test]
    fn a_mixture_at_its_ends_is_its_parts(a in corpus(), b in corpus(), t in corpus(), v in variant()) {
        let at = |w| Mixture::new(&a, &b, w).unwrap();
        prop_assert_eq!(at(0.0).similarity(&t, v).unwrap(), similarity(&a, &t, v).unwrap());
        prop_assert_eq!(at(1.0).similarity(&t, v).unwrap(), similarity(&b, &t, v).unwrap());
        prop_assert_eq!(proximity_advantage(&at(0.0), &t, v).unwrap(), 0.0);
    }

    /// Under the controlled variant nothing jumps when a first trace of specialised data is mixed in.
    #[test]
    fn controlled_proximity_is_continuous_in_the_weight(a in corpus(), b in corpus(), t in corpus()) {
        let v = Variant::Controlled { budget: 1000.0 };
        let little = proximity_advantage(&Mixture::new(&a, &b, 1e-9).unwrap(), &t, v).unwrap();
        prop_assert!(little.abs() < 1e-4, "{little}");
    }

    #[test]
    fn counts_merge(a in prop::collection::vec(0u32..30, 0..50), b in prop::collection::vec(0u32..30, 0..50)) {
        let mut merged = Counts::of_tokens(VOCABULARY, a.clone()).unwrap();
        merged.merge(&Counts::of_tokens(VOCABULARY, b.clone()).unwrap()).unwrap();
        prop_assert_eq!(merged, Counts::of_tokens(VOCABULARY, a.into_iter().chain(b)).unwrap());
    }
}
