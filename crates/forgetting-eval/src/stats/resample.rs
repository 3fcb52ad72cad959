//! Bootstrap and permutation where pairs come in blocks: the mixes of one fine-tuning set share its control, its
//! examples and its scale, so their pairs are not independent.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::{Error, pearson};

/// Pairs that belong together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Block {
    /// One value of each pair.
    pub x: Vec<f64>,
    /// The other.
    pub y: Vec<f64>,
}

impl Block {
    /// All pairs of all blocks.
    pub fn pooled(blocks: &[Self]) -> Self {
        Self {
            x: blocks.iter().flat_map(|b| &b.x).copied().collect(),
            y: blocks.iter().flat_map(|b| &b.y).copied().collect(),
        }
    }
}

/// A number below `n`, without favour to any (up to n/2⁶⁴).
fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// Draw `index` of the stream of a seed.
fn stream(seed: u64, index: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index);
    rng
}

/// The `(1 ± level)/2` quantiles of values, with linear interpolation between order statistics (as NumPy's default).
///
/// # Errors
/// No values, a value that is NaN, a level outside (0, 1).
pub fn percentile_interval(values: &[f64], level: f64) -> Result<(f64, f64), Error> {
    if !(level > 0.0 && level < 1.0) {
        return Err(Error::Argument { field: "level", value: level, limit: "must be between 0 and 1" });
    }
    if let Some((index, value)) = values.iter().enumerate().find(|(_, v)| v.is_nan()) {
        return Err(Error::NotFinite { side: "the resamples", index, value: *value });
    }
    if values.is_empty() {
        return Err(Error::TooFew { what: "a percentile", least: 1, n: 0 });
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (sorted.len() - 1) as f64;
        let (low, part) = (place.floor() as usize, place.fract());
        let high = (low + 1).min(sorted.len() - 1);
        sorted[low] + part * (sorted[high] - sorted[low])
    };
    Ok((at((1.0 - level) / 2.0), at((1.0 + level) / 2.0)))
}

/// What a bootstrap gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap {
    /// The statistic of each resample that has one.
    pub values: Vec<f64>,
    /// Resamples without one (such as those in which nothing varies).
    pub undefined: usize,
}

impl Bootstrap {
    /// The percentile interval.
    ///
    /// # Errors
    /// A statistic that no resample has, a level outside (0, 1).
    pub fn interval(&self, level: f64) -> Result<(f64, f64), Error> {
        percentile_interval(&self.values, level)
    }
}

/// Draws as many blocks as there are, with replacement, `resamples` times, and takes the statistic of each draw.
///
/// # Errors
/// No blocks.
pub fn cluster_bootstrap(
    blocks: &[Block],
    resamples: usize,
    seed: u64,
    statistic: impl Fn(&[Block]) -> Result<f64, Error>,
) -> Result<Bootstrap, Error> {
    if blocks.is_empty() {
        return Err(Error::TooFew { what: "a cluster bootstrap", least: 1, n: 0 });
    }
    let mut out = Bootstrap { values: Vec::with_capacity(resamples), undefined: 0 };
    for resample in 0..resamples as u64 {
        let mut rng = stream(seed, resample);
        let drawn: Vec<Block> = (0..blocks.len()).map(|_| blocks[below(&mut rng, blocks.len())].clone()).collect();
        match statistic(&drawn) {
            Ok(value) if !value.is_nan() => out.values.push(value),
            _ => out.undefined += 1,
        }
    }
    Ok(out)
}

/// Two-sided p of the pooled Pearson correlation against shuffles of y within each block: (1 + shuffles whose |r| is at
/// least as large) / (1 + shuffles). Whatever makes whole blocks high or low is in the shuffles too.
///
/// # Errors
/// As for [`pearson`]; a permutation count of 0.
pub fn block_permutation_p(blocks: &[Block], permutations: usize, seed: u64) -> Result<f64, Error> {
    if permutations == 0 {
        return Err(Error::Argument { field: "permutations", value: 0.0, limit: "must be at least 1" });
    }
    let Block { x, y } = Block::pooled(blocks);
    let found = pearson(&x, &y)?.r.abs();
    // A shuffle that leaves all in place must count as equal, whatever the order of summation.
    let found = found - 1e-12;
    let mut as_large = 0usize;
    for permutation in 0..permutations as u64 {
        let mut rng = stream(seed, permutation);
        let mut shuffled = y.clone();
        let mut from = 0;
        for block in blocks {
            let part = &mut shuffled[from..from + block.y.len()];
            for i in (1..part.len()).rev() {
                part.swap(i, below(&mut rng, i + 1));
            }
            from += block.y.len();
        }
        as_large += usize::from(pearson(&x, &shuffled)?.r.abs() >= found);
    }
    Ok((1 + as_large) as f64 / (1 + permutations) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks() -> Vec<Block> {
        (0..4)
            .map(|b| {
                let x: Vec<f64> = (0..6).map(f64::from).collect();
                let y = x.iter().map(|v| v + f64::from(b) * 0.1).collect();
                Block { x, y }
            })
            .collect()
    }

    #[test]
    fn percentiles_interpolate() {
        assert_eq!(percentile_interval(&[4.0, 1.0, 3.0, 2.0, 5.0], 0.5).unwrap(), (2.0, 4.0));
        assert!(percentile_interval(&[], 0.95).is_err() && percentile_interval(&[1.0], 1.0).is_err());
        assert!(percentile_interval(&[1.0, f64::NAN], 0.9).is_err());
    }

    #[test]
    fn a_strong_relation_in_every_block_is_no_accident() {
        let p = block_permutation_p(&blocks(), 999, 7).unwrap();
        assert_eq!(p, 1.0 / 1000.0);
        assert_eq!(p, block_permutation_p(&blocks(), 999, 7).unwrap());
    }

    #[test]
    fn a_difference_between_blocks_alone_is_an_accident_within_them() {
        // x and y rise together from block to block, not within any.
        let blocks: Vec<Block> = (0..4)
            .map(|b| {
                let base = f64::from(b) * 10.0;
                Block { x: vec![base, base + 1.0, base + 2.0], y: vec![base + 1.0, base, base + 1.0] }
            })
            .collect();
        let pooled = Block::pooled(&blocks);
        assert!(pearson(&pooled.x, &pooled.y).unwrap().p < 1e-6);
        assert!(block_permutation_p(&blocks, 999, 0).unwrap() > 0.2);
    }

    #[test]
    fn resamples_without_a_statistic_are_counted() {
        let flat = vec![Block { x: vec![1.0, 1.0], y: vec![0.0, 1.0] }, Block { x: vec![2.0, 2.0], y: vec![1.0, 2.0] }];
        let r = |drawn: &[Block]| {
            let Block { x, y } = Block::pooled(drawn);
            Ok(pearson(&x, &y)?.r)
        };
        let found = cluster_bootstrap(&flat, 200, 1, r).unwrap();
        assert_eq!(found.values.len() + found.undefined, 200);
        assert!(found.undefined > 50 && !found.values.is_empty());
        assert_eq!(found, cluster_bootstrap(&flat, 200, 1, r).unwrap());
    }
}
