//! What is summed over the examples of one group, and what CKA makes of it.
//!
//! With x and y an example's features (shifted), a = ‖x‖² and b = ‖y‖²: Σx, Σa for each layer; XᵀY, Σa·y, Σb·x, Σa·b
//! for each pair of layers. Centring them gives both estimators exactly, whatever the shift.

/// Of one layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LayerSums {
    /// Σx
    pub(crate) sum: Vec<f64>,
    /// Σ‖x‖²
    pub(crate) square: f64,
}

/// Of two layers, or of one with itself (then only up to the diagonal).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PairSums {
    /// XᵀY `[p, q]`
    pub(crate) product: Vec<f64>,
    /// Σ‖y‖²·x
    pub(crate) left: Vec<f64>,
    /// Σ‖x‖²·y
    pub(crate) right: Vec<f64>,
    /// Σ‖x‖²‖y‖²
    pub(crate) squares: f64,
}

/// Of a group of examples.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sums {
    pub(crate) n: u64,
    pub(crate) layers: Vec<LayerSums>,
    pub(crate) pairs: Vec<PairSums>,
}

impl Sums {
    pub(crate) fn new(widths: &[usize], pairs: &[(usize, usize)]) -> Self {
        let layer = |width: &usize| LayerSums { sum: vec![0.0; *width], square: 0.0 };
        let pair = |(a, b): &(usize, usize)| {
            let (p, q) = (widths[*a], widths[*b]);
            PairSums { product: vec![0.0; p * q], left: vec![0.0; p], right: vec![0.0; q], squares: 0.0 }
        };
        Self { n: 0, layers: widths.iter().map(layer).collect(), pairs: pairs.iter().map(pair).collect() }
    }

    /// Adds those of other examples under the same shift.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.n += other.n;
        for (a, b) in self.layers.iter_mut().zip(&other.layers) {
            add(&mut a.sum, &b.sum);
            a.square += b.square;
        }
        for (a, b) in self.pairs.iter_mut().zip(&other.pairs) {
            add(&mut a.product, &b.product);
            add(&mut a.left, &b.left);
            add(&mut a.right, &b.right);
            a.squares += b.squares;
        }
    }

    /// As if `by[layer]` had been added to every example.
    pub(crate) fn shift(&mut self, by: &[Vec<f64>], pairs: &[(usize, usize)]) {
        let n = self.n as f64;
        for ((a, b), pair) in pairs.iter().zip(&mut self.pairs) {
            let (x, y, d, e) = (&self.layers[*a], &self.layers[*b], &by[*a], &by[*b]);
            let q = e.len();
            let at = |product: &[f64], i: usize, j: usize| {
                if a == b && j > i { product[j * q + i] } else { product[i * q + j] }
            };
            // dᵀXᵀYe, XᵀYe and YᵀXd with the old product.
            let right_of_d: Vec<f64> =
                (0..q).map(|j| (0..d.len()).map(|i| d[i] * at(&pair.product, i, j)).sum()).collect();
            let left_of_e: Vec<f64> =
                (0..d.len()).map(|i| (0..q).map(|j| at(&pair.product, i, j) * e[j]).sum()).collect();
            let (dd, ee) = (dot(d, d), dot(e, e));
            let (xd, ye) = (dot(&x.sum, d), dot(&y.sum, e));
            pair.squares += 2.0 * dot(&pair.right, e)
                + ee * x.square
                + 2.0 * dot(&pair.left, d)
                + 4.0 * dot(&right_of_d, e)
                + 2.0 * ee * xd
                + dd * (y.square + 2.0 * ye + n * ee);
            let whole_a = x.square + 2.0 * xd + n * dd;
            let whole_b = y.square + 2.0 * ye + n * ee;
            for (((r, c), sum), e) in pair.right.iter_mut().zip(&right_of_d).zip(&y.sum).zip(e) {
                *r += 2.0 * c + dd * sum + e * whole_a;
            }
            let rows = pair.product.chunks_exact_mut(q).zip(&mut pair.left).zip(&left_of_e);
            for (((row, l), c), (sum, d)) in rows.zip(x.sum.iter().zip(d)) {
                *l += 2.0 * c + ee * sum + d * whole_b;
                for ((product, e), below) in row.iter_mut().zip(e).zip(&y.sum) {
                    *product += sum * e + d * below + n * d * e;
                }
            }
        }
        for (layer, d) in self.layers.iter_mut().zip(by) {
            layer.square += 2.0 * dot(&layer.sum, d) + n * dot(d, d);
            layer.sum.iter_mut().zip(d).for_each(|(s, d)| *s += n * d);
        }
    }
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(a: &mut [f64], b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
}

/// The two estimates of a pair's HSIC, without factors that cancel in CKA.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hsic {
    /// |XᵀY|² of the centred features.
    pub(crate) biased: f64,
    /// n(n − 3)·HSIC₁ (Song et al. 2012, Eq. 5).
    pub(crate) debiased: f64,
}

impl Hsic {
    /// From the centred features' |XᵀY|² and Σ‖x‖²‖y‖², and each side's Σ‖x‖²: with centred features the rows of the
    /// Gram matrices add up to 0, so that without their diagonals they add up to −‖x‖².
    pub(crate) fn of(n: f64, product: f64, squares: f64, traces: (f64, f64)) -> Self {
        let total = traces.0 * traces.1 / ((n - 1.0) * (n - 2.0));
        Self { biased: product, debiased: product - squares + total - 2.0 / (n - 2.0) * squares }
    }
}

/// A layer's mean and centred Σ‖x‖², and its uncentred one.
#[derive(Debug, Clone)]
pub(crate) struct Centre {
    pub(crate) n: f64,
    pub(crate) mean: Vec<f64>,
    pub(crate) trace: f64,
    square: f64,
}

impl Centre {
    /// Of all groups' sums of a layer, less those of one group.
    pub(crate) fn of(groups: &[Sums], layer: usize, without: Option<usize>) -> Self {
        let kept = || groups.iter().enumerate().filter(move |(g, _)| Some(*g) != without).map(|(_, sums)| sums);
        let n: u64 = kept().map(|sums| sums.n).sum();
        let mut mean = vec![0.0; groups[0].layers[layer].sum.len()];
        kept().for_each(|sums| add(&mut mean, &sums.layers[layer].sum));
        mean.iter_mut().for_each(|m| *m /= n as f64);
        let square: f64 = kept().map(|sums| sums.layers[layer].square).sum();
        let trace = square - n as f64 * dot(&mean, &mean);
        Self { n: n as f64, mean, trace, square }
    }
}

/// A pair's HSIC over all groups, then without each group in turn.
pub(crate) fn hsics(groups: &[Sums], pair: usize, own: bool, left: &[Centre], right: &[Centre]) -> Vec<Hsic> {
    let mut whole = groups[0].pairs[pair].clone();
    for other in &groups[1..] {
        let other = &other.pairs[pair];
        add(&mut whole.product, &other.product);
        add(&mut whole.left, &other.left);
        add(&mut whole.right, &other.right);
        whole.squares += other.squares;
    }
    let replicates = left.iter().zip(right).enumerate();
    replicates
        .map(|(replicate, (x, y))| {
            let less = replicate.checked_sub(1).map(|group| &groups[group].pairs[pair]);
            centred(&whole, less, own, x, y)
        })
        .collect()
}

/// HSIC of `whole` less `less`, around the means of what is left.
fn centred(whole: &PairSums, less: Option<&PairSums>, own: bool, x: &Centre, y: &Centre) -> Hsic {
    let (n, q) = (x.n, y.mean.len());
    let (mut product, mut between) = (0.0, 0.0);
    let mut add_row = |i: usize, row: &[f64], minus: Option<&[f64]>| {
        let scaled = n * x.mean[i];
        let (mut squares, mut inner) = (0.0, 0.0);
        // Of a layer with itself: up to the diagonal, what lies below it counting twice.
        let columns = if own { i + 1 } else { q };
        let mut last = (0.0, 0.0);
        for j in 0..columns {
            let c = row[j] - minus.map_or(0.0, |minus| minus[j]);
            let d = c - scaled * y.mean[j];
            last = (d * d, c * y.mean[j]);
            squares += last.0;
            inner += last.1;
        }
        if own {
            (squares, inner) = (2.0 * squares - last.0, 2.0 * inner - last.1);
        }
        product += squares;
        between += x.mean[i] * inner;
    };
    for (i, row) in whole.product.chunks_exact(q).enumerate() {
        add_row(i, row, less.map(|less| &less.product[i * q..(i + 1) * q]));
    }
    let difference = |f: &dyn Fn(&PairSums) -> f64| f(whole) - less.map_or(0.0, f);
    let (mm, kk) = (dot(&x.mean, &x.mean), dot(&y.mean, &y.mean));
    let squares = difference(&|p| p.squares)
        - 2.0 * difference(&|p| dot(&p.right, &y.mean))
        - 2.0 * difference(&|p| dot(&p.left, &x.mean))
        + kk * x.square
        + mm * y.square
        + 4.0 * between
        - 3.0 * n * mm * kk;
    Hsic::of(n, product, squares, (x.trace, y.trace))
}
