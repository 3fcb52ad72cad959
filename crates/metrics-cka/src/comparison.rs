//! A whole comparison: passes over the same batches, so that it stays within a stated memory.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::accumulator::{Tile, Transform, check, crossover, pairs};
use crate::matrix::{LEVEL, Matrix, Part};
use crate::moments::{Moments, transforms};
use crate::products::{Host, Products};
use crate::{Accumulator, Activations, Error, Form, Layer, Real, SumOptions};

/// What is done to features before they are compared. A single dimension of huge variance, as transformers have them,
/// makes CKA 1 between any two layers that share it: look at more than one of these.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// Nothing.
    Raw,
    /// Each dimension is divided by its standard deviation; dimensions that do not vary are left out.
    Standardised,
    /// Dimensions whose variance is more than `ratio` times the median of the layer's in any of the states that are compared
    /// are left out, of the layers of that name in all of them: what is compared are the same dimensions.
    WithoutMassive {
        /// How many times.
        ratio: f64,
    },
}

impl std::fmt::Display for Treatment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Raw => f.write_str("raw"),
            Self::Standardised => f.write_str("standardised"),
            Self::WithoutMassive { ratio } => write!(f, "without dimensions of {ratio} x the median variance"),
        }
    }
}

/// How two sides are compared.
#[derive(Debug, Clone)]
pub struct CkaOptions<T> {
    /// What is done to features, side by side.
    pub treatments: Vec<Treatment>,
    /// Which sums are kept.
    pub form: Form,
    /// Groups of documents that the jackknife leaves out in turn; 1: no intervals.
    pub groups: usize,
    /// Level of intervals.
    pub level: f64,
    /// Most bytes that sums and collected examples may take at a time ([`Form::Gram`] collects all, whatever it takes).
    /// More passes over the batches make up for less.
    pub memory: u64,
    /// Examples of a product.
    pub chunk: usize,
    /// What multiplies.
    pub products: Arc<dyn Products<T>>,
}

impl<T: Real> Default for CkaOptions<T> {
    fn default() -> Self {
        Self {
            treatments: vec![Treatment::Raw],
            form: Form::Auto,
            groups: 10,
            level: LEVEL,
            memory: 2 << 30,
            chunk: 2048,
            products: Arc::new(Host),
        }
    }
}

/// What was compared, treatment by treatment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Each treatment's result.
    pub results: Vec<Treated>,
}

/// The result of a treatment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Treated {
    /// What was done.
    pub treatment: Treatment,
    /// CKA of all pairs of layers.
    pub matrix: Matrix,
    /// Dimensions left out of each layer of the left side.
    pub left_out_left: Vec<usize>,
    /// The same of the right side.
    pub left_out_right: Vec<usize>,
}

/// What one accumulator works on.
#[derive(Debug, Clone)]
struct Job {
    treatment: usize,
    tile: Tile,
}

#[derive(Debug)]
enum Pass<T: Real> {
    /// Means and variances, for treatments that need them.
    Moments(Box<[Vec<Moments>; 2]>),
    Sums(Vec<(usize, Accumulator<T>)>),
}

/// A comparison under way. The caller sends the same batches once for each pass:
///
/// ```
/// use metrics_cka::{Comparison, Layer, LayerValues, Activations, CkaOptions};
///
/// let layer = Layer::new("block.0", 2);
/// let batch = |seed: u32| {
///     let values = (0..40).map(|i| ((i * 7 + seed) as f32 * 0.37).sin()).collect();
///     Activations::new(u64::from(seed), vec![LayerValues { layer: layer.clone(), values }])
/// };
/// let mut comparison = Comparison::<f32>::new(&[layer.clone()], &[layer.clone()], CkaOptions::default())?;
/// while comparison.begin_pass() {
///     for document in 0..20 {
///         let states = batch(document);
///         comparison.push(&states, &states, document as usize * 10 / 20)?;
///     }
///     comparison.end_pass()?;
/// }
/// let report = comparison.finish()?;
/// assert!((report.results[0].matrix.debiased[0][0].value - 1.0).abs() < 1e-6);
/// # Ok::<(), metrics_cka::Error>(())
/// ```
#[derive(Debug)]
pub struct Comparison<T: Real> {
    layers: [Vec<Layer>; 2],
    options: CkaOptions<T>,
    /// By treatment; empty until they are known.
    transforms: Vec<[Vec<Transform>; 2]>,
    jobs: std::collections::VecDeque<Job>,
    done: Vec<(usize, Part)>,
    pass: Option<Pass<T>>,
}

impl<T: Real> Comparison<T> {
    /// Between these layers.
    ///
    /// # Errors
    /// A side without layers, options outside their limits, a memory in which not even one pair of layers fits.
    pub fn new(left: &[Layer], right: &[Layer], options: CkaOptions<T>) -> Result<Self, Error> {
        let bad = |field, value: String, limit: &str| Err(Error::Option { field, value, limit: limit.to_owned() });
        if options.treatments.is_empty() {
            return bad("treatments", "[]".into(), "must hold at least one");
        }
        if !(options.level > 0.0 && options.level < 1.0) {
            return bad("level", options.level.to_string(), "must be between 0 and 1");
        }
        for treatment in &options.treatments {
            if let Treatment::WithoutMassive { ratio } = treatment
                && !(ratio.is_finite() && *ratio >= 1.0)
            {
                return bad("ratio", ratio.to_string(), "must be at least 1");
            }
        }
        let tiles = tiles::<T>(left, right, &options)?;
        // Checks the rest.
        let layers = [left.to_vec(), right.to_vec()];
        let sums = sum_options(&layers, &tiles[0], &options);
        Accumulator::of_tile(left, right, tiles[0].clone(), sums, None)?;
        let jobs = (0..options.treatments.len())
            .flat_map(|treatment| tiles.iter().map(move |tile| Job { treatment, tile: tile.clone() }));
        Ok(Self { layers, jobs: jobs.collect(), options, transforms: Vec::new(), done: Vec::new(), pass: None })
    }

    /// With what is done to each side's layers, by treatment: no pass is needed to find out.
    pub(crate) fn with_transforms(self, transforms: Vec<[Vec<Transform>; 2]>) -> Self {
        Self { transforms, ..self }
    }

    /// How many more passes it takes, one under way not counted.
    pub fn passes_left(&self) -> usize {
        self.passes_of_sums() + usize::from(self.needs_moments() && self.pass.is_none())
    }

    /// The same without the one for treatments.
    pub(crate) fn passes_of_sums(&self) -> usize {
        let (mut jobs, mut passes) = (self.jobs.clone(), 0);
        while !jobs.is_empty() {
            jobs.drain(..self.fitting(&jobs));
            passes += 1;
        }
        passes
    }

    /// Whether a batch is one of those announced.
    pub(crate) fn accepts(&self, left: &Activations<T>, right: &Activations<T>, group: usize) -> Result<(), Error> {
        check(&self.layers, left, right)?;
        let groups = self.options.groups;
        if group < groups { Ok(()) } else { Err(Error::Group { group, groups }) }
    }

    fn needs_moments(&self) -> bool {
        self.transforms.is_empty() && self.options.treatments.iter().any(|t| *t != Treatment::Raw)
    }

    /// How many of the next jobs fit into memory together; one at least.
    fn fitting(&self, jobs: &std::collections::VecDeque<Job>) -> usize {
        let mut left = self.options.memory;
        let mut count = 0;
        for job in jobs {
            let bytes = job_bytes::<T>(&self.layers, &job.tile, &self.options);
            if count > 0 && bytes > left {
                break;
            }
            left = left.saturating_sub(bytes);
            count += 1;
        }
        count
    }

    /// Begins the next pass; `false` when there is nothing left to do. (A pass under way goes on.)
    pub fn begin_pass(&mut self) -> bool {
        if self.pass.is_some() {
            return true;
        }
        if self.needs_moments() {
            self.pass = Some(Pass::Moments(Box::new(self.layers.each_ref().map(|layers| Moments::of(layers)))));
            return true;
        }
        let count = self.fitting(&self.jobs);
        let accumulators: Vec<_> = self
            .jobs
            .drain(..count)
            .map(|job| {
                let transforms = self.transforms.get(job.treatment).cloned();
                let [left, right] = &self.layers;
                let sums = sum_options(&self.layers, &job.tile, &self.options);
                let made = Accumulator::of_tile(left, right, job.tile, sums, transforms);
                (job.treatment, made.expect("its options were checked when the comparison was made"))
            })
            .collect();
        if accumulators.is_empty() {
            return false;
        }
        self.pass = Some(Pass::Sums(accumulators));
        true
    }

    /// Sends a batch of examples of a group of documents (from 0). Fastest where a group's batches follow each other.
    ///
    /// # Errors
    /// As [`Accumulator::push`], and where no pass has begun.
    pub fn push(&mut self, left: &Activations<T>, right: &Activations<T>, group: usize) -> Result<(), Error> {
        if let Some(Pass::Moments(_)) = &self.pass {
            self.accepts(left, right, group)?;
        }
        match &mut self.pass {
            None => return Err(Error::NoPass),
            Some(Pass::Moments(sides)) => {
                for (moments, side) in sides.iter_mut().zip([left, right]) {
                    Moments::add_all(moments, side);
                }
            }
            Some(Pass::Sums(accumulators)) => {
                for (_, accumulator) in accumulators {
                    accumulator.push(left, right, group)?;
                }
            }
        }
        Ok(())
    }

    /// Ends the pass.
    ///
    /// # Errors
    /// Passes that saw different numbers of examples.
    pub fn end_pass(&mut self) -> Result<(), Error> {
        match self.pass.take() {
            None => {}
            Some(Pass::Moments(sides)) => {
                let [left, right] = *sides;
                let states = [(self.layers[0].as_slice(), left), (self.layers[1].as_slice(), right)];
                let of = |treatment: &Treatment| {
                    let [left, right]: [Vec<Transform>; 2] =
                        transforms(&states, *treatment).try_into().expect("one list for each of two sides");
                    [left, right]
                };
                self.transforms = self.options.treatments.iter().map(of).collect();
            }
            Some(Pass::Sums(accumulators)) => {
                for (treatment, accumulator) in accumulators {
                    let part = accumulator.part();
                    if let Some((_, first)) = self.done.first()
                        && first.n != part.n
                    {
                        return Err(Error::Examples { left: first.n as usize, right: part.n as usize });
                    }
                    self.done.push((treatment, part));
                }
            }
        }
        Ok(())
    }

    /// The result.
    ///
    /// # Errors
    /// Passes that are left to be made.
    pub fn finish(self) -> Result<Report, Error> {
        let left = self.passes_left() + usize::from(self.pass.is_some());
        if left > 0 {
            return Err(Error::Unfinished { left });
        }
        let [left, right] = &self.layers;
        let treated = |(index, treatment): (usize, &Treatment)| {
            let parts: Vec<Part> =
                self.done.iter().filter(|(of, _)| *of == index).map(|(_, part)| part.clone()).collect();
            let left_out = |side: usize| {
                let zeros =
                    |t: &Transform| t.scale.as_ref().map_or(0, |scale| scale.iter().filter(|s| **s == 0.0).count());
                match self.transforms.get(index) {
                    Some(transforms) => transforms[side].iter().map(zeros).collect(),
                    None => vec![0; self.layers[side].len()],
                }
            };
            Treated {
                treatment: *treatment,
                matrix: Matrix::assemble(left, right, &parts, self.options.level),
                left_out_left: left_out(0),
                left_out_right: left_out(1),
            }
        };
        Ok(Report { results: self.options.treatments.iter().enumerate().map(treated).collect() })
    }
}

/// Runs a comparison on batches that can be made again: `batches` sends all of them, each time it is called.
///
/// # Errors
/// What `batches` fails with, and as [`Comparison`].
pub fn compare<T: Real, E: From<Error>>(
    left: &[Layer],
    right: &[Layer],
    options: CkaOptions<T>,
    mut batches: impl FnMut(&mut dyn FnMut(&Activations<T>, &Activations<T>, usize) -> Result<(), Error>) -> Result<(), E>,
) -> Result<Report, E> {
    let mut comparison = Comparison::new(left, right, options)?;
    while comparison.begin_pass() {
        batches(&mut |left, right, group| comparison.push(left, right, group))?;
        comparison.end_pass()?;
    }
    Ok(comparison.finish()?)
}

fn widths(layers: &[Vec<Layer>; 2], tile: &Tile) -> Vec<usize> {
    layers[0][tile.left.clone()].iter().chain(&layers[1][tile.right.clone()]).map(|l| l.width).collect()
}

/// Bytes of an example in the buffer of a tile.
fn row_bytes<T>(widths: &[usize]) -> u64 {
    (widths.iter().sum::<usize>() * size_of::<T>() + 8 * widths.len()) as u64
}

fn sum_options<T: Real>(layers: &[Vec<Layer>; 2], tile: &Tile, options: &CkaOptions<T>) -> SumOptions<T> {
    // Collecting for the Gram form may take a quarter of the memory.
    let collect = options.memory / 4 / row_bytes::<T>(&widths(layers, tile)).max(1);
    SumOptions {
        form: options.form,
        groups: options.groups,
        chunk: options.chunk,
        collect: usize::try_from(collect).unwrap_or(usize::MAX),
        products: options.products.clone(),
    }
}

/// Bytes of a tile's sums and buffer.
fn job_bytes<T: Real>(layers: &[Vec<Layer>; 2], tile: &Tile, options: &CkaOptions<T>) -> u64 {
    let (widths, pairs) = (widths(layers, tile), pairs(tile));
    let rows = match options.form {
        Form::Features => options.chunk,
        _ => crossover(&widths, &pairs).min(sum_options(layers, tile, options).collect).max(options.chunk),
    };
    // Groups, and their sum while the result is made.
    Accumulator::<T>::sum_bytes(&widths, &pairs, options.groups + 1) + row_bytes::<T>(&widths) * rows as u64
}

/// Rectangles of layer pairs that each fit into memory: as few and as equal as that allows.
fn tiles<T: Real>(left: &[Layer], right: &[Layer], options: &CkaOptions<T>) -> Result<Vec<Tile>, Error> {
    let layers = [left.to_vec(), right.to_vec()];
    let cuts = |count: usize, parts: usize| -> Vec<Range<usize>> {
        (0..parts).map(|p| count * p / parts..count * (p + 1) / parts).collect()
    };
    let (l, r) = (left.len().max(1), right.len().max(1));
    for parts in 1..=l.max(r) {
        let (rows, columns) = (cuts(left.len(), parts.min(l)), cuts(right.len(), parts.min(r)));
        let mut tiles = Vec::new();
        for (i, left) in rows.iter().enumerate() {
            for (j, right) in columns.iter().enumerate() {
                tiles.push(Tile { left: left.clone(), right: right.clone(), own_left: j == 0, own_right: i == 0 });
            }
        }
        if tiles.iter().all(|tile| job_bytes(&layers, tile, options) <= options.memory) {
            return Ok(tiles);
        }
    }
    let one = Tile { left: 0..left.len().min(1), right: 0..right.len().min(1), own_left: true, own_right: true };
    let need = job_bytes(&layers, &one, options);
    let limit = format!("bytes do not hold one pair of layers with {} groups: {need} would", options.groups);
    Err(Error::Option { field: "memory", value: options.memory.to_string(), limit })
}
