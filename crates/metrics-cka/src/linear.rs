//! Both forms from features, in f64: n·p·q work, no n × n matrix.

use ndarray::{Array1, Array2, ArrayView2, Axis};

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Sides with different examples.
    #[error("{left} examples on one side, {right} on the other")]
    Examples {
        /// One side.
        left: usize,
        /// The other.
        right: usize,
    },
    /// Too few examples for the estimator.
    #[error("{n} examples; this estimator needs at least {least}")]
    TooFew {
        /// Examples given.
        n: usize,
        /// Examples needed.
        least: usize,
    },
    /// Features that do not vary: CKA is 0/0.
    #[error("the {side} features are constant, so CKA is undefined")]
    Constant {
        /// Which side.
        side: &'static str,
    },
    /// Values that are not finite.
    #[error("the {side} features hold a value that is not finite")]
    NotFinite {
        /// Which side.
        side: &'static str,
    },
}

/// |Xᵀ Y|² / (|Xᵀ X| |Yᵀ Y|) of the centred features.
///
/// # Errors
/// Different or too few examples, constant or non-finite features.
///
/// # Shapes
/// x `[n, p]`, y `[n, q]`
pub fn biased(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>) -> Result<f64, Error> {
    let (x, y) = prepare(x, y, 2)?;
    let norm = |a: &Array2<f64>, b: &Array2<f64>| a.t().dot(b).iter().map(|v| v * v).sum::<f64>();
    Ok(norm(&x, &y) / (norm(&x, &x).sqrt() * norm(&y, &y).sqrt()))
}

/// HSIC₁(x, y) / √(HSIC₁(x, x)·HSIC₁(y, y)); may be negative.
///
/// # Errors
/// Different or too few (below 4) examples, constant or non-finite features.
///
/// # Shapes
/// x `[n, p]`, y `[n, q]`
pub fn debiased(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>) -> Result<f64, Error> {
    let (x, y) = prepare(x, y, 4)?;
    Ok(hsic1(&x, &y) / (hsic1(&x, &x).sqrt() * hsic1(&y, &y).sqrt()))
}

/// Centred copies. HSIC₁ does not change under a shift, and centred sums lose no digits to a large mean.
fn prepare(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>, least: usize) -> Result<(Array2<f64>, Array2<f64>), Error> {
    let (left, right) = (x.nrows(), y.nrows());
    if left != right {
        return Err(Error::Examples { left, right });
    }
    if left < least {
        return Err(Error::TooFew { n: left, least });
    }
    let centred = |m: ArrayView2<'_, f64>, side| {
        if m.iter().any(|v| !v.is_finite()) {
            return Err(Error::NotFinite { side });
        }
        let constant = m.axis_iter(Axis(1)).all(|column| column.iter().all(|v| *v == column[0]));
        if constant {
            return Err(Error::Constant { side });
        }
        let mean = m.mean_axis(Axis(0)).expect("at least two examples");
        Ok(&m - &mean)
    };
    Ok((centred(x, "left")?, centred(y, "right")?))
}

/// Song et al. 2012, Eq. 5, with K = XXᵀ and L = YYᵀ without their diagonals, from features alone:
/// tr(K̃L̃) = |XᵀY|² − Σ kᵢᵢlᵢᵢ; K̃1 = X(Xᵀ1) − diag K.
fn hsic1(x: &Array2<f64>, y: &Array2<f64>) -> f64 {
    let n = x.nrows() as f64;
    let squares = |m: &Array2<f64>| -> Array1<f64> { m.map_axis(Axis(1), |row| row.dot(&row)) };
    let (kd, ld) = (squares(x), squares(y));
    let row_sums = |m: &Array2<f64>, diagonal: &Array1<f64>| m.dot(&m.sum_axis(Axis(0))) - diagonal;
    let (k1, l1) = (row_sums(x, &kd), row_sums(y, &ld));
    let trace = x.t().dot(y).iter().map(|v| v * v).sum::<f64>() - kd.dot(&ld);
    let total = k1.sum() * l1.sum() / ((n - 1.0) * (n - 2.0));
    let cross = 2.0 / (n - 2.0) * k1.dot(&l1);
    (trace + total - cross) / (n * (n - 3.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn no_value_without_a_reason() {
        let x = array![[1.0], [2.0], [4.0], [3.0]];
        let flat = array![[5.0], [5.0], [5.0], [5.0]];
        assert_eq!(biased(x.view(), flat.view()), Err(Error::Constant { side: "right" }));
        let short = array![[1.0], [2.0], [3.0]];
        assert_eq!(debiased(short.view(), short.view()), Err(Error::TooFew { n: 3, least: 4 }));
        assert_eq!(biased(x.view(), short.view()), Err(Error::Examples { left: 4, right: 3 }));
        let bad = array![[1.0], [f64::NAN], [4.0], [3.0]];
        assert_eq!(biased(bad.view(), x.view()), Err(Error::NotFinite { side: "left" }));
    }
}
