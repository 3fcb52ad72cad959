//! How much of a correlation rests on a single pair.

use super::{Error, pearson};

/// Pearson's r without each pair in turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Influence {
    /// r of all pairs.
    pub r: f64,
    /// r without each pair.
    pub without: Vec<f64>,
    /// The pair without which r changes most; the first of several.
    pub most_influential: usize,
}

impl Influence {
    /// The lowest and the highest r that one pair less leads to.
    pub fn range(&self) -> (f64, f64) {
        let ends = (f64::INFINITY, f64::NEG_INFINITY);
        self.without.iter().fold(ends, |(low, high), r| (low.min(*r), high.max(*r)))
    }

    /// r without the pair that changes it most.
    pub fn without_most_influential(&self) -> f64 {
        self.without[self.most_influential]
    }
}

/// Pearson's r without each pair in turn.
///
/// # Errors
/// As for [`pearson`], also of the pairs that are left: three at least.
pub fn leave_one_pair_out(x: &[f64], y: &[f64]) -> Result<Influence, Error> {
    let r = pearson(x, y)?.r;
    if x.len() < 3 {
        return Err(Error::TooFew { what: "leaving one pair out", least: 3, n: x.len() });
    }
    let all_but = |values: &[f64], i: usize| -> Vec<f64> { [&values[..i], &values[i + 1..]].concat() };
    let without = (0..x.len()).map(|i| Ok(pearson(&all_but(x, i), &all_but(y, i))?.r));
    let without = without.collect::<Result<Vec<f64>, Error>>()?;
    // The first of several that change it as much.
    let farther = |best: usize, i: usize| if (without[i] - r).abs() > (without[best] - r).abs() { i } else { best };
    let most_influential = (0..without.len()).fold(0, farther);
    Ok(Influence { r, without, most_influential })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pair_can_carry_a_correlation() {
        let found = leave_one_pair_out(&[0.0, 1.0, 0.0, 1.0, 9.0], &[0.0, 1.0, 1.0, 0.0, 9.0]).unwrap();
        assert!(found.r > 0.95 && found.most_influential == 4 && found.without_most_influential().abs() < 1e-12);
        assert!(found.range().0.abs() < 1e-12 && found.range().1 > 0.95);
        assert!(matches!(leave_one_pair_out(&[0.0, 1.0], &[0.0, 1.0]), Err(Error::TooFew { n: 2, .. })));
        // Without the second pair x does not vary.
        assert!(leave_one_pair_out(&[0.0, 1.0, 0.0], &[0.0, 1.0, 2.0]).is_err());
    }
}
