//! What the runner does with engines that fail, lose jobs, stop or panic.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::time::Duration;

use study::{
    Ended, Engine, Error, Event, LocalEngine, Machine, OnDevice, Processor, Report, StopSignal, Store, Study, Table2,
    Task, Timing, answer, prepare,
};

use burn::backend::Autodiff;
use fused_ops::backends::Flex;

use crate::support::{ask, data, engine_with, json, quiet, spec};

/// Loses jobs of a kind, so many times each, before it runs them.
struct Losing {
    inner: LocalEngine,
    kind: &'static str,
    times: u32,
    lost: BTreeMap<study::Address, u32>,
    events: VecDeque<Event>,
}

impl Engine for Losing {
    fn machine(&self) -> &Machine {
        self.inner.machine()
    }

    fn slots(&self) -> usize {
        3
    }

    fn share(&self, jobs: usize) -> Option<NonZeroUsize> {
        NonZeroUsize::new(jobs)
    }

    fn start(&mut self, task: Task) -> Result<(), Error> {
        let job = task.address();
        let lost = self.lost.entry(job.clone()).or_default();
        if job.kind() == self.kind && *lost < self.times {
            *lost += 1;
            self.events.push_back(Event::Ended { job, how: Ended::Lost { reason: "was ended by signal 9".into() } });
            return Ok(());
        }
        self.inner.start(task)
    }

    fn event(&mut self, at_most: Duration) -> Option<Event> {
        self.events.pop_front().or_else(|| self.inner.event(at_most))
    }

    fn stop(&mut self, signal: i32) {
        self.inner.stop(signal);
    }

    fn time(&mut self, timing: &Timing, slots: usize) -> Result<Option<f64>, Error> {
        self.inner.time(timing, slots)
    }
}

fn losing(kind: &'static str, times: u32) -> Losing {
    let inner = engine_with(StopSignal::default());
    Losing { inner, kind, times, lost: BTreeMap::new(), events: VecDeque::new() }
}

#[test]
fn a_lost_job_is_tried_once_more_then_failed() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, store) = (spec(), Store::new(dir.path()));
    let expected = ask(&spec, &Store::new(&dir.path().join("other")), &Table2);
    let study = Study::new(spec.clone()).unwrap();
    let data = data(&study, &store);
    let mut twice = losing("finetune", 2);
    let answered = answer(&Table2, &study, &data, &store, &mut twice, &mut quiet()).unwrap();
    let reasons: Vec<&str> = answered.failures.iter().map(|failure| failure.reason.as_str()).collect();
    assert_eq!(reasons, ["its process was ended by signal 9, for the second time"]);
    assert!(answered.page.text(80).contains("failed"));
    // That is no result: the next run tries again.
    let mut once = losing("finetune", 1);
    let answered = answer(&Table2, &study, &data, &store, &mut once, &mut quiet()).unwrap();
    assert!(answered.failures.is_empty() && answered.page == expected.page);
    // Without its data there is no study.
    let empty = Store::new(&dir.path().join("empty"));
    let error = prepare(&study, &empty, &mut losing("data", 2), &mut quiet()).unwrap_err();
    assert!(error.to_string().contains("for the second time"), "{error}");
    assert_eq!(error.exit_status(), 1);
    prepare(&study, &empty, &mut losing("data", 1), &mut quiet()).unwrap();
}

/// Panics in jobs of a kind, or stops at them.
struct Breaking {
    inner: OnDevice<Autodiff<Flex>>,
    kind: &'static str,
    signal: Option<StopSignal>,
}

impl Processor for Breaking {
    fn machine(&self) -> &Machine {
        self.inner.machine()
    }

    fn run(&self, task: &Task, report: &Report) -> Ended {
        if task.address().kind() == self.kind {
            match &self.signal {
                Some(signal) => signal.raise(15),
                None => panic!("on purpose"),
            }
        }
        self.inner.run(task, report)
    }

    fn time(&self, timing: &Timing, threads: Option<NonZeroUsize>) -> Result<f64, Error> {
        self.inner.time(timing, threads)
    }
}

#[test]
fn a_panic_fails_its_job_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, store) = (spec(), Store::new(dir.path()));
    let study = Study::new(spec.clone()).unwrap();
    let data = data(&study, &store);
    let inner = OnDevice::new("flex", Default::default(), 1e9);
    let broken = Breaking { inner, kind: "finetune", signal: None };
    let mut engine = LocalEngine::new(Box::new(broken), StopSignal::default());
    let answered = answer(&Table2, &study, &data, &store, &mut engine, &mut quiet()).unwrap();
    assert_eq!(answered.failures.len(), 1);
    assert_eq!(answered.failures[0].reason, "panicked: on purpose");
    assert!(ask(&spec, &store, &Table2).failures.is_empty());
}

#[test]
fn a_signal_stops_between_steps_and_at_the_next_start_all_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, store) = (spec(), Store::new(dir.path()));
    let expected = ask(&spec, &Store::new(&dir.path().join("other")), &Table2);
    let study = Study::new(spec.clone()).unwrap();
    for kind in ["data", "pretrain", "finetune", "evaluate"] {
        let signal = StopSignal::default();
        let inner = OnDevice::new("flex", Default::default(), 1e9);
        let breaking = Breaking { inner, kind, signal: Some(signal.clone()) };
        let mut engine = LocalEngine::new(Box::new(breaking), signal.clone());
        let mut progress = study::Progress::new((), signal);
        let result = prepare(&study, &store, &mut engine, &mut progress)
            .and_then(|data| answer(&Table2, &study, &data, &store, &mut engine, &mut progress));
        assert!(matches!(result, Err(Error::Stopped { signal: 15 })), "{kind}: {result:?}");
    }
    let answered = ask(&spec, &store, &Table2);
    assert!(answered.failures.is_empty() && answered.page == expected.page);
}

/// A role of several files, tokenised by several jobs: the same study.
#[test]
fn parts_of_a_role_make_the_same_study() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = study::Sources::default();
    let generator = corpus::Generator::new(1);
    let domains = [
        ("general", corpus::Domain::General, 260),
        ("starcoder", corpus::Domain::Code, 120),
        ("math", corpus::Domain::Math, 120),
        ("sft/pycode", corpus::Domain::Pycode, 60),
        ("probe", corpus::Domain::Problems, 60),
    ];
    for (role, domain, count) in domains {
        let folder = dir.path().join("data").join(role);
        std::fs::create_dir_all(&folder).unwrap();
        let lines: Vec<String> = generator
            .documents(domain)
            .take(count)
            .map(|d| serde_json::json!({ "prompt": d.prompt, "text": d.text }).to_string() + "\n")
            .collect();
        // Some come again in another file.
        for (i, part) in lines.chunks(count / 4).enumerate() {
            std::fs::write(folder.join(format!("{i}.jsonl")), part.concat() + &lines[..5].concat()).unwrap();
        }
        sources.0.extend(
            study::Sources::folders(&[role.to_owned()], &study::HoldOut::default(), &dir.path().join("data")).0,
        );
        let template = corpus::Template::parse("{prompt}", "{text}").unwrap();
        sources.0.get_mut(role).unwrap().sets[0].template = Some(template);
    }
    let pages = [None, Some(20_000)].map(|part_bytes| {
        let mut spec = spec();
        spec.deduplicate = true;
        let dir_of = dir.path().join("data");
        spec.data = study::DataSpec::Files { dir: dir_of, sources: sources.clone(), part_bytes };
        let store = Store::new(&dir.path().join(format!("store-{}", part_bytes.is_some())));
        let answered = ask(&spec, &store, &Table2);
        let parts = std::fs::read_dir(store.root().join("part")).map_or(0, |entries| entries.count());
        assert_eq!(parts > 3, part_bytes.is_some(), "{parts}");
        // Parts are freed once they are put together, and made again where a store is lost.
        study::gc(&store, &study::Keep::Every, false).unwrap();
        assert!(std::fs::read_dir(store.root().join("part")).map_or(0, |entries| entries.count()) == 0);
        for role in std::fs::read_dir(store.root().join("data")).unwrap().flatten() {
            std::fs::remove_dir_all(role.path().join("whole")).unwrap();
        }
        std::fs::remove_dir_all(store.root().join("finetune")).unwrap();
        assert!(ask(&spec, &store, &Table2).page == answered.page);
        answered.page.text(80)
    });
    assert_eq!(pages[0], pages[1]);
}

/// An address names the class of machine that it is for.
#[test]
fn a_job_for_another_class_of_machine_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    ask(&spec(), &store, &Table2);
    let evaluation = std::fs::read_dir(dir.path().join("evaluate")).unwrap().flatten().next().unwrap().path();
    let mut record = json(&evaluation.join("job.json"));
    record["job"]["evaluate"]["kernels"] = "another".into();
    let order = serde_json::json!({ "job": record["job"], "store": dir.path(), "again": false, "threads": null });
    let task: Task = serde_json::from_value(order).unwrap();
    let report = Report::new(task.address(), StopSignal::default(), |_| {});
    let ended = OnDevice::<Autodiff<Flex>>::new("flex", Default::default(), 1e9).run(&task, &report);
    let Ended::Failed(trouble) = ended else { panic!("{ended:?}") };
    assert!(trouble.reason.contains("planned for a machine of the class \"another\"") && !trouble.certain);
}
