//! The similarities and the score built from them (Appendix D).

use serde::{Deserialize, Serialize};

use crate::{Distribution, Error};

/// The similarity made of the Jensen–Shannon divergence. (The paper does not say which.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JsForm {
    /// 1 − JSD in bits.
    Divergence,
    /// 1 − √(JSD in bits).
    DistanceBits,
    /// 1 − √(JSD in nats), from SciPy's distance; at least 1 − √ln 2, also for disjoint corpora.
    DistanceNats,
}

/// How corpora are compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SimilarityOptions {
    /// The Jensen–Shannon similarity.
    pub js: JsForm,
    /// Weights of cosine, Jaccard and Jensen–Shannon similarity in the combined score.
    pub weights: [f64; 3],
}

impl Default for SimilarityOptions {
    /// Appendix D's weights, and 1 − JSD₂.
    fn default() -> Self {
        Self { js: JsForm::Divergence, weights: [0.4, 0.3, 0.3] }
    }
}

impl SimilarityOptions {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        match self.weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
            Some(w) => Err(Error::Option { field: "weights", value: *w, limit: "must not be negative" }),
            None => Ok(()),
        }
    }

    /// The combined score of the others.
    pub(crate) fn combine(&self, of: &Similarity) -> f64 {
        let [cosine, jaccard, js] = self.weights;
        cosine * of.cosine + jaccard * of.jaccard + js * of.js(self.js)
    }
}

/// All similarities of two token distributions, each from 0 (nothing shared) to 1 (equal) where not said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// |A∩B| / |A∪B| of the vocabularies.
    pub jaccard: f64,
    /// |A∩B| / min(|A|, |B|).
    pub overlap: f64,
    /// |A∩B| / |A|.
    pub overlap_left: f64,
    /// |A∩B| / |B|.
    pub overlap_right: f64,
    /// Σ min(p, q): the probability mass in common.
    pub shared_mass: f64,
    /// Cosine of the frequencies.
    pub cosine: f64,
    /// Jensen–Shannon divergence in bits (0 for equal, 1 for disjoint corpora: not a similarity).
    pub jsd_bits: f64,
    /// The weighted sum of cosine, Jaccard and Jensen–Shannon similarity.
    pub combined: f64,
}

impl Similarity {
    /// Jensen–Shannon divergence in nats, from 0 to ln 2.
    pub fn jsd_nats(&self) -> f64 {
        self.jsd_bits * std::f64::consts::LN_2
    }

    /// The Jensen–Shannon similarity of a form.
    pub fn js(&self, form: JsForm) -> f64 {
        match form {
            JsForm::Divergence => 1.0 - self.jsd_bits,
            JsForm::DistanceBits => 1.0 - self.jsd_bits.sqrt(),
            JsForm::DistanceNats => 1.0 - self.jsd_nats().sqrt(),
        }
    }

    /// All numbers, in the order of the fields.
    pub fn values(&self) -> [f64; 8] {
        let Self { jaccard, overlap, overlap_left, overlap_right, shared_mass, cosine, jsd_bits, combined } = *self;
        [jaccard, overlap, overlap_left, overlap_right, shared_mass, cosine, jsd_bits, combined]
    }

    /// From [`values`](Self::values).
    pub fn from_values(values: [f64; 8]) -> Self {
        let [jaccard, overlap, overlap_left, overlap_right, shared_mass, cosine, jsd_bits, combined] = values;
        Self { jaccard, overlap, overlap_left, overlap_right, shared_mass, cosine, jsd_bits, combined }
    }

    /// The same of the two sides in the other order.
    #[must_use]
    pub fn turned(&self) -> Self {
        Self { overlap_left: self.overlap_right, overlap_right: self.overlap_left, ..*self }
    }

    fn of(p: &[f64], q: &[f64], options: &SimilarityOptions) -> Self {
        let (mut both, mut left, mut right) = (0u32, 0u32, 0u32);
        let (mut dot, mut pp, mut qq, mut shared_mass) = (0.0, 0.0, 0.0, 0.0);
        for (p, q) in p.iter().zip(q) {
            left += u32::from(*p > 0.0);
            right += u32::from(*q > 0.0);
            both += u32::from(*p > 0.0 && *q > 0.0);
            dot += p * q;
            pp += p * p;
            qq += q * q;
            shared_mass += p.min(*q);
        }
        let (both, left, right) = (f64::from(both), f64::from(left), f64::from(right));
        let mut out = Self {
            jaccard: both / (left + right - both),
            overlap: both / left.min(right),
            overlap_left: both / left,
            overlap_right: both / right,
            shared_mass,
            // Cauchy–Schwarz holds only up to rounding.
            cosine: (dot / (pp.sqrt() * qq.sqrt())).min(1.0),
            jsd_bits: jensen_shannon_bits(p, q),
            combined: 0.0,
        };
        out.combined = options.combine(&out);
        out
    }
}

/// JSD₂ = (KL(p‖m) + KL(q‖m))/2 with m the mean. Both logarithms of a token are taken before they are added, so that
/// equal distributions give 0, and what rounding leaves of a sum that cannot be negative is cut off.
fn jensen_shannon_bits(p: &[f64], q: &[f64]) -> f64 {
    let term = |a: f64, m: f64| if a > 0.0 { a * (a / m).log2() } else { 0.0 };
    let terms = p.iter().zip(q).map(|(p, q)| {
        let m = 0.5 * (p + q);
        term(*p, m) + term(*q, m)
    });
    (0.5 * terms.sum::<f64>()).clamp(0.0, 1.0)
}

/// Similarity of two corpora or mixtures.
///
/// # Errors
/// Different vocabularies, options outside their limits.
pub fn similarity(a: &Distribution, b: &Distribution, options: &SimilarityOptions) -> Result<Similarity, Error> {
    options.validate()?;
    let (p, q) = (a.as_slice(), b.as_slice());
    if p.len() != q.len() {
        return Err(Error::Vocabulary { left: p.len(), right: q.len() });
    }
    Ok(Similarity::of(p, q, options))
}

/// PA(M→T) = prox(M, T) − prox(general, T) (Eq. 6), with the combined score.
///
/// # Errors
/// As for [`similarity`].
pub fn proximity_advantage(
    mixture: &Distribution,
    general: &Distribution,
    target: &Distribution,
    options: &SimilarityOptions,
) -> Result<f64, Error> {
    Ok(similarity(mixture, target, options)?.combined - similarity(general, target, options)?.combined)
}

/// KL(target‖general) − KL(target‖mixture) in nats: how much nearer the mixture is to the target, in the measure by
/// which data selection is judged ("KL reduction", Xie et al. 2023). A share `uniform` of the uniform distribution is
/// mixed into general and mixture, since a token that they lack would make a divergence infinite.
///
/// # Errors
/// Different vocabularies, a share that is not between 0 and 1.
pub fn kl_reduction(
    mixture: &Distribution,
    general: &Distribution,
    target: &Distribution,
    uniform: f64,
) -> Result<f64, Error> {
    if !(uniform > 0.0 && uniform < 1.0) {
        return Err(Error::Option { field: "uniform", value: uniform, limit: "must be between 0 and 1" });
    }
    let t = target.as_slice();
    for other in [mixture, general] {
        if other.as_slice().len() != t.len() {
            return Err(Error::Vocabulary { left: other.as_slice().len(), right: t.len() });
        }
    }
    let smooth = |p: f64| (1.0 - uniform) * p + uniform / t.len() as f64;
    let terms = t.iter().zip(mixture.as_slice()).zip(general.as_slice()).filter(|((t, _), _)| **t > 0.0);
    Ok(terms.map(|((t, m), g)| t * (smooth(*m) / smooth(*g)).ln()).sum())
}

/// What makes two sides less comparable than they look.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Warning {
    /// The sides' token counts differ by more than 1 %: observed vocabularies, and with them Jaccard and overlap, depend
    /// on the size alone.
    UnequalSizes {
        /// Tokens of one side.
        left: u64,
        /// Tokens of the other.
        right: u64,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnequalSizes { left, right } => {
                write!(f, "{left} and {right} tokens: sizes that differ by more than 1 % shift Jaccard and overlap")
            }
        }
    }
}

/// What to know before two corpora are compared as they are.
pub fn warning(a: &Distribution, b: &Distribution) -> Option<Warning> {
    let (left, right) = (a.tokens(), b.tokens());
    let (small, large) = (left.min(right), left.max(right));
    ((large - small) as f64 > 0.01 * large as f64).then_some(Warning::UnequalSizes { left, right })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counts;

    fn of(tokens: &[u32]) -> Distribution {
        Distribution::of(&Counts::of_tokens(10, tokens.iter().copied()).unwrap()).unwrap()
    }

    #[test]
    fn disjoint_and_identical() {
        let options = SimilarityOptions::default();
        let apart = similarity(&of(&[0, 1]), &of(&[2, 3]), &options).unwrap();
        assert_eq!((apart.cosine, apart.jsd_bits, apart.combined), (0.0, 1.0, 0.0));
        let same = similarity(&of(&[4, 5, 5]), &of(&[4, 5, 5]), &options).unwrap();
        assert!((same.combined - 1.0).abs() < 1e-15 && same.jsd_bits == 0.0);
        assert_eq!(Similarity::from_values(same.values()), same);
    }

    #[test]
    fn empty_and_foreign_are_errors() {
        assert!(matches!(Distribution::of(&Counts::of_tokens(3, []).unwrap()), Err(Error::Empty)));
        assert!(matches!(Counts::of_tokens(3, [3]), Err(Error::Id { id: 3, vocabulary: 3 })));
        let (a, b) = (of(&[1]), of(&[2]));
        for weights in [[1.5, -0.5], [0.5, 0.4], [f64::NAN, 1.0]] {
            let mixture = Distribution::mixture(&[(&a, weights[0]), (&b, weights[1])]);
            assert!(matches!(mixture, Err(Error::Weights { .. })), "{weights:?}");
        }
        assert!(Distribution::mixture(&[]).is_err());
        let other = Distribution::of(&Counts::from_counts(vec![1, 2])).unwrap();
        assert!(matches!(
            similarity(&a, &other, &SimilarityOptions::default()),
            Err(Error::Vocabulary { left: 10, right: 2 })
        ));
        let negative = SimilarityOptions { weights: [1.0, -0.1, 0.1], ..SimilarityOptions::default() };
        assert!(similarity(&a, &b, &negative).is_err());
    }

    #[test]
    fn unequal_sizes_are_told() {
        let (a, b) = (of(&[1, 2, 3]), of(&[1, 2]));
        let found = warning(&a, &b);
        assert_eq!(found, Some(Warning::UnequalSizes { left: 3, right: 2 }));
        assert!(found.unwrap().to_string().contains("3 and 2 tokens"));
        assert_eq!(warning(&a, &a), None);
    }

    #[test]
    fn kl_reduction_by_hand() {
        let (general, special, target) = (of(&[0, 1]), of(&[2, 3]), of(&[2]));
        let mix = Distribution::mixture(&[(&general, 0.5), (&special, 0.5)]).unwrap();
        // Token 2: 0.25 in the mixture, 0 in general; 0.1 of the uniform 1/10 in both.
        let expected = ((0.9 * 0.25 + 0.01f64) / 0.01).ln();
        assert!((kl_reduction(&mix, &general, &target, 0.1).unwrap() - expected).abs() < 1e-12);
        assert_eq!(kl_reduction(&general, &general, &target, 0.1).unwrap(), 0.0);
        assert!(kl_reduction(&mix, &general, &target, 0.0).is_err());
    }
}
