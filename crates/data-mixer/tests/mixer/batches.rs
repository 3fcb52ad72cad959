//! Batches from stores: the plan's draws, fine-tuning rows, ranks, micro-batches, prefetching, the ledger.

use std::sync::Arc;

use crate::support::{config, store};
use corpus::{StoreDocument, StoreInfo, StoreWriter, TokenStore};
use data_mixer::{
    Batch, BatchSource, Error, Grouping, IGNORE, Ledger, LedgerFile, LedgerHead, LedgerSpan, MixPlan, MixSpec,
    MixedBatches, Pairing, RankView, Replay, Sequences, SftBatches, SftSpec, SourceSize, Truncation, prefetch,
};
use proptest::prelude::*;
use schedule::{Step, Timeline, Tokens, Weight};

/// A mixture over two stores: 20 steps of 6 sequences of 8 tokens, 30 % code from step 5 on.
fn mixed(dir: &std::path::Path, weight: &str, document_mask: bool) -> MixedBatches {
    let open = |name: &str, documents, base| {
        Sequences::new(store(dir, name, documents, base), 8).unwrap().with_document_mask(document_mask)
    };
    let (web, code) = (open("web", 300, 1000), open("code", 200, 5000));
    let plan = MixPlan::build(MixSpec {
        seed: 3,
        batch: 6,
        time: 8,
        timeline: Timeline::midtrain(Step(20), Step(5), "web", "code", Weight::parse(weight).unwrap()).unwrap(),
        sources: vec![SourceSize::new("web", web.len()), SourceSize::new("code", code.len())],
        pairing: Pairing::Displace,
        max_epochs: 1.0,
    });
    MixedBatches::new(plan.unwrap(), vec![web, code]).unwrap()
}

#[test]
fn batches_follow_the_plan() {
    let dir = tempfile::tempdir().unwrap();
    let batches = mixed(dir.path(), "0.3", false);
    for step in 0..20 {
        let batch = batches.batch(step).unwrap();
        assert_eq!(batch.rows(), 6);
        for row in 0..6 {
            let draw = batches.plan().draw(step * 6 + row as u64);
            assert_eq!(usize::from(batch.sources()[row]), draw.source);
            let inputs = &batch.inputs()[row * 8..row * 8 + 8];
            let targets = &batch.targets()[row * 8..row * 8 + 8];
            assert_eq!(inputs[1..], targets[..7], "targets are the inputs shifted by one");
            let from_code = inputs.iter().any(|t| *t >= 5000);
            assert_eq!(from_code, draw.source == 1);
        }
    }
    assert!(batches.batch(20).unwrap_err().to_string().contains("step = 20 must be below 20"));
    assert!(batches.batch_rows(3, 4..7).unwrap_err().to_string().contains("rows = 4..7 must lie in 0..6"));
}

/// Stores of different tokenizers do not mix: the same ids mean other tokens.
#[test]
fn other_tokenizers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let batches = mixed(dir.path(), "0.3", false);
    let path = dir.path().join("other");
    let mut writer = StoreWriter::create(&path, StoreInfo::new("other", "changed", 65_536)).unwrap();
    let tokens = vec![1; store(dir.path(), "code", 200, 5000).token_count() as usize];
    writer.push(StoreDocument { tokens: &tokens, ..Default::default() }).unwrap();
    writer.finish().unwrap();
    let web = Sequences::new(store(dir.path(), "web", 300, 1000), 8).unwrap();
    let other = Sequences::new(Arc::new(TokenStore::open(&path).unwrap()), 8).unwrap();
    let message = MixedBatches::new(batches.plan().clone(), vec![web, other]).unwrap_err().to_string();
    assert!(message.contains("other: was made by the tokenizer changed, not test"), "{message}");
}

/// The store's own borders, also where the end token occurs inside a document.
#[test]
fn document_starts_are_the_stores_borders() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut writer = StoreWriter::create(&path, StoreInfo::new("s", "t", 100)).unwrap();
    // The second document contains the end token 0; the fourth is longer than a row.
    for tokens in [&[1, 2, 0][..], &[3, 0, 4, 0], &[5, 0], &[6, 7, 8, 9, 10, 11, 12, 0]] {
        writer.push(StoreDocument { tokens, ..Default::default() }).unwrap();
    }
    writer.finish().unwrap();
    let store = Arc::new(TokenStore::open(&path).unwrap());
    let sequences = Sequences::new(store, 4).unwrap().with_document_mask(true);
    let batch = sequences.batch_of(&[0, 1, 2, 3]).unwrap();
    assert_eq!(batch.inputs(), [1, 2, 0, 3, 0, 4, 0, 5, 0, 6, 7, 8, 9, 10, 11, 12]);
    let starts = [0, 0, 0, 3, 0, 0, 0, 3, 0, 1, 1, 1, 0, 0, 0, 0];
    assert_eq!(batch.document_starts(), Some(&starts[..]));
    assert_eq!(batch.slice(1..2).document_starts(), Some(&starts[4..8]));
}

proptest! {
    #![proptest_config(config())]

    /// Whatever the number of ranks and the size of micro-batches, the pieces are the global batch.
    #[test]
    fn batches_do_not_depend_on_devices(step in 0u64..20, ranks in 1usize..12, micro in 1usize..8, mask: bool) {
        let dir = tempfile::tempdir().unwrap();
        let batches = mixed(dir.path(), "0.3", mask);
        let whole = batches.batch(step).unwrap();
        let (mut inputs, mut targets, mut sources, mut starts) = (vec![], vec![], vec![], vec![]);
        let mut digest = 0u64;
        let mut append = |piece: Batch| {
            inputs.extend(piece.inputs());
            targets.extend(piece.targets());
            sources.extend(piece.sources());
            starts.extend(piece.document_starts().unwrap_or_default());
        };
        for rank in 0..ranks {
            let view = RankView::new(&batches, rank, ranks).unwrap();
            let part = view.batch(step).unwrap();
            prop_assert_eq!(view.rows(step), part.rows());
            digest = digest.wrapping_add(part.digest_from(view.range(step).start));
            prop_assert!(part.rows().abs_diff(6 / ranks) <= 1);
            (0..part.rows()).step_by(micro).for_each(|i| append(part.slice(i..(i + micro).min(part.rows()))));
        }
        // Each rank knows its part of the global batch's digest, and that of no other place.
        prop_assert_eq!(digest, whole.digest());
        prop_assert_ne!(whole.digest_from(1), whole.digest());
        let joined = Batch::new(8, inputs.clone(), targets.clone(), sources.clone()).unwrap();
        prop_assert_eq!(if mask { joined.with_document_starts(starts).unwrap() } else { joined }, whole.clone());
        inputs.rotate_left(8);
        let swapped = Batch::new(8, inputs, targets, sources).unwrap();
        prop_assert_ne!(swapped.digest(), whole.digest());
    }

    /// A run that stops at any step and goes on has seen what one without a stop has.
    #[test]
    fn resuming_sees_the_same(stop in 0u64..20, depth in 1usize..5, lost in prop_oneof![Just(0usize), 1..1000usize]) {
        let dir = tempfile::tempdir().unwrap();
        let batches = mixed(dir.path(), "0.3", false);
        let through = Ledger::of(&batches, 0..20).unwrap();
        let path = dir.path().join("ledger");
        let mut head = LedgerHead::default();
        // The first process dies a few steps after its checkpoint: its ledger is ahead of it; or, after a power cut, behind.
        for (from, to) in [(0, (stop + 3).min(20)), (stop, 20)] {
            if from > 0 && lost > 0 {
                let text = std::fs::read(&path).unwrap();
                std::fs::write(&path, &text[..text.len() - lost.min(text.len())]).unwrap();
            }
            let mut file = LedgerFile::open(&path, span(&through, from), &batches).unwrap();
            prefetch(&batches, from..to, depth, |queue| {
                for batch in queue {
                    file.record(&batch.unwrap()).unwrap();
                }
            });
        }
        let resumed = Ledger::read(&path).unwrap();
        prop_assert_eq!(&resumed, &through);
        for step in 0..20 {
            head = head.append(resumed.digest(Step(step)).unwrap());
            let planned = batches.plan().seen_by(Step(step + 1));
            for ((name, tokens), budget) in resumed.seen_by(Step(step + 1)).iter().zip(planned) {
                prop_assert_eq!((*name, *tokens), (budget.source.as_str(), Tokens(budget.drawn * 8)));
            }
        }
        prop_assert_ne!(head, LedgerHead::default());
    }
}

#[test]
fn ledgers_tell_runs_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (control, arm) = (mixed(dir.path(), "0", false), mixed(dir.path(), "0.5", false));
    let (a, b) = (Ledger::of(&control, 0..20).unwrap(), Ledger::of(&arm, 0..20).unwrap());
    let diff = a.diff(&b);
    // Nothing differs before the phase; a step differs where code displaced something.
    assert_eq!(diff.first_difference, Some(Step(5)));
    assert_eq!((diff.common, diff.equal, diff.different), (20, 5, 15));
    let code: u64 = arm.plan().budgets()[1].drawn * 8;
    assert_eq!(diff.tokens[1], ("code".to_owned(), Tokens(0), Tokens(code)));
    assert_eq!(a.diff(&a).first_difference, None);
    // Ledgers of a run's halves have the steps in common that both recorded.
    let half = Ledger::of(&arm, 10..20).unwrap();
    assert_eq!((b.diff(&half).common, b.diff(&half).different), (10, 0));
    // A run of stretches: general text alone, from its checkpoint on with code; the first was ahead of the checkpoint.
    let trunk = Ledger::of(&control, 0..8).unwrap();
    let joined = trunk.clone().then(&Ledger::of(&arm, 5..20).unwrap()).unwrap();
    assert_eq!(joined, b);
    let message = trunk.then(&half).unwrap_err().to_string();
    assert!(message.contains("step = 10 must be from 0 to 8"), "{message}");
}

#[test]
fn damaged_ledgers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let batches = mixed(dir.path(), "0.3", false);
    let all = Ledger::of(&batches, 0..20).unwrap();
    let mut file = LedgerFile::open(&path, span(&all, 0), &batches).unwrap();
    (0..5).for_each(|step| file.record(&batches.batch(step).unwrap()).unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    // A kill in the middle of a line: the line is forgotten.
    std::fs::write(&path, &text[..text.len() - 4]).unwrap();
    assert_eq!(Ledger::read(&path).unwrap().steps(), 0..4);
    for (broken, reason) in [
        ("nothing\n".to_owned(), "is no ledger"),
        (text.replace("ledger 2", "ledger 1"), "was written by an earlier version"),
        (text.replace("2 ", "7 "), ":5: step 7 follows step 1"),
        (text.replacen("\n3 ", "\n3 x", 1), ":6: must be: step, digest, tokens by source"),
    ] {
        std::fs::write(&path, broken).unwrap();
        let message = Ledger::read(&path).unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }
    std::fs::write(&path, text).unwrap();
    let named = Named(&batches);
    let message = LedgerFile::open(&path, span(&all, 3), &named).unwrap_err().to_string();
    assert!(message.contains("differ from this run's: web"), "{message}");
    // What the run has seen and what it is said to have seen differ: refused, and nothing is overwritten.
    let before = std::fs::read_to_string(&path).unwrap();
    let other = LedgerSpan { goes_on: (3, LedgerHead(7)), ..span(&all, 3) };
    let message = LedgerFile::open(&path, other, &batches).unwrap_err().to_string();
    assert!(
        message.contains("is not that of the run, 0000000000000007: the run has seen other data by step 3"),
        "{message}"
    );
    let other = mixed(dir.path(), "0.9", false);
    let message = LedgerFile::open(&path, span(&Ledger::of(&other, 0..20).unwrap(), 12), &batches).unwrap_err();
    assert!(message.to_string().contains("has seen other data by step 12"), "{message}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
}

/// From a run's beginning to a step.
fn span(ledger: &Ledger, step: u64) -> LedgerSpan {
    let head = (0..step).fold(LedgerHead::default(), |head, k| head.append(ledger.digest(Step(k)).unwrap()));
    LedgerSpan { begins: (0, LedgerHead::default()), goes_on: (step, head) }
}

/// A ledger that is gone, or begins elsewhere, is made again from the batches; one of a later stretch holds that alone.
#[test]
fn lost_ledgers_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let batches = mixed(dir.path(), "0.3", false);
    let all = Ledger::of(&batches, 0..20).unwrap();
    drop(LedgerFile::open(&path, span(&all, 12), &batches).unwrap());
    assert_eq!(Ledger::read(&path).unwrap(), Ledger::of(&batches, 0..12).unwrap());
    // A run that stops and goes on in one process begins later: what the file held before stays.
    let stretch = LedgerSpan { begins: span(&all, 5).goes_on, goes_on: span(&all, 9).goes_on };
    drop(LedgerFile::open(&path, stretch, &batches).unwrap());
    assert_eq!(Ledger::read(&path).unwrap(), Ledger::of(&batches, 0..9).unwrap());
    std::fs::remove_file(&path).unwrap();
    drop(LedgerFile::open(&path, stretch, &batches).unwrap());
    assert_eq!(Ledger::read(&path).unwrap(), Ledger::of(&batches, 5..9).unwrap());
    // Later ones that do not reach here are of another stretch.
    let later = LedgerSpan { begins: span(&all, 12).goes_on, goes_on: span(&all, 14).goes_on };
    drop(LedgerFile::open(&path, later, &batches).unwrap());
    assert_eq!(Ledger::read(&path).unwrap(), Ledger::of(&batches, 12..14).unwrap());
    drop(LedgerFile::open(&path, span(&all, 3), &batches).unwrap());
    assert_eq!(Ledger::read(&path).unwrap(), Ledger::of(&batches, 0..3).unwrap());
}

/// The same batches under one name.
struct Named<'a>(&'a MixedBatches);

impl BatchSource for Named<'_> {
    fn steps(&self) -> u64 {
        self.0.steps()
    }

    fn rows(&self, step: u64) -> usize {
        self.0.rows(step)
    }

    fn batch_rows(&self, step: u64, rows: std::ops::Range<usize>) -> Result<Batch, Error> {
        self.0.batch_rows(step, rows)
    }

    fn source_names(&self) -> Vec<String> {
        vec!["web".to_owned()]
    }
}

/// Errors come through the queue, after the batches before them; a consumer that leaves stops the producer.
#[test]
fn prefetching_ends_well() {
    let dir = tempfile::tempdir().unwrap();
    let batches = mixed(dir.path(), "0.3", false);
    let got = prefetch(&batches, 17..25, 2, |queue| queue.map(|b| b.is_ok()).collect::<Vec<_>>());
    assert_eq!(got, [true, true, true, false]);
    assert_eq!(prefetch(&batches, 0..20, 1, |queue| queue.take(1).count()), 1);
}

fn sft(batch: usize, mask_prompt: bool, seed: u64) -> SftSpec {
    SftSpec {
        epochs: 3,
        batch,
        max_time: 6,
        truncation: Truncation::Cut,
        mask_prompt,
        seed,
        grouping: Grouping::Random,
    }
}

#[test]
fn every_example_once_an_epoch_and_the_last_batch_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), "sft", 23, 100);
    let batches = SftBatches::new(store.clone(), 23, sft(5, false, 1)).unwrap();
    assert_eq!(batches.steps(), 3 * 5);
    let first = |batch: &Batch| (0..batch.rows()).map(|r| batch.inputs()[r * batch.time()]).collect::<Vec<_>>();
    let mut orders = Vec::new();
    for epoch in 0..3 {
        let order: Vec<i32> = (0..5).flat_map(|i| first(&batches.batch(epoch * 5 + i).unwrap())).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (100..123).collect::<Vec<i32>>());
        orders.push(order);
    }
    assert_ne!(orders[0], orders[1]);
    let other = SftBatches::new(store.clone(), 23, sft(5, false, 2)).unwrap();
    assert_ne!(first(&other.batch(0).unwrap()), first(&batches.batch(0).unwrap()));
    assert_eq!((batches.rows(4), batches.batch(4).unwrap().rows()), (3, 3));
    // Fewer examples than there are: the same ones whatever the seed.
    let some = |seed| {
        let b = SftBatches::new(store.clone(), 10, sft(5, false, seed)).unwrap();
        let mut all: Vec<i32> = (0..2).flat_map(|i| first(&b.batch(i).unwrap())).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(some(1), some(2));
    // A rank's rows are padded as the whole batch is.
    let whole = batches.batch(1).unwrap();
    assert_eq!(batches.batch_rows(1, 2..4).unwrap(), whole.slice(2..4));
}

#[test]
fn prompts_are_masked_and_long_rows_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), "sft", 7, 100);
    // Document 0 is [100, 101, 102, 0] with a prompt of two tokens.
    let masked = SftBatches::new(store.clone(), 7, sft(1, true, 0)).unwrap().batch_of(&[0]).unwrap();
    assert_eq!((masked.inputs(), masked.targets()), (&[100, 101, 102][..], &[IGNORE, 102, 0][..]));
    let open = SftBatches::new(store.clone(), 7, sft(1, false, 0)).unwrap();
    assert_eq!(open.batch_of(&[0]).unwrap().targets(), [101, 102, 0]);
    // Document 6 has ten tokens; a row holds six positions.
    assert_eq!(open.batch_of(&[6]).unwrap().inputs(), [106, 107, 108, 109, 110, 111]);
    let padded = open.batch_of(&[0, 6]).unwrap();
    assert_eq!(padded.targets()[..6], [101, 102, 0, IGNORE, IGNORE, IGNORE]);
    let report = open.report();
    assert_eq!((report.examples, report.truncated, report.dropped), (7, 3, 0));
    // Where the prompt fills the row nothing is predicted: such examples are passed over, and none left is an error.
    let none = SftBatches::new(store.clone(), 7, SftSpec { max_time: 1, ..sft(1, true, 0) }).unwrap_err().to_string();
    assert!(none.contains("fine-tuning length = 1 leaves no predicted token of any of the 7 examples"), "{none}");
    let counted: usize = (0..7).map(|d| open.batch_of(&[d]).unwrap().target_count()).sum();
    assert_eq!(report.targets as usize, counted);
    // The other policies.
    let of = |truncation| SftBatches::new(store.clone(), 7, SftSpec { truncation, ..sft(1, false, 0) });
    let report = of(Truncation::Drop).unwrap().report();
    assert_eq!((report.examples, report.truncated, report.dropped), (4, 0, 3));
    let error = of(Truncation::Refuse).unwrap_err();
    assert!(matches!(error, Error::TooLong { limit: 7, .. }), "{error}");
}

/// A conversation: every prompt is masked, every answer with what follows it is predicted.
#[test]
fn turns_are_masked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut writer = StoreWriter::create(&path, StoreInfo::new("s", "t", 100)).unwrap();
    // prompt 1 2 | answer 3 4 | prompt 5 6 | answer 7 | prompt 8 | answer 9, end 0
    let tokens = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0];
    let later_prompts = [4..6, 7..8];
    let conversation =
        StoreDocument { tokens: &tokens, prompt: 2, later_prompts: &later_prompts, ..Default::default() };
    writer.push(conversation).unwrap();
    writer.push(StoreDocument { tokens: &[1, 0], ..Default::default() }).unwrap();
    writer.finish().unwrap();
    let store = Arc::new(TokenStore::open(&path).unwrap());
    store.verify().unwrap();
    let spec = SftSpec { max_time: 20, ..sft(1, true, 0) };
    let batches = SftBatches::new(store.clone(), 2, spec.clone()).unwrap();
    let i = IGNORE;
    assert_eq!(batches.batch_of(&[0]).unwrap().targets(), [i, 3, 4, i, i, 7, i, 9, 0]);
    assert_eq!(batches.report().targets, 5 + 1);
    // Cut in the middle of a prompt.
    let cut = SftBatches::new(store, 2, SftSpec { max_time: 4, ..spec }).unwrap();
    assert_eq!(cut.batch_of(&[0]).unwrap().targets(), [i, 3, 4, i]);
    assert_eq!((cut.report().targets, cut.report().truncated), (2 + 1, 1));
}

#[test]
fn bad_specs_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), "s", 5, 1);
    let message = |spec: SftSpec| SftBatches::new(store.clone(), 5, spec).unwrap_err().to_string();
    assert!(message(SftSpec { epochs: 0, ..sft(1, false, 0) }).contains("epochs = 0"));
    assert!(message(sft(0, false, 0)).contains("batch = 0"));
    assert!(Sequences::new(store, 0).unwrap_err().to_string().contains("sequence length = 0"));
    let batches = mixed(dir.path(), "0.3", false);
    assert!(RankView::new(&batches, 2, 2).unwrap_err().to_string().contains("rank = 2 must be below ranks = 2"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// General rows are added to each batch: their count is exact at every step, examples and steps are those without them,
    /// no sequence comes again before all came, and a share of 0 is no replay at all.
    #[test]
    fn replay_adds_rows_and_changes_nothing_else(
        percent in 0u32..100,
        batch in 1usize..8,
        examples in 1u64..24,
        seed in any::<u64>(),
        cut in any::<(u16, u16)>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (own, general) = (store(dir.path(), "sft", 24, 100), store(dir.path(), "general", 40, 1000));
        let plain = SftBatches::new(own, examples, SftSpec { epochs: 3, max_time: 12, ..sft(batch, true, seed) }).unwrap();
        let share = Weight::from_percent(percent).unwrap();
        let sequences = Sequences::new(general, 8).unwrap();
        let (all, replay) = (sequences.len(), Replay::new(sequences.clone(), share, seed).unwrap());
        let batches = plain.clone().with_replay(replay).unwrap();
        prop_assert_eq!(batches.steps(), plain.steps());
        let (mut targets, mut rows, mut order) = (0u64, 0u64, Vec::new());
        for step in 0..plain.steps() {
            let (with, without) = (batches.batch(step).unwrap(), plain.batch(step).unwrap());
            prop_assert_eq!(with.rows(), batches.rows(step));
            if share == Weight::ZERO {
                prop_assert_eq!(with.digest(), without.digest());
                prop_assert_eq!(&with, &without);
                continue;
            }
            // The examples are the first rows, as they were but for padding.
            for row in 0..without.rows() {
                let at = |b: &Batch, time: usize| (row * b.time()..row * b.time() + time.min(b.time())).collect::<Vec<_>>();
                let (a, b) = (at(&with, without.time()), at(&without, without.time()));
                prop_assert!(a.iter().zip(&b).all(|(a, b)| with.targets()[*a] == without.targets()[*b]));
                prop_assert!(a.iter().zip(&b).all(|(a, b)| with.inputs()[*a] == without.inputs()[*b]));
                prop_assert_eq!(with.sources()[row], 0);
            }
            for row in without.rows()..with.rows() {
                let from = row * with.time();
                prop_assert_eq!(with.sources()[row], 1);
                prop_assert!(with.targets()[from..from + 8].iter().all(|t| *t >= 0));
                prop_assert!(with.targets()[from + 8..from + with.time()].iter().all(|t| *t == data_mixer::IGNORE));
                order.push(with.inputs()[from..from + 8].to_vec());
            }
            targets += without.rows() as u64;
            rows += (with.rows() - without.rows()) as u64;
            // |rows − n·w/(1 − w)| < 1, in whole numbers.
            let (rest, parts) = (u64::from(100 - percent), u64::from(percent));
            prop_assert!((rows * rest).abs_diff(targets * parts) < rest, "{rows} rows after {targets}");
            // Any part of it is a slice of it.
            let (a, b) = (usize::from(cut.0) % (with.rows() + 1), usize::from(cut.1) % (with.rows() + 1));
            let part = a.min(b)..a.max(b);
            prop_assert_eq!(batches.batch_rows(step, part.clone()).unwrap(), with.slice(part));
        }
        prop_assert_eq!(rows, batches.replayed_rows());
        for epoch in order.chunks(all as usize) {
            let different: std::collections::HashSet<_> = epoch.iter().collect();
            prop_assert_eq!(different.len(), epoch.len());
        }
        prop_assert_eq!(batches.source_names(), ["sft", "general"]);
    }
}

#[test]
fn impossible_replay_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (own, general) = (store(dir.path(), "sft", 9, 100), store(dir.path(), "general", 9, 1000));
    let sequences = |time| Sequences::new(general.clone(), time).unwrap();
    let message = Replay::new(sequences(4), Weight::ONE, 0).unwrap_err().to_string();
    assert!(message.contains("share of replay = 1 must be below 1"), "{message}");
    let tenth = Weight::from_percent(10).unwrap();
    let message = Replay::new(sequences(4000), tenth, 0).unwrap_err().to_string();
    assert!(message.contains("sequences for replay = 0 must be at least 1"), "{message}");
    let batches = SftBatches::new(own, 9, SftSpec { max_time: 16, ..sft(4, false, 0) }).unwrap();
    let message = batches.with_replay(Replay::new(sequences(17), tenth, 0).unwrap()).unwrap_err().to_string();
    assert!(message.contains("length of replayed rows = 17 must not exceed the longest row, 16"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Grouped by length, each epoch has the same examples, each once, with the same targets: only who shares a batch differs.
    /// Its last batch is the one that is not full; padding is never more than in the worst order, and less where lengths differ.
    #[test]
    fn grouping_by_length_moves_examples_only(examples in 1u64..700, batch in 1usize..8, seed in any::<u64>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mut writer = StoreWriter::create(&path, StoreInfo::new("s", "t", 2000)).unwrap();
        for i in 0..examples as u32 {
            let tokens: Vec<u32> = std::iter::once(i + 1).chain(std::iter::repeat_n(0, 1 + (i * 7919 % 37) as usize)).collect();
            writer.push(StoreDocument { tokens: &tokens, ..Default::default() }).unwrap();
        }
        writer.finish().unwrap();
        let store = Arc::new(TokenStore::open(&path).unwrap());
        let of = |grouping| {
            let spec = SftSpec { epochs: 2, max_time: 64, grouping, ..sft(batch, false, seed) };
            SftBatches::new(store.clone(), examples, spec).unwrap()
        };
        let (random, grouped) = (of(Grouping::Random), of(Grouping::Length));
        prop_assert_eq!((random.steps(), random.report()), (grouped.steps(), grouped.report()));
        let steps = random.steps() / 2;
        let mut orders = Vec::new();
        for epoch in 0..2 {
            let mut firsts = [Vec::new(), Vec::new()];
            for step in epoch * steps..(epoch + 1) * steps {
                prop_assert_eq!(random.rows(step), grouped.rows(step));
                for (batches, firsts) in [&random, &grouped].into_iter().zip(&mut firsts) {
                    let made = batches.batch(step).unwrap();
                    firsts.extend((0..made.rows()).map(|row| made.inputs()[row * made.time()]));
                }
            }
            orders.push(firsts[1].clone());
            firsts.iter_mut().for_each(|firsts| firsts.sort_unstable());
            prop_assert_eq!(&firsts[0], &(1..=examples as i32).collect::<Vec<_>>());
            prop_assert_eq!(&firsts[0], &firsts[1]);
        }
        if examples > 200 && batch > 1 {
            prop_assert_ne!(&orders[0], &orders[1]);
            // 37 lengths in batches of up to 7: random batches are padded to nearly the longest.
            prop_assert!((grouped.padded_positions() as f64) < 0.85 * random.padded_positions() as f64);
        }
    }
}

/// What a caller puts together has the invariants that training relies on.
#[test]
fn batches_are_checked_when_they_are_made() {
    let new = |time, inputs: &[i32], targets: &[i32], sources: &[u16]| {
        Batch::new(time, inputs.to_vec(), targets.to_vec(), sources.to_vec())
    };
    // Hugging Face's mark for what is not predicted is ours.
    let batch = new(2, &[1, 2, 3, 4], &[-100, 2, IGNORE, 4], &[0, 1]).unwrap();
    assert_eq!((batch.targets(), batch.target_count()), (&[IGNORE, 2, IGNORE, 4][..], 2));
    for (made, expected) in [
        (new(0, &[], &[], &[]), "time of a batch = 0 must be at least 1"),
        (new(2, &[1, 2], &[1, 2], &[]), "inputs of a batch = 2 must be 0"),
        (new(2, &[1, 2], &[1], &[0]), "targets of a batch = 1 must be 2"),
        (new(2, &[1, -1], &[1, 2], &[0]), "token id of row 0, position 1 = -1 must not be negative"),
        (
            new(1, &[1, 2], &[1, -2], &[0, 0]),
            "target of row 1, position 0 = -2 must not be negative, but for -1 and -100",
        ),
        (batch.clone().with_document_starts(vec![0, 0, 0]), "document starts of a batch = 3 must be 4"),
        (
            batch.clone().with_document_starts(vec![0, 2, 0, 0]),
            "document start of row 0, position 1 = 2 must be from 0 to 1",
        ),
        (batch.with_document_starts(vec![0, 0, -1, 0]), "document start of row 1, position 0 = -1 must be from 0 to 0"),
    ] {
        let message = made.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

/// A row can be followed to the sequence that it was made of.
#[test]
fn rows_say_what_they_were_made_of() {
    let dir = tempfile::tempdir().unwrap();
    let batches = mixed(dir.path(), "0.3", false);
    let names = batches.source_names();
    for row in 0..6 {
        let (name, sequence) = batches.origin(15, row).unwrap();
        let batch = batches.batch(15).unwrap();
        assert_eq!(name, names[usize::from(batch.sources()[row])]);
        assert_eq!(sequence, batches.plan().draw(15 * 6 + row as u64).sequence);
        assert_eq!(RankView::new(&batches, 1, 2).unwrap().origin(15, 0), batches.origin(15, 3));
    }
}
