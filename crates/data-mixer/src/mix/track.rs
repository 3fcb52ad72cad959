//! One side of a mixture over a whole run: its sources, whose shares may change from phase to phase.

use schedule::Shares;

use super::tree::SplitTree;

/// From a position on this side to a source and its index there.
#[derive(Debug, Clone)]
pub(super) struct Track {
    /// The side's sources, as indices into the plan's.
    sources: Vec<usize>,
    segments: Vec<Segment>,
}

/// A stretch with the same shares.
#[derive(Debug, Clone)]
struct Segment {
    /// Its first position.
    from: u64,
    tree: SplitTree,
    /// Each leaf's place in the track's sources.
    leaves: Vec<usize>,
    /// Draws of each of the track's sources before.
    before: Vec<u64>,
}

impl Track {
    /// A side of these sources, without segments yet.
    pub(super) fn new(sources: Vec<usize>) -> Self {
        Self { sources, segments: Vec::new() }
    }

    /// From a position on, these shares; `place` gives a name's place among the track's sources.
    pub(super) fn begin(
        &mut self,
        from: u64,
        shares: &Shares,
        seed: u64,
        purpose: &str,
        place: impl Fn(&str) -> usize,
    ) {
        let before = (0..self.sources.len()).map(|i| self.count(i, from)).collect();
        let leaves = shares.iter().map(|(name, _)| place(name)).collect();
        let purpose = format!("{purpose} {}", self.segments.len());
        self.segments.push(Segment { from, tree: SplitTree::new(shares, seed, &purpose), leaves, before });
    }

    /// The side's sources, as indices into the plan's.
    pub(super) fn sources(&self) -> &[usize] {
        &self.sources
    }

    fn segment(&self, position: u64) -> Option<&Segment> {
        self.segments[..self.segments.partition_point(|s| s.from <= position)].last()
    }

    /// The source at a position (its place among the track's) and its index there.
    pub(super) fn locate(&self, position: u64) -> (usize, u64) {
        let segment = self.segment(position).expect("a track begins at position 0");
        let (leaf, index) = segment.tree.locate(position - segment.from);
        let place = segment.leaves[leaf];
        (place, segment.before[place] + index)
    }

    /// How many of the first `positions` are of the source at a place.
    pub(super) fn count(&self, place: usize, positions: u64) -> u64 {
        let Some(segment) = self.segment(positions) else { return 0 };
        let inside = segment.leaves.iter().position(|p| *p == place);
        let here = inside.map_or(0, |leaf| segment.tree.count(leaf, positions - segment.from));
        segment.before[place] + here
    }
}
