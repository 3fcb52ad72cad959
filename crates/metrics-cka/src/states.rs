//! Several states of a model, compared in pairs on the same documents.

use crate::moments::{Moments, transforms};
use crate::{Activations, CkaOptions, Comparison, Error, Layer, Real, Report, Treatment};

/// Comparisons of several states, such as a model before and after each of two fine-tunes, under way.
///
/// All pairs see the same examples in the same groups of documents, and the same dimensions of the layers of one name are
/// left out in every state ([`Treatment::WithoutMassive`]), so that differences between pairs are of the same thing
/// ([`Matrix::jackknifed`](crate::Matrix::jackknifed)). As with a [`Comparison`], the caller sends the same batches once for
/// each pass:
///
/// ```
/// use metrics_cka::{Activations, CkaOptions, Layer, LayerValues, States};
///
/// let layer = Layer::new("block.0", 2);
/// let state = |document: u32, turn: f32| {
///     let values = (0..40).map(|i| ((i * 7 + document) as f32 * 0.37 + turn * (i % 2) as f32).sin()).collect();
///     Activations::new(u64::from(document), vec![LayerValues { layer: layer.clone(), values }])
/// };
/// let layers = vec![vec![layer.clone()]; 3];
/// let mut states = States::<f32>::new(&layers, &[(0, 1), (0, 2)], CkaOptions::default())?;
/// while states.begin_pass() {
///     for document in 0..20 {
///         let all = [0.0, 0.1, 1.5].map(|turn| state(document, turn));
///         states.push(&all, document as usize * 10 / 20)?;
///     }
///     states.end_pass()?;
/// }
/// let reports = states.finish()?;
/// let [little, much] = [0, 1].map(|pair| reports[pair].results[0].matrix.jackknifed(0, 0).unwrap().clone());
/// assert!(little.less(&much)?.interval(0.95).unwrap().0 > 0.0); // 1 is closer to 0 than 2 is
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct States<T: Real> {
    layers: Vec<Vec<Layer>>,
    pairs: Vec<(usize, usize)>,
    options: CkaOptions<T>,
    /// While a first pass for treatments is still to be made, or under way.
    moments: Option<Vec<Vec<Moments>>>,
    comparisons: Vec<Comparison<T>>,
    passing: bool,
}

impl<T: Real> States<T> {
    /// Of states with these layers; `pairs`: which are compared, the left one's layers being rows. All comparisons together
    /// stay within the options' memory.
    ///
    /// # Errors
    /// No pairs, a pair that names no state, and as for [`Comparison::new`].
    pub fn new(layers: &[Vec<Layer>], pairs: &[(usize, usize)], options: CkaOptions<T>) -> Result<Self, Error> {
        if pairs.is_empty() {
            let limit = "must hold at least one".to_owned();
            return Err(Error::Option { field: "pairs of states", value: "[]".to_owned(), limit });
        }
        let of_pair = CkaOptions { memory: options.memory / pairs.len() as u64, ..options.clone() };
        let compare = |&(left, right): &(usize, usize)| match (layers.get(left), layers.get(right)) {
            (Some(l), Some(r)) => Comparison::new(l, r, of_pair.clone()),
            _ => Err(Error::State { left, right, states: layers.len() }),
        };
        let comparisons = pairs.iter().map(compare).collect::<Result<Vec<_>, _>>()?;
        let treated = options.treatments.iter().any(|t| *t != Treatment::Raw);
        let moments = treated.then(|| layers.iter().map(|of| Moments::of(of)).collect());
        Ok(Self { layers: layers.to_vec(), pairs: pairs.to_vec(), options, moments, comparisons, passing: false })
    }

    /// How many more passes it takes, one under way not counted.
    pub fn passes_left(&self) -> usize {
        let sums = self.comparisons.iter().map(Comparison::passes_of_sums).max().unwrap_or(0);
        sums + usize::from(self.moments.is_some() && !self.passing)
    }

    /// Begins the next pass; `false` when there is nothing left to do. (A pass under way goes on.)
    pub fn begin_pass(&mut self) -> bool {
        if !self.passing {
            self.passing = match self.moments {
                Some(_) => true,
                None => self.comparisons.iter_mut().map(Comparison::begin_pass).fold(false, |any, begun| any | begun),
            };
        }
        self.passing
    }

    /// Sends a batch of examples of a group of documents (from 0): what each state made of it.
    ///
    /// # Errors
    /// Another number of states, no pass, and as for [`Comparison::push`].
    pub fn push(&mut self, states: &[Activations<T>], group: usize) -> Result<(), Error> {
        if !self.passing {
            return Err(Error::NoPass);
        }
        if states.len() != self.layers.len() {
            let limit = format!("must be {}, as announced", self.layers.len());
            return Err(Error::Option { field: "states of a batch", value: states.len().to_string(), limit });
        }
        for ((left, right), comparison) in self.pairs.iter().zip(&mut self.comparisons) {
            match &self.moments {
                Some(_) => comparison.accepts(&states[*left], &states[*right], group)?,
                None => comparison.push(&states[*left], &states[*right], group)?,
            }
        }
        let moments = self.moments.iter_mut().flatten();
        moments.zip(states).for_each(|(moments, state)| Moments::add_all(moments, state));
        Ok(())
    }

    /// Ends the pass.
    ///
    /// # Errors
    /// Passes that saw different numbers of examples.
    pub fn end_pass(&mut self) -> Result<(), Error> {
        self.passing = false;
        let Some(moments) = self.moments.take() else {
            return self.comparisons.iter_mut().try_for_each(Comparison::end_pass);
        };
        let states: Vec<_> = self.layers.iter().map(Vec::as_slice).zip(moments).collect();
        let by_treatment: Vec<_> = self.options.treatments.iter().map(|t| transforms(&states, *t)).collect();
        let of_pair = |(left, right): &(usize, usize)| {
            by_treatment.iter().map(|states| [states[*left].clone(), states[*right].clone()]).collect()
        };
        let comparisons = std::mem::take(&mut self.comparisons).into_iter().zip(&self.pairs);
        self.comparisons = comparisons.map(|(comparison, pair)| comparison.with_transforms(of_pair(pair))).collect();
        Ok(())
    }

    /// The results, pair by pair.
    ///
    /// # Errors
    /// Passes that are left to be made.
    pub fn finish(self) -> Result<Vec<Report>, Error> {
        let left = self.passes_left() + usize::from(self.passing);
        if left > 0 {
            return Err(Error::Unfinished { left });
        }
        self.comparisons.into_iter().map(Comparison::finish).collect()
    }
}
