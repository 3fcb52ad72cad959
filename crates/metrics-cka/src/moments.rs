//! Mean and variance of dimensions, and what treatments make of them.

use rayon::prelude::*;

use crate::accumulator::Transform;
use crate::{Activations, Layer, Real, Treatment};

/// Mean and variance of each dimension, in one pass.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    n: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    fn new(width: usize) -> Self {
        Self { n: 0.0, mean: vec![0.0; width], squares: vec![0.0; width] }
    }

    /// Of no examples of these layers.
    pub(crate) fn of(layers: &[Layer]) -> Vec<Self> {
        layers.iter().map(|layer| Self::new(layer.width)).collect()
    }

    /// Adds a batch to those of its layers.
    pub(crate) fn add_all<T: Real>(moments: &mut [Self], batch: &Activations<T>) {
        moments.par_iter_mut().zip(&batch.layers).for_each(|(m, layer)| m.add(&layer.values));
    }

    /// Welford's update.
    fn add<T: Real>(&mut self, values: &[T]) {
        for row in values.chunks_exact(self.mean.len()) {
            self.n += 1.0;
            for ((x, mean), squares) in row.iter().zip(&mut self.mean).zip(&mut self.squares) {
                let x = x.to_f64();
                let before = x - *mean;
                *mean += before / self.n;
                *squares += before * (x - *mean);
            }
        }
    }

    fn variances(&self) -> impl Iterator<Item = f64> + '_ {
        self.squares.iter().map(|s| s / self.n)
    }

    /// Dimensions whose variance is more than `ratio` times the median.
    fn massive(&self, ratio: f64) -> Vec<bool> {
        let mut sorted: Vec<f64> = self.variances().collect();
        sorted.sort_by(f64::total_cmp);
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        self.variances().map(|v| v > ratio * median && median > 0.0).collect()
    }

    fn transform(&self, scale: Option<Vec<f64>>) -> Transform {
        let finite = |m: &f64| if m.is_finite() { *m } else { 0.0 };
        Transform { shift: self.mean.iter().map(finite).collect(), scale }
    }

    /// 1/deviation. A dimension that varies less than f32 can resolve around its mean does not vary.
    fn to_unit_variance(&self) -> Vec<f64> {
        let scale = |(v, m): (f64, &f64)| if v > 1e-14 * m * m { 1.0 / v.sqrt() } else { 0.0 };
        self.variances().zip(&self.mean).map(scale).collect()
    }
}

/// What a treatment does to each layer of each of the states that are compared.
pub(crate) fn transforms(states: &[(&[Layer], Vec<Moments>)], treatment: Treatment) -> Vec<Vec<Transform>> {
    let all = || states.iter().flat_map(|(layers, moments)| layers.iter().zip(moments));
    let scale = |layer: &Layer, moments: &Moments| match treatment {
        Treatment::Raw => None,
        Treatment::Standardised => Some(moments.to_unit_variance()),
        Treatment::WithoutMassive { ratio } => {
            let mut scale = vec![1.0; layer.width];
            // In whichever state a dimension is massive, it is left out of all.
            for (_, other) in all().filter(|(other, _)| *other == layer) {
                scale.iter_mut().zip(other.massive(ratio)).filter(|(_, massive)| *massive).for_each(|(s, _)| *s = 0.0);
            }
            Some(scale)
        }
    };
    let of = |(layers, moments): &(&[Layer], Vec<Moments>)| {
        layers.par_iter().zip(moments).map(|(layer, m)| m.transform(scale(layer, m))).collect()
    };
    states.iter().map(of).collect()
}
