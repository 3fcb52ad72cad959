//! Plans at the paper's scale, draws from them, and batches from memory-mapped stores:
//! `cargo bench -p bench --bench mixer`. The copy beside the assembly is what memory alone allows.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use midtrain::corpus::{StoreDocument, StoreInfo, StoreWriter, TokenStore};
use midtrain::data_mixer::{BatchSource as _, MixPlan, MixSpec, MixedBatches, Pairing, Sequences, SourceSize};
use midtrain::schedule::{Phase, Shares, Step, Timeline, Tokens, Weight};

const TIME: u64 = 2048;

fn weight(text: &str) -> Weight {
    Weight::parse(text).expect("a weight")
}

/// 61 000 steps of 1024 × 2048 tokens of six sources: a ramp, then a mixture of five.
fn spec() -> MixSpec {
    let sizes = [("C4", 156), ("Starcoder", 196), ("Math", 12), ("FLAN", 4), ("KnowledgeQA", 10), ("DCLM", 51)];
    let shares: Vec<(&str, u64)> = sizes[1..].to_vec();
    let mixed = Phase {
        start: Step(20_000),
        weight: weight("0.2").into(),
        specialised: Some(Shares::proportional(&shares).expect("sizes")),
        general: None,
    };
    let ramp = Phase::ramp(Step(6_000), "Starcoder", Weight::ZERO, weight("0.2"));
    let phases = vec![ramp.expect("a name"), mixed];
    MixSpec {
        seed: 1,
        batch: 1024,
        time: TIME,
        timeline: Timeline::new(Step(61_000), Shares::one("C4").expect("a name"), phases).expect("a timeline"),
        sources: sizes
            .map(|(name, billions)| SourceSize::of_tokens(name, Tokens(billions * 1_000_000_000), TIME))
            .to_vec(),
        pairing: Pairing::Displace,
        max_epochs: 1.0,
    }
}

fn plans(c: &mut Criterion) {
    c.bench_function("build a plan of 128 B tokens of 6 sources and draw once", |b| {
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

/// A store of so many million tokens.
fn store(dir: &std::path::Path, name: &str, millions: u64) -> Arc<TokenStore> {
    let path = dir.join(name);
    let mut writer = StoreWriter::create(&path, StoreInfo::new(name, "bench", 50_304)).expect("a temporary folder");
    for document in 0..millions * 1000 {
        let tokens: Vec<u32> = (0..1000).map(|i| ((document * 31 + i * 7) % 50_277) as u32).collect();
        writer.push(StoreDocument { tokens: &tokens, ..Default::default() }).expect("room on the disk");
    }
    writer.finish().expect("room on the disk");
    Arc::new(TokenStore::open(&path).expect("the store just written"))
}

fn assembly(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let sources = [("C4", 200), ("Starcoder", 60)].map(|(name, millions)| store(dir.path(), name, millions));
    let mut group = c.benchmark_group("a batch of 1024 x 2048 tokens");
    group.throughput(Throughput::Elements(1024 * TIME)).sample_size(30);
    for mask in [false, true] {
        let sequences =
            sources.clone().map(|s| Sequences::new(s, TIME as usize).expect("a length").with_document_mask(mask));
        let sizes = ["C4", "Starcoder"].iter().zip(&sequences).map(|(name, s)| SourceSize::new(name, s.len()));
        let plan = MixPlan::build(MixSpec {
            seed: 1,
            batch: 1024,
            time: TIME,
            timeline: Timeline::midtrain(Step(95), Step(20), "C4", "Starcoder", weight("0.2")).expect("a timeline"),
            sources: sizes.collect(),
            pairing: Pairing::Displace,
            max_epochs: 1.0,
        });
        let batches = MixedBatches::new(plan.expect("a plan that fits"), sequences.to_vec()).expect("its own sizes");
        let name = if mask { "assembled with document starts" } else { "assembled" };
        let mut step = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                step = (step + 1) % 95;
                batches.batch(step).expect("a store in memory")
            });
        });
        if !mask {
            let batch = batches.batch(50).expect("a store in memory");
            group.bench_function("copied (memcpy of inputs and targets)", |b| b.iter(|| black_box(&batch).clone()));
        }
    }
    group.finish();
}

criterion_group!(benches, plans, assembly);
criterion_main!(benches);
