//! Two models on the same documents.

use serde::{Deserialize, Serialize};

use crate::{DocumentLosses, Error, detectable, t_quantile, t_two_sided_p};

/// Differences of summed losses, document by document: what held-out text of another draw might have shown.
///
/// What one document has in common for both models is in the difference no more, so that intervals are many times narrower
/// than those of either loss. They speak of these models on other documents, not of other training runs.
///
/// ```
/// use forgetting_eval::{DocumentDifferences, DocumentLosses, HeldOut};
///
/// let of = |nats: [f64; 3]| {
///     DocumentLosses::new(nats.into_iter().zip([10, 20, 30]).map(|(nats, tokens)| HeldOut { nats, tokens, bytes: None }))
/// };
/// let found = DocumentDifferences::of(&of([21.0, 45.0, 64.0]), &of([22.0, 44.0, 67.0]))?.compare(0.95)?;
/// assert!((found.difference + 3.0 / 60.0).abs() < 1e-12); // nats per token, not a mean of means
/// # Ok::<(), forgetting_eval::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentDifferences {
    nats: Vec<f64>,
    tokens: Vec<u64>,
}

/// A difference with its intervals over documents.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DocumentComparison {
    /// Documents.
    pub documents: usize,
    /// Documents of equal length that would say as much: (Σm)²/Σm² with m the tokens of each.
    pub effective_documents: f64,
    /// Σ(a − b)/Σm, nats per token.
    pub difference: f64,
    /// By linearisation, √(n/(n − 1)·Σe²)/Σm with e = (a − b) − difference·m, and Student's t with n − 1 degrees of freedom: the
    /// textbook's ratio estimator (that of a weighted regression on a constant with HC1 errors). It is too narrow where a few
    /// long documents hold most of the tokens.
    pub linearised: OverDocuments,
    /// By leaving out one document at a time, with √((K − 1)·S) degrees of freedom: K the effective documents, and
    /// S = (Σm²)²/Σm⁴ what Satterthwaite's formula gives where the spread grows with length alone. It covers about as stated also
    /// where lengths differ much (simulated: `crates/calibration`).
    pub jackknife: OverDocuments,
}

/// How sure a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OverDocuments {
    /// Its standard error.
    pub standard_error: f64,
    /// Degrees of freedom of Student's t.
    pub freedom: f64,
    /// difference ± t·error.
    pub interval: (f64, f64),
    /// Two-sided p of difference/error; `None` where no document differs from another.
    pub p: Option<f64>,
}

impl OverDocuments {
    fn of(difference: f64, standard_error: f64, freedom: f64, level: f64) -> Self {
        let half = t_quantile(0.5 + level / 2.0, freedom) * standard_error;
        let p = (standard_error > 0.0).then(|| t_two_sided_p(difference / standard_error, freedom));
        Self { standard_error, freedom, interval: (difference - half, difference + half), p }
    }

    /// The smallest difference that as many such documents show with the chance `power`, at the two-sided level 1 − `level`.
    pub fn detectable(&self, level: f64, power: f64) -> Option<f64> {
        detectable(self.standard_error, self.freedom, level, power)
    }
}

impl DocumentDifferences {
    /// Of two models' losses on the same documents, the left one's less the right one's.
    ///
    /// # Errors
    /// Losses that are not of the same documents: other numbers of them, or of tokens in one.
    pub fn of(left: &DocumentLosses, right: &DocumentLosses) -> Result<Self, Error> {
        let (left, right) = (left.documents(), right.documents());
        if left.len() != right.len() {
            return Err(Error::Unpaired { left: left.len(), right: right.len() });
        }
        if let Some(document) = (0..left.len()).find(|d| left[*d].tokens != right[*d].tokens) {
            let (left, right) = (left[document].tokens, right[document].tokens);
            return Err(Error::Document { document, left, right });
        }
        // A document without a predicted token says nothing.
        let pairs = || left.iter().zip(right).filter(|(l, _)| l.tokens > 0);
        Ok(Self {
            nats: pairs().map(|(l, r)| l.nats - r.nats).collect(),
            tokens: pairs().map(|(l, _)| l.tokens).collect(),
        })
    }

    /// How many documents there are.
    pub fn documents(&self) -> usize {
        self.tokens.len()
    }

    /// The mean over several pairs of models, such as those of several seeds.
    ///
    /// # Errors
    /// None at all; other documents.
    pub fn mean(all: &[Self]) -> Result<Self, Error> {
        let Some((first, others)) = all.split_first() else {
            return Err(Error::TooFew { what: "a mean of differences", least: 1, n: 0 });
        };
        let mut nats = first.nats.clone();
        for other in others {
            first.must_match(other)?;
            nats.iter_mut().zip(&other.nats).for_each(|(sum, nats)| *sum += nats);
        }
        nats.iter_mut().for_each(|sum| *sum /= all.len() as f64);
        Ok(Self { nats, tokens: first.tokens.clone() })
    }

    /// Less another difference on the same documents: how a difference changed.
    ///
    /// # Errors
    /// Other documents.
    pub fn less(&self, other: &Self) -> Result<Self, Error> {
        self.must_match(other)?;
        let nats = self.nats.iter().zip(&other.nats).map(|(a, b)| a - b).collect();
        Ok(Self { nats, tokens: self.tokens.clone() })
    }

    fn must_match(&self, other: &Self) -> Result<(), Error> {
        if self.tokens.len() != other.tokens.len() {
            return Err(Error::Unpaired { left: self.tokens.len(), right: other.tokens.len() });
        }
        match (0..self.tokens.len()).find(|d| self.tokens[*d] != other.tokens[*d]) {
            Some(document) => {
                Err(Error::Document { document, left: self.tokens[document], right: other.tokens[document] })
            }
            None => Ok(()),
        }
    }

    /// The difference in nats per token, with its intervals at a level.
    ///
    /// # Errors
    /// Fewer than two documents, a level outside (0, 1), losses that are not finite.
    pub fn compare(&self, level: f64) -> Result<DocumentComparison, Error> {
        if !(level > 0.0 && level < 1.0) {
            return Err(Error::Argument { field: "level", value: level, limit: "must be between 0 and 1" });
        }
        if let Some((index, value)) = self.nats.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(Error::NotFinite { side: "the differences", index, value: *value });
        }
        let n = self.nats.len();
        if n < 2 {
            return Err(Error::TooFew { what: "an interval over documents", least: 2, n });
        }
        let tokens: f64 = self.tokens.iter().map(|m| *m as f64).sum();
        let difference = self.nats.iter().sum::<f64>() / tokens;
        let pairs = || self.nats.iter().zip(self.tokens.iter().map(|m| *m as f64));
        let squares: f64 = pairs().map(|(d, m)| (d - difference * m).powi(2)).sum();
        let linearised = (n as f64 / (n - 1) as f64 * squares).sqrt() / tokens;
        // Without a document the difference changes by −e/(Σm − m).
        let changes: Vec<f64> = pairs().map(|(d, m)| (difference * m - d) / (tokens - m)).collect();
        let mean = changes.iter().sum::<f64>() / n as f64;
        let spread: f64 = changes.iter().map(|c| (c - mean).powi(2)).sum();
        let jackknife = ((n - 1) as f64 / n as f64 * spread).sqrt();
        let squared = pairs().map(|(_, m)| m * m).sum::<f64>();
        let effective_documents = tokens * tokens / squared;
        let satterthwaite = squared * squared / pairs().map(|(_, m)| m.powi(4)).sum::<f64>();
        // Below one degree of freedom there is no t.
        let freedom = ((effective_documents - 1.0).max(1.0) * satterthwaite.max(1.0)).sqrt();
        Ok(DocumentComparison {
            documents: n,
            effective_documents,
            difference,
            linearised: OverDocuments::of(difference, linearised, (n - 1) as f64, level),
            jackknife: OverDocuments::of(difference, jackknife, freedom, level),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HeldOut;

    fn losses(documents: &[(f64, u64)]) -> DocumentLosses {
        DocumentLosses::new(documents.iter().map(|(nats, tokens)| HeldOut {
            nats: *nats,
            tokens: *tokens,
            bytes: None,
        }))
    }

    /// Documents of equal length: the paired t-test of their mean losses.
    #[test]
    fn of_equal_documents_it_is_the_paired_t_test() {
        let a = losses(&[(10.0, 10), (25.0, 10), (31.0, 10), (22.0, 10)]);
        let b = losses(&[(12.0, 10), (24.0, 10), (35.0, 10), (27.0, 10)]);
        let found = DocumentDifferences::of(&a, &b).unwrap().compare(0.95).unwrap();
        let plain = crate::Summary::of(&[-0.2, 0.1, -0.4, -0.5]);
        assert!((found.difference - plain.mean).abs() < 1e-15);
        for over in [found.linearised, found.jackknife] {
            assert!((over.standard_error - plain.standard_error().unwrap()).abs() < 1e-15);
            assert!(over.detectable(0.95, 0.8).unwrap() > over.interval.1 - found.difference);
        }
        assert!((found.linearised.p.unwrap() - plain.t_test().unwrap().1).abs() < 1e-12);
        assert!(found.linearised.freedom == 3.0 && (found.jackknife.freedom - 12f64.sqrt()).abs() < 1e-12);
        assert!((found.effective_documents - 4.0).abs() < 1e-12);
    }

    /// One document holds most of the tokens: it decides the difference, and the interval says so.
    #[test]
    fn a_long_document_counts_for_what_it_is() {
        let a = losses(&[(10.0, 10), (11.0, 10), (12.0, 10), (400.0, 300)]);
        let b = losses(&[(11.0, 10), (11.5, 10), (11.0, 10), (430.0, 300)]);
        let found = DocumentDifferences::of(&a, &b).unwrap().compare(0.95).unwrap();
        assert!(found.effective_documents < 1.3 && found.jackknife.freedom >= 1.0);
        let width = |over: OverDocuments| over.interval.1 - over.interval.0;
        assert!(width(found.jackknife) > 10.0 * width(found.linearised), "{found:?}");
    }

    #[test]
    fn seeds_are_averaged_and_differences_subtracted() {
        let of =
            |x: f64| DocumentDifferences::of(&losses(&[(x, 2), (3.0, 4)]), &losses(&[(1.0, 2), (1.0, 4)])).unwrap();
        let mean = DocumentDifferences::mean(&[of(2.0), of(4.0)]).unwrap();
        assert_eq!(mean, of(3.0));
        let change = of(5.0).less(&of(3.0)).unwrap().compare(0.9).unwrap();
        assert!((change.difference - 2.0 / 6.0).abs() < 1e-15);
    }

    #[test]
    fn other_documents_are_refused() {
        let (a, b) = (losses(&[(1.0, 2), (1.0, 3)]), losses(&[(1.0, 2), (1.0, 4)]));
        let refused = DocumentDifferences::of(&a, &b).unwrap_err();
        assert_eq!(refused, Error::Document { document: 1, left: 3, right: 4 });
        assert!(matches!(DocumentDifferences::of(&a, &losses(&[(1.0, 2)])), Err(Error::Unpaired { .. })));
        assert!(DocumentDifferences::mean(&[]).is_err());
        let one = DocumentDifferences::of(&losses(&[(1.0, 2)]), &losses(&[(1.0, 2)])).unwrap();
        assert!(matches!(one.compare(0.95), Err(Error::TooFew { n: 1, .. })));
        let bad = DocumentDifferences::of(&losses(&[(f64::NAN, 2), (1.0, 1)]), &losses(&[(1.0, 2), (1.0, 1)])).unwrap();
        assert!(matches!(bad.compare(0.95), Err(Error::NotFinite { index: 0, .. })));
        // Nothing differs: a difference of 0, and no t.
        let same = DocumentDifferences::of(&a, &a).unwrap().compare(0.95).unwrap();
        assert_eq!((same.difference, same.linearised.interval, same.jackknife.p), (0.0, (0.0, 0.0), None));
    }
}
