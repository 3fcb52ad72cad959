//! The similarities and the score built from them.

use crate::{Counts, Error, Mixture};

/// How supports are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Variant {
    /// Every side at the same token budget N: a token belongs to a support to the degree `1 − (1 − p)^N` (its chance to
    /// occur among N draws). Unequal corpus sizes do not shift the score, and PA is 0 at w = 0.
    Controlled {
        /// N.
        budget: f64,
    },
    /// Supports as observed; a mixture's is the union of its parts' (the paper's Appendix D as it stands).
    Paper,
}

/// All similarities of two token distributions, each from 0 (nothing shared) to 1 (equal).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Similarity {
    /// |A∩B| / |A∪B| of the supports.
    pub jaccard: f64,
    /// |A∩B| / min(|A|, |B|).
    pub overlap: f64,
    /// Cosine of the frequencies.
    pub cosine: f64,
    /// Jensen–Shannon divergence in bits, from 0 to 1 (not a similarity).
    pub jsd_bits: f64,
    /// 0.4·cosine + 0.3·Jaccard + 0.3·(1 − JSD₂), Appendix D.
    pub combined: f64,
}

impl Similarity {
    pub(crate) fn of(p: &[f64], q: &[f64], variant: Variant) -> Self {
        let (jaccard, overlap) = supports(p, q, variant);
        let (dot, pp, qq) =
            p.iter().zip(q).fold((0.0, 0.0, 0.0), |(d, a, b), (p, q)| (d + p * q, a + p * p, b + q * q));
        // Cauchy–Schwarz holds only up to rounding.
        let cosine = (dot / (pp.sqrt() * qq.sqrt())).min(1.0);
        let jsd_bits = jensen_shannon_bits(p, q);
        let combined = 0.4 * cosine + 0.3 * jaccard + 0.3 * (1.0 - jsd_bits);
        Self { jaccard, overlap, cosine, jsd_bits, combined }
    }
}

/// Expected (or observed) sizes of intersection over union, and over the smaller side.
fn supports(p: &[f64], q: &[f64], variant: Variant) -> (f64, f64) {
    let member = |x: f64| match variant {
        Variant::Paper => f64::from(u8::from(x > 0.0)),
        // −expm1(N·ln(1−x)), exact for tiny x.
        Variant::Controlled { budget } => -(budget * (-x).ln_1p()).exp_m1(),
    };
    let (mut both, mut either, mut left, mut right) = (0.0, 0.0, 0.0, 0.0);
    for (p, q) in p.iter().zip(q) {
        let (a, b) = (member(*p), member(*q));
        both += a.min(b);
        either += a.max(b);
        left += a;
        right += b;
    }
    (both / either, both / left.min(right))
}

/// JSD₂ = (KL(p‖m) + KL(q‖m))/2 with m the mean. Each term is summed in the form that rounding cannot turn negative.
fn jensen_shannon_bits(p: &[f64], q: &[f64]) -> f64 {
    let term = |a: f64, m: f64| if a > 0.0 { a * (a / m).log2() } else { 0.0 };
    let sum: f64 = p
        .iter()
        .zip(q)
        .map(|(p, q)| {
            let m = 0.5 * (p + q);
            term(*p, m) + term(*q, m)
        })
        .sum();
    (0.5 * sum).clamp(0.0, 1.0)
}

/// Similarity of two corpora.
///
/// # Errors
/// An empty corpus or different vocabularies.
pub fn similarity(a: &Counts, b: &Counts, variant: Variant) -> Result<Similarity, Error> {
    let (left, right) = (a.as_slice().len(), b.as_slice().len());
    if left != right {
        return Err(Error::Vocabulary { left, right });
    }
    Ok(Similarity::of(&a.frequencies()?, &b.frequencies()?, variant))
}

impl Mixture {
    /// Similarity of the mixture and a corpus.
    ///
    /// # Errors
    /// An empty corpus or another vocabulary.
    pub fn similarity(&self, target: &Counts, variant: Variant) -> Result<Similarity, Error> {
        self.compare(&self.mixed, target, variant)
    }

    fn compare(&self, side: &[f64], target: &Counts, variant: Variant) -> Result<Similarity, Error> {
        if side.len() != target.as_slice().len() {
            return Err(Error::Vocabulary { left: side.len(), right: target.as_slice().len() });
        }
        Ok(Similarity::of(side, &target.frequencies()?, variant))
    }
}

/// PA(M→T) = prox(M, T) − prox(general, T) (Eq. 6), with the combined score.
///
/// # Errors
/// An empty corpus or another vocabulary.
pub fn proximity_advantage(mixture: &Mixture, target: &Counts, variant: Variant) -> Result<f64, Error> {
    let mixed = mixture.similarity(target, variant)?;
    let general = mixture.compare(&mixture.general, target, variant)?;
    Ok(mixed.combined - general.combined)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(tokens: &[u32]) -> Counts {
        Counts::of_tokens(10, tokens.iter().copied()).unwrap()
    }

    #[test]
    fn disjoint_and_identical() {
        for variant in [Variant::Paper, Variant::Controlled { budget: 100.0 }] {
            let apart = similarity(&counts(&[0, 1]), &counts(&[2, 3]), variant).unwrap();
            assert_eq!((apart.cosine, apart.jsd_bits, apart.combined), (0.0, 1.0, 0.0));
            let same = similarity(&counts(&[4, 5, 5]), &counts(&[4, 5, 5]), variant).unwrap();
            assert!((same.combined - 1.0).abs() < 1e-15 && same.jsd_bits == 0.0);
        }
    }

    #[test]
    fn empty_and_foreign_ids_are_errors() {
        assert!(matches!(similarity(&counts(&[]), &counts(&[1]), Variant::Paper), Err(Error::Empty)));
        assert!(matches!(Counts::of_tokens(3, [3]), Err(Error::Id { id: 3, vocabulary: 3 })));
        assert!(matches!(Mixture::new(&counts(&[1]), &counts(&[2]), 1.5), Err(Error::Weight(_))));
    }
}
