//! Plans at the paper's scale and draws from them: `cargo bench --bench mixer`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use midtrain::data_mixer::{MixPlan, MixSpec, Pairing, SourceSize};
use midtrain::schedule::{Step, Timeline, Weight};

/// The paper's Starcoder arm: 128 B tokens in sequences of 2048.
fn spec() -> MixSpec {
    let weight = Weight::parse("0.2").expect("a weight");
    MixSpec {
        seed: 1,
        batch: 1024,
        timeline: Timeline::midtrain(Step(61_000), Step(6_000), "Starcoder", weight).expect("a timeline"),
        general: SourceSize::new("C4", 76_000_000),
        specialised: vec![SourceSize::new("Starcoder", 95_000_000)],
        pairing: Pairing::Displace,
        max_epochs: 1.0,
    }
}

fn mixer(c: &mut Criterion) {
    c.bench_function("build a plan of 128 B tokens and draw once", |b| {
        b.iter(|| MixPlan::build(black_box(spec())).map(|plan| plan.draw(black_box(40_000_000))));
    });
    let plan = MixPlan::build(spec()).expect("a plan that fits");
    let mut slot = 0;
    c.bench_function("draw", |b| {
        b.iter(|| {
            slot = (slot + 7_919_993) % plan.slots();
            plan.draw(black_box(slot))
        });
    });
}

criterion_group!(benches, mixer);
criterion_main!(benches);
