//! The result: a value, or a reason why there is none, for each pair of layers.

use serde::{Deserialize, Serialize};

use crate::accumulator::Tile;
use crate::sums::Hsic;
use crate::{Jackknifed, Layer, Reason, Side};

/// The level of intervals where none is chosen.
pub(crate) const LEVEL: f64 = 0.95;
/// By Cauchy and Schwarz.
const LIMITS: (f64, f64) = (-1.0, 1.0);

/// CKA of two layers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The value; NaN where there is a reason. Never cut off at 0 or 1. (JSON has no NaN: null stands for it.)
    #[serde(with = "nan")]
    pub value: f64,
    /// Why there is no value.
    pub reason: Option<Reason>,
    /// Standard error by the jackknife that leaves out one group of documents at a time (weighted by their sizes, Busing
    /// et al. 1999); `None` with fewer than two groups, or where a value is missing without one of them.
    pub standard_error: Option<f64>,
    /// Its interval on the scale of atanh ([`Jackknifed::bounded_interval`]): within −1 and 1.
    pub interval: Option<(f64, f64)>,
}

mod nan {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        (!value.is_nan()).then_some(*value).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

/// CKA of every layer of one side (rows) with every layer of the other (columns).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// The left side's layers.
    pub rows: Vec<String>,
    /// The right side's layers.
    pub columns: Vec<String>,
    /// Examples.
    pub examples: u64,
    /// Groups of documents that intervals are over.
    pub groups: usize,
    /// Kornblith et al. 2019; drifts towards 1 where examples are few.
    pub biased: Vec<Vec<Cell>>,
    /// With HSIC₁ (Song et al. 2012): about 0 for unrelated features; may be negative.
    pub debiased: Vec<Vec<Cell>>,
    /// Of each debiased cell, for differences; not written.
    #[serde(skip)]
    jackknifed: Vec<Vec<Option<Jackknifed>>>,
}

/// What is known of a layer before it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerState {
    Varies,
    Constant,
    NotFinite,
}

/// What an accumulator of a tile has found.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) tile: Tile,
    /// Pairs of the tile's layers, left ones first.
    pub(crate) pairs: Vec<(usize, usize)>,
    /// Of each pair over all examples, then without each group.
    pub(crate) hsics: Vec<Vec<Hsic>>,
    pub(crate) states: Vec<LayerState>,
    pub(crate) n: u64,
    /// Sizes of the groups that have examples.
    pub(crate) sizes: Vec<u64>,
    /// [`Real::NOISE`](crate::Real::NOISE) of what products were computed in.
    pub(crate) noise: f64,
}

/// One side's layers with themselves.
struct Own(Vec<(LayerState, Vec<Hsic>)>);

impl Matrix {
    pub(crate) fn assemble(left: &[Layer], right: &[Layer], parts: &[Part], level: f64) -> Self {
        let own = |count: usize| Own(vec![(LayerState::Varies, Vec::new()); count]);
        let mut sides = [own(left.len()), own(right.len())];
        let mut across = vec![vec![Vec::new(); right.len()]; left.len()];
        for part in parts {
            let lefts = part.tile.left.len();
            // A tile's layer, as side and place.
            let place = |layer: usize| {
                if layer < lefts {
                    (0, part.tile.left.start + layer)
                } else {
                    (1, part.tile.right.start + layer - lefts)
                }
            };
            for ((a, b), hsics) in part.pairs.iter().zip(&part.hsics) {
                let ((side, i), (_, j)) = (place(*a), place(*b));
                if a == b {
                    sides[side].0[i] = (part.states[*a], hsics.clone());
                } else {
                    across[i][j] = hsics.clone();
                }
            }
        }
        let (n, sizes, noise) = parts.first().map_or((0, &[][..], 0.0), |p| (p.n, p.sizes.as_slice(), p.noise));
        let found = |least: u64, pick: fn(&Hsic) -> f64| -> Vec<Vec<(Cell, Option<Jackknifed>)>> {
            let row = |i: usize| {
                let cell = |j: usize| {
                    let (x, y) = (&sides[0].0[i], &sides[1].0[j]);
                    let (across, own) = (&across[i][j], [x.1.as_slice(), y.1.as_slice()]);
                    let found = Found { n, least, states: [x.0, y.0], across, own, pick, noise };
                    found.cell(sizes, level)
                };
                (0..right.len()).map(cell).collect()
            };
            (0..left.len()).map(row).collect()
        };
        let cells = |found: &[Vec<(Cell, Option<Jackknifed>)>]| {
            found.iter().map(|row| row.iter().map(|(cell, _)| *cell).collect()).collect()
        };
        let debiased = found(4, |h| h.debiased);
        let names = |layers: &[Layer]| layers.iter().map(|l| l.name.clone()).collect();
        Self {
            rows: names(left),
            columns: names(right),
            examples: n,
            groups: sizes.len(),
            biased: cells(&found(2, |h| h.biased)),
            debiased: cells(&debiased),
            jackknifed: debiased.into_iter().map(|row| row.into_iter().map(|(_, j)| j).collect()).collect(),
        }
    }

    /// A debiased value with what it is without each group of documents, for differences between comparisons of the same
    /// documents. `None` with fewer than two groups, where a value is missing, and of a matrix that was read from a file.
    pub fn jackknifed(&self, row: usize, column: usize) -> Option<&Jackknifed> {
        self.jackknifed.get(row)?.get(column)?.as_ref()
    }
}

/// What a cell is made of.
struct Found<'a> {
    n: u64,
    least: u64,
    states: [LayerState; 2],
    across: &'a [Hsic],
    own: [&'a [Hsic]; 2],
    pick: fn(&Hsic) -> f64,
    noise: f64,
}

impl Found<'_> {
    fn cell(&self, sizes: &[u64], level: f64) -> (Cell, Option<Jackknifed>) {
        let value = match self.value(0) {
            Ok(value) => value,
            Err(reason) => {
                let cell = Cell { value: f64::NAN, reason: Some(reason), standard_error: None, interval: None };
                return (cell, None);
            }
        };
        let without = (1..self.across.len()).map(|replicate| self.value(replicate)).collect::<Result<Vec<_>, _>>();
        // Without its largest group a comparison must still have a value.
        let enough = sizes.len() >= 2 && sizes.iter().all(|m| self.n - m >= self.least);
        let without = without.ok().filter(|_| enough);
        let jackknifed = without.and_then(|without| Jackknifed::new(value, without, sizes.to_vec()).ok());
        let standard_error = jackknifed.as_ref().and_then(Jackknifed::standard_error);
        let interval = jackknifed.as_ref().and_then(|j| j.bounded_interval(level, LIMITS));
        (Cell { value, reason: None, standard_error, interval }, jackknifed)
    }

    fn value(&self, replicate: usize) -> Result<f64, Reason> {
        if self.n < self.least {
            return Err(Reason::TooFew { n: self.n, least: self.least });
        }
        for (state, side) in self.states.into_iter().zip([Side::Left, Side::Right]) {
            match state {
                LayerState::NotFinite => return Err(Reason::NotFinite { side }),
                LayerState::Constant => return Err(Reason::Constant { side }),
                LayerState::Varies => {}
            }
        }
        let own = self.own.map(|hsics| (self.pick)(&hsics[replicate]));
        for ((own, hsics), side) in own.into_iter().zip(self.own).zip([Side::Left, Side::Right]) {
            if own.is_nan() || own <= self.noise * hsics[replicate].biased {
                return Err(Reason::NotPositive { side });
            }
        }
        Ok((self.pick)(&self.across[replicate]) / (own[0].sqrt() * own[1].sqrt()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_value_survives_json() {
        let reason = Some(Reason::Constant { side: Side::Left });
        let cell = Cell { value: f64::NAN, reason, standard_error: None, interval: None };
        let back: Cell = serde_json::from_str(&serde_json::to_string(&cell).unwrap()).unwrap();
        assert!(back.value.is_nan() && back.reason == reason);
    }
}
