//! Runs that stop, are killed or damaged, and go on.

use std::path::Path;

use burn::backend::Autodiff;
use data_mixer::BatchSource as _;
use fused_ops::TrainingBackend;
use fused_ops::backends::{Flex, NdArray};
use gptneox_model::{GptNeoX, NamedTensor, export_parameters};
use safetensors::SafeTensors;
use schedule::LrSpec;
use trainer::{
    Change, Control, Event, Outcome, RunOptions, Start, StepRecord, TrainSpec, Trainer, checkpoints, keep_weights,
    load_model_config, load_weights, run, verify_checkpoint, verify_resume,
};

use crate::support::{Random, STEPS, config, fresh, log_without_times, options, parameters, spec, stopping, train};

fn resume_is_exact<AB: TrainingBackend>() {
    let whole_dir = tempfile::tempdir().unwrap();
    let (whole, outcome) = train::<AB>(whole_dir.path(), None);
    assert_eq!(outcome, Outcome::Finished);
    for stop in 1..STEPS {
        let dir = tempfile::tempdir().unwrap();
        let (stopped, outcome) = train::<AB>(dir.path(), Some(stop));
        assert_eq!((outcome, stopped.steps_done()), (Outcome::Stopped, stop));
        drop(stopped);
        // What a kill may leave: a half-written record, and a temporary file.
        let log = dir.path().join("log.jsonl");
        let mut text = std::fs::read_to_string(&log).unwrap();
        text.push_str("{\"step\":");
        std::fs::write(&log, text).unwrap();
        std::fs::write(dir.path().join(".tmpabc"), b"half").unwrap();
        let (resumed, _) = train::<AB>(dir.path(), None);
        assert_eq!(parameters(&resumed), parameters(&whole), "stopped after {stop}");
        assert_eq!(resumed.ledger(), whole.ledger());
        assert_eq!(log_without_times(dir.path()), log_without_times(whole_dir.path()));
    }
}

#[test]
fn resume_is_exact_on_flex() {
    resume_is_exact::<Autodiff<Flex>>();
}

#[test]
fn resume_is_exact_on_ndarray() {
    resume_is_exact::<Autodiff<NdArray>>();
}

#[test]
fn a_kill_that_lost_the_last_checkpoints_resumes_from_an_older_one() {
    let whole = tempfile::tempdir().unwrap();
    let (expected, _) = train::<Autodiff<Flex>>(whole.path(), None);
    let dir = tempfile::tempdir().unwrap();
    train::<Autodiff<Flex>>(dir.path(), Some(7));
    std::fs::remove_file(dir.path().join("step-000000007.safetensors")).unwrap();
    let (resumed, _) = train::<Autodiff<Flex>>(dir.path(), None);
    assert_eq!(parameters(&resumed), parameters(&expected));
    assert_eq!(log_without_times(dir.path()), log_without_times(whole.path()));
}

#[test]
fn damaged_checkpoints_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.safetensors");
    let device = Default::default();
    let trainer = fresh::<Autodiff<Flex>>();
    trainer.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for len in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        assert!(Trainer::<Autodiff<Flex>>::resume(&path, spec(), &device).is_err(), "{len} bytes");
    }
    let mut flipped = bytes.clone();
    let last = flipped.len() - 10;
    flipped[last] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    let message = Trainer::<Autodiff<Flex>>::resume(&path, spec(), &device).err().unwrap().to_string();
    assert!(message.contains("checksum"), "{message}");
    let leftovers = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(leftovers, 1, "saving leaves one file");
}

#[test]
fn another_spec_is_refused_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.safetensors");
    let device = Default::default();
    fresh::<Autodiff<Flex>>().save(&path).unwrap();
    let resume = |spec: TrainSpec, allow: &[Change]| {
        Trainer::<Autodiff<Flex>>::resume_with(&path, spec, &device, allow).map(drop).map_err(|e| e.to_string())
    };
    let changed = TrainSpec { clip: 2.0, lr: LrSpec::constant(1e-3), ..spec() };
    let message = resume(changed.clone(), &[]).unwrap_err();
    assert!(message.contains("clip (1.0 there, 2.0 here)") && message.contains("lr ("), "{message}");
    let message = resume(changed.clone(), &[Change::Lr]).unwrap_err();
    assert!(message.contains("clip (1.0 there, 2.0 here)") && !message.contains("lr ("), "{message}");
    resume(changed, &[Change::Lr, Change::Clip]).unwrap();
    // What changes no result may change.
    resume(TrainSpec { max_skipped: 99, skip_window: 7, recompute: true, ..spec() }, &[]).unwrap();
    assert_eq!("lr".parse::<Change>().unwrap(), Change::Lr);
    assert!("model".parse::<Change>().unwrap_err().to_string().contains("must be one of lr, optimizer"));
    // The weights alone bring their own configuration, whatever the recipe was.
    let weights = load_weights::<Flex>(&path, &device).unwrap();
    assert_eq!((weights.config(), load_model_config(&path).unwrap()), (&config(), config()));
    assert_eq!(export_parameters(&weights), parameters(&fresh::<Autodiff<Flex>>()));
}

/// A checkpoint of a program with other recipes still gives its weights; going on from it says what is wrong.
#[test]
fn weights_do_not_depend_on_the_recipe() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.safetensors");
    fresh::<Autodiff<Flex>>().save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let rewrite = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut metadata = header.metadata().clone().unwrap();
        let mut meta: serde_json::Value = serde_json::from_str(&metadata["midtrain"]).unwrap();
        change(&mut meta);
        metadata.insert("midtrain".to_owned(), meta.to_string());
        std::fs::write(&path, safetensors::serialize(file.tensors(), Some(metadata)).unwrap()).unwrap();
    };
    // What it says of its step is sealed.
    rewrite(&|meta| meta["updates"] = 7.into());
    let damaged = verify_checkpoint(&path).unwrap_err().to_string();
    assert!(damaged.contains("what it says of its step was damaged"), "{damaged}");
    rewrite(&|meta| {
        meta["spec"]["of another program"] = 1.into();
        meta.as_object_mut().unwrap().remove("seal");
    });
    load_weights::<Flex>(&path, &Default::default()).unwrap();
    let error = Trainer::<Autodiff<Flex>>::resume(&path, spec(), &Default::default()).err().unwrap();
    assert!(error.to_string().contains("its spec is not one that this program reads"), "{error}");
}

#[test]
fn steps_that_are_not_finite_change_nothing_and_stop_in_the_end() {
    let device = Default::default();
    let model = GptNeoX::<Autodiff<Flex>>::from_parameters(&config(), &device, |name, shape| {
        let bad = if name.contains("final_layer_norm.weight") { f32::NAN } else { 0.1 };
        Ok(vec![bad; shape.iter().product()])
    })
    .unwrap();
    let mut trainer = Trainer::new(model, TrainSpec { max_skipped: 3, ..spec() }, &device).unwrap();
    let before = parameters(&trainer);
    let record = trainer.step(&Random(0).batch(0).unwrap()).unwrap();
    assert!(record.skipped && trainer.steps_skipped() == 1);
    let bits = |p: &[NamedTensor]| {
        p.iter().flat_map(|t| t.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    assert_eq!(bits(&parameters(&trainer)), bits(&before));
    let dir = tempfile::tempdir().unwrap();
    let error = run(trainer, &Random(0), &options(dir.path(), STEPS), &mut |_| Control::Continue).err().unwrap();
    let message = error.to_string();
    assert!(message.contains("step 3: 4 of the last 4 steps") && message.contains("limit 3"), "{message}");
    // The rows of the batch, by source.
    assert!(message.contains("by source: a: 300, 302; b: 301, 303, 304"), "{message}");
    // Nothing is lost: there is a checkpoint of where it ended, from which it goes on with another rate.
    let (last, path) = checkpoints(dir.path()).swap_remove(0);
    verify_checkpoint(&path).unwrap();
    assert_eq!(last, 4);
    let lower = TrainSpec { max_skipped: 3, lr: LrSpec::constant(1e-5), ..spec() };
    let refused = Trainer::<Autodiff<Flex>>::resume(&path, lower.clone(), &device).err().unwrap();
    assert!(refused.to_string().contains("lr ("), "{refused}");
    let resumed = Trainer::<Autodiff<Flex>>::resume_with(&path, lower, &device, &[Change::Lr]).unwrap();
    assert_eq!((resumed.steps_done(), resumed.steps_skipped()), (4, 4));
    // Its log reads back: what is not finite is null in a file.
    let log = std::fs::read_to_string(dir.path().join("log.jsonl")).unwrap();
    let records: Vec<StepRecord> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(records.iter().all(|r| r.skipped && r.loss.is_nan() && r.grad_norm.is_nan()), "{log}");
}

#[test]
fn a_damaged_newest_checkpoint_costs_the_steps_since_the_one_before() {
    let whole = tempfile::tempdir().unwrap();
    let (expected, _) = train::<Autodiff<Flex>>(whole.path(), None);
    for keep in [0, 100] {
        let dir = tempfile::tempdir().unwrap();
        train::<Autodiff<Flex>>(dir.path(), Some(7));
        let newest = dir.path().join("step-000000007.safetensors");
        let bytes = std::fs::read(&newest).unwrap();
        std::fs::write(&newest, &bytes[..bytes.len() * keep / 128]).unwrap();
        assert!(verify_checkpoint(&newest).is_err());
        let (resumed, _) = train::<Autodiff<Flex>>(dir.path(), None);
        assert_eq!(parameters(&resumed), parameters(&expected));
        assert_eq!(log_without_times(dir.path()), log_without_times(whole.path()));
    }
}

/// A run of another curve that agrees so far is gone on with; one of another optimiser is not.
#[test]
fn a_fork_takes_other_rates_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (path, device) = (dir.path().join("c.safetensors"), Default::default());
    let warming = |min: f64| TrainSpec { lr: LrSpec::cosine(1e-2, min, 4, STEPS), ..spec() };
    let new = |spec: TrainSpec| {
        let model = GptNeoX::<Autodiff<Flex>>::init(&config(), 7, &device).unwrap();
        Trainer::new(model, spec, &device).unwrap()
    };
    let steps = |trainer: &mut Trainer<Autodiff<Flex>>, range: std::ops::Range<u64>| {
        range.for_each(|k| drop(trainer.step(&Random(0).batch(k).unwrap()).unwrap()));
    };
    let mut first = new(warming(1e-4));
    steps(&mut first, 0..4);
    first.save(&path).unwrap();
    let mut whole = new(warming(1e-3));
    steps(&mut whole, 0..STEPS);
    let mut forked = Trainer::<Autodiff<Flex>>::fork(&path, warming(1e-3), &device).unwrap();
    assert_eq!(forked.steps_done(), 4);
    steps(&mut forked, 4..STEPS);
    assert_eq!(parameters(&forked), parameters(&whole));
    assert_eq!(forked.ledger(), whole.ledger());
    assert!(Trainer::<Autodiff<Flex>>::resume(&path, warming(1e-3), &device).is_err());
    let other = TrainSpec { clip: 2.0, ..warming(1e-3) };
    let message = Trainer::<Autodiff<Flex>>::fork(&path, other, &device).err().unwrap().to_string();
    assert!(message.contains("clip (1.0 there, 2.0 here)"), "{message}");
}

#[test]
fn weights_are_kept_without_the_optimiser() {
    let dir = tempfile::tempdir().unwrap();
    let (full, weights) = (dir.path().join("full.safetensors"), dir.path().join("weights.safetensors"));
    let (trainer, _) = train::<Autodiff<Flex>>(&dir.path().join("run"), None);
    trainer.save(&full).unwrap();
    keep_weights(&full, &weights).unwrap();
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    assert!(size(&weights) * 2 < size(&full));
    verify_checkpoint(&weights).unwrap();
    let loaded = load_weights::<Flex>(&weights, &Default::default()).unwrap();
    assert_eq!(export_parameters(&loaded), parameters(&trainer));
    // It cannot be gone on from, and says so.
    let resumed = Trainer::<Autodiff<Flex>>::resume(&weights, spec(), &Default::default());
    let message = resumed.err().unwrap().to_string();
    assert!(message.contains("adamw_m"), "{message}");
}

/// Skipped steps are counted among the last ones only.
#[test]
fn skipped_steps_are_forgotten_after_a_while() {
    let device = Default::default();
    let bad = GptNeoX::<Autodiff<Flex>>::from_parameters(&config(), &device, |_, shape| {
        Ok(vec![f32::NAN; shape.iter().product()])
    });
    let spec = TrainSpec { max_skipped: 3, skip_window: 3, ..spec() };
    let trainer = Trainer::new(bad.unwrap(), spec, &device).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // Never more than three of the last three.
    let (trainer, outcome) = run(trainer, &Random(0), &options(dir.path(), STEPS), &mut stopping(None)).unwrap();
    assert_eq!((outcome, trainer.steps_skipped()), (Outcome::Finished, STEPS));
}

#[test]
fn a_run_leaves_its_last_state_and_goes_on_from_it_without_first_weights() {
    let dir = tempfile::tempdir().unwrap();
    let (trainer, _) = train::<Autodiff<Flex>>(dir.path(), None);
    assert_eq!(checkpoints(dir.path())[0].0, STEPS);
    let (config, device) = (config(), Default::default());
    let start = || -> Start<'_, Autodiff<Flex>> {
        let make = Box::new(|| panic!("there is a checkpoint to go on from"));
        Start::Weights { model: &config, spec: spec(), device: &device, make }
    };
    let log = std::fs::read(dir.path().join("log.jsonl")).unwrap();
    let (again, outcome) = run(start(), &Random(0), &options(dir.path(), STEPS), &mut stopping(None)).unwrap();
    assert_eq!((parameters(&again), outcome), (parameters(&trainer), Outcome::Finished));
    assert_eq!(std::fs::read(dir.path().join("log.jsonl")).unwrap(), log);
    // One that asks for less cuts nothing off.
    let message = run(start(), &Random(0), &options(dir.path(), 5), &mut stopping(None)).err().unwrap().to_string();
    assert!(message.contains("until = 5 is before step 9, which the run has reached"), "{message}");
    assert_eq!(std::fs::read(dir.path().join("log.jsonl")).unwrap(), log);
    // Another model is not gone on with.
    let bigger = gptneox_model::GptNeoXConfig { vocab_size: 41, ..config.clone() };
    let other = Trainer::<Autodiff<Flex>>::new(GptNeoX::init(&bigger, 7, &device).unwrap(), spec(), &device).unwrap();
    let message = run(other, &Random(0), &options(dir.path(), STEPS), &mut stopping(None)).err().unwrap().to_string();
    assert!(message.contains("vocab_size (40 there, 41 here)"), "{message}");
}

/// The last steps and every third.
#[test]
fn checkpoints_are_kept_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let options = RunOptions {
        checkpoint_steps: 1,
        background: false,
        keep: 2,
        keep_every: Some(3),
        ..options(dir.path(), STEPS)
    };
    run(fresh::<Autodiff<Flex>>(), &Random(0), &options, &mut stopping(None)).unwrap();
    let steps: Vec<u64> = checkpoints(dir.path()).into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [9, 8, 6, 3]);
    let message = {
        let other = Random(1);
        std::fs::remove_file(dir.path().join("step-000000009.safetensors")).unwrap();
        run(fresh::<Autodiff<Flex>>(), &other, &options, &mut stopping(None)).err().unwrap().to_string()
    };
    assert!(message.contains("the batch of step 7 had the digest"), "{message}");
}

/// Checkpoints that are written beside training are those that are written while it waits.
#[test]
fn checkpoints_in_the_background_are_the_same() {
    let files = |background: bool| {
        let dir = tempfile::tempdir().unwrap();
        let options = RunOptions { checkpoint_steps: 2, background, keep: 9, ..options(dir.path(), STEPS) };
        let mut stalls = Vec::new();
        run(fresh::<Autodiff<Flex>>(), &Random(0), &options, &mut |event| {
            if let Event::Checkpoint { step, .. } = event {
                stalls.push(step);
            }
            Control::Continue
        })
        .unwrap();
        let read = |(step, path): (u64, std::path::PathBuf)| (step, std::fs::read(path).unwrap());
        (checkpoints(dir.path()).into_iter().map(read).collect::<Vec<_>>(), stalls)
    };
    let (now, stalls) = files(false);
    assert_eq!(stalls, [2, 4, 6, 8, 9]);
    let (background, _) = files(true);
    // One that was still being written was not waited for: fewer are possible, others are not. The last is always there.
    assert!(background.iter().all(|written| now.contains(written)));
    assert_eq!(background[0], now[0]);
}

/// A log that ends before a checkpoint would have a hole: an older one is taken, or none.
#[test]
fn a_log_has_no_holes() {
    let whole = tempfile::tempdir().unwrap();
    let (expected, _) = train::<Autodiff<Flex>>(whole.path(), None);
    let cut = |lines: usize| {
        let dir = tempfile::tempdir().unwrap();
        // Written by training itself: in the background, step 6 is left out where that of step 4 takes long.
        let options = RunOptions { background: false, ..options(dir.path(), STEPS) };
        run(fresh::<Autodiff<Flex>>(), &Random(0), &options, &mut stopping(Some(7))).unwrap();
        let log = dir.path().join("log.jsonl");
        let text = std::fs::read_to_string(&log).unwrap();
        let kept: String = text.lines().take(lines).map(|line| format!("{line}\n")).collect();
        std::fs::write(&log, kept).unwrap();
        dir
    };
    // Checkpoints of steps 6 and 7 are there.
    let dir = cut(6);
    let mut began = None;
    let (resumed, _) = run(fresh::<Autodiff<Flex>>(), &Random(0), &options(dir.path(), STEPS), &mut |event| {
        if let Event::Began { step, passed_over } = event {
            began = Some((step, passed_over.len(), passed_over[0].reason.to_string()));
        }
        Control::Continue
    })
    .unwrap();
    let (step, passed_over, reason) = began.unwrap();
    assert_eq!((step, passed_over), (6, 1));
    assert!(reason.contains("log.jsonl: ends before step 7"), "{reason}");
    assert_eq!(parameters(&resumed), parameters(&expected));
    assert_eq!(log_without_times(dir.path()), log_without_times(whole.path()));
    let dir = cut(3);
    let refused = run(fresh::<Autodiff<Flex>>(), &Random(0), &options(dir.path(), STEPS), &mut stopping(None));
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("move it away to go on with a log that begins there"), "{message}");
    std::fs::remove_file(dir.path().join("log.jsonl")).unwrap();
    let (resumed, _) = train::<Autodiff<Flex>>(dir.path(), None);
    assert_eq!(parameters(&resumed), parameters(&expected));
    assert_eq!(log_without_times(dir.path())[..], log_without_times(whole.path())[7..]);
}

/// A batch that cannot be had ends a run, but not without a checkpoint of what was done.
#[test]
fn an_error_leaves_a_checkpoint() {
    struct Broken;
    impl data_mixer::BatchSource for Broken {
        fn steps(&self) -> u64 {
            STEPS
        }
        fn rows(&self, step: u64) -> usize {
            Random(0).rows(step)
        }
        fn batch_rows(&self, step: u64, rows: std::ops::Range<usize>) -> Result<data_mixer::Batch, data_mixer::Error> {
            let gone = || data_mixer::Error::Io { path: "store".into(), source: std::io::ErrorKind::NotFound.into() };
            if step == 5 { Err(gone()) } else { Random(0).batch_rows(step, rows) }
        }
        fn source_names(&self) -> Vec<String> {
            Random(0).source_names()
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let options = RunOptions { checkpoint_steps: 100, ..options(dir.path(), STEPS) };
    let error = run(fresh::<Autodiff<Flex>>(), &Broken, &options, &mut stopping(None)).err().unwrap();
    assert!(error.to_string().starts_with("store: "), "{error}");
    assert_eq!(checkpoints(dir.path())[0].0, 5);
    let whole = tempfile::tempdir().unwrap();
    let (expected, _) = train::<Autodiff<Flex>>(whole.path(), None);
    let (resumed, _) = run(fresh::<Autodiff<Flex>>(), &Random(0), &options, &mut stopping(None)).unwrap();
    assert_eq!(parameters(&resumed), parameters(&expected));
}

fn resume_is_proved<AB: TrainingBackend>() {
    let dir = tempfile::tempdir().unwrap();
    let verify = |resumed: &Random, at: u64| {
        let mut told = 0;
        let found = verify_resume::<AB>(&|| Ok(fresh()), &Random(0), resumed, (6, at), dir.path(), &mut |done| {
            told = done;
            true
        });
        (found.map_err(|e| e.to_string()), told)
    };
    assert_eq!(verify(&Random(0), 3), (Ok(None), 12));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let (found, _) = verify(&Random(1), 3);
    assert!(
        found
            .unwrap()
            .unwrap()
            .to_string()
            .contains("after 1 steps (before any stop: training itself does not repeat): the last step's batch has")
    );
    for at in [0, 6] {
        assert!(verify(&Random(0), at).0.unwrap_err().contains("must be from 1 to 5"));
    }
}

#[test]
fn resume_is_proved_on_flex_and_ndarray() {
    resume_is_proved::<Autodiff<Flex>>();
    resume_is_proved::<Autodiff<NdArray>>();
}

/// The proof finds what differs: first weights here, which only one of the two runs has.
#[test]
fn a_difference_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    let start = || {
        count.set(count.get() + 1);
        let device = Default::default();
        let model = GptNeoX::<Autodiff<Flex>>::init(&config(), count.get(), &device)?;
        Trainer::new(model, spec(), &device)
    };
    let found = verify_resume(&start, &Random(0), &Random(0), (4, 2), dir.path(), &mut |_| true).unwrap().unwrap();
    assert_eq!((found.step, found.after_stop), (0, false));
    assert!(found.to_string().contains("weights of gpt_neox.embed_in.weight, place 0: "), "{found}");
}

/// Checkpoints that were passed over neither take the place of whole ones nor stay in the way.
#[test]
fn damaged_checkpoints_are_not_what_is_kept() {
    let whole = tempfile::tempdir().unwrap();
    let (expected, _) = train::<Autodiff<Flex>>(whole.path(), None);
    for keep in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let options = RunOptions { checkpoint_steps: 1, background: false, keep: 9, ..options(dir.path(), STEPS) };
        run(fresh::<Autodiff<Flex>>(), &Random(0), &options, &mut stopping(Some(7))).unwrap();
        for step in [6, 7] {
            let path = dir.path().join(format!("step-{step:09}.safetensors"));
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        }
        let options = RunOptions { keep, ..options };
        // Goes on from step 5 and stops again at once.
        run(fresh::<Autodiff<Flex>>(), &Random(0), &options, &mut stopping(Some(6))).unwrap();
        let steps: Vec<u64> = checkpoints(dir.path()).into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [6, 5][..keep], "keep = {keep}");
        let (trainer, _) = run(fresh::<Autodiff<Flex>>(), &Random(0), &options, &mut stopping(None)).unwrap();
        assert_eq!(parameters(&trainer), parameters(&expected));
        assert_eq!(log_without_times(dir.path()), log_without_times(whole.path()));
    }
}

/// A line that was damaged is not taken for the end of a log: nothing after it is cut off.
#[test]
fn a_damaged_line_is_named() {
    let dir = tempfile::tempdir().unwrap();
    train::<Autodiff<Flex>>(dir.path(), Some(7));
    let log = dir.path().join("log.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    let damaged = text.replacen("{\"step\":3", "{\"step\"=3", 1);
    std::fs::write(&log, &damaged).unwrap();
    let refused = run(fresh::<Autodiff<Flex>>(), &Random(0), &options(dir.path(), STEPS), &mut stopping(None));
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("log.jsonl, line 4: is no record of the next step, and others follow it"), "{message}");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), damaged);
    // Nor is one that was taken out.
    let kept = text.lines().filter(|line| !line.starts_with("{\"step\":3,"));
    std::fs::write(&log, kept.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let refused = run(fresh::<Autodiff<Flex>>(), &Random(0), &options(dir.path(), STEPS), &mut stopping(None));
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("log.jsonl, line 4: is no record of the next step"), "{message}");
}

/// A trainer that is further than its run's beginning proves the ledger from there on.
#[test]
fn a_lost_ledger_is_made_again_from_the_beginning() {
    let dir = tempfile::tempdir().unwrap();
    train::<Autodiff<Flex>>(dir.path(), Some(6));
    std::fs::remove_file(dir.path().join("ledger")).unwrap();
    let (_, path) = checkpoints(dir.path()).swap_remove(0);
    let resumed = || Trainer::<Autodiff<Flex>>::resume(&path, spec(), &Default::default()).unwrap();
    let began = Some((0, data_mixer::LedgerHead::default()));
    let options = RunOptions { began, last_checkpoint: false, ..options(dir.path(), STEPS) };
    let refused = run(resumed(), &Random(1), &options, &mut stopping(None)).err().unwrap().to_string();
    assert!(refused.contains("the run has seen other data by step 6"), "{refused}");
    run(resumed(), &Random(0), &options, &mut stopping(None)).unwrap();
    let ledger = data_mixer::Ledger::read(&dir.path().join("ledger")).unwrap();
    assert_eq!(ledger.steps(), 0..STEPS);
}
