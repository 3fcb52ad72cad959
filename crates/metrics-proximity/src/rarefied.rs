//! What a sample of given size shows of a corpus's vocabulary: exact expectations over all samples without replacement.

use crate::{Counts, Error};

/// The chance of each token to be in a sample of so many tokens, drawn without replacement: from one corpus, or from
/// several, so many of each.
///
/// A corpus of n tokens shows token i, which occurs c times, in N draws with the chance
/// `q = 1 − C(n − c, N)/C(n, N)` (rarefaction, Hurlbert 1971). For corpora that are samples themselves, the expectations do
/// not depend on how large they are, as long as they hold N tokens: that is what makes vocabularies of corpora of unequal
/// sizes comparable. (The plug-in estimate `1 − (1 − c/n)^N` has a bias that is large where n is near N.)
///
/// ```
/// use metrics_proximity::{Counts, Rarefied};
///
/// let counts = Counts::from_counts(vec![3, 1, 0]);
/// let two = Rarefied::of(&counts, 2)?;
/// assert!((two.expected_types() - 1.5).abs() < 1e-12); // {0, 0} in half of all pairs, {0, 1} in the others
/// assert_eq!(Rarefied::of(&counts, 4)?.expected_types(), 2.0); // all there is
/// assert!(Rarefied::of(&counts, 5).is_err());
/// # Ok::<(), metrics_proximity::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Rarefied {
    q: Vec<f64>,
    tokens: u64,
}

/// Expectations over two independent samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SharedTypes {
    /// Types that both show: Σ qᵃ qᵇ.
    pub intersection: f64,
    /// Types that either shows: Σ 1 − (1 − qᵃ)(1 − qᵇ).
    pub union: f64,
}

impl SharedTypes {
    /// The ratio of the two expectations (not the expectation of the ratio); `None` of samples without tokens.
    pub fn jaccard(&self) -> Option<f64> {
        (self.union > 0.0).then(|| self.intersection / self.union)
    }
}

impl Rarefied {
    /// Of a sample of `tokens` tokens.
    ///
    /// # Errors
    /// More tokens than the corpus has.
    pub fn of(counts: &Counts, tokens: u64) -> Result<Self, Error> {
        Self::mixture(&[(counts, tokens)])
    }

    /// Of a mixture: independent samples of so many tokens of each corpus, `1 − q = Π (1 − qᵢ)`.
    ///
    /// # Errors
    /// More tokens of a corpus than it has, vocabularies of different sizes.
    pub fn mixture(parts: &[(&Counts, u64)]) -> Result<Self, Error> {
        let vocabulary = parts.first().map_or(0, |(counts, _)| counts.as_slice().len());
        let (mut absent, mut total) = (vec![0.0; vocabulary], 0);
        for (counts, tokens) in parts {
            if counts.as_slice().len() != vocabulary {
                return Err(Error::Vocabulary { left: vocabulary, right: counts.as_slice().len() });
            }
            if *tokens > counts.total() {
                return Err(Error::Sample { tokens: *tokens, most: counts.total() });
            }
            add_log_absent(&mut absent, counts, *tokens);
            total += tokens;
        }
        // −expm1 keeps the digits of tiny chances.
        Ok(Self { q: absent.into_iter().map(|absent| -absent.exp_m1()).collect(), tokens: total })
    }

    /// The chances by token id.
    pub fn as_slice(&self) -> &[f64] {
        &self.q
    }

    /// Tokens of the sample.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Types that the sample shows: Σ q.
    pub fn expected_types(&self) -> f64 {
        self.q.iter().sum()
    }

    /// What this sample and an independent other one share. (Of a corpus with itself: two samples of it.)
    ///
    /// # Errors
    /// Vocabularies of different sizes.
    pub fn shared_with(&self, other: &Self) -> Result<SharedTypes, Error> {
        if self.q.len() != other.q.len() {
            return Err(Error::Vocabulary { left: self.q.len(), right: other.q.len() });
        }
        let pairs = || self.q.iter().zip(&other.q);
        Ok(SharedTypes {
            intersection: pairs().map(|(a, b)| a * b).sum(),
            union: pairs().map(|(a, b)| a + b - a * b).sum(),
        })
    }
}

/// Below this logarithm a chance is 0 in f64.
const VANISHED: f64 = -745.2;

/// Adds ln C(n − c, N)/C(n, N) of each token: the sum of ln(1 − N/(n − i)) over i < c, one sum on which all counts lie.
/// (Sums, not log-gammas, whose absolute error grows with n.)
fn add_log_absent(absent: &mut [f64], counts: &Counts, tokens: u64) {
    let counted = counts.as_slice();
    let mut order: Vec<usize> = (0..counted.len()).filter(|id| counted[*id] > 0).collect();
    order.sort_unstable_by_key(|id| counted[*id]);
    let (n, budget) = (counts.total(), tokens as f64);
    let (mut i, mut sum) = (0, 0.0);
    for id in order {
        while i < counted[id] && sum > VANISHED {
            // Where no more than N tokens are left, every sample holds one of this token's: ln 0.
            let left = (n - i) as f64;
            sum += if budget >= left { f64::NEG_INFINITY } else { (-budget / left).ln_1p() };
            i += 1;
        }
        absent[id] += sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[u64]) -> Counts {
        Counts::from_counts(of.to_vec())
    }

    #[test]
    fn by_hand() {
        // 2 of {a, a, b, c}: six pairs, of which a is in five, b in three.
        let two = Rarefied::of(&counts(&[2, 1, 1, 0]), 2).unwrap();
        for (found, exact) in two.as_slice().iter().zip([5.0 / 6.0, 0.5, 0.5, 0.0]) {
            assert!((found - exact).abs() < 1e-15);
        }
        let shared = two.shared_with(&two).unwrap();
        assert!((shared.intersection - (25.0 / 36.0 + 0.5)).abs() < 1e-15);
        assert!((shared.intersection + shared.union - 2.0 * two.expected_types()).abs() < 1e-15);
    }

    #[test]
    fn ends_and_errors() {
        let corpus = counts(&[5, 2, 1]);
        let all = Rarefied::of(&corpus, 8).unwrap();
        assert_eq!((all.expected_types(), all.shared_with(&all).unwrap().jaccard()), (3.0, Some(1.0)));
        let none = Rarefied::of(&corpus, 0).unwrap();
        assert_eq!((none.expected_types(), none.shared_with(&none).unwrap().jaccard()), (0.0, None));
        assert!(matches!(Rarefied::of(&corpus, 9), Err(Error::Sample { tokens: 9, most: 8 })));
        let foreign = counts(&[1, 1]);
        assert!(matches!(Rarefied::mixture(&[(&corpus, 1), (&foreign, 1)]), Err(Error::Vocabulary { .. })));
        assert!(all.shared_with(&Rarefied::of(&foreign, 1).unwrap()).is_err());
        assert_eq!(Rarefied::mixture(&[]).unwrap().expected_types(), 0.0);
    }

    #[test]
    fn a_mixture_of_one_corpus_alone_is_that_corpus() {
        let (a, b) = (counts(&[5, 2, 1, 0]), counts(&[0, 3, 0, 4]));
        let alone = Rarefied::mixture(&[(&a, 4), (&b, 0)]).unwrap();
        for (x, y) in alone.as_slice().iter().zip(Rarefied::of(&a, 4).unwrap().as_slice()) {
            assert!((x - y).abs() < 1e-15);
        }
    }
}
