//! What a run writes: JSON lines, CSV, event files, evaluations.

use std::path::Path;

use burn::backend::Autodiff;
use data_mixer::BatchSource as _;
use fused_ops::backends::Flex;
use trainer::{Control, EvalRecord, EvalSpec, Event, LogFormats, LogLine, RunOptions, convert_log, run};

use crate::support::{Random, STEPS, fresh, log_without_times, options, parameters, stopping, train};

fn lines<T: serde::de::DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sets() -> Vec<EvalSpec> {
    let set = |name: &str, seed: u64, every: u64, bytes: Option<u64>| EvalSpec {
        name: name.to_owned(),
        batches: vec![Random(seed).batch(0).unwrap(), Random(seed).batch(1).unwrap()],
        bytes,
        every,
    };
    vec![set("C4", 5, 4, Some(200)), set("Pycode", 6, 100, None)]
}

/// Evaluation changes no bit of training, and a run that stops and goes on evaluates as one that does not.
#[test]
fn held_out_sets_are_evaluated_on_the_way() {
    let plain = tempfile::tempdir().unwrap();
    let (expected, _) = train::<Autodiff<Flex>>(plain.path(), None);
    let sets = sets();
    let records = |stop: Option<u64>| {
        let dir = tempfile::tempdir().unwrap();
        let options = RunOptions { evals: &sets, ..options(dir.path(), STEPS) };
        let mut told = 0;
        for stop in [stop, None] {
            let (trainer, _) = run(fresh::<Autodiff<Flex>>(), &Random(0), &options, &mut |event| {
                told += u64::from(matches!(event, Event::Evaluated(_)));
                match event {
                    Event::Step(line) if Some(line.record.step + 1) == stop => Control::Stop,
                    _ => Control::Continue,
                }
            })
            .unwrap();
            if stop.is_none() {
                assert_eq!(parameters(&trainer), parameters(&expected));
                assert_eq!(log_without_times(dir.path()), log_without_times(plain.path()));
            }
        }
        let records: Vec<EvalRecord> = lines(&dir.path().join("evals.jsonl"));
        assert_eq!(records.len() as u64, told);
        let seen = |r: EvalRecord| (r.step, r.set, r.loss.to_bits(), r.targets, r.bits_per_byte.map(f64::to_bits));
        records.into_iter().map(seen).collect::<Vec<_>>()
    };
    let straight = records(None);
    let places: Vec<(u64, &str)> = straight.iter().map(|(step, set, ..)| (*step, set.as_str())).collect();
    assert_eq!(places, [(0, "C4"), (0, "Pycode"), (4, "C4"), (8, "C4"), (9, "C4"), (9, "Pycode")]);
    for stop in [1, 4, 7] {
        assert_eq!(records(Some(stop)), straight, "stopped after {stop}");
    }
    // 64 targets on 200 bytes.
    let (_, _, loss, targets, bits) = &straight[0];
    let expected = f64::from_bits(*loss) * *targets as f64 / 200.0 / std::f64::consts::LN_2;
    assert!((f64::from_bits(bits.unwrap()) - expected).abs() < 1e-12 && *targets == 64);
}

#[test]
fn sets_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut Vec<EvalSpec>)| {
        let mut sets = sets();
        change(&mut sets);
        let options = RunOptions { evals: &sets, ..options(dir.path(), STEPS) };
        run(fresh::<Autodiff<Flex>>(), &Random(0), &options, &mut stopping(None)).err().unwrap().to_string()
    };
    assert!(
        refused(&|sets| sets[1].name = "C4".into())
            .contains("evals[1].name = \"C4\" must be there, and no other set's")
    );
    assert!(refused(&|sets| sets[1].every = 0).contains("evals[1].every = 0 must be at least 1"));
    assert!(refused(&|sets| sets[0].batches.clear()).contains("must predict a token"));
}

#[test]
fn logs_say_how_fast_by_which_source_and_how_long() {
    let dir = tempfile::tempdir().unwrap();
    let options = RunOptions { peak_flops: Some(1e12), ..options(dir.path(), STEPS) };
    run(fresh::<Autodiff<Flex>>(), &Random(0), &options, &mut stopping(None)).unwrap();
    let lines: Vec<LogLine> = lines(&dir.path().join("log.jsonl"));
    for line in &lines {
        let r = &line.record;
        let names: Vec<&str> = r.sources.iter().filter_map(|s| s.name.as_deref()).collect();
        assert_eq!(names, ["a", "b"]);
        let speed = r.tokens as f64 / r.seconds;
        assert!((line.tokens_per_second.unwrap() / speed - 1.0).abs() < 1e-9);
        let mfu = line.flops_per_second.unwrap() / 1e12;
        assert!((line.mfu.unwrap() / mfu - 1.0).abs() < 1e-9 && line.time.is_some());
    }
    assert_eq!(lines.last().unwrap().eta_seconds, Some(0.0));
}

/// CSV and event files say what the JSON lines say, also where a run stopped and went on.
#[test]
fn other_formats_follow_the_lines() {
    let (dir, sets) = (tempfile::tempdir().unwrap(), sets());
    let formats = LogFormats { csv: true, tensorboard: true };
    let options = RunOptions { evals: &sets, formats, ..options(dir.path(), STEPS) };
    for stop in [Some(5), None] {
        run(fresh::<Autodiff<Flex>>(), &Random(0), &options, &mut stopping(stop)).unwrap();
    }
    let csv = std::fs::read_to_string(dir.path().join("log.csv")).unwrap();
    let rows: Vec<&str> = csv.lines().collect();
    assert!(rows[0].starts_with("step,loss,lr,") && rows[0].ends_with(",loss of a,loss of b"), "{}", rows[0]);
    let steps: Vec<&str> = rows[1..].iter().map(|row| row.split(',').next().unwrap()).collect();
    assert_eq!(steps, ["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
    let first: Vec<LogLine> = lines(&dir.path().join("log.jsonl"));
    assert_eq!(rows[1].split(',').nth(1).unwrap().parse::<f64>().unwrap(), first[0].record.loss);
    assert_eq!(std::fs::read_to_string(dir.path().join("evals.csv")).unwrap().lines().count(), 1 + 6);
    let events = || {
        let folder = std::fs::read_dir(dir.path().join("tensorboard")).unwrap();
        let files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "one of an earlier attempt is replaced");
        std::fs::read(&files[0]).unwrap()
    };
    // The first record, the version; then one a step and one an evaluation.
    let bytes = events();
    let (mut at, mut records) = (0, 0);
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        (at, records) = (at + 8 + 4 + length + 4, records + 1);
    }
    assert_eq!((at, records), (bytes.len(), 1 + 9 + 6));
    // The same from the lines alone, elsewhere.
    let to = tempfile::tempdir().unwrap();
    assert_eq!(convert_log(dir.path(), to.path(), formats, None).unwrap(), STEPS);
    assert_eq!(std::fs::read_to_string(to.path().join("log.csv")).unwrap(), csv);
    // Again, with the device's peak: MFU where the run did not know it; files of others stay.
    std::fs::write(to.path().join("tensorboard/events.out.tfevents.1.other"), "").unwrap();
    convert_log(dir.path(), to.path(), formats, Some(1e12)).unwrap();
    let with_peak = std::fs::read_to_string(to.path().join("log.csv")).unwrap();
    let column = with_peak.lines().next().unwrap().split(',').position(|name| name == "mfu").unwrap();
    assert!(with_peak.lines().nth(1).unwrap().split(',').nth(column).unwrap().parse::<f64>().unwrap() > 0.0);
    assert_eq!(std::fs::read_dir(to.path().join("tensorboard")).unwrap().count(), 2);
    assert!(convert_log(to.path(), to.path(), formats, None).is_err());
}
