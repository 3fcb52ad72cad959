//! The layer × layer CKA of made-up states, as the script of other software does it.

use std::time::Instant;

use metrics_cka::{Accumulator, Activations, Form, Layer, LayerValues, Matrix, Real, SumOptions};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::{median, peak_memory_mib};
use crate::Error;

/// What is compared.
#[derive(Debug, Clone)]
pub struct Cka {
    /// Examples.
    pub n: usize,
    /// Of these, how many are made and held; they come again and again. (To see what sums take, not what states take.)
    pub held: Option<usize>,
    /// Features of a layer.
    pub p: usize,
    /// Layers of either side.
    pub layers: usize,
    /// Which sums.
    pub form: Form,
    /// Examples of a batch: what a model gives at a time.
    pub batch: usize,
    /// Examples of a product.
    pub chunk: usize,
    /// Products in f64 instead of f32.
    pub double: bool,
    /// Groups of the jackknife; 1: none, as in the script.
    pub groups: usize,
    /// How often it is done.
    pub repeat: usize,
    /// Whether the values are compared with those of the same states in f64.
    pub check: bool,
}

/// The script's states: 16 common factors, and noise of twice their size. By layer, `[n, p]`.
fn states(n: usize, p: usize, layers: usize, side: u64) -> Vec<Vec<f32>> {
    let gauss = |key: u64, i: u64| {
        // Box–Muller on a counter.
        let uniform = |salt: u64| {
            let bits = data_mixer::stream_key(key, "cka states", 2 * i + salt);
            ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        ((-2.0 * uniform(0).ln()).sqrt() * (std::f64::consts::TAU * uniform(1)).cos()) as f32
    };
    let factors: Vec<f32> = (0..n * 16).into_par_iter().map(|i| gauss(1, i as u64)).collect();
    let layer = |layer: usize| {
        let key = 100 + side * 100 + layer as u64;
        let loads: Vec<f32> = (0..16 * p).map(|i| gauss(key, i as u64)).collect();
        let value = |i: usize| {
            let (row, column) = (i / p, i % p);
            let common: f32 = (0..16).map(|f| factors[row * 16 + f] * loads[f * p + column]).sum();
            common + 2.0 * gauss(key + 10_000, i as u64)
        };
        (0..n * p).into_par_iter().map(value).collect()
    };
    (0..layers).map(layer).collect()
}

impl Cka {
    /// Streams the states in batches, several times; the result has the fields of the script's JSON line.
    ///
    /// # Errors
    /// Sizes outside their limits.
    pub fn run(&self) -> Result<Value, Error> {
        let (mut line, values) = if self.double { self.timed::<f64>()? } else { self.timed::<f32>()? };
        if self.check {
            let (_, exact) = Self { form: Form::Features, repeat: 1, ..self.clone() }.timed::<f64>()?;
            let differences = values.iter().zip(&exact).map(|(a, b)| (a - b).abs());
            line["largest_difference_to_f64"] = differences.fold(0.0, f64::max).into();
        }
        Ok(line)
    }

    fn timed<T: Real>(&self) -> Result<(Value, Vec<f64>), Error> {
        let Self { n, p, layers, .. } = *self;
        for (option, value) in [("n", n), ("p", p), ("layers", layers), ("batch", self.batch), ("repeat", self.repeat)]
        {
            if value == 0 {
                return Err(Error::Option { option, value: "0".into(), limit: "must be at least 1".into() });
            }
        }
        let layout: Vec<Layer> = (0..layers).map(|i| Layer::new(format!("layer.{i}"), p)).collect();
        let held = self.held.unwrap_or(n).clamp(1, n);
        let batches = |side: u64| -> Vec<Activations<T>> {
            let states = states(held, p, layers, side);
            let batch = |from: usize| {
                let values = |l: usize| {
                    let rows = &states[l][from * p..(from + self.batch).min(held) * p];
                    LayerValues {
                        layer: layout[l].clone(),
                        values: rows.iter().map(|v| T::from_f64((*v).into())).collect(),
                    }
                };
                Activations::new(from as u64, (0..layers).map(values).collect())
            };
            (0..held).step_by(self.batch).map(batch).collect()
        };
        let (left, right) = (batches(0), batches(1));
        let before = peak_memory_mib();
        let mut seconds = Vec::new();
        let mut matrix = None;
        for _ in 0..=self.repeat {
            let started = Instant::now();
            let options =
                SumOptions { form: self.form, chunk: self.chunk, groups: self.groups, ..SumOptions::default() };
            let mut sums = Accumulator::new(&layout, &layout, options).map_err(wrong)?;
            let count = n.div_ceil(self.batch);
            for i in 0..count {
                let at = i % left.len();
                sums.push(&left[at], &right[at], i * self.groups / count).map_err(wrong)?;
            }
            matrix = Some(sums.finish());
            seconds.push(started.elapsed().as_secs_f64());
        }
        // The first warms up, as in the script.
        seconds.remove(0);
        let matrix = matrix.expect("done at least once");
        let cells = matrix.debiased.iter().chain(&matrix.biased).flatten();
        Ok((self.line(&seconds, &matrix, before), cells.map(|c| c.value).collect()))
    }

    fn line(&self, seconds: &[f64], matrix: &Matrix, before: Option<u64>) -> Value {
        let Self { n, p, layers, .. } = *self;
        let s = median(seconds);
        // The script's count, whatever is saved here.
        let flop = 2.0 * (n * p * p * layers * (layers + 2)) as f64;
        let mean =
            |m: &[Vec<metrics_cka::Cell>]| m.iter().flatten().map(|c| c.value).sum::<f64>() / (layers * layers) as f64;
        json!({
            "peer": "midtrain_cka", "method": format!("{:?}", self.form).to_lowercase(), "n": n, "p": p, "layers": layers,
            "batch": self.batch, "chunk": self.chunk, "groups": self.groups,
            "dtype": if self.double { "f64" } else { "f32" }, "threads": rayon::current_num_threads(),
            "seconds": s, "min_seconds": seconds.iter().copied().fold(f64::INFINITY, f64::min),
            "gflop_per_s": (flop / s / 1e8).round() / 10.0,
            "cka_0_0": matrix.biased[0][0].value, "cka_mean": mean(&matrix.biased),
            "debiased_0_0": matrix.debiased[0][0].value, "debiased_mean": mean(&matrix.debiased),
            "states_mib": before, "peak_mib": peak_memory_mib(), "version": env!("CARGO_PKG_VERSION"),
        })
    }
}

fn wrong(error: metrics_cka::Error) -> Error {
    Error::Option { option: "cka", value: String::new(), limit: error.to_string() }
}
