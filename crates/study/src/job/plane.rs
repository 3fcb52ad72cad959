//! A slice through parameter space, measured: the plane through the control, the midtrained model and what that becomes in
//! fine-tuning (the paper's Figure 1 is a sketch of it).
//!
//! 1. The plane's origin is the control's weights; its first axis leads to the midtrained weights, its second one, at a right angle
//!    to it, lets the plane hold the midtrained model's fine-tuned weights.
//! 2. Both fine-tunes are walked again; every few steps the weights are projected on the plane, and how far they lie off it is kept.
//! 3. At the points of a grid that holds both ways, J_P and J_T are evaluated on fixed batches, with their gradients' cosine.

use std::time::Instant;

use burn::module::AutodiffModule as _;
use data_mixer::{Batch, BatchSource as _, Sequences};
use fused_ops::TrainingBackend;
use gptneox_model::GptNeoX;
use metrics_proximity::sample_documents as sample;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trainer::{TrainSpec, Trainer, loss_gradient, parameter_vector, with_parameters};

use super::rows::Examples;
use super::tokens::Content;
use super::{Context, Cost, Input, Kind, Model};
use crate::Error;
use crate::address::Address;

/// Points of a way that are kept, its beginning and its end among them.
const POINTS: u64 = 24;
/// What the grid has beyond the ways, as a share of their extent.
const MARGIN: f64 = 0.15;

/// A fine-tune to be walked again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tuned {
    /// The state that it starts from.
    pub(crate) base: Address,
    /// The fine-tune: its way must end at its model.
    pub(crate) finetuned: Address,
    /// Its recipe.
    pub(crate) recipe: TrainSpec,
    /// Its training examples.
    pub(crate) set: Examples,
    /// Its steps.
    pub(crate) steps: u64,
}

/// Measures a slice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plane {
    /// What messages call it.
    pub(crate) label: String,
    /// The control's fine-tune.
    pub(crate) control: Box<Tuned>,
    /// The midtrained model's.
    pub(crate) midtrained: Box<Tuned>,
    /// Where both runs part; `None` where they have nothing in common.
    pub(crate) fork: Option<Address>,
    /// What J_P is measured on: held-out general text.
    pub(crate) general: Content,
    /// Tokens of its sequences.
    pub(crate) time: usize,
    /// Whether attention stops at the beginning of a document.
    pub(crate) document_mask: bool,
    /// Sequences for J_P, and training examples for J_T.
    pub(crate) rows: u64,
    /// Seed of those drawn.
    pub(crate) draw: u64,
    /// Points of each side of the grid.
    pub(crate) points: u64,
    /// The class of matrix kernels; `None` where the study takes any.
    pub(crate) kernels: Option<String>,
    /// What it is expected to take.
    #[serde(default)]
    pub(crate) cost: Cost,
}

/// A place in the plane.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Along the first axis: a norm of weights.
    pub(crate) x: f64,
    /// Along the second.
    pub(crate) y: f64,
    /// Distance of the weights from the plane.
    pub(crate) off: f64,
}

/// What is measured at a point of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Loss on general text, nats per token.
    pub(crate) loss_p: f64,
    /// Loss on the set's training examples.
    pub(crate) loss_t: f64,
    /// Cosine of both gradients; `None` where one of them is 0.
    pub(crate) cosine: Option<f64>,
}

/// A model, where it lies and what is measured of it: of its own weights, not of their projection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// What it is called.
    pub(crate) name: String,
    /// Where its projection lies.
    pub(crate) place: Place,
    /// Of itself; `None` where a loss is not finite.
    pub(crate) measured: Option<Measured>,
}

/// A measured slice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sliced {
    /// Where the grid's columns lie.
    pub(crate) x: Vec<f64>,
    /// Where its rows lie.
    pub(crate) y: Vec<f64>,
    /// Row by row; `None` where a loss was not finite.
    pub(crate) grid: Vec<Vec<Option<Measured>>>,
    /// Where both runs part (if they do), the control, the midtrained model, and both fine-tuned.
    pub(crate) states: Vec<State>,
    /// The control's fine-tune, from the control on.
    pub(crate) control: Vec<Place>,
    /// The midtrained model's, from the midtrained model on.
    pub(crate) midtrained: Vec<Place>,
    /// Largest difference between a parameter at the end of a way and the fine-tuned model's: 0 where both are the same to the
    /// last bit.
    pub(crate) end_difference: f64,
}

impl Kind for Plane {
    const NAME: &'static str = "plane";
    const VERSION: u32 = 1;
    type Output = Sliced;

    fn address(&self) -> Address {
        // A fine-tune's address covers recipe, examples and order.
        let identity = json!({
            "control": self.control.finetuned,
            "midtrained": self.midtrained.finetuned,
            "fork": self.fork,
            "general": self.general.digest,
            "time": self.time,
            "document_mask": self.document_mask,
            "rows": self.rows,
            "draw": self.draw,
            "points": self.points,
            "kernels": self.kernels,
        });
        Self::identified_by(&identity)
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn inputs(&self) -> Vec<Input> {
        let both = [&self.control, &self.midtrained];
        let weights = both.iter().map(|t| Input::weights(&t.base)).chain(self.fork.iter().map(Input::weights));
        let tuned = both.iter().flat_map(|t| [Input::files(&t.finetuned)].into_iter().chain(t.set.inputs()));
        weights.chain(tuned).chain(self.general.inputs()).collect()
    }

    fn cost(&self) -> Cost {
        self.cost.clone()
    }

    fn kernels(&self) -> Option<&str> {
        self.kernels.as_deref()
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let weights = |model: Model| -> Result<Vec<f32>, Error> {
            Ok(parameter_vector(&model.load::<AB::InnerBackend>(cx.store, cx.device)?))
        };
        let origin = weights(Model::Pretrained(self.control.base.clone()))?;
        let middle = weights(Model::Pretrained(self.midtrained.base.clone()))?;
        let end = weights(Model::Finetuned(self.midtrained.finetuned.clone()))?;
        let axes = Axes::through(origin, &middle, &end)
            .ok_or_else(|| Error::NotFinite { what: self.label.clone(), reason: FLAT.to_owned() })?;
        let models = [
            ("control", Model::Pretrained(self.control.base.clone())),
            ("midtrained", Model::Pretrained(self.midtrained.base.clone())),
            ("control, fine-tuned", Model::Finetuned(self.control.finetuned.clone())),
            ("midtrained, fine-tuned", Model::Finetuned(self.midtrained.finetuned.clone())),
        ];
        let fork = self.fork.clone().map(|fork| ("where both part", Model::Pretrained(fork)));
        let batches = [self.general_batch(cx)?, self.examples(cx)?];
        let mut states = Vec::new();
        for (name, model) in fork.into_iter().chain(models) {
            let model = model.load::<AB>(cx.store, cx.device)?.with_compute(self.midtrained.recipe.compute());
            let place = axes.place(&parameter_vector(&model.valid()));
            states.push(State { name: name.to_owned(), place, measured: self.measured(&model, &batches, cx)? });
        }
        let (control, first) = self.walk::<AB>(&self.control, &axes, (0.0, "control"), cx)?;
        let (midtrained, second) = self.walk::<AB>(&self.midtrained, &axes, (0.1, "midtrained model"), cx)?;
        let ways = control.iter().chain(&midtrained).copied();
        let places: Vec<Place> = states.iter().map(|state| state.place).chain(ways).collect();
        let (x, y) = (self.side(&places, |p| p.x), self.side(&places, |p| p.y));
        let grid = self.grid::<AB>(&axes, &x, &y, &batches, cx)?;
        Ok(Sliced { x, y, grid, states, control, midtrained, end_difference: first.max(second) })
    }
}

/// Points of the grid that were measured before the process was stopped.
const MEASURED: &str = "points.json";

const FLAT: &str = "the control, the midtrained model and its fine-tuned weights lie on a line: they span no plane";

/// The plane's origin and its two directions, of length 1 and at a right angle.
struct Axes {
    origin: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Axes {
    /// `None` where the three points lie on a line.
    fn through(origin: Vec<f32>, middle: &[f32], end: &[f32]) -> Option<Self> {
        let difference =
            |to: &[f32]| -> Vec<f64> { to.iter().zip(&origin).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect() };
        let unit = |vector: Vec<f64>, at_least: f64| {
            let length = dot(&vector, &vector).sqrt();
            (length.is_finite() && length > at_least).then(|| vector.into_iter().map(|v| (v / length) as f32).collect())
        };
        let first: Vec<f32> = unit(difference(middle), 0.0)?;
        let to_end = difference(end);
        let along: f64 = to_end.iter().zip(&first).map(|(a, b)| a * f64::from(*b)).sum();
        let whole = dot(&to_end, &to_end).sqrt();
        let across = to_end.iter().zip(&first).map(|(a, b)| a - along * f64::from(*b)).collect();
        // What rounding alone leaves is no direction.
        let second = unit(across, 1e-5 * whole)?;
        Some(Self { origin, first, second })
    }

    /// Where weights lie, and how far off.
    fn place(&self, weights: &[f32]) -> Place {
        let (mut x, mut y, mut all) = (0.0, 0.0, 0.0);
        for (i, weight) in weights.iter().enumerate() {
            let from_origin = f64::from(*weight) - f64::from(self.origin[i]);
            x += from_origin * f64::from(self.first[i]);
            y += from_origin * f64::from(self.second[i]);
            all += from_origin * from_origin;
        }
        Place { x, y, off: (all - x * x - y * y).max(0.0).sqrt() }
    }

    /// The weights of a point of the plane.
    fn weights(&self, x: f64, y: f64) -> Vec<f32> {
        let at = |i: usize| f64::from(self.origin[i]) + x * f64::from(self.first[i]) + y * f64::from(self.second[i]);
        (0..self.origin.len()).map(|i| at(i) as f32).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Plane {
    /// Walks a fine-tune again, and projects it. With the largest difference between its end and the fine-tuned model.
    fn walk<AB: TrainingBackend>(
        &self,
        tuned: &Tuned,
        axes: &Axes,
        (done, what): (f64, &str),
        cx: &Context<'_, AB>,
    ) -> Result<(Vec<Place>, f64), Error> {
        let batches = tuned.set.batches(cx.store)?;
        let base = Model::Pretrained(tuned.base.clone()).load::<AB>(cx.store, cx.device)?;
        let mut trainer = Trainer::<AB>::new(base, tuned.recipe.clone(), cx.device)?;
        let steps = batches.steps();
        let every = steps.div_ceil(POINTS - 1).max(1);
        let mut places = vec![axes.place(&parameter_vector(&trainer.model().valid()))];
        let mut weights = Vec::new();
        while trainer.steps_done() < steps {
            cx.report.check()?;
            trainer.step(&batches.batch(trainer.steps_done())?)?;
            let step = trainer.steps_done();
            if step % every == 0 || step == steps {
                weights = parameter_vector(&trainer.model().valid());
                places.push(axes.place(&weights));
            }
            let share = done + 0.1 * step as f64 / steps as f64;
            cx.report.advanced(share, || format!("{}: the way of the {what}, step {step}/{steps}", self.label));
        }
        let stored = Model::Finetuned(tuned.finetuned.clone()).load::<AB::InnerBackend>(cx.store, cx.device)?;
        let stored = parameter_vector(&stored);
        let difference = weights.iter().zip(&stored).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        Ok((places, difference))
    }

    /// The coordinates of one side of the grid.
    fn side(&self, places: &[Place], of: fn(&Place) -> f64) -> Vec<f64> {
        let (low, high) =
            places.iter().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let margin = MARGIN * (high - low);
        let (low, high) = (low - margin, high + margin);
        let last = self.points.saturating_sub(1).max(1) as f64;
        (0..self.points).map(|i| low + (high - low) * i as f64 / last).collect()
    }

    /// What is measured at each point of the grid.
    fn grid<AB: TrainingBackend>(
        &self,
        axes: &Axes,
        x: &[f64],
        y: &[f64],
        batches: &[Batch; 2],
        cx: &Context<'_, AB>,
    ) -> Result<Vec<Vec<Option<Measured>>>, Error> {
        let model = Model::Pretrained(self.control.base.clone()).load::<AB>(cx.store, cx.device)?;
        let compute = self.midtrained.recipe.compute();
        let all = (x.len() * y.len()).max(1);
        // What a stopped process has measured: the same points, measured on the same batches.
        let path = cx.folder.join(MEASURED);
        let known = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut measured: Vec<Option<Measured>> = known.filter(|known: &Vec<_>| known.len() <= all).unwrap_or_default();
        let keep = |measured: &Vec<Option<Measured>>| -> Result<(), Error> {
            let bytes =
                serde_json::to_vec(measured).map_err(|e| Error::Parse { path: path.clone(), reason: e.to_string() })?;
            atomic_file::write(&path, &bytes).map_err(Error::io(&path))
        };
        let mut kept = Instant::now();
        for (x, y) in y.iter().flat_map(|y| x.iter().map(move |x| (*x, *y))).skip(measured.len()) {
            if cx.report.check().is_err() || kept.elapsed().as_secs_f64() > cx.checkpoint_seconds {
                keep(&measured)?;
                kept = Instant::now();
            }
            cx.report.check()?;
            let at = with_parameters(&model, &axes.weights(x, y), cx.device)?.with_compute(compute);
            measured.push(self.measured(&at, batches, cx)?);
            let done = measured.len();
            cx.report
                .advanced(0.2 + 0.8 * done as f64 / all as f64, || format!("{}: point {done} of {all}", self.label));
        }
        let _ = std::fs::remove_file(&path);
        Ok(measured.chunks(x.len().max(1)).map(<[_]>::to_vec).collect())
    }

    fn general_batch<AB: TrainingBackend>(&self, cx: &Context<'_, AB>) -> Result<Batch, Error> {
        let sequences = Sequences::new(self.general.open(cx.store)?, self.time)?.with_document_mask(self.document_mask);
        let drawn = sample(sequences.len(), self.rows, self.draw);
        Ok(sequences.batch_of(&drawn)?)
    }

    fn examples<AB: TrainingBackend>(&self, cx: &Context<'_, AB>) -> Result<Batch, Error> {
        let batches = self.midtrained.set.batches(cx.store)?;
        let drawn = sample(batches.report().examples, self.rows, self.draw);
        Ok(batches.examples(&drawn)?)
    }

    /// Both losses and their gradients' cosine; `batches`: general text, examples.
    fn measured<AB: TrainingBackend>(
        &self,
        model: &GptNeoX<AB>,
        [general, examples]: &[Batch; 2],
        cx: &Context<'_, AB>,
    ) -> Result<Option<Measured>, Error> {
        let gradient =
            |batch: &Batch| loss_gradient(model, std::slice::from_ref(batch), &self.midtrained.recipe, cx.device);
        let (p, t) = (gradient(general)?, gradient(examples)?);
        if !(p.loss.is_finite() && t.loss.is_finite()) {
            return Ok(None);
        }
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let lengths = (product(&p.gradient, &p.gradient) * product(&t.gradient, &t.gradient)).sqrt();
        let cosine = product(&p.gradient, &t.gradient) / lengths;
        Ok(Some(Measured { loss_p: p.loss, loss_t: t.loss, cosine: cosine.is_finite().then_some(cosine) }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::Axes;

    #[test]
    fn the_plane_holds_its_three_points() {
        let (origin, middle, end) = (vec![1.0, 0.0, 0.0, 2.0], [4.0, 4.0, 0.0, 2.0], [1.0, 0.0, 3.0, 7.0]);
        let axes = Axes::through(origin.clone(), &middle, &end).unwrap();
        for point in [&origin[..], &middle, &end] {
            let place = axes.place(point);
            assert!(place.off < 1e-3, "{place:?}");
            let back = axes.weights(place.x, place.y);
            assert!(back.iter().zip(point).all(|(a, b)| (a - b).abs() < 1e-5), "{back:?}");
        }
        assert!((axes.place(&middle).x - 5.0).abs() < 1e-5 && axes.place(&middle).y.abs() < 1e-5);
        // A point off the plane says how far.
        let off = axes.place(&[1.0 - 0.8 * 3.0, 0.6 * 3.0, 0.0, 2.0]);
        assert!((off.off - 3.0).abs() < 1e-5, "{off:?}");
        assert!(Axes::through(vec![0.0; 3], &[1.0, 1.0, 1.0], &[2.0, 2.0, 2.0]).is_none());
        assert!(Axes::through(vec![0.0; 3], &[0.0; 3], &[2.0, 2.0, 2.0]).is_none());
    }
}
