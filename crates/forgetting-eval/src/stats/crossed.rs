//! Correlation where every arm is measured on every set.
//!
//! The arms of a study are crossed with its fine-tuning sets: what is peculiar to an arm (its data, its pretrained models) is
//! in its values on all sets. Their pairs are not independent, and shuffling values within one set, then within the next,
//! takes for independent what one arm does on all of them: it rejects a true null far too often. Arms are what is exchanged, which
//! supposes that they could be: arms that share a source resemble each other more than others, and cannot.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::{Error, Influence, leave_one_pair_out, pearson};

/// Two values of every arm on every set: `x[arm][set]`, `y[arm][set]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Crossed {
    x: Vec<Vec<f64>>,
    y: Vec<Vec<f64>>,
}

/// How r compares with what it is after arms are exchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmPermutation {
    /// r as observed.
    pub r: f64,
    /// r of each permutation of the arms' labels: all of them in lexicographic order, the identity first, or as many as were
    /// drawn.
    pub permuted: Vec<f64>,
    /// Whether these are all there are.
    pub complete: bool,
}

impl ArmPermutation {
    /// Permutations with an |r| at least as large as observed.
    pub fn as_large(&self) -> usize {
        self.count(|r| r.abs() >= self.r.abs() - ROUNDING)
    }

    /// Permutations with an r at least as high as observed.
    pub fn as_high(&self) -> usize {
        self.count(|r| r >= self.r - ROUNDING)
    }

    /// Two-sided p: the share of permutations with an |r| at least as large. With k arms it cannot be below 1/k!. (Of drawn
    /// permutations (1 + as large)/(1 + drawn), so that it is never 0.)
    pub fn p(&self) -> f64 {
        self.share(self.as_large())
    }

    /// One-sided p, for a positive relation claimed beforehand.
    pub fn p_greater(&self) -> f64 {
        self.share(self.as_high())
    }

    /// The lowest two-sided p that these values allow: that of the permutation with the largest |r|. With k arms it is 1/k! at
    /// best; of two standardised arms, whose only other order has −r, it is 1.
    pub fn least_p(&self) -> f64 {
        let largest = self.permuted.iter().fold(self.r.abs(), |most, r| most.max(r.abs()));
        self.share(self.count(|r| r.abs() >= largest - ROUNDING))
    }

    fn count(&self, as_large: impl Fn(f64) -> bool) -> usize {
        self.permuted.iter().filter(|r| as_large(**r)).count()
    }

    fn share(&self, count: usize) -> f64 {
        let drawn = usize::from(!self.complete);
        (count + drawn) as f64 / (self.permuted.len() + drawn) as f64
    }
}

/// What rounding may change of an r.
const ROUNDING: f64 = 1e-12;

impl Crossed {
    /// Of values by arm, each with those of all sets in the same order.
    ///
    /// # Errors
    /// Arms with different numbers of sets, fewer than two arms, no set, values that are not finite.
    pub fn new(x: Vec<Vec<f64>>, y: Vec<Vec<f64>>) -> Result<Self, Error> {
        if x.len() != y.len() {
            return Err(Error::Unpaired { left: x.len(), right: y.len() });
        }
        if x.len() < 2 {
            return Err(Error::TooFew { what: "exchanging arms", least: 2, n: x.len() });
        }
        let sets = x[0].len();
        if sets == 0 {
            return Err(Error::TooFew { what: "arms crossed with sets", least: 1, n: 0 });
        }
        for (side, values) in [("x", &x), ("y", &y)] {
            for (arm, values) in values.iter().enumerate() {
                if values.len() != sets {
                    return Err(Error::Unpaired { left: sets, right: values.len() });
                }
                if let Some((set, value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
                    return Err(Error::NotFinite { side, index: arm * sets + set, value: *value });
                }
            }
        }
        Ok(Self { x, y })
    }

    /// Arms.
    pub fn arms(&self) -> usize {
        self.x.len()
    }

    /// Sets.
    pub fn sets(&self) -> usize {
        self.x[0].len()
    }

    /// The same as z-scores within each set (divided by the standard deviation with n): what makes whole sets high or low
    /// is taken out. No permutation of arms changes them.
    ///
    /// # Errors
    /// A set in which values do not vary.
    pub fn standardised(&self) -> Result<Self, Error> {
        let mut out = self.clone();
        for set in 0..self.sets() {
            for (side, values) in [("x", &mut out.x), ("y", &mut out.y)] {
                let of_set: Vec<f64> = values.iter().map(|arm| arm[set]).collect();
                let z = super::correlation::z_scores(side, &of_set)
                    .map_err(|source| Error::Block { block: set, source: Box::new(source) })?;
                values.iter_mut().zip(z).for_each(|(arm, z)| arm[set] = z);
            }
        }
        Ok(out)
    }

    /// The same as z-scores of ranks within each set, ties at their mean: for arms of unlike scales, such as mixes of unlike shares.
    /// Exchanging these rejects a true null too often where their values are compared, and hardly ever too often where their ranks are.
    ///
    /// # Errors
    /// A set in which values do not vary.
    pub fn ranked(&self) -> Result<Self, Error> {
        let mut out = self.clone();
        for set in 0..self.sets() {
            for values in [&mut out.x, &mut out.y] {
                let ranks = super::correlation::ranks(&values.iter().map(|arm| arm[set]).collect::<Vec<f64>>());
                values.iter_mut().zip(ranks).for_each(|(arm, rank)| arm[set] = rank);
            }
        }
        out.standardised()
    }

    /// Pearson's r over all pairs. It has no p: they are not independent.
    ///
    /// # Errors
    /// Values that do not vary.
    pub fn r(&self) -> Result<f64, Error> {
        Ok(pearson(&self.x.concat(), &self.y.concat())?.r)
    }

    /// r without each pair in turn, arm by arm.
    ///
    /// # Errors
    /// As for [`leave_one_pair_out`].
    pub fn leave_one_pair_out(&self) -> Result<Influence, Error> {
        leave_one_pair_out(&self.x.concat(), &self.y.concat())
    }

    /// r where the arms' values of y are exchanged, jointly on all sets.
    ///
    /// 1. With at most `most` permutations of the arms, all of them: the test is exact.
    /// 2. With more, `most` drawn at random from a seed.
    ///
    /// # Errors
    /// Values that do not vary; `most` of 0.
    pub fn permute_arms(&self, most: usize, seed: u64) -> Result<ArmPermutation, Error> {
        if most == 0 {
            return Err(Error::Argument { field: "most", value: 0.0, limit: "must be at least 1" });
        }
        let x = self.x.concat();
        let of = |order: &[usize]| {
            let y: Vec<f64> = order.iter().flat_map(|arm| &self.y[*arm]).copied().collect();
            Ok(pearson(&x, &y)?.r)
        };
        let arms = self.arms();
        let all = (1..=arms).try_fold(1usize, |product, i| product.checked_mul(i)).filter(|all| *all <= most);
        let mut order: Vec<usize> = (0..arms).collect();
        let r = of(&order)?;
        let mut permuted = Vec::with_capacity(all.unwrap_or(most));
        match all {
            Some(_) => loop {
                permuted.push(of(&order)?);
                if !advance(&mut order) {
                    break;
                }
            },
            None => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                for _ in 0..most {
                    shuffle(&mut order, &mut rng);
                    permuted.push(of(&order)?);
                }
            }
        }
        Ok(ArmPermutation { r, permuted, complete: all.is_some() })
    }
}

/// The next permutation in lexicographic order; `false` after the last.
fn advance(order: &mut [usize]) -> bool {
    let Some(from) = (1..order.len()).rev().find(|i| order[i - 1] < order[*i]) else { return false };
    let pivot = order[from - 1];
    if let Some(other) = (from..order.len()).rev().find(|i| order[*i] > pivot) {
        order.swap(from - 1, other);
    }
    order[from..].reverse();
    true
}

fn shuffle(order: &mut [usize], rng: &mut ChaCha8Rng) {
    for i in (1..order.len()).rev() {
        let other = ((u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64) as usize;
        order.swap(i, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arms that gain on every set what they are close to it.
    fn related(arms: usize) -> Crossed {
        let value = |arm: usize, set: usize| (arm * arm) as f64 + (set * 7) as f64;
        let rows = |f: &dyn Fn(f64) -> f64| (0..arms).map(|a| (0..4).map(|s| f(value(a, s))).collect()).collect();
        Crossed::new(rows(&|v| v), rows(&|v| 2.0 * v + 1.0)).unwrap()
    }

    #[test]
    fn all_permutations_of_few_arms() {
        let found = related(5).standardised().unwrap().permute_arms(10_000, 0).unwrap();
        assert!((found.r - 1.0).abs() < 1e-12 && found.complete && found.permuted.len() == 120);
        assert_eq!((found.p(), found.p_greater(), found.least_p()), (1.0 / 120.0, 1.0 / 120.0, 1.0 / 120.0));
        assert_eq!(found.permuted[0], found.r);
        // Two arms cannot show anything.
        let two = related(2).standardised().unwrap().permute_arms(10, 0).unwrap();
        assert_eq!((two.p(), two.least_p()), (1.0, 1.0));
    }

    #[test]
    fn ranks_see_no_scale() {
        let x = vec![vec![1.0, 2.0], vec![2.0, 1.0], vec![90.0, 70.0]];
        let grown = x.iter().map(|arm: &Vec<f64>| arm.iter().map(|v: &f64| v.powi(3)).collect()).collect();
        let found = Crossed::new(x, grown).unwrap();
        assert!((found.ranked().unwrap().r().unwrap() - 1.0).abs() < 1e-12);
        assert!(found.r().unwrap() < 0.999);
    }

    #[test]
    fn many_arms_are_drawn() {
        let found = related(9).standardised().unwrap().permute_arms(999, 3).unwrap();
        assert!(!found.complete && found.permuted.len() == 999);
        assert!(found.p() <= 2.0 / 1000.0 && found.least_p() <= found.p(), "{}", found.p());
        assert_eq!(found, related(9).standardised().unwrap().permute_arms(999, 3).unwrap());
    }

    #[test]
    fn orders_come_in_lexicographic_order() {
        let mut order = vec![0, 1, 2];
        let mut seen = vec![order.clone()];
        while advance(&mut order) {
            seen.push(order.clone());
        }
        let mut sorted = seen.clone();
        sorted.sort();
        assert_eq!((seen.len(), seen), (6, sorted));
    }

    #[test]
    fn what_cannot_be_crossed_is_refused() {
        let row = || vec![1.0, 2.0];
        assert!(matches!(Crossed::new(vec![row()], vec![row()]), Err(Error::TooFew { n: 1, .. })));
        assert!(matches!(Crossed::new(vec![row(), row()], vec![row()]), Err(Error::Unpaired { left: 2, right: 1 })));
        assert!(Crossed::new(vec![row(), vec![1.0]], vec![row(), row()]).is_err());
        assert!(Crossed::new(vec![vec![], vec![]], vec![vec![], vec![]]).is_err());
        let nan = Crossed::new(vec![row(), row()], vec![row(), vec![f64::NAN, 0.0]]);
        assert!(matches!(nan, Err(Error::NotFinite { side: "y", index: 2, .. })));
        let flat = Crossed::new(vec![row(), row()], vec![row(), vec![3.0, 1.0]]).unwrap();
        assert!(matches!(flat.standardised(), Err(Error::Block { block: 0, .. })));
        assert!(flat.permute_arms(0, 0).is_err());
    }
}
