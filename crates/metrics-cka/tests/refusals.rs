//! What cannot be compared is refused or has a reason; massive dimensions are seen.
#![allow(clippy::unwrap_used, reason = "tests")]

use metrics_cka::{
    Accumulator, Activations, CkaOptions, Comparison, Error, Form, Layer, LayerValues, Reason, Side, SumOptions,
    Treatment, compare,
};

fn layer(name: &str, width: usize, values: Vec<f32>) -> LayerValues<f32> {
    LayerValues { layer: Layer::new(name, width), values }
}

/// Numbers without a pattern.
fn noise(n: usize, seed: u64) -> Vec<f32> {
    (0..n as u64)
        .map(|i| {
            let x = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed.wrapping_mul(0xBF58_476D_1CE4_E5B9));
            let x = (x ^ (x >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((x >> 40) as f32) / (1u64 << 24) as f32 - 0.5
        })
        .collect()
}

fn two(left: LayerValues<f32>, right: LayerValues<f32>) -> (Accumulator<f32>, Activations<f32>, Activations<f32>) {
    let sums =
        Accumulator::new(std::slice::from_ref(&left.layer), std::slice::from_ref(&right.layer), SumOptions::default())
            .unwrap();
    (sums, Activations::new(1, vec![left]), Activations::new(1, vec![right]))
}

#[test]
fn sides_must_have_seen_the_same() {
    let (mut sums, x, mut y) = two(layer("a", 2, noise(20, 1)), layer("b", 2, noise(20, 2)));
    y.inputs = 2;
    assert_eq!(sums.push(&x, &y, 0), Err(Error::Inputs { left: 1, right: 2 }));
    y.inputs = 1;
    y.layers[0].values.truncate(18);
    assert_eq!(sums.push(&x, &y, 0), Err(Error::Examples { left: 10, right: 9 }));
    y.layers[0].layer.name = "c".to_owned();
    let text = sums.push(&x, &y, 0).unwrap_err().to_string();
    assert_eq!(text, "the right side has layers c (2), announced were b (2)");
    assert_eq!(sums.push(&x, &x, 0).unwrap_err().to_string(), "the right side has layers a (2), announced were b (2)");
    // Nothing was added by any of these.
    assert_eq!(sums.finish().debiased[0][0].reason, Some(Reason::TooFew { n: 0, least: 4 }));
}

#[test]
fn layers_of_one_side_must_have_the_same_examples() {
    let layout = [Layer::new("a", 1), Layer::new("b", 1)];
    let mut sums = Accumulator::new(&layout, &layout, SumOptions::default()).unwrap();
    let uneven = Activations::new(0, vec![layer("a", 1, noise(5, 1)), layer("b", 1, noise(4, 2))]);
    let error = sums.push(&uneven, &uneven, 0).unwrap_err();
    assert_eq!(error, Error::Rows { side: Side::Left, layer: "b".into(), found: 4, expected: 5 });
    assert!(matches!(sums.push(&uneven, &uneven, 1), Err(Error::Rows { .. })));
    let even = Activations::new(0, vec![layer("a", 1, noise(5, 1)), layer("b", 1, noise(5, 2))]);
    assert_eq!(sums.push(&even, &even, 1), Err(Error::Group { group: 1, groups: 1 }));
    assert!(Accumulator::<f32>::new(&[], &layout, SumOptions::default()).is_err());
    assert!(Accumulator::<f32>::new(&[Layer::new("a", 0)], &layout, SumOptions::default()).is_err());
}

#[test]
fn reasons() {
    for form in [Form::Features, Form::Gram] {
        let reason = |left: Vec<f32>, right: Vec<f32>, rows: usize| {
            let (l, r) = (layer("l", left.len() / rows, left), layer("r", right.len() / rows, right));
            let options = SumOptions { form, ..SumOptions::default() };
            let mut sums =
                Accumulator::new(std::slice::from_ref(&l.layer), std::slice::from_ref(&r.layer), options).unwrap();
            sums.push(&Activations::new(0, vec![l]), &Activations::new(0, vec![r]), 0).unwrap();
            let m = sums.finish();
            assert!(m.debiased[0][0].value.is_nan() == m.debiased[0][0].reason.is_some());
            (m.biased[0][0].reason, m.debiased[0][0].reason)
        };
        let constant = |side| Some(Reason::Constant { side });
        assert_eq!(reason(vec![3.7; 20], noise(20, 1), 10), (constant(Side::Left), constant(Side::Left)));
        let broken = |side| Some(Reason::NotFinite { side });
        let mut values = noise(20, 1);
        values[7] = f32::INFINITY;
        assert_eq!(reason(noise(20, 2), values, 10), (broken(Side::Right), broken(Side::Right)));
        assert_eq!(reason(noise(3, 1), noise(3, 2), 3), (None, Some(Reason::TooFew { n: 3, least: 4 })));
        // Rounding noise around a large constant is no variation.
        let rounded: Vec<f32> = (0..20).map(|i| 1e8 + (i % 2) as f32 * 8.0).collect();
        assert_eq!(reason(rounded, noise(20, 1), 10).0, constant(Side::Left));
        // Orthogonal examples of one length: nothing is left of them to the debiased estimator.
        let identity: Vec<f32> = (0..36).map(|i| f32::from(u8::from(i % 7 == 0))).collect();
        let (found, gone) = reason(identity, noise(12, 3), 6);
        assert_eq!((found, gone), (None, Some(Reason::NotPositive { side: Side::Left })));
    }
}

#[test]
fn a_comparison_is_made_of_its_passes() {
    let x = layer("a", 2, noise(20, 1));
    let layout = [x.layer.clone()];
    let states = Activations::new(0, vec![x]);
    let treatments = vec![Treatment::Standardised];
    let mut comparison =
        Comparison::new(&layout, &layout, CkaOptions { treatments, groups: 1, ..CkaOptions::default() }).unwrap();
    assert_eq!(comparison.push(&states, &states, 0), Err(Error::NoPass));
    assert_eq!(comparison.passes_left(), 2);
    assert!(comparison.begin_pass());
    comparison.push(&states, &states, 0).unwrap();
    comparison.end_pass().unwrap();
    assert_eq!(comparison.passes_left(), 1);
    assert!(comparison.begin_pass());
    assert_eq!(comparison.finish().unwrap_err(), Error::Unfinished { left: 1 });
}

/// Two sides that share nothing but one huge dimension: raw CKA is 1, and the other treatments show it.
#[test]
fn a_massive_dimension_is_seen() {
    let n = 400;
    let side = |seed: u64| {
        let mut values = noise(n * 8, seed);
        let shared = noise(n, 99);
        (0..n).for_each(|i| values[i * 8 + 3] = shared[i] * 1e3);
        layer("block.0", 8, values)
    };
    let (x, y) = (side(1), side(2));
    let treatments = vec![Treatment::Raw, Treatment::Standardised, Treatment::WithoutMassive { ratio: 100.0 }];
    let report = compare(
        std::slice::from_ref(&x.layer),
        std::slice::from_ref(&y.layer),
        CkaOptions { treatments, ..CkaOptions::default() },
        |receive| {
            // Ten documents, one a group.
            for group in 0..10 {
                let rows = |l: &LayerValues<f32>| {
                    let values = l.values[group * n / 10 * 8..(group + 1) * n / 10 * 8].to_vec();
                    Activations::new(group as u64, vec![layer("block.0", 8, values)])
                };
                receive(&rows(&x), &rows(&y), group)?;
            }
            Ok::<(), Error>(())
        },
    )
    .unwrap();
    let value = |i: usize| report.results[i].matrix.debiased[0][0].value;
    assert!(value(0) > 0.999, "{}", value(0));
    assert!(value(1) < 0.3, "{}", value(1));
    assert!(value(2).abs() < 0.1, "{}", value(2));
    assert_eq!((report.results[2].left_out_left[0], report.results[0].left_out_left[0]), (1, 0));
    let cell = report.results[2].matrix.debiased[0][0];
    let (low, high) = cell.interval.unwrap();
    assert!(low < 0.05 && high > -0.05 && high - low < 0.5);
}

/// The project's hard cases: f32 stays within 1e-4 of f64 with a mean of 10⁴ deviations and with neighbours in value.
#[test]
fn f32_keeps_its_digits_far_from_zero() {
    let n = 3000;
    let (mut x, mut y) = (noise(n * 6, 1), noise(n * 6, 2));
    for i in 0..n {
        y[i * 6] += 0.5 * x[i * 6 + 1];
    }
    let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    x.iter_mut().step_by(6).for_each(|v| *v += 5000.0);
    let truth = {
        let of = |v: &[f32]| ndarray::Array2::from_shape_vec((n, 6), wide(v)).unwrap();
        metrics_cka::debiased(of(&x).view(), of(&y).view()).unwrap()
    };
    for form in [Form::Features, Form::Gram] {
        let layout = [Layer::new("a", 6)];
        let options = SumOptions { form, ..SumOptions::default() };
        let mut sums = Accumulator::<f32>::new(&layout, &layout, options).unwrap();
        for from in (0..n).step_by(100) {
            let side = |v: &[f32]| Activations::new(0, vec![layer("a", 6, v[from * 6..(from + 100) * 6].to_vec())]);
            sums.push(&side(&x), &side(&y), 0).unwrap();
        }
        let found = sums.finish().debiased[0][0].value;
        assert!((found - truth).abs() < 1e-6, "{form:?}: {found} {truth}");
    }
}
