//! Streaming sums over batches of activations, for some or all pairs of layers.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::gram::gram_hsics;
use crate::matrix::{LayerState, Part};
use crate::products::{Host, Products};
use crate::real::{Rows, transposed_product};
use crate::sums::{Centre, Sums, hsics};
use crate::{Activations, Error, Layer, Matrix, Real, Side};

/// Which sums are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Examples are collected as long as the Gram form would be cheaper; from then on features are summed.
    #[default]
    Auto,
    /// XᵀY for all pairs: work grows with the examples, memory does not.
    Features,
    /// n × n Gram matrices, in tiles: cheaper for few examples of many features; all examples are kept.
    Gram,
}

/// How examples are summed.
#[derive(Debug, Clone)]
pub struct SumOptions<T> {
    /// Which sums.
    pub form: Form,
    /// Groups of documents for the jackknife; 1: no interval.
    pub groups: usize,
    /// Examples of a product: what lies within one is summed in T, what lies between them in f64.
    pub chunk: usize,
    /// Most examples that [`Form::Auto`] collects.
    pub collect: usize,
    /// What multiplies.
    pub products: Arc<dyn Products<T>>,
}

impl<T: Real> Default for SumOptions<T> {
    fn default() -> Self {
        Self { form: Form::Auto, groups: 1, chunk: 2048, collect: 8192, products: Arc::new(Host) }
    }
}

/// What is done to a layer's features before they are compared: x ↦ (x − shift)·scale. (CKA sees no shift; one near the
/// mean saves digits.)
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Transform {
    pub(crate) shift: Vec<f64>,
    /// `None`: 1 for each feature.
    pub(crate) scale: Option<Vec<f64>>,
}

/// The layers of either side that an accumulator compares, and whether those of a side are compared with themselves too
/// (once among the tiles of a comparison).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) left: Range<usize>,
    pub(crate) right: Range<usize>,
    pub(crate) own_left: bool,
    pub(crate) own_right: bool,
}

/// Sums for CKA between the layers of two sides.
///
/// ```
/// use metrics_cka::{Accumulator, Activations, Layer, LayerValues, SumOptions};
///
/// let layer = Layer::new("block.0", 2);
/// let batch = |values: [f32; 10]| {
///     Activations::new(7, vec![LayerValues { layer: layer.clone(), values: values.to_vec() }])
/// };
/// let x = batch([1.0, 0.0, 0.0, 1.0, 2.0, 1.0, 1.0, 3.0, 0.5, 0.2]);
/// let y = batch([4.0, 1.0, 1.0, 4.0, 7.0, 4.0, 4.0, 10.0, 2.5, 1.6]); // x, moved and three times as large
/// let mut sums = Accumulator::new(&[layer.clone()], &[layer.clone()], SumOptions::default())?;
/// sums.push(&x, &y, 0)?;
/// let matrix = sums.finish();
/// assert!((matrix.debiased[0][0].value - 1.0).abs() < 1e-6);
/// # Ok::<(), metrics_cka::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Accumulator<T: Real> {
    names: [Vec<Layer>; 2],
    tile: Tile,
    /// Widths of the tile's layers, left ones first.
    widths: Vec<usize>,
    /// Which of these are compared: across, then each with itself.
    pairs: Vec<(usize, usize)>,
    options: SumOptions<T>,
    transforms: Option<Vec<Transform>>,
    groups: Vec<Sums>,
    collecting: bool,
    buffer: Buffer<T>,
}

/// Examples that are not yet summed.
#[derive(Debug, Clone)]
pub(crate) struct Buffer<T> {
    /// Transformed features of each layer, row-major.
    pub(crate) layers: Vec<Vec<T>>,
    /// ‖x‖² of each example, of each layer.
    pub(crate) squares: Vec<Vec<f64>>,
    /// Group and number of neighbouring examples.
    pub(crate) segments: Vec<(usize, usize)>,
}

impl<T> Buffer<T> {
    fn rows(&self) -> usize {
        self.segments.iter().map(|(_, rows)| rows).sum()
    }
}

impl<T: Real> Accumulator<T> {
    /// For these layers of either side.
    ///
    /// # Errors
    /// A side without layers, a layer without features, options outside their limits.
    pub fn new(left: &[Layer], right: &[Layer], options: SumOptions<T>) -> Result<Self, Error> {
        let tile = Tile { left: 0..left.len(), right: 0..right.len(), own_left: true, own_right: true };
        Self::of_tile(left, right, tile, options, None)
    }

    pub(crate) fn of_tile(
        left: &[Layer],
        right: &[Layer],
        tile: Tile,
        options: SumOptions<T>,
        transforms: Option<[Vec<Transform>; 2]>,
    ) -> Result<Self, Error> {
        let limit = |field, value: usize| {
            let limit = "must be at least 1".to_owned();
            if value == 0 { Err(Error::Option { field, value: "0".to_owned(), limit }) } else { Ok(()) }
        };
        limit("groups", options.groups)?;
        limit("chunk", options.chunk)?;
        limit("layers of the left side", left.len())?;
        limit("layers of the right side", right.len())?;
        left.iter().chain(right).try_for_each(|layer| limit("width of a layer", layer.width))?;
        let widths: Vec<usize> =
            left[tile.left.clone()].iter().chain(&right[tile.right.clone()]).map(|l| l.width).collect();
        let pairs = pairs(&tile);
        let groups = (0..options.groups).map(|_| Sums::new(&widths, &[])).collect();
        let transforms = transforms.map(|[l, r]| {
            l[tile.left.clone()].iter().chain(&r[tile.right.clone()]).cloned().collect::<Vec<Transform>>()
        });
        let buffer = Buffer {
            layers: vec![Vec::new(); widths.len()],
            squares: vec![Vec::new(); widths.len()],
            segments: Vec::new(),
        };
        let collecting = options.form != Form::Features;
        let names = [left.to_vec(), right.to_vec()];
        Ok(Self { names, tile, widths, pairs, options, transforms, groups, collecting, buffer })
    }

    /// Adds a batch of examples of a group of documents (from 0). Fastest where a group's batches follow each other.
    ///
    /// # Errors
    /// Sides with different inputs or numbers of examples, layers that are not the announced ones, a group beyond the
    /// last. Nothing is added then.
    pub fn push(&mut self, left: &Activations<T>, right: &Activations<T>, group: usize) -> Result<(), Error> {
        let rows = check(&self.names, left, right)?;
        if group >= self.options.groups {
            return Err(Error::Group { group, groups: self.options.groups });
        }
        let layers: Vec<Rows<'_, T>> = left.layers[self.tile.left.clone()]
            .iter()
            .chain(&right.layers[self.tile.right.clone()])
            .map(|l| Rows::new(&l.values, l.layer.width))
            .collect();
        if self.transforms.is_none() && rows > 0 {
            let shift = |layer: &Rows<'_, T>| Transform { shift: mean(*layer), scale: None };
            self.transforms = Some(layers.par_iter().map(shift).collect());
        }
        let mut from = 0;
        while from < rows {
            if self.buffer.rows() >= self.capacity() {
                self.collecting = false;
                self.flush();
            }
            let taken = (rows - from).min(self.capacity() - self.buffer.rows());
            self.append(&layers, from..from + taken, group);
            from += taken;
        }
        Ok(())
    }

    /// Examples that the buffer holds before they are summed.
    fn capacity(&self) -> usize {
        match (self.collecting, self.options.form) {
            (true, Form::Gram) => usize::MAX,
            (true, _) => crossover(&self.widths, &self.pairs).min(self.options.collect).max(self.options.chunk),
            (false, _) => self.options.chunk,
        }
    }

    fn append(&mut self, layers: &[Rows<'_, T>], rows: Range<usize>, group: usize) {
        let transforms = self.transforms.as_ref().expect("set when the first examples came");
        let sums = &mut self.groups[group];
        sums.n += rows.len() as u64;
        let buffer = self.buffer.layers.par_iter_mut().zip(&mut self.buffer.squares);
        let work = buffer.zip(layers).zip(transforms).zip(&mut sums.layers);
        work.for_each(|((((kept, squares), layer), transform), sums)| {
            let values = &layer.values[rows.start * layer.width..rows.end * layer.width];
            kept.reserve(values.len());
            let shift: Vec<T> = transform.shift.iter().map(|s| T::from_f64(*s)).collect();
            // The shift as T has it: what matters is that it is the same for every example.
            for row in values.chunks_exact(layer.width) {
                let square = T::take(kept, row, &shift, transform.scale.as_deref(), &mut sums.sum);
                squares.push(square);
                sums.square += square;
            }
        });
        match self.buffer.segments.last_mut() {
            Some((last, count)) if *last == group => *count += rows.len(),
            _ => self.buffer.segments.push((group, rows.len())),
        }
    }

    /// Sums what is buffered, as features.
    fn flush(&mut self) {
        let mut from = 0;
        for (group, rows) in std::mem::take(&mut self.buffer.segments) {
            for start in (from..from + rows).step_by(self.options.chunk) {
                self.add(group, start..(start + self.options.chunk).min(from + rows));
            }
            from += rows;
        }
        self.buffer.layers.iter_mut().for_each(Vec::clear);
        self.buffer.squares.iter_mut().for_each(Vec::clear);
    }

    fn add(&mut self, group: usize, rows: Range<usize>) {
        let sums = &mut self.groups[group];
        if sums.pairs.is_empty() {
            // Made when first needed: examples that end in the Gram form need none.
            sums.pairs = Sums::new(&self.widths, &self.pairs).pairs;
        }
        let layers: Vec<(&[T], usize)> = self
            .buffer
            .layers
            .iter()
            .zip(&self.widths)
            .map(|(values, width)| (&values[rows.start * width..rows.end * width], *width))
            .collect();
        let mut products: Vec<&mut [f64]> = sums.pairs.iter_mut().map(|p| p.product.as_mut_slice()).collect();
        self.options.products.add(&layers, &self.pairs, &mut products);
        let squares: Vec<&[f64]> = self.buffer.squares.iter().map(|s| &s[rows.clone()]).collect();
        // Σ‖x‖²·y for every layer x and y in one product each: the squares of all layers side by side.
        let count = squares.len();
        let side_by_side: Vec<T> =
            (0..rows.len()).flat_map(|r| squares.iter().map(move |s| T::from_f64(s[r]))).collect();
        let weighted: Vec<Vec<T>> = layers
            .par_iter()
            .map(|(values, width)| {
                let mut out = vec![T::default(); count * width];
                let (s, x) = (Rows::new(&side_by_side, count), Rows::new(values, *width));
                transposed_product(&mut out, s, 0, count, x, *width);
                out
            })
            .collect();
        for ((a, b), pair) in self.pairs.iter().zip(&mut sums.pairs) {
            let row = |of: usize, by: usize| weighted[of][by * self.widths[of]..].iter().map(|v| v.to_f64());
            pair.left.iter_mut().zip(row(*a, *b)).for_each(|(s, v)| *s += v);
            pair.right.iter_mut().zip(row(*b, *a)).for_each(|(s, v)| *s += v);
            pair.squares += squares[*a].iter().zip(squares[*b]).map(|(x, y)| x * y).sum::<f64>();
        }
    }

    /// Adds what another accumulator of the same layers has seen, as sums of features whatever the form. The order of
    /// merging changes no more than rounding.
    ///
    /// # Errors
    /// Other layers, groups or scales.
    pub fn merge(&mut self, mut other: Self) -> Result<(), Error> {
        if self.names != other.names || self.tile != other.tile {
            return Err(Error::Merge("layers"));
        }
        if self.options.groups != other.options.groups {
            return Err(Error::Merge("groups"));
        }
        let Some(theirs) = other.transforms.take() else { return Ok(()) };
        let Some(ours) = &self.transforms else {
            other.transforms = Some(theirs);
            *self = other;
            return Ok(());
        };
        if ours.iter().zip(&theirs).any(|(a, b)| a.scale != b.scale) {
            return Err(Error::Merge("scales"));
        }
        // x − theirs = (x − ours) + (ours − theirs), scaled; shifts act as T has them.
        let as_kept = |v: f64| T::from_f64(v).to_f64();
        let by: Vec<Vec<f64>> = ours
            .iter()
            .zip(&theirs)
            .map(|(ours, theirs)| {
                let difference = theirs.shift.iter().zip(&ours.shift).map(|(t, o)| as_kept(*t) - as_kept(*o));
                match &ours.scale {
                    Some(scale) => difference.zip(scale).map(|(d, s)| d * s).collect(),
                    None => difference.collect(),
                }
            })
            .collect();
        other.transforms = Some(theirs);
        for part in [&mut *self, &mut other] {
            part.collecting = false;
            part.flush();
        }
        for (ours, theirs) in self.groups.iter_mut().zip(&mut other.groups) {
            if theirs.n == 0 {
                continue;
            }
            theirs.shift(&by, &self.pairs);
            if ours.pairs.is_empty() {
                ours.pairs = Sums::new(&self.widths, &self.pairs).pairs;
            }
            ours.merge(theirs);
        }
        Ok(())
    }

    /// CKA of every layer of the left side with every layer of the right side.
    pub fn finish(self) -> Matrix {
        let [left, right] = self.names.clone();
        Matrix::assemble(&left, &right, &[self.part()], crate::matrix::LEVEL)
    }

    pub(crate) fn part(mut self) -> Part {
        let n: u64 = self.groups.iter().map(|g| g.n).sum();
        let gram = match self.options.form {
            // Merging has turned what was collected into sums of features.
            Form::Gram => self.collecting,
            Form::Features => false,
            Form::Auto => self.collecting && n < crossover(&self.widths, &self.pairs) as u64,
        };
        let states = self.states();
        let sizes: Vec<u64> = self.groups.iter().map(|g| g.n).filter(|n| *n > 0).collect();
        let hsics = if n == 0 {
            vec![Vec::new(); self.pairs.len()]
        } else if gram {
            gram_hsics(&mut self.buffer, &self.widths, &self.pairs)
        } else {
            self.flush();
            self.groups.retain(|g| g.n > 0);
            self.feature_hsics()
        };
        Part { tile: self.tile, pairs: self.pairs, hsics, states, n, sizes, noise: T::NOISE }
    }

    fn states(&self) -> Vec<LayerState> {
        let n: u64 = self.groups.iter().map(|g| g.n).sum();
        let state = |layer: usize| {
            let centre = Centre::of(&self.groups, layer, None);
            if n == 0 || !centre.trace.is_finite() {
                return if n == 0 { LayerState::Varies } else { LayerState::NotFinite };
            }
            // Σ‖x‖² before the shift: what f32 could resolve of the spread.
            let raw = self.transforms.as_ref().filter(|t| t[layer].scale.is_none()).map_or(0.0, |t| {
                let shifted = centre.mean.iter().zip(&t[layer].shift).map(|(m, s)| (m + s).powi(2));
                n as f64 * shifted.sum::<f64>()
            });
            if centre.trace <= 1e-14 * raw { LayerState::Constant } else { LayerState::Varies }
        };
        (0..self.widths.len()).map(state).collect()
    }

    /// Over all groups, then without each.
    fn feature_hsics(&self) -> Vec<Vec<crate::sums::Hsic>> {
        let replicates = || {
            let groups = self.groups.len();
            std::iter::once(None).chain((0..groups).filter(move |_| groups > 1).map(Some))
        };
        let centres: Vec<Vec<Centre>> = (0..self.widths.len())
            .into_par_iter()
            .map(|layer| replicates().map(|without| Centre::of(&self.groups, layer, without)).collect())
            .collect();
        let pairs = self.pairs.par_iter().enumerate();
        pairs.map(|(i, (a, b))| hsics(&self.groups, i, a == b, &centres[*a], &centres[*b])).collect()
    }

    /// Bytes that the sums of a tile take.
    pub(crate) fn sum_bytes(widths: &[usize], pairs: &[(usize, usize)], groups: usize) -> u64 {
        let pair = |(a, b): &(usize, usize)| {
            let (p, q) = (widths[*a] as u64, widths[*b] as u64);
            p * q + p + q
        };
        8 * groups as u64 * pairs.iter().map(pair).sum::<u64>()
    }
}

/// Across, then each with itself.
pub(crate) fn pairs(tile: &Tile) -> Vec<(usize, usize)> {
    let (l, r) = (tile.left.len(), tile.right.len());
    let across = (0..l).flat_map(|i| (0..r).map(move |j| (i, l + j)));
    let own_left = (0..l).filter(|_| tile.own_left).map(|i| (i, i));
    let own_right = (0..r).filter(|_| tile.own_right).map(|j| (l + j, l + j));
    across.chain(own_left).chain(own_right).collect()
}

/// Below this many examples the Gram form takes fewer operations: n²/2 of the widths of all layers, and (in f64, which
/// is slower) of the pairs, against n of the products of widths. For L layers of p features on both sides about
/// p·(L + 1).
pub(crate) fn crossover(widths: &[usize], pairs: &[(usize, usize)]) -> usize {
    let product = |(a, b): &(usize, usize)| (widths[*a] * widths[*b]) as f64 * if a == b { 0.6 } else { 1.0 };
    let features: f64 = pairs.iter().map(product).sum();
    let gram = widths.iter().sum::<usize>() as f64 + 4.0 * pairs.len() as f64;
    (2.0 * features / gram) as usize
}

fn mean<T: Real>(layer: Rows<'_, T>) -> Vec<f64> {
    let mut sum = vec![0.0; layer.width];
    for row in layer.values.chunks_exact(layer.width) {
        sum.iter_mut().zip(row).for_each(|(s, x)| *s += x.to_f64());
    }
    let n = layer.count() as f64;
    // A value that is not finite shows in the sums; as a shift it would spread.
    sum.into_iter().map(|s| if s.is_finite() { s / n } else { 0.0 }).collect()
}

/// The number of examples, if the sides fit each other and the announced layers.
pub(crate) fn check<T: Real>(
    names: &[Vec<Layer>; 2],
    left: &Activations<T>,
    right: &Activations<T>,
) -> Result<usize, Error> {
    let mut counts = [0; 2];
    for ((side, given), (expected, count)) in
        [(Side::Left, left), (Side::Right, right)].into_iter().zip(names.iter().zip(&mut counts))
    {
        let announced = given.layers.iter().map(|l| &l.layer).eq(expected.iter());
        if !announced {
            let list = |layers: &[Layer]| {
                layers.iter().map(|l| format!("{} ({})", l.name, l.width)).collect::<Vec<_>>().join(", ")
            };
            return Err(Error::Layers { side, found: list(&given.layout()), expected: list(expected) });
        }
        let rows = |l: &crate::LayerValues<T>| l.values.len() / l.layer.width;
        let first = given.layers.first().map_or(0, rows);
        for layer in &given.layers {
            if layer.values.len() != first * layer.layer.width {
                let (layer, found) = (layer.layer.name.clone(), rows(layer));
                return Err(Error::Rows { side, layer, found, expected: first });
            }
        }
        *count = first;
    }
    if counts[0] != counts[1] {
        return Err(Error::Examples { left: counts[0], right: counts[1] });
    }
    if left.inputs != right.inputs {
        return Err(Error::Inputs { left: left.inputs, right: right.inputs });
    }
    Ok(counts[0])
}
