//! A state's address is its trajectory and its step: nothing is trained twice.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use report::Page;
use schedule::Weight;
use study::{Engine as _, Error, Graph, Kernels, LrChoice, Pretrain, Question, Step, Store, Study, StudySpec, Table2};

use crate::support::{Run, STEPS, arm, ask, copy, count, data, engine, files, runs, spec, steps_trained};

/// States of every arm after some steps.
struct States(Vec<u64>);

impl States {
    fn jobs(&self, graph: &mut Graph<'_>) -> Result<Vec<Pretrain>, Error> {
        let steps: Vec<Step> = self.0.iter().map(|step| Step(*step)).collect();
        let arms = graph.study().arms();
        Ok(arms.map(|arm| graph.states(arm, 0, &steps)).collect::<Result<Vec<_>, _>>()?.concat())
    }
}

impl Question for States {
    fn name(&self) -> &str {
        "states"
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        self.jobs(graph).map(|_| ())
    }

    fn answer(&self, _: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let mut page = Page::new("states");
        page.notes.extend(self.jobs(graph)?.iter().map(|state| state.step.to_string()));
        Ok(page)
    }
}

fn temporary() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    (dir, store)
}

#[test]
fn adding_to_a_study_trains_what_is_new_alone() {
    let (_dir, store) = temporary();
    let mut spec = spec();
    spec.arms.push(arm("Code", &[(8, "starcoder", "0.5")]));
    ask(&spec, &store, &Table2);
    assert_eq!(steps_trained(&store), 24 + 16, "the trunk, and the arm from its fork");

    // Fine-tuning seeds, evaluations, sets: nothing is pretrained.
    let before = count(&store, "finetune");
    spec.sft_seeds = 3;
    ask(&spec, &store, &Table2);
    assert_eq!((steps_trained(&store), count(&store, "finetune")), (40, before + 4));
    let evaluations = count(&store, "evaluate");
    spec.eval.general_sequences = 12;
    ask(&spec, &store, &Table2);
    assert_eq!((steps_trained(&store), count(&store, "finetune")), (40, before + 4));
    assert_eq!(count(&store, "evaluate"), evaluations + 2 + 6, "general losses alone");

    // An arm with another start: the way from the nearest state to its fork, and its own.
    spec.arms.push(arm("Later", &[(12, "starcoder", "0.5")]));
    ask(&spec, &store, &Table2);
    assert_eq!(steps_trained(&store), 40 + 4 + 12);
    // One that begins where another does: its own steps.
    spec.arms.push(arm("More", &[(12, "starcoder", "0.25")]));
    ask(&spec, &store, &Table2);
    assert_eq!(steps_trained(&store), 56 + 12);
    // The same in another order, under other names: nothing.
    spec.arms.reverse();
    spec.arms.iter_mut().for_each(|arm| arm.name += " again");
    ask(&spec, &store, &Table2);
    assert_eq!(steps_trained(&store), 68);
    // Another pretraining seed: all arms anew.
    spec.pretrain_seeds = 2;
    ask(&spec, &store, &Table2);
    assert_eq!(steps_trained(&store), 68 + (24 + 16 + 12 + 12));
}

#[test]
fn arms_share_the_phases_that_they_have_in_common() {
    let (_dir, store) = temporary();
    let mut spec = spec();
    spec.arms.push(arm("Code, then mathematics", &[(6, "starcoder", "0.5"), (14, "math", "0.5")]));
    spec.arms.push(arm("Code, then more", &[(6, "starcoder", "0.5"), (14, "starcoder", "0.75")]));
    spec.arms.push(arm("Code", &[(6, "starcoder", "0.5")]));
    ask(&spec, &store, &States(vec![STEPS]));
    // The trunk; code up to 14, and from there in three ways.
    assert_eq!(steps_trained(&store), 24 + 8 + 3 * 10);
}

#[test]
fn rates_count_as_they_are_applied() {
    let (_dir, store) = temporary();
    let mut spec = spec();
    spec.pretrain.warmup = 10;
    ask(&spec, &store, &States(vec![10, STEPS]));
    assert_eq!(steps_trained(&store), 24);
    // Another end of the curve: the warm-up is the same.
    spec.pretrain.lr_min *= 2.0;
    ask(&spec, &store, &States(vec![10, STEPS]));
    assert_eq!(steps_trained(&store), 24 + 14);
    // Another peak: nothing is.
    spec.pretrain.lr_peak *= 2.0;
    ask(&spec, &store, &States(vec![10, STEPS]));
    assert_eq!(steps_trained(&store), 38 + 24);
}

#[test]
fn kept_states_serve_forks_that_come_later() {
    let (_dir, store) = temporary();
    let mut spec = spec();
    spec.pretrain.keep_every = Some(5);
    ask(&spec, &store, &States(vec![STEPS]));
    let kept: Vec<u64> = runs(&store).values().filter(|run| run.is_kept()).map(|run| run.step).collect();
    assert_eq!(kept, [5, 10, 15, 20]);
    assert_eq!(steps_trained(&store), 24);
    // Anywhere along the run: from the state before.
    ask(&spec, &store, &States(vec![13]));
    assert_eq!(steps_trained(&store), 24 + 3);
    spec.arms.push(arm("Code", &[(17, "starcoder", "0.5")]));
    ask(&spec, &store, &States(vec![STEPS]));
    assert_eq!(steps_trained(&store), 27 + 2 + 7);
    // How often states are kept changes no address.
    spec.pretrain.keep_every = None;
    ask(&spec, &store, &States(vec![13, STEPS]));
    assert_eq!(steps_trained(&store), 36, "the new arm's state at 13 is the trunk's");
}

#[test]
fn other_data_under_the_same_name_are_another_trajectory_and_are_noticed() {
    let (_dir, store) = temporary();
    let mut spec = spec();
    ask(&spec, &store, &States(vec![STEPS]));
    // The log of the run to the end says that step 11 saw something else.
    let end = runs(&store).into_values().find(|run| run.step == STEPS).unwrap();
    let path = store.root().join("pretrain").join(&end.name).join("log.jsonl");
    let log = std::fs::read_to_string(&path).unwrap();
    let (_, ledger, _) = end.log[11];
    let changed = log.replace(&format!("\"ledger\":{ledger}"), &format!("\"ledger\":{}", ledger ^ 1));
    assert_eq!(log.len(), changed.len());
    std::fs::write(&path, changed).unwrap();
    spec.arms.push(arm("Code", &[(12, "starcoder", "0.5")]));
    let answer = ask(&spec, &store, &States(vec![STEPS]));
    let reasons: Vec<String> = answer.failures.iter().map(ToString::to_string).collect();
    assert!(reasons.iter().any(|r| r.contains("by step 12 the ledger says")), "{reasons:?}");
}

#[test]
fn kernels_are_part_of_addresses_unless_any_will_do() {
    let (_dir, store) = temporary();
    let lineage = |kernels: Kernels, dir: &Store| {
        let spec = StudySpec { kernels, ..spec() };
        ask(&spec, dir, &States(vec![2]));
        runs(dir).into_keys().map(|name| name[..16].to_owned()).collect::<Vec<_>>()
    };
    let own = lineage(Kernels::Same, &store);
    let both = lineage(Kernels::Any, &store);
    assert_eq!((own.len(), both.len()), (1, 2));
    // The record says what computed it in either case.
    for name in runs(&store).into_keys() {
        let done = crate::support::json(&store.root().join("pretrain").join(name).join("done.json"));
        assert!(done["computed_by"]["kernels"].as_str().unwrap().len() > 8, "{done}");
        assert_eq!(done["computed_by"]["backend"], "flex");
    }
    // Results of another machine are taken where any will do, and the page says so.
    let any = runs(&store).into_keys().find(|name| name[..16] != own[0]).unwrap();
    let path = store.root().join("pretrain").join(any).join("done.json");
    let record = std::fs::read_to_string(&path).unwrap().replace("\"kernels\":\"", "\"kernels\":\"other ");
    std::fs::write(&path, record).unwrap();
    let page = ask(&StudySpec { kernels: Kernels::Any, ..spec() }, &store, &States(vec![2, 4])).page;
    assert!(page.notes.iter().any(|note| note.contains("differ in the last bits: other ")), "{:?}", page.notes);
}

#[test]
fn a_grid_grows_at_its_edge_in_rounds() {
    let (_dir, store) = temporary();
    let mut spec = spec();
    // Rates so low that more is always better.
    spec.sft.lr = LrChoice::SweepBase { grid: vec![1e-6, 2e-6], extend: 2 };
    let answer = ask(&spec, &store, &Table2);
    let table = answer.page.tables[0].csv();
    assert!(table.contains(",8e-6,"), "{table}");
    // Two rates, then one, then another; the last is the final fine-tune too.
    assert_eq!((count(&store, "finetune"), count(&store, "select")), (4, 3));
    // Not asked for, the grid stays; its fine-tunes are known.
    spec.sft.lr = LrChoice::SweepBase { grid: vec![1e-6, 2e-6], extend: 0 };
    ask(&spec, &store, &Table2);
    assert_eq!((count(&store, "finetune"), count(&store, "select")), (4, 4));
}

/// Arms of one or two phases, from few starts, roles and weights, so that many share something.
fn arms() -> impl Strategy<Value = Vec<Vec<(u64, &'static str, &'static str)>>> {
    let phase = |starts: &'static [u64]| {
        (
            prop::sample::select(starts),
            prop::sample::select(&["starcoder", "math"][..]),
            prop::sample::select(&["0.25", "0.5"][..]),
        )
    };
    let two = (phase(&[4, 8]), prop::option::of(phase(&[12, 15, 20])));
    let late = phase(&[8, 12, 15, 20]);
    let one = prop_oneof![
        two.prop_map(|(first, second)| std::iter::once(first).chain(second).collect::<Vec<_>>()),
        late.prop_map(|phase| vec![phase]),
    ];
    prop::collection::vec(one, 1..5)
}

/// What is asked one after the other: which arms, after how many steps.
fn questions() -> impl Strategy<Value = Vec<(Vec<bool>, Vec<u64>)>> {
    let steps = prop::collection::vec(1..=STEPS, 1..3);
    prop::collection::vec((prop::collection::vec(any::<bool>(), 4), steps), 1..4)
}

/// Whether a state lies on the way of a run: it saw the same data by then.
fn on_the_way(state: &Run, run: &Run) -> bool {
    state.lineage() == run.lineage()
        && run.log.iter().any(|(step, ledger, _)| (step + 1, *ledger) == (state.step, state.ledger))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever arms there are and in whatever order they are asked for, with states kept or not: every run goes on from
    /// the nearest state that there was; where two runs passed the same step, they saw the same data and computed the
    /// same bits; asking again trains nothing.
    #[test]
    fn no_state_is_trained_twice(arms in arms(), questions in questions(), keep in prop::option::of(3u64..12)) {
        let prepared = prepared();
        let dir = tempfile::tempdir().unwrap();
        copy(prepared, dir.path());
        let store = Store::new(dir.path());
        let ask_all = || {
            let mut known: BTreeMap<String, Run> = BTreeMap::new();
            for (chosen, steps) in &questions {
                let mut spec = spec();
                spec.pretrain.keep_every = keep;
                let named = arms.iter().zip(chosen).enumerate().filter(|(_, (_, chosen))| **chosen);
                // The same phases under another name are the same arm.
                spec.arms.extend(named.map(|(i, (phases, _))| arm(&format!("arm {i}"), phases)));
                let answer = ask(&spec, &store, &States(steps.clone()));
                assert!(answer.failures.is_empty(), "{:?}", answer.failures);
                let now = runs(&store);
                for run in now.values().filter(|run| !run.is_kept() && !known.contains_key(&run.name)) {
                    let begin = run.log.first().map_or(run.step, |(step, ..)| *step);
                    assert_eq!(run.log.len() as u64, run.step - begin, "one record a step");
                    for state in known.values().filter(|state| on_the_way(state, run)) {
                        assert!(
                            state.step <= begin || state.step >= run.step,
                            "{} was trained from step {begin}, though {} was there", run.name, state.name
                        );
                    }
                    assert_eq!(run.from.is_some(), begin > 0);
                }
                known = now;
            }
        };
        ask_all();
        let mut seen: HashMap<(String, u64, u64), u64> = HashMap::new();
        for run in runs(&store).values() {
            for (step, ledger, loss) in &run.log {
                let bits = seen.entry((run.lineage().to_owned(), *step, *ledger)).or_insert(*loss);
                prop_assert_eq!(*bits, *loss, "two runs differ at step {}", step);
            }
        }
        let trained = steps_trained(&store);
        ask_all();
        prop_assert_eq!(steps_trained(&store), trained);
    }
}

/// A store that holds the data of these studies, made once.
fn prepared() -> &'static std::path::Path {
    static DIR: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let study = study::Study::new(spec()).unwrap();
        crate::support::data(&study, &Store::new(dir.path()));
        dir
    });
    dir.path()
}

/// General text in fine-tuning: its loss and tokens are in the log; a share of 0 is no replay, to the address.
#[test]
fn replayed_text_is_logged_and_a_share_of_zero_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let mut spec = spec();
    ask(&spec, &store, &Table2);
    let tuned = count(&store, "finetune");
    let replay = |percent| study::ReplaySpec { share: Weight::from_percent(percent).unwrap(), time: Some(16) };
    spec.sft.replay = Some(replay(0));
    ask(&spec, &store, &Table2);
    assert_eq!(count(&store, "finetune"), tuned);
    spec.sft.replay = Some(replay(50));
    let before: Vec<_> = files(&store.root().join("finetune"));
    let study = Study::new(spec.clone()).unwrap();
    let data = data(&study, &store);
    let plan = study::Plan::build(&Table2, &study, &data, &store, engine().machine()).unwrap().describe(&study);
    // 16 examples, and as many rows of general text.
    assert!(plan.contains("16 examples, 4 steps") && plan.contains("rows of general text added, "), "{plan}");
    ask(&spec, &store, &Table2);
    assert_eq!(count(&store, "finetune"), 2 * tuned);
    let logs = files(&store.root().join("finetune"));
    let logs: Vec<_> = logs.iter().filter(|f| f.ends_with("log.jsonl") && !before.contains(f)).collect();
    assert!(!logs.is_empty());
    for log in logs {
        let text = std::fs::read_to_string(log).unwrap();
        let sources: std::collections::BTreeSet<u64> = text
            .lines()
            .flat_map(|line| {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                let sources = record["sources"].as_array().unwrap().clone();
                sources.into_iter().map(|source| source["source"].as_u64().unwrap())
            })
            .collect();
        // The examples, then general text.
        assert_eq!(sources.into_iter().collect::<Vec<_>>(), [0, 1], "{text}");
        assert_eq!(text.lines().count(), 4, "steps are those of the examples");
    }
}

/// General text for fine-tuning that adds nothing, or more than there is, is refused.
#[test]
fn impossible_replay_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let refused = |share: &str, expected: &str| {
        let mut spec = spec();
        spec.sft.replay = Some(study::ReplaySpec { share: Weight::parse(share).unwrap(), time: None });
        let study = Study::new(spec).unwrap();
        let message =
            study::prepare(&study, &store, &mut engine(), &mut crate::support::quiet()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    refused("0.000001", "sft.replay.share = 0.000001 adds no row to the batches of Pycode");
    refused("0.999", "general text has");
}

/// Continued pretraining of a source that is too small: refused, unless the arm says how often it may repeat.
#[test]
fn an_arm_may_state_its_repetition() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let mut spec = spec();
    spec.pretrain.steps = 600;
    spec.arms.push(arm("Ctd.", &[(2, "math", "1")]));
    let study = |spec: &StudySpec| Study::new(spec.clone()).unwrap();
    let data = data(&study(&spec), &store);
    let plan = |spec: &StudySpec| {
        let study = study(spec);
        study::Plan::build(&study::Table1, &study, &data, &store, engine().machine()).unwrap().describe(&study)
    };
    let refused = plan(&spec);
    assert!(refused.contains("REFUSED: source math: the plan needs"), "{refused}");
    spec.arms[1].max_epochs.insert("math".to_owned(), 20.0);
    let stated = plan(&spec);
    assert!(!stated.contains("REFUSED") && stated.contains("repeats from step"), "{stated}");
    spec.arms[1].max_epochs.insert("flan".to_owned(), 2.0);
    assert!(
        Study::new(spec.clone()).unwrap_err().to_string().contains("arms.max_epochs = flan is no source of the arm")
    );
    spec.arms[1].max_epochs = [("math".to_owned(), f64::NAN)].into();
    assert!(Study::new(spec).unwrap_err().to_string().contains("must be positive"));
}
