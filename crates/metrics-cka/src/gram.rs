//! The Gram form: n × n products of examples, in tiles that are never kept.

use rayon::prelude::*;

use crate::Real;
use crate::accumulator::Buffer;
use crate::real::{Rows, gram_product};
use crate::sums::Hsic;

/// Examples of a tile's side.
const TILE: usize = 256;

/// Neighbouring examples of one group.
#[derive(Debug, Clone, Copy)]
struct Block {
    from: usize,
    len: usize,
    group: usize,
}

/// What a tile of Gram matrices adds.
struct TileSums {
    rows: usize,
    columns: usize,
    /// Σ KᵃᵢⱼKᵇᵢⱼ of each pair of layers.
    products: Vec<f64>,
    /// Σⱼ Kᵢⱼ of each layer, and Σᵢ.
    row_sums: Vec<Vec<f64>>,
    column_sums: Vec<Vec<f64>>,
}

/// HSIC of each pair over all examples, then without each group in turn (where there are two), from Gram matrices.
///
/// HSIC₁ (Song et al. 2012, Eq. 5) of K̃ and L̃, Gram matrices without their diagonals, needs Σᵢⱼ K̃ᵢⱼL̃ᵢⱼ and the sums of rows. Neither
/// matrix is ever held whole:
///
/// 1. Take each layer's mean out: HSIC does not see it, rounding does.
/// 2. Cut the examples into blocks of at most `TILE`, none of which crosses from one group into the next.
/// 3. For each pair of blocks on or below the diagonal, compute that tile of every layer's Gram matrix, and from it the sums of
///    products and of rows and columns ([`tile`]), in parallel.
/// 4. Add the tiles up by pair of groups, in a fixed order; a tile off the diagonal stands for its mirror image too.
/// 5. For each replicate (all groups; all but one), add up what it is made of, and put it into the formula ([`hsic`]).
pub(crate) fn gram_hsics<T: Real>(
    buffer: &mut Buffer<T>,
    widths: &[usize],
    pairs: &[(usize, usize)],
) -> Vec<Vec<Hsic>> {
    // 1.
    centre(buffer, widths);
    // 2.
    let mut used: Vec<usize> = buffer.segments.iter().map(|(group, _)| *group).collect();
    used.sort_unstable();
    used.dedup();
    let groups = used.len();
    let mut blocks = Vec::new();
    let mut from = 0;
    for (group, rows) in &buffer.segments {
        let group = used.binary_search(group).expect("collected from the same segments");
        for at in (0..*rows).step_by(TILE) {
            blocks.push(Block { from: from + at, len: TILE.min(rows - at), group });
        }
        from += rows;
    }
    let n = from;
    // 3.
    let tiles: Vec<(usize, usize)> = (0..blocks.len()).flat_map(|i| (0..=i).map(move |j| (i, j))).collect();
    let sums: Vec<TileSums> = tiles.par_iter().map(|(i, j)| tile(buffer, widths, pairs, &blocks, *i, *j)).collect();
    // 4. Between groups, so that each can be left out.
    let mut products = vec![vec![0.0; groups * groups]; pairs.len()];
    let mut row_sums = vec![vec![0.0; n * groups]; widths.len()];
    for sum in sums {
        let (a, b) = (blocks[sum.rows], blocks[sum.columns]);
        let twice = if sum.rows == sum.columns { 1.0 } else { 2.0 };
        for (products, product) in products.iter_mut().zip(&sum.products) {
            products[a.group * groups + b.group] += twice * product;
        }
        for (layer, row_sums) in row_sums.iter_mut().enumerate() {
            for (i, s) in sum.row_sums[layer].iter().enumerate() {
                row_sums[(a.from + i) * groups + b.group] += s;
            }
            if sum.rows != sum.columns {
                for (j, s) in sum.column_sums[layer].iter().enumerate() {
                    row_sums[(b.from + j) * groups + a.group] += s;
                }
            }
        }
    }
    // 5.
    let replicates: Vec<Option<usize>> =
        std::iter::once(None).chain((0..groups).filter(|_| groups > 1).map(Some)).collect();
    let group_of: Vec<usize> = blocks.iter().flat_map(|b| std::iter::repeat_n(b.group, b.len)).collect();
    let one = |((a, b), products): (&(usize, usize), &Vec<f64>)| {
        let sides = [(&row_sums[*a], &buffer.squares[*a]), (&row_sums[*b], &buffer.squares[*b])];
        replicates.iter().map(|without| hsic(products, sides, &group_of, groups, *without)).collect()
    };
    pairs.par_iter().zip(&products).map(one).collect()
}

/// Takes the mean out: exact HSIC does not see it, rounding does.
fn centre<T: Real>(buffer: &mut Buffer<T>, widths: &[usize]) {
    let layers = buffer.layers.par_iter_mut().zip(&mut buffer.squares).zip(widths);
    layers.for_each(|((values, squares), width)| {
        let mut mean = vec![0.0; *width];
        for row in values.chunks_exact(*width) {
            mean.iter_mut().zip(row).for_each(|(m, x)| *m += x.to_f64());
        }
        let n = squares.len() as f64;
        mean.iter_mut().for_each(|m| *m /= n);
        for (row, square) in values.chunks_exact_mut(*width).zip(squares) {
            row.iter_mut().zip(&mean).for_each(|(x, m)| *x = T::from_f64(x.to_f64() - m));
            *square = row.iter().map(|x| x.to_f64().powi(2)).sum();
        }
    });
}

fn tile<T: Real>(
    buffer: &Buffer<T>,
    widths: &[usize],
    pairs: &[(usize, usize)],
    blocks: &[Block],
    i: usize,
    j: usize,
) -> TileSums {
    let (a, b) = (blocks[i], blocks[j]);
    let grams: Vec<Vec<T>> = buffer
        .layers
        .iter()
        .zip(widths)
        .map(|(values, width)| {
            let rows = |block: Block| Rows::new(&values[block.from * width..(block.from + block.len) * width], *width);
            let mut out = vec![T::default(); a.len * b.len];
            gram_product(&mut out, rows(a), rows(b));
            out
        })
        .collect();
    let products = pairs
        .iter()
        .map(|(x, y)| {
            let rows = grams[*x].chunks(b.len).zip(grams[*y].chunks(b.len));
            rows.map(|(k, l)| k.iter().zip(l).map(|(k, l)| k.to_f64() * l.to_f64()).sum::<f64>()).sum()
        })
        .collect();
    let row_sums = grams.iter().map(|k| k.chunks(b.len).map(|row| row.iter().map(|v| v.to_f64()).sum()).collect());
    let column_sums = grams.iter().map(|k| {
        let mut sums = vec![0.0; b.len];
        k.chunks(b.len).for_each(|row| sums.iter_mut().zip(row).for_each(|(s, v)| *s += v.to_f64()));
        sums
    });
    TileSums { rows: i, columns: j, products, row_sums: row_sums.collect(), column_sums: column_sums.collect() }
}

/// Over the examples whose group is not `without`.
fn hsic(
    products: &[f64],
    sides: [(&Vec<f64>, &Vec<f64>); 2],
    group_of: &[usize],
    groups: usize,
    without: Option<usize>,
) -> Hsic {
    let kept = |group: usize| Some(group) != without;
    let mut product = 0.0;
    for g in (0..groups).filter(|g| kept(*g)) {
        product += (0..groups).filter(|h| kept(*h)).map(|h| products[g * groups + h]).sum::<f64>();
    }
    // n; Σ of all entries and of the diagonals; Σ of products of row sums, of diagonals, and of row sums without these.
    let mut n = 0.0;
    let (mut totals, mut traces) = ([0.0; 2], [0.0; 2]);
    let (mut rows, mut diagonals, mut bare_rows) = (0.0, 0.0, 0.0);
    for (i, _) in group_of.iter().enumerate().filter(|(_, g)| kept(**g)) {
        let row = |side: usize| -> f64 {
            let sums = &sides[side].0[i * groups..(i + 1) * groups];
            sums.iter().enumerate().filter(|(g, _)| kept(*g)).map(|(_, s)| s).sum()
        };
        let (r, s, k, l) = (row(0), row(1), sides[0].1[i], sides[1].1[i]);
        n += 1.0;
        rows += r * s;
        diagonals += k * l;
        bare_rows += (r - k) * (s - l);
        totals = [totals[0] + r, totals[1] + s];
        traces = [traces[0] + k, traces[1] + l];
    }
    let biased = product - 2.0 / n * rows + totals[0] * totals[1] / (n * n);
    let bare_totals = (totals[0] - traces[0]) * (totals[1] - traces[1]) / ((n - 1.0) * (n - 2.0));
    Hsic { biased, debiased: product - diagonals + bare_totals - 2.0 / (n - 2.0) * bare_rows }
}
