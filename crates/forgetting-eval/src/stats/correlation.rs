//! Pearson's and Spearman's correlation.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::Error;
use super::students_t::two_sided;

/// A correlation and its two-sided p-value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Correlation {
    /// From −1 to 1.
    pub r: f64,
    /// Pairs.
    pub n: usize,
    /// Chance of an |r| at least as large among independent normal pairs (Student's t with n − 2 degrees of freedom);
    /// 1 for two pairs.
    pub p: f64,
}

impl Correlation {
    /// Fisher's interval; `None` below four pairs or for a level outside (0, 1). It takes the pairs for independent:
    /// for arms that are crossed with sets see [`Crossed`](super::Crossed).
    pub fn interval(&self, level: f64) -> Option<(f64, f64)> {
        around(self.r, 1.0, self.n, level)
    }
}

/// A rank correlation and its two-sided p-value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RankCorrelation {
    /// Spearman's ρ, from −1 to 1.
    pub rho: f64,
    /// Pairs.
    pub n: usize,
    /// Two-sided, from Student's t with n − 2 degrees of freedom, for independent pairs; NaN for two pairs.
    pub p: f64,
}

impl RankCorrelation {
    /// Bonett and Wright's interval (2000): ranks spread atanh ρ by √(1 + ρ²/2) more than normal values do, so that
    /// Fisher's interval is too narrow. `None` below four pairs or for a level outside (0, 1). It takes the pairs for
    /// independent.
    pub fn interval(&self, level: f64) -> Option<(f64, f64)> {
        around(self.rho, 1.0 + self.rho * self.rho / 2.0, self.n, level)
    }
}

/// tanh(atanh r ∓ z·√(variance/(n − 3)))
fn around(r: f64, variance: f64, n: usize, level: f64) -> Option<(f64, f64)> {
    if n < 4 || !(level > 0.0 && level < 1.0) {
        return None;
    }
    let half = Normal::standard().inverse_cdf(0.5 + level / 2.0) * (variance / (n - 3) as f64).sqrt();
    let centre = r.atanh();
    Some(((centre - half).tanh(), (centre + half).tanh()))
}

/// Deviations from the mean scaled to norm 1; the spread must be more than rounding noise (SciPy's threshold).
fn standardised(side: &'static str, values: &[f64]) -> Result<Vec<f64>, Error> {
    if let Some((index, value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
        return Err(Error::NotFinite { side, index, value: *value });
    }
    let origin = values[0];
    let shifted: Vec<f64> = values.iter().map(|v| v - origin).collect();
    let shift = shifted.iter().sum::<f64>() / values.len() as f64;
    let deviations: Vec<f64> = shifted.iter().map(|v| v - shift).collect();
    // Scaled by the largest, so that squares neither overflow nor vanish.
    let largest = deviations.iter().fold(0f64, |a, d| a.max(d.abs()));
    let norm = largest * deviations.iter().map(|d| (d / largest).powi(2)).sum::<f64>().sqrt();
    let mean = (origin + shift).abs();
    if largest == 0.0 || norm <= 1e-13 * mean {
        return Err(Error::Constant { side, spread: if mean > 0.0 { norm.max(0.0) / mean } else { 0.0 } });
    }
    Ok(deviations.into_iter().map(|d| d / norm).collect())
}

/// Deviations from the mean, divided by the standard deviation with n.
pub(super) fn z_scores(side: &'static str, values: &[f64]) -> Result<Vec<f64>, Error> {
    let scale = (values.len() as f64).sqrt();
    Ok(standardised(side, values)?.into_iter().map(|d| d * scale).collect())
}

/// Pearson's r.
///
/// # Errors
/// Samples of different or too small (below 2) sizes, values that are not finite or do not vary.
pub fn pearson(x: &[f64], y: &[f64]) -> Result<Correlation, Error> {
    let n = x.len();
    if n != y.len() {
        return Err(Error::Unpaired { left: n, right: y.len() });
    }
    if n < 2 {
        return Err(Error::TooFew { what: "a correlation", least: 2, n });
    }
    let (x, y) = (standardised("x", x)?, standardised("y", y)?);
    // Cauchy–Schwarz holds only up to rounding.
    let r = x.iter().zip(&y).map(|(a, b)| a * b).sum::<f64>().clamp(-1.0, 1.0);
    if n == 2 {
        return Ok(Correlation { r: r.signum(), n, p: 1.0 });
    }
    Ok(Correlation { r, n, p: two_sided((1.0 - r) * (1.0 + r), (n - 2) as f64) })
}

/// Spearman's ρ: Pearson's r of the ranks, ties at their mean rank. Its p is NaN for two pairs.
///
/// # Errors
/// As for [`pearson`].
pub fn spearman(x: &[f64], y: &[f64]) -> Result<RankCorrelation, Error> {
    // Ranks would hide them.
    for (side, values) in [("x", x), ("y", y)] {
        if let Some((index, value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(Error::NotFinite { side, index, value: *value });
        }
    }
    let Correlation { r, n, p } = pearson(&ranks(x), &ranks(y))?;
    Ok(RankCorrelation { rho: r, n, p: if n == 2 { f64::NAN } else { p } })
}

/// Ranks from 1 on, ties at their mean.
pub(super) fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let tied = order[from..].iter().take_while(|i| values[**i] == values[order[from]]).count();
        let rank = from as f64 + (tied + 1) as f64 / 2.0;
        order[from..from + tied].iter().for_each(|i| ranks[*i] = rank);
        from += tied;
    }
    ranks
}

/// Pearson's r of the values' z-scores within their blocks, pooled: what is left when differences between blocks are
/// taken out. Its p-value does not know that the blocks' means were estimated, nor that one arm may be in several blocks;
/// see [`Crossed`](super::Crossed).
///
/// # Errors
/// A block that cannot be standardised, and as for [`pearson`].
pub fn pearson_within_blocks(blocks: &[super::Block]) -> Result<Correlation, Error> {
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for (index, block) in blocks.iter().enumerate() {
        let of_block = |source: Error| Error::Block { block: index, source: Box::new(source) };
        if block.x.len() != block.y.len() {
            return Err(of_block(Error::Unpaired { left: block.x.len(), right: block.y.len() }));
        }
        if block.x.len() < 2 {
            return Err(of_block(Error::TooFew { what: "a z-score", least: 2, n: block.x.len() }));
        }
        x.extend(z_scores("x", &block.x).map_err(of_block)?);
        y.extend(z_scores("y", &block.y).map_err(of_block)?);
    }
    pearson(&x, &y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_their_mean_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
    }

    #[test]
    fn no_correlation_without_a_reason() {
        assert!(matches!(pearson(&[1.0, 2.0], &[1.0]), Err(Error::Unpaired { left: 2, right: 1 })));
        assert!(matches!(pearson(&[1.0], &[1.0]), Err(Error::TooFew { n: 1, .. })));
        assert!(matches!(pearson(&[2.0; 5], &[1.0, 2.0, 3.0, 4.0, 5.0]), Err(Error::Constant { side: "x", .. })));
        assert!(matches!(spearman(&[1.0, f64::NAN], &[1.0, 2.0]), Err(Error::NotFinite { side: "x", index: 1, .. })));
    }
}
