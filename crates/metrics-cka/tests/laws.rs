//! Laws of CKA, on random matrices.
#![allow(clippy::unwrap_used, reason = "tests")]

use metrics_cka::{
    Accumulator, Activations, Cell, CkaOptions, Form, Layer, LayerValues, Matrix, States, SumOptions, Treatment,
    biased, compare, debiased,
};
use ndarray::{Array1, Array2};
use proptest::prelude::*;

fn matrix(n: usize, p: usize) -> impl Strategy<Value = Array2<f64>> {
    prop::collection::vec(-3.0f64..3.0, n * p).prop_map(move |v| Array2::from_shape_vec((n, p), v).unwrap())
}

/// A product of reflections: orthogonal.
fn orthogonal(p: usize, seed: &Array2<f64>) -> Array2<f64> {
    let mut q = Array2::eye(p);
    for row in seed.rows() {
        let v: Array1<f64> = row.iter().cycle().take(p).copied().collect();
        let norm = v.dot(&v);
        if norm > 1e-6 {
            let column = v.view().insert_axis(ndarray::Axis(1));
            let reflection = Array2::eye(p) - &(column.dot(&column.t()) * (2.0 / norm));
            q = q.dot(&reflection);
        }
    }
    q
}

/// Both estimators by their definitions, with n × n matrices.
fn by_definition(x: &Array2<f64>, y: &Array2<f64>) -> (f64, f64) {
    let centred = |m: &Array2<f64>| m - &m.mean_axis(ndarray::Axis(0)).unwrap();
    let (x, y) = (centred(x), centred(y));
    let (k, l) = (x.dot(&x.t()), y.dot(&y.t()));
    let n = k.nrows() as f64;
    let inner = |a: &Array2<f64>, b: &Array2<f64>| (a * b).sum();
    let hsic1 = |a: &Array2<f64>, b: &Array2<f64>| {
        let bare = |m: &Array2<f64>| m - &Array2::from_diag(&m.diag());
        let (a, b) = (bare(a), bare(b));
        let rows = |m: &Array2<f64>| m.sum_axis(ndarray::Axis(1));
        (inner(&a, &b) + a.sum() * b.sum() / ((n - 1.0) * (n - 2.0)) - 2.0 / (n - 2.0) * rows(&a).dot(&rows(&b)))
            / (n * (n - 3.0))
    };
    (inner(&k, &l) / (inner(&k, &k) * inner(&l, &l)).sqrt(), hsic1(&k, &l) / (hsic1(&k, &k) * hsic1(&l, &l)).sqrt())
}

/// Layers of one side: the columns of a matrix, cut at `cuts`.
fn layers(m: &Array2<f64>, cuts: &[usize]) -> Vec<LayerValues<f64>> {
    let mut from = 0;
    let slice = |(i, width): (usize, &usize)| {
        let values = m.slice(ndarray::s![.., from..from + width]).iter().copied().collect();
        from += width;
        LayerValues { layer: Layer::new(format!("block.{i}"), *width), values }
    };
    cuts.iter().enumerate().map(slice).collect()
}

fn rows(m: &Array2<f64>, from: usize, to: usize) -> Array2<f64> {
    m.slice(ndarray::s![from..to, ..]).to_owned()
}

const LEFT: [usize; 2] = [3, 4];
const RIGHT: [usize; 3] = [2, 1, 2];

fn accumulator(form: Form, groups: usize) -> Accumulator<f64> {
    let of =
        |cuts: &[usize]| cuts.iter().enumerate().map(|(i, w)| Layer::new(format!("block.{i}"), *w)).collect::<Vec<_>>();
    let options = SumOptions { form, groups, chunk: 7, ..SumOptions::default() };
    Accumulator::new(&of(&LEFT), &of(&RIGHT), options).unwrap()
}

/// Pushes rows `from..to` in batches of `size`; a row's group is `row * groups / n`.
fn push(a: &mut Accumulator<f64>, x: &Array2<f64>, y: &Array2<f64>, range: (usize, usize), size: usize, groups: usize) {
    let n = x.nrows();
    let mut from = range.0;
    while from < range.1 {
        let group = from * groups / n;
        let mut to = (from + size).min(range.1);
        while (to - 1) * groups / n != group {
            to -= 1;
        }
        let side = |m: &Array2<f64>, cuts: &[usize]| Activations::new(from as u64, layers(&rows(m, from, to), cuts));
        a.push(&side(x, &LEFT), &side(y, &RIGHT), group).unwrap();
        from = to;
    }
}

fn cells(m: &Matrix) -> Vec<Cell> {
    m.biased.iter().chain(&m.debiased).flatten().copied().collect()
}

fn near(a: &Matrix, b: &Matrix, tolerance: f64) {
    assert_eq!((a.examples, a.groups), (b.examples, b.groups));
    for (a, b) in cells(a).iter().zip(cells(b)) {
        assert_eq!(a.reason, b.reason);
        if a.reason.is_none() {
            assert!((a.value - b.value).abs() < tolerance, "{a:?} {b:?}");
        }
        match (a.standard_error, b.standard_error) {
            (Some(a), Some(b)) => assert!((a - b).abs() < tolerance * 100.0, "{a} {b}"),
            (a, b) => assert_eq!(a, b),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn invariances(x in matrix(20, 4), y in matrix(20, 3), seed in matrix(5, 4), scale in 0.1f64..10.0, shift in -50.0f64..50.0) {
        for f in [biased, debiased] {
            let value = f(x.view(), y.view()).unwrap();
            let moved = x.dot(&orthogonal(4, &seed)) * scale + shift;
            prop_assert!((f(moved.view(), y.view()).unwrap() - value).abs() < 1e-8);
            prop_assert!((f(y.view(), x.view()).unwrap() - value).abs() < 1e-12);
            prop_assert!((f(x.view(), x.view()).unwrap() - 1.0).abs() < 1e-12);
            prop_assert!(value <= 1.0 + 1e-12);
        }
        prop_assert!(biased(x.view(), y.view()).unwrap() >= 0.0);
        let (b, d) = by_definition(&x, &y);
        prop_assert!((biased(x.view(), y.view()).unwrap() - b).abs() < 1e-10);
        prop_assert!((debiased(x.view(), y.view()).unwrap() - d).abs() < 1e-10);
    }

    /// Independent features with n close to p: biased CKA is far from 0, debiased near it.
    #[test]
    fn debiased_is_near_zero_on_independent_data(x in matrix(60, 40), y in matrix(60, 40)) {
        prop_assert!(biased(x.view(), y.view()).unwrap() > 0.3);
        prop_assert!(debiased(x.view(), y.view()).unwrap().abs() < 0.1);
    }

    /// In batches of any size, as sums of features or as Gram matrices, in any order of merging: the same values, and
    /// those of each pair of layers alone.
    #[test]
    fn streaming_is_whole(x in matrix(40, 7), y in matrix(40, 5), size in 1usize..20, cut in 1usize..39, groups in 1usize..5, offset in -100.0f64..100.0) {
        let y = y + offset;
        let run = |form, size| {
            let mut a = accumulator(form, groups);
            push(&mut a, &x, &y, (0, 40), size, groups);
            a.finish()
        };
        let whole = run(Form::Features, 40);
        near(&whole, &run(Form::Features, size), 1e-9);
        near(&whole, &run(Form::Gram, size), 1e-9);
        near(&whole, &run(Form::Auto, size), 1e-9);
        let part = |form, range| {
            let mut a = accumulator(form, groups);
            push(&mut a, &x, &y, range, size, groups);
            a
        };
        let (mut first, mut second) = (part(Form::Features, (0, cut)), part(Form::Auto, (cut, 40)));
        let (third, fourth) = (first.clone(), second.clone());
        first.merge(fourth).unwrap();
        near(&whole, &first.finish(), 1e-9);
        second.merge(third).unwrap();
        near(&whole, &second.finish(), 1e-9);
        let (mut third, fourth) = (part(Form::Gram, (0, cut)), part(Form::Gram, (cut, 40)));
        third.merge(fourth).unwrap();
        near(&whole, &third.finish(), 1e-9);
        let first_layers = (x.slice(ndarray::s![.., 0..3]), y.slice(ndarray::s![.., 2..3]));
        prop_assert!((whole.debiased[0][1].value - debiased(first_layers.0, first_layers.1).unwrap()).abs() < 1e-9);
    }

    /// Leaving out a group is leaving out its examples.
    #[test]
    fn the_jackknife_leaves_groups_out(x in matrix(30, 7), y in matrix(30, 5)) {
        let groups = 3;
        let mut all = accumulator(Form::Features, groups);
        push(&mut all, &x, &y, (0, 30), 8, groups);
        let all = all.finish();
        let without = |group: usize| {
            let mut a = accumulator(Form::Features, groups);
            for g in (0..groups).filter(|g| *g != group) {
                push(&mut a, &x, &y, (g * 10, g * 10 + 10), 8, groups);
            }
            a.finish().debiased[1][2].value
        };
        let values: Vec<f64> = (0..groups).map(without).collect();
        let (value, g) = (all.debiased[1][2].value, groups as f64);
        // Groups of one size: the plain delete-one jackknife.
        let mean = values.iter().sum::<f64>() / g;
        let error = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() * (g - 1.0) / g).sqrt();
        let (cell, jackknifed) = (all.debiased[1][2], all.jackknifed(1, 2).unwrap());
        prop_assert!((cell.standard_error.unwrap() - error).abs() < 1e-8);
        for (found, value) in jackknifed.without().iter().zip(&values) {
            prop_assert!((found - value).abs() < 1e-10);
        }
        let (low, high) = jackknifed.interval(0.95).unwrap();
        prop_assert!(((high - low) / 2.0 / error - 4.302_652_729_749_462).abs() < 1e-6);
        let (low, high) = cell.interval.unwrap();
        prop_assert!(-1.0 <= low && low <= value && value <= high && high <= 1.0);
    }

    /// States in pairs are pairs alone, whatever the passes; only what is massive is left out of all of them.
    #[test]
    fn states_are_pairs(x in matrix(30, 7), y in matrix(30, 7), z in matrix(30, 7), memory in 8_000u64..200_000) {
        let all = [&x, &y, &z];
        let layout: Vec<Layer> = LEFT.iter().enumerate().map(|(i, w)| Layer::new(format!("block.{i}"), *w)).collect();
        let treatments = vec![Treatment::Raw, Treatment::Standardised];
        let options = CkaOptions { memory, groups: 3, treatments, form: Form::Features, chunk: 16, ..CkaOptions::default() };
        let part = |m: &Array2<f64>, group: usize| {
            Activations::new(group as u64, layers(&rows(m, group * 10, group * 10 + 10), &LEFT))
        };
        let pairs = [(0, 1), (2, 0)];
        let mut states = States::<f64>::new(&vec![layout.clone(); 3], &pairs, options.clone()).unwrap();
        while states.begin_pass() {
            for group in 0..3 {
                states.push(&all.map(|m| part(m, group)), group).unwrap();
            }
            states.end_pass().unwrap();
        }
        for (report, (left, right)) in states.finish().unwrap().iter().zip(pairs) {
            let alone = compare(&layout, &layout, CkaOptions { memory: 1 << 20, ..options.clone() }, |receive| {
                (0..3).try_for_each(|group| receive(&part(all[left], group), &part(all[right], group), group))
            });
            let alone: Result<_, metrics_cka::Error> = alone;
            for (a, b) in report.results.iter().zip(&alone.unwrap().results) {
                near(&a.matrix, &b.matrix, 1e-9);
            }
        }
    }

    /// Layer pairs in tiles, in several passes: the same values as in one.
    #[test]
    fn tiles_are_whole(x in matrix(30, 7), y in matrix(30, 5)) {
        let (left, right) = (layers(&x, &LEFT), layers(&y, &RIGHT));
        let layout = |l: &[LayerValues<f64>]| l.iter().map(|l| l.layer.clone()).collect::<Vec<_>>();
        let mut passes = 0;
        let mut run = |memory: u64| {
            passes = 0;
            let treatments = vec![Treatment::Raw, Treatment::Standardised, Treatment::WithoutMassive { ratio: 100.0 }];
            let options = CkaOptions { memory, groups: 3, treatments, chunk: 16, form: Form::Features, ..CkaOptions::default() };
            compare(&layout(&left), &layout(&right), options, |receive| {
                passes += 1;
                for (group, from) in [0usize, 10, 20].into_iter().enumerate() {
                    let side = |m: &Array2<f64>, cuts: &[usize]| Activations::new(0, layers(&rows(m, from, from + 10), cuts));
                    receive(&side(&x, &LEFT), &side(&y, &RIGHT), group)?;
                }
                Ok::<(), metrics_cka::Error>(())
            }).map(|report| (report, passes))
        };
        let (whole, few) = run(1 << 20).unwrap();
        let (tiled, many) = run(3200).unwrap();
        prop_assert_eq!(few, 2);
        prop_assert!(many > 6, "{} passes", many);
        for (a, b) in whole.results.iter().zip(&tiled.results) {
            near(&a.matrix, &b.matrix, 1e-9);
        }
        // Nothing massive in uniform numbers.
        near(&whole.results[0].matrix, &whole.results[2].matrix, 1e-9);
        let need = run(100).unwrap_err().to_string();
        prop_assert!(need.starts_with("memory = 100 bytes do not hold one pair of layers"), "{}", need);
    }
}

/// A dimension that is massive in one state is left out of all, so that the same dimensions are compared.
#[test]
fn what_is_massive_anywhere_is_left_out_everywhere() {
    let layer = Layer::new("block.0", 9);
    // Noise that differs from state to state; in the second one, dimension 4 is enormous.
    let state = |which: usize, group: usize| {
        let value = |i: usize| ((i * 37 + which * 101 + group * 13) as f64 * 0.71).sin();
        let values = (0..30 * 9).map(|i| if which == 1 && i % 9 == 4 { 1e3 * value(i) } else { value(i) });
        Activations::new(group as u64, vec![LayerValues { layer: layer.clone(), values: values.collect() }])
    };
    let options =
        CkaOptions { treatments: vec![Treatment::WithoutMassive { ratio: 100.0 }], groups: 5, ..CkaOptions::default() };
    let layers = vec![vec![layer.clone()]; 4];
    let mut states = States::<f64>::new(&layers, &[(0, 2), (1, 3)], options).unwrap();
    assert_eq!(states.passes_left(), 2);
    while states.begin_pass() {
        for group in 0..5 {
            states.push(&[0, 1, 2, 3].map(|which| state(which, group)), group).unwrap();
        }
        states.end_pass().unwrap();
    }
    for report in states.finish().unwrap() {
        let result = &report.results[0];
        assert_eq!((result.left_out_left[0], result.left_out_right[0]), (1, 1));
    }
}

#[test]
fn states_refuse_what_does_not_fit() {
    let layers = vec![vec![Layer::new("a", 2)]; 2];
    let new = |pairs: &[(usize, usize)]| States::<f64>::new(&layers, pairs, CkaOptions::default());
    assert_eq!(new(&[(0, 2)]).unwrap_err().to_string(), "pair 0, 2 of 2 states");
    assert!(new(&[]).unwrap_err().to_string().starts_with("pairs of states = []"));
    let mut states = new(&[(0, 1)]).unwrap();
    assert!(matches!(states.push(&[], 0), Err(metrics_cka::Error::NoPass)));
    assert!(states.begin_pass());
    assert_eq!(states.push(&[], 0).unwrap_err().to_string(), "states of a batch = 0 must be 2, as announced");
    assert!(matches!(states.finish(), Err(metrics_cka::Error::Unfinished { left: 1 })));
}
