//! Dividing a count among sources by constant shares: a binary tree of exact splits.

use schedule::{Shares, Weight};

use crate::stream_key;

/// A balanced tree over K sources. A node that has been passed m times has sent `⌊r·m + φ⌋` to its left, with r the
/// left side's share of the node's. So each source's count differs from its share of m by less than the tree's depth,
/// ⌈log₂ K⌉, at every m.
#[derive(Debug, Clone)]
pub(super) struct SplitTree {
    /// Sums of the shares before each leaf, in parts; one more at the end.
    sums: Vec<u64>,
    /// φ of the node that splits before leaf i, in parts of that node's share.
    phis: Vec<u64>,
}

/// A node: the leaves `from..to`.
#[derive(Clone, Copy)]
struct Node {
    from: usize,
    to: usize,
}

impl Node {
    fn middle(self) -> usize {
        self.from.midpoint(self.to)
    }

    fn is_leaf(self) -> bool {
        self.to - self.from == 1
    }
}

impl SplitTree {
    /// The tree of some shares. `purpose` names the stream from which its phases are drawn.
    pub(super) fn new(shares: &Shares, seed: u64, purpose: &str) -> Self {
        let mut sums = vec![0];
        for (_, weight) in shares.iter() {
            sums.push(sums[sums.len() - 1] + weight.parts());
        }
        let phis = (0..shares.len() as u64).map(|i| stream_key(seed, purpose, i) % Weight::PARTS).collect();
        Self { sums, phis }
    }

    fn root(&self) -> Node {
        Node { from: 0, to: self.sums.len() - 1 }
    }

    /// How many of the node's first `m` go to its left.
    fn left(&self, node: Node, m: u64) -> u64 {
        let whole = u128::from(self.sums[node.to] - self.sums[node.from]);
        let share = u128::from(self.sums[node.middle()] - self.sums[node.from]);
        if whole == 0 {
            return 0; // never passed: its parent sends it nothing
        }
        // φ is drawn in billionths and scaled to the node's share.
        let phi = u128::from(self.phis[node.middle()]) * whole / u128::from(Weight::PARTS);
        // At most m, because share ≤ whole and φ < whole.
        ((share * u128::from(m) + phi) / whole) as u64
    }

    /// Where the m-th goes: the leaf, and how many went there before.
    pub(super) fn locate(&self, mut m: u64) -> (usize, u64) {
        let mut node = self.root();
        while !node.is_leaf() {
            let left = self.left(node, m);
            if self.left(node, m + 1) > left {
                (node, m) = (Node { to: node.middle(), ..node }, left);
            } else {
                (node, m) = (Node { from: node.middle(), ..node }, m - left);
            }
        }
        (node.from, m)
    }

    /// How many of the first `m` go to a leaf.
    pub(super) fn count(&self, leaf: usize, mut m: u64) -> u64 {
        let mut node = self.root();
        while !node.is_leaf() {
            let left = self.left(node, m);
            if leaf < node.middle() {
                (node, m) = (Node { to: node.middle(), ..node }, left);
            } else {
                (node, m) = (Node { from: node.middle(), ..node }, m - left);
            }
        }
        m
    }
}
