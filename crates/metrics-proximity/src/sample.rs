//! Samples of equal size, and their similarities from counts.

use crate::{Similarity, SimilarityOptions};

/// Token counts of so many tokens.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// By token id.
    counts: Vec<u32>,
    /// Ids that occur.
    ids: Vec<u32>,
    total: f64,
    /// Σ c²
    squares: f64,
}

impl Sample {
    /// From counts by token id.
    pub(crate) fn of(counts: Vec<u32>) -> Self {
        // Without a branch, which no processor would guess.
        let (mut ids, mut types) = (vec![0; counts.len()], 0);
        for (id, count) in (0..).zip(&counts) {
            ids[types] = id;
            types += usize::from(*count > 0);
        }
        ids.truncate(types);
        let occurring = || ids.iter().map(|id| f64::from(counts[*id as usize]));
        let (total, squares) = (occurring().sum(), occurring().map(|c| c * c).sum());
        Self { counts, ids, total, squares }
    }

    /// Similarity of two samples of the same number of tokens N. Only tokens that both show matter: with counts a and b
    /// the Jensen–Shannon divergence is 1 − Σ (a + b)·log₂(a + b) − a·log₂ a − b·log₂ b over them, divided by 2N.
    pub(crate) fn similarity(&self, other: &Self, options: &SimilarityOptions, logs: &Logs) -> Similarity {
        let (fewer, more) = if self.ids.len() <= other.ids.len() { (self, other) } else { (other, self) };
        let (mut both, mut dot, mut shared, mut gain) = (0u32, 0.0, 0u64, 0.0);
        // Where b is 0 every term is 0.
        for id in &fewer.ids {
            let (a, b) = (fewer.counts[*id as usize], more.counts[*id as usize]);
            both += u32::from(b > 0);
            dot += f64::from(a) * f64::from(b);
            shared += u64::from(a.min(b));
            gain += logs.xlog2(a + b) - logs.xlog2(a) - logs.xlog2(b);
        }
        let (left, right, both) = (self.ids.len() as f64, other.ids.len() as f64, f64::from(both));
        let mut out = Similarity {
            jaccard: both / (left + right - both),
            overlap: both / left.min(right),
            overlap_left: both / left,
            overlap_right: both / right,
            shared_mass: shared as f64 / self.total,
            cosine: (dot / (self.squares.sqrt() * other.squares.sqrt())).min(1.0),
            jsd_bits: (1.0 - gain / (2.0 * self.total)).clamp(0.0, 1.0),
            combined: 0.0,
        };
        out.combined = options.combine(&out);
        out
    }
}

/// x·log₂ x of small numbers, which is most of them.
pub(crate) struct Logs(Vec<f64>);

impl Logs {
    pub(crate) fn new() -> Self {
        Self((0..1 << 12).map(xlog2).collect())
    }

    fn xlog2(&self, x: u32) -> f64 {
        self.0.get(x as usize).copied().unwrap_or_else(|| xlog2(x))
    }
}

fn xlog2(x: u32) -> f64 {
    let x = f64::from(x);
    if x > 0.0 { x * x.log2() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counts, Distribution, similarity};

    /// The same as from frequencies.
    #[test]
    fn counts_give_what_frequencies_give() {
        let (a, b) = (vec![3, 0, 5, 9000, 1], vec![0, 9001, 7, 0, 1]);
        let total = |c: &[u32]| c.iter().sum::<u32>();
        assert_eq!(total(&a), total(&b));
        let frequencies =
            |c: &[u32]| Distribution::of(&Counts::from_counts(c.iter().map(|n| u64::from(*n)).collect())).unwrap();
        let options = SimilarityOptions::default();
        let exact = similarity(&frequencies(&a), &frequencies(&b), &options).unwrap();
        let found = Sample::of(a).similarity(&Sample::of(b), &options, &Logs::new());
        for (x, y) in found.values().into_iter().zip(exact.values()) {
            assert!((x - y).abs() < 1e-12, "{found:?} {exact:?}");
        }
    }
}
