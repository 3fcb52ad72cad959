//! Percentiles of resampled values.

use super::Error;

/// The `(1 ± level)/2` quantiles of values, with linear interpolation between order statistics (as NumPy's default).
///
/// # Errors
/// No values, a value that is NaN, a level outside (0, 1).
pub fn percentile_interval(values: &[f64], level: f64) -> Result<(f64, f64), Error> {
    if !(level > 0.0 && level < 1.0) {
        return Err(Error::Argument { field: "level", value: level, limit: "must be between 0 and 1" });
    }
    if let Some((index, value)) = values.iter().enumerate().find(|(_, v)| v.is_nan()) {
        return Err(Error::NotFinite { side: "the resamples", index, value: *value });
    }
    if values.is_empty() {
        return Err(Error::TooFew { what: "a percentile", least: 1, n: 0 });
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (sorted.len() - 1) as f64;
        let (low, part) = (place.floor() as usize, place.fract());
        let high = (low + 1).min(sorted.len() - 1);
        sorted[low] + part * (sorted[high] - sorted[low])
    };
    Ok((at((1.0 - level) / 2.0), at((1.0 + level) / 2.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate() {
        assert_eq!(percentile_interval(&[4.0, 1.0, 3.0, 2.0, 5.0], 0.5).unwrap(), (2.0, 4.0));
        assert!(percentile_interval(&[], 0.95).is_err() && percentile_interval(&[1.0], 1.0).is_err());
        assert!(percentile_interval(&[1.0, f64::NAN], 0.9).is_err());
    }
}
