//! Branch-free `exp` and `erf` that compilers vectorise. No fused multiply-add: the same bits on every processor.

use crate::Precision;

/// eˣ with relative error below 2e-7; 0 below −87.3, the largest finite power above 88.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5·2²³: adding it rounds to an integer in the low mantissa bits.
    let clamped = x.clamp(-87.3, 88.0);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * (r * r) + r + 1.0;
    let exponent = (shifted.to_bits().wrapping_sub(ROUND.to_bits())).wrapping_add(127) << 23;
    let scaled = y * f32::from_bits(exponent);
    if x < -87.3 { 0.0 } else { scaled }
}

/// erf(x) and e^(−x²), the first by Abramowitz & Stegun 7.1.26 (absolute error below 2e-7).
#[inline(always)]
pub(super) fn erf_and_gauss(x: f32) -> (f32, f32) {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let poly = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_8) * t - 0.284_496_72) * t + 0.254_829_6) * t;
    let gauss = exp(-a * a);
    ((1.0 - poly * gauss).copysign(x), gauss)
}

/// tanh(x) by way of `exp`.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs());
    // For small x the quotient cancels: the odd series is exact to f32 there.
    let x2 = x * x;
    let series = x * (1.0 - x2 * (1.0 / 3.0 - x2 * (2.0 / 15.0)));
    let quotient = ((1.0 - e) / (1.0 + e)).copysign(x);
    if x.abs() < 0.05 { series } else { quotient }
}

/// The nearest bf16 (ties to even), as f32.
#[inline(always)]
fn bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = f32::from_bits(bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000);
    if x.is_nan() { x } else { rounded }
}

/// Rounds factors or results of a matrix product to what the precision holds.
pub(super) fn round(values: &mut [f32], precision: Precision) {
    if precision == Precision::Bf16 {
        for v in values {
            *v = bf16(*v);
        }
    }
}

/// Σ over the slice with 16 independent lanes: fast, and the same on every machine.
#[inline(always)]
pub(super) fn lane_sum(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let mut lanes = [0f32; 16];
    for (i, v) in values.enumerate() {
        lanes[i & 15] += v;
    }
    fold_lanes(lanes)
}

/// The lanes' sum in a fixed order.
#[inline(always)]
pub(super) fn fold_lanes(mut lanes: [f32; 16]) -> f32 {
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere() {
        for i in -870_000..880_000i32 {
            let x = i as f32 * 1e-4;
            let truth = f64::from(x).exp();
            assert!((f64::from(exp(x)) - truth).abs() <= 2.5e-7 * truth, "exp({x}) = {}", exp(x));
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn bf16_is_rounded_to_nearest() {
        for i in (0..=u32::MAX - 4096).step_by(4093) {
            let x = f32::from_bits(i);
            let truth = half::bf16::from_f32(x).to_f32();
            assert!(bf16(x).to_bits() == truth.to_bits() || (x.is_nan() && bf16(x).is_nan()), "{x}");
        }
    }

    #[test]
    fn erf_and_tanh_are_close() {
        // Values of erf from published tables.
        for (x, truth) in [(0.1, 0.112_462_9), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3)] {
            assert!((erf_and_gauss(x).0 - truth).abs() < 3e-7 && (erf_and_gauss(-x).0 + truth).abs() < 3e-7);
        }
        for i in -2000..2000i32 {
            let x = i as f32 * 5e-3;
            assert!((tanh(x) - x.tanh()).abs() < 3e-7, "tanh({x})");
        }
    }
}
