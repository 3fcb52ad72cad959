//! CKA of a layer before and after fine-tuning, and the difference of two models in it, over documents.

use metrics_cka::{Activations, CkaOptions, Form, Jackknifed, Layer, LayerValues, States};

use crate::{Random, Rate, covers, repeat};

const WIDTH: usize = 12;
const GROUPS: usize = 10;

/// Features of the tokens of one document before and after fine-tuning: what is common to the document, the token's own, and
/// what fine-tuning adds.
fn document(random: &mut Random, moved: f64) -> (Vec<f64>, Vec<f64>) {
    let tokens = random.log_normal(24.0, 0.6).round().max(2.0) as usize;
    let (common, drift) = (random.normals(WIDTH), random.normals(WIDTH));
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for _ in 0..tokens {
        for d in 0..WIDTH {
            // Dimensions of unlike size, as in trained models.
            let size = 1.0 / (1.0 + d as f64).sqrt();
            let value = size * (0.7 * common[d] + random.normal());
            before.push(value);
            after.push(value + moved * size * (0.7 * drift[d] + random.normal()));
        }
    }
    (before, after)
}

fn layer() -> Layer {
    Layer::new("block.0", WIDTH)
}

/// CKA before and after fine-tuning of two models that move as far as each other; on `count` documents.
fn shifts(count: usize, moved: f64, random: &mut Random) -> [Jackknifed; 2] {
    let options = CkaOptions { groups: GROUPS, form: Form::Features, ..CkaOptions::default() };
    let pairs = [(0, 1), (2, 3)];
    let mut states = States::<f64>::new(&vec![vec![layer()]; 4], &pairs, options).expect("four states");
    // One pass: nothing is treated.
    assert!(states.begin_pass());
    for index in 0..count {
        let ((a, b), (mut c, mut d)) = (document(random, moved), document(random, moved));
        // Both models read the same tokens.
        c.truncate(a.len());
        d.truncate(a.len());
        let rows = c.len() / WIDTH;
        let state = |values: &[f64]| {
            let values = values[..rows * WIDTH].to_vec();
            Activations::new(index as u64, vec![LayerValues { layer: layer(), values }])
        };
        let all = [state(&a), state(&b), state(&c), state(&d)];
        states.push(&all, index * GROUPS / count).expect("as announced");
    }
    states.end_pass().expect("one pass");
    let reports = states.finish().expect("all passes");
    [0, 1].map(|pair| reports[pair].results[0].matrix.jackknifed(0, 0).cloned().expect("ten groups"))
}

/// Coverage of the interval of CKA, and of the difference between two models that move as far as each other.
pub fn differences(repetitions: usize, seed: u64) -> Vec<Rate> {
    let mut rates = Vec::new();
    for moved in [0.3, 1.0] {
        // Of so many documents that its own error does not matter.
        let truth = shifts(40_000, moved, &mut Random::new(seed, u64::MAX - 1))[0].value();
        for count in [20, 60, 200] {
            let found = repeat(repetitions, seed, |random| shifts(count, moved, random));
            let setting = format!("{count} documents in {GROUPS} groups, CKA {truth:.3}");
            let covered = found.iter().map(|[of, _]| covers(of.bounded_interval(0.95, (-1.0, 1.0)), truth));
            rates.push(Rate::of("CKA", &setting, "95 % interval covers", 0.95, covered));
            let differences: Vec<Jackknifed> = found.iter().map(|[a, b]| a.less(b).expect("the same groups")).collect();
            let covered = differences.iter().map(|d| covers(d.interval(0.95), 0.0));
            let errors = differences.iter().map(|d| (d.value(), d.standard_error().unwrap_or(f64::NAN)));
            let rate = Rate::of("CKA", &setting, "95 % interval of a difference covers", 0.95, covered);
            rates.push(rate.with_errors(errors));
        }
    }
    rates
}
