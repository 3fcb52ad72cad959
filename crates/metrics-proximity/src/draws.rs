//! Seeded draws of whole documents, the same number of tokens on every side.
//!
//! A corpus's documents lie on a circle, in an order that the seed decides. Draw r of R begins at document r·D/R of D and
//! cuts the circle into two halves of as many documents: one side of a comparison reads from one half, the other side from
//! the other, so that no document is on both. Draws that begin at even distances use every document about as often.

use crate::documents::rank;
use crate::{Documents, Error};

/// How corpora are drawn and how uncertain that is.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Draws {
    /// Tokens of every side; `None`: as many as both halves of every corpus hold in every draw, at most half of the
    /// smallest.
    pub budget: Option<u64>,
    /// Draws that a similarity is the mean of.
    pub draws: usize,
    /// Groups of documents that the jackknife leaves out in turn; fewer where a corpus has fewer than twice as many
    /// documents. Below [`Draws::LEAST_GROUPS`] there are no intervals.
    pub groups: usize,
    /// Seed of the documents' order.
    pub seed: u64,
}

impl Default for Draws {
    fn default() -> Self {
        Self { budget: None, draws: 32, groups: 20, seed: 0 }
    }
}

impl Draws {
    /// With fewer groups a jackknife's interval says little.
    pub const LEAST_GROUPS: usize = 5;

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let bad = |field, value, limit| Err(Error::Option { field, value, limit });
        if self.draws == 0 {
            return bad("draws", 0.0, "must be at least 1");
        }
        match self.budget {
            Some(0) => bad("budget", 0.0, "must be at least 1 token"),
            _ => Ok(()),
        }
    }
}

/// The two sides of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// Which end of its half a part of a sample is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Front,
    Back,
}

/// A draw, all of it or without one group of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Draw {
    pub(crate) index: usize,
    pub(crate) of: usize,
    /// The group that is left out, and how many there are.
    pub(crate) without: Option<(usize, usize)>,
}

/// A corpus's documents in the order of a seed.
#[derive(Debug)]
pub(crate) struct Circle<'a> {
    documents: &'a Documents,
    order: Vec<u32>,
}

impl<'a> Circle<'a> {
    /// `corpus`: its name, so that each has an order of its own, whatever others there are.
    pub(crate) fn new(documents: &'a Documents, seed: u64, corpus: &str) -> Self {
        let seed = rank(seed, xxhash_rust::xxh3::xxh3_64(corpus.as_bytes()));
        let mut order: Vec<(u64, u32)> =
            (0..documents.len() as u64).map(|document| (rank(seed, document), document as u32)).collect();
        order.sort_unstable();
        Self { documents, order: order.into_iter().map(|(_, document)| document).collect() }
    }

    /// Places on the circle of the half that a side reads, less the group that is left out. A group is every G-th place, so
    /// that all draws hold as much of each.
    fn half(&self, draw: Draw, side: Side) -> impl DoubleEndedIterator<Item = usize> + '_ {
        let (count, half) = (self.order.len(), self.order.len() / 2);
        let start = draw.index * count / draw.of + if side == Side::Left { 0 } else { half };
        let kept = move |place: &usize| draw.without.is_none_or(|(group, groups)| place % groups != group);
        (start..start + half).map(move |place| place % count.max(1)).filter(kept)
    }

    /// The most tokens that a side can be sure of, in any draw and without any group.
    pub(crate) fn most(&self, draws: usize, groups: Option<usize>) -> u64 {
        let of_half = |index: usize, side: Side| {
            let mut by_group = vec![0; groups.unwrap_or(1)];
            let draw = Draw { index, of: draws, without: None };
            for place in self.half(draw, side) {
                let tokens = self.documents.document(self.order[place] as usize).len() as u64;
                by_group[place % groups.unwrap_or(1)] += tokens;
            }
            let heaviest = groups.map_or(0, |_| by_group.iter().copied().max().unwrap_or(0));
            by_group.iter().sum::<u64>() - heaviest
        };
        (0..draws).flat_map(|draw| [of_half(draw, Side::Left), of_half(draw, Side::Right)]).min().unwrap_or(0)
    }

    /// Counts `amount` tokens of whole documents from an end of a half; of the last document its first
    /// tokens (from the front) or its last ones (from the back), so that parts from both ends never meet.
    pub(crate) fn count(&self, draw: Draw, side: Side, end: End, amount: u64, counts: &mut [u32]) {
        match end {
            End::Front => self.count_from(self.half(draw, side), end, amount, counts),
            End::Back => self.count_from(self.half(draw, side).rev(), end, amount, counts),
        }
    }

    fn count_from(&self, places: impl Iterator<Item = usize>, end: End, amount: u64, counts: &mut [u32]) {
        let mut left = amount as usize;
        for place in places {
            if left == 0 {
                break;
            }
            let document = self.documents.document(self.order[place] as usize);
            let taken = left.min(document.len());
            let part = match end {
                End::Front => &document[..taken],
                End::Back => &document[document.len() - taken..],
            };
            part.iter().for_each(|id| counts[*id as usize] += 1);
            left -= taken;
        }
        debug_assert_eq!(left, 0, "the budget was checked");
    }
}
