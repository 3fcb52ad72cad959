//! How attention's scores are cut into tiles on a GPU where no kernel fuses attention, so that memory grows with the length of a
//! sequence, not with its square.

use std::ops::Range;

/// Scores of a tile, at most, unless a single row has more. Two tensors of a tile are alive forward, four backward: 1 GiB in bf16.
pub const SCORES_AT_ONCE: usize = 1 << 27;

/// As few equal parts of `0..count` as there can be of at most `most`.
fn parts(count: usize, most: usize) -> Vec<Range<usize>> {
    let size = count.div_ceil(count.div_ceil(most.max(1)).max(1)).max(1);
    // Of nothing too there is a part.
    (0..count.max(1)).step_by(size).map(|from| from..(from + size).min(count)).collect()
}

/// Parts of the heads, and of each head's rows: of a single part where a tile holds whole heads, else each head is a part.
fn heads_and_rows(heads: usize, time: usize, most: usize) -> [Vec<Range<usize>>; 2] {
    let of_head = time.saturating_mul(time).max(1);
    [parts(heads, most / of_head), parts(time, if of_head <= most { time } else { most / time })]
}

/// Tiles of at most `most` scores that so many heads, counted over all sequences of `time` positions, come in: as few as there can be,
/// of whole heads or, where a head has more than a tile, of rows of one.
pub fn score_tiles(heads: usize, time: usize, most: usize) -> usize {
    heads_and_rows(heads, time, most).iter().map(Vec::len).product()
}

/// A part of the scores: all rows of some heads (counted over all sequences), or some rows of one.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) heads: Range<usize>,
    pub(crate) rows: Range<usize>,
}

/// The [tiles](score_tiles), by their heads.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub(crate) fn tiles(heads: usize, time: usize, most: usize) -> Vec<Vec<Tile>> {
    let [heads, rows] = heads_and_rows(heads, time, most);
    let of_heads =
        |heads: Range<usize>| rows.iter().map(|rows| Tile { heads: heads.clone(), rows: rows.clone() }).collect();
    heads.into_iter().map(of_heads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_scores_are_covered_once() {
        for (heads, time, most) in [(12, 10, 250), (6, 10, 35), (1, 7, 1), (4, 8, 1 << 20), (5, 3, 9)] {
            let [by_heads, by_rows] = heads_and_rows(heads, time, most);
            let mut seen = vec![0; heads * time];
            for (h, r) in by_heads.iter().flat_map(|h| by_rows.iter().map(move |r| (h, r))) {
                assert!(h.len() * r.len() * time <= most.max(time), "{h:?} {r:?}");
                assert!(r.len() == time || h.len() == 1, "{h:?} {r:?}");
                for head in h.clone() {
                    r.clone().for_each(|row| seen[head * time + row] += 1);
                }
            }
            assert!(seen.iter().all(|n| *n == 1), "{heads} {time} {most}");
        }
        assert_eq!(score_tiles(4, 8, 1 << 20), 1);
        assert_eq!(score_tiles(12, 10, 250), 6);
        assert_eq!(score_tiles(1, 1 << 20, 1 << 27), 1 << 13);
    }
}
