//! Both forms of two whole matrices, in f64: the definitions, n·p·q work.

use ndarray::ArrayView2;

use crate::{Accumulator, Activations, Cell, Error, Form, Layer, LayerValues, SumOptions};

/// |Xᵀ Y|² / (|Xᵀ X| |Yᵀ Y|) of the centred features (Kornblith et al. 2019).
///
/// # Errors
/// Different or too few (below 2) examples, constant or non-finite features.
///
/// # Shapes
/// x `[n, p]`, y `[n, q]`
pub fn biased(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>) -> Result<f64, Error> {
    value(x, y, |m| m.biased[0][0])
}

/// HSIC₁(x, y) / √(HSIC₁(x, x)·HSIC₁(y, y)) (Song et al. 2012); may be negative.
///
/// # Errors
/// Different or too few (below 4) examples, constant or non-finite features, or such that HSIC₁ of one with itself is
/// not positive.
///
/// # Shapes
/// x `[n, p]`, y `[n, q]`
pub fn debiased(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>) -> Result<f64, Error> {
    value(x, y, |m| m.debiased[0][0])
}

fn value(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>, pick: impl Fn(&crate::Matrix) -> Cell) -> Result<f64, Error> {
    if x.nrows() != y.nrows() {
        return Err(Error::Examples { left: x.nrows(), right: y.nrows() });
    }
    let side = |name: &str, m: ArrayView2<'_, f64>| {
        let layer = Layer::new(name, m.ncols());
        (layer.clone(), Activations::new(0, vec![LayerValues { layer, values: m.iter().copied().collect() }]))
    };
    let ((left, x), (right, y)) = (side("x", x), side("y", y));
    let mut sums = Accumulator::new(&[left], &[right], SumOptions { form: Form::Features, ..SumOptions::default() })?;
    sums.push(&x, &y, 0)?;
    let cell = pick(&sums.finish());
    cell.reason.map_or(Ok(cell.value), |reason| Err(reason.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reason, Side};
    use ndarray::array;

    #[test]
    fn no_value_without_a_reason() {
        let undefined = |reason: Reason| Err(Error::Undefined(reason));
        let x = array![[1.0], [2.0], [4.0], [3.0]];
        let flat = array![[5.0], [5.0], [5.0], [5.0]];
        assert_eq!(biased(x.view(), flat.view()), undefined(Reason::Constant { side: Side::Right }));
        let short = array![[1.0], [2.0], [3.0]];
        assert_eq!(debiased(short.view(), short.view()), undefined(Reason::TooFew { n: 3, least: 4 }));
        assert_eq!(biased(x.view(), short.view()), Err(Error::Examples { left: 4, right: 3 }));
        let bad = array![[1.0], [f64::NAN], [4.0], [3.0]];
        assert_eq!(biased(bad.view(), x.view()), undefined(Reason::NotFinite { side: Side::Left }));
        let none = ndarray::Array2::<f64>::zeros((0, 2));
        assert_eq!(biased(none.view(), none.view()), undefined(Reason::TooFew { n: 0, least: 2 }));
        let featureless = ndarray::Array2::<f64>::zeros((4, 0));
        assert!(matches!(biased(featureless.view(), x.view()), Err(Error::Option { .. })));
    }
}
