//! What the store survives: missing and damaged files, freed space, other machines; jobs by their address.

use study::{Answer, Failure, Keep, Question, Representations, Store, StudySpec, Table2, Theory, export, gc, import};

use crate::support::{arm, ask, copy, count, engine, files, json, quiet, spec, steps_trained};

fn two_arms() -> StudySpec {
    let mut spec = spec();
    spec.arms.push(arm("Code", &[(8, "starcoder", "0.5")]));
    spec.pretrain.keep_every = Some(10);
    spec.sft.lr = study::LrChoice::SweepBase { grid: vec![1e-3, 2e-3], extend: 0 };
    spec
}

fn figure6() -> impl Question {
    Representations { figure: "figure6", arm: "Code", set: "Pycode", probe: "APPS" }
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    (dir, store)
}

/// Pages are long: a difference is said, not printed.
#[track_caller]
fn same_page(page: &study::Page, expected: &study::Page) {
    let text = |page: &study::Page| page.text(false);
    assert_eq!(text(page), text(expected));
    assert!(page == expected, "same text, but other files or pictures");
}

fn sound(answer: &Answer) -> &study::Page {
    assert_eq!(answer.failures, Vec::<Failure>::new());
    &answer.page
}

/// Any file may go: what it held is made again, and every page has the same bytes.
#[test]
fn any_file_may_be_deleted() {
    let (_whole, whole) = store();
    let spec = two_arms();
    let questions: [&dyn Question; 3] = [&Table2, &Theory, &figure6()];
    let pages: Vec<_> = questions.iter().map(|q| sound(&ask(&spec, &whole, *q)).clone()).collect();
    let all = files(whole.root());
    assert!(all.len() > 100);
    let dir = tempfile::tempdir().unwrap();
    copy(whole.root(), dir.path());
    let same = Store::new(dir.path());
    for file in all {
        let gone = same.root().join(file.strip_prefix(whole.root()).unwrap());
        // Made again in an earlier round, perhaps under another name of a temporary file: nothing of that kind is left.
        assert!(gone.exists(), "{} was not made again", gone.display());
        std::fs::remove_file(&gone).unwrap();
        for (question, page) in questions.iter().zip(&pages) {
            same_page(sound(&ask(&spec, &same, *question)), page);
        }
    }
}

/// A flipped byte is found where there is a checksum, and what it was in is made again.
#[test]
fn damaged_weights_and_token_stores_are_made_again() {
    let (_dir, store) = store();
    let spec = two_arms();
    let page = sound(&ask(&spec, &store, &Table2)).clone();
    let damaged: Vec<_> = files(store.root())
        .into_iter()
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name == "state.safetensors" || path.extension().is_some_and(|e| e == "bin" || e == "tokens")
        })
        .collect();
    assert!(damaged.len() > 3, "{damaged:?}");
    for path in &damaged {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        std::fs::write(path, bytes).unwrap();
    }
    // Another process: this one has compared the checksums already. Everything that read them is to be done again.
    let store = Store::new(store.root());
    for kind in ["finetune", "evaluate", "select", "counts", "rows"] {
        std::fs::remove_dir_all(store.root().join(kind)).unwrap();
    }
    same_page(sound(&ask(&spec, &store, &Table2)), &page);
}

#[test]
fn a_damaged_record_is_made_again() {
    let (_dir, store) = store();
    let spec = two_arms();
    let page = sound(&ask(&spec, &store, &Table2)).clone();
    for path in files(store.root()) {
        if path.extension().is_some_and(|e| e == "json") && !path.ends_with("config.json") {
            let text = std::fs::read(&path).unwrap();
            std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        }
    }
    std::fs::remove_dir_all(store.root().join("studies")).unwrap();
    same_page(sound(&ask(&spec, &store, &Table2)), &page);
}

#[test]
fn a_job_runs_by_its_address_alone() {
    let (_dir, store) = store();
    let spec = two_arms();
    ask(&spec, &store, &Table2);
    let evaluation = std::fs::read_dir(store.root().join("evaluate")).unwrap().next().unwrap().unwrap();
    let address = format!("evaluate/{}", evaluation.file_name().to_string_lossy());
    let expected = json(&evaluation.path().join("done.json"))["result"].clone();
    // Every result is gone, what was asked for is left.
    for path in files(store.root()) {
        if !path.ends_with("job.json") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let trained = |store: &Store| count(store, "pretrain");
    let jobs = trained(&store);
    study::run_job(&study::Address::parse(&address).unwrap(), &store, &engine(), &mut quiet()).unwrap();
    assert_eq!(json(&evaluation.path().join("done.json"))["result"], expected);
    assert_eq!(trained(&store), jobs);
    let message = study::run_job(&study::Address::parse("evaluate/00").unwrap(), &store, &engine(), &mut quiet());
    assert_eq!(message.unwrap_err().to_string(), "evaluate/00 is not in the store");
}

#[test]
fn gc_keeps_what_studies_need() {
    let (_dir, store) = store();
    let spec = two_arms();
    let page = sound(&ask(&spec, &store, &Table2)).clone();
    let mut other = spec.clone();
    other.arms[1] = arm("Mathematics", &[(14, "math", "0.5")]);
    other.model_name = "other".into();
    ask(&other, &store, &Table2);
    let size = |store: &Store| files(store.root()).iter().map(|f| f.metadata().unwrap().len()).sum::<u64>();

    // A look changes nothing.
    let before = size(&store);
    let list = gc(&store, &Keep::Every, true).unwrap();
    assert_eq!(size(&store), before);
    assert!(list.freed.iter().any(|f| f.what == "model") && list.freed.iter().any(|f| f.what == "optimiser"));
    assert!(list.freed.iter().all(|f| f.what != "all"), "every job is some study's: {list}");

    // What no study needs: models of lost rates, optimisers of last states. The pages are still there, without work.
    let report = gc(&store, &Keep::Every, false).unwrap();
    let freed: u64 = report.freed.iter().map(|f| f.bytes).sum();
    assert!(freed > 0 && before - size(&store) > freed / 2, "{report}");
    let (trained, tuned) = (steps_trained(&store), count(&store, "finetune"));
    same_page(sound(&ask(&spec, &store, &Table2)), &page);
    assert_eq!((steps_trained(&store), count(&store, "finetune")), (trained, tuned));
    assert!(gc(&store, &Keep::Every, false).unwrap().freed.is_empty());

    // The other study's own jobs go, and nothing of the first one's.
    let report = gc(&store, &Keep::Named(vec!["tiny".into()]), false).unwrap();
    assert_eq!(report.studies.len(), 1);
    assert!(report.freed.iter().any(|f| f.what == "all"));
    same_page(sound(&ask(&spec, &store, &Table2)), &page);
    assert_eq!(steps_trained(&store), trained - 14, "the other fork's steps, and its arm's");
    // Whatever needs freed files gets them again.
    sound(&ask(&spec, &store, &figure6()));
    sound(&ask(&spec, &store, &Theory));
    let message = gc(&store, &Keep::Named(vec!["nobody".into()]), true).unwrap_err().to_string();
    assert!(message.starts_with("study = nobody is not in the store; there are: tiny-"), "{message}");
}

#[test]
fn results_travel_without_weights() {
    let (dir, from) = store();
    let spec = two_arms();
    let pages = [sound(&ask(&spec, &from, &Table2)).clone(), sound(&ask(&spec, &from, &figure6())).clone()];
    let (bundle, again) = (dir.path().join("a.bundle"), dir.path().join("b.bundle"));
    let report = export(&from, &[], &bundle).unwrap();
    assert_eq!(report.studies, 2);
    export(&from, &[], &again).unwrap();
    assert_eq!(std::fs::read(&bundle).unwrap(), std::fs::read(&again).unwrap());

    let (_other, to) = store();
    let taken = import(&to, &bundle).unwrap();
    assert_eq!((taken.results, taken.known), (report.results, 0));
    assert!(files(to.root()).iter().all(|f| f.extension().is_none_or(|e| e != "safetensors")));
    same_page(sound(&ask(&spec, &to, &Table2)), &pages[0]);
    same_page(sound(&ask(&spec, &to, &figure6())), &pages[1]);
    assert!(!to.root().join("pretrain").exists() || files(to.root()).iter().all(|f| !f.ends_with("log.jsonl")));
    assert_eq!(import(&to, &bundle).unwrap().known, report.results);

    // The study goes on elsewhere: a new arm needs the fork's state, which is made again.
    let mut more = spec.clone();
    more.arms.push(arm("Mathematics", &[(14, "math", "0.5")]));
    let here = sound(&ask(&more, &from, &Table2)).clone();
    same_page(sound(&ask(&more, &to, &Table2)), &here);

    // Damaged, cut or foreign: refused as a whole.
    let bytes = std::fs::read(&bundle).unwrap();
    let (_empty, empty) = store();
    let bad = dir.path().join("bad.bundle");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for (what, bytes) in
        [("cut", &bytes[..bytes.len() - 9]), ("flipped", &flipped), ("foreign", b"text\n"), ("empty", b"")]
    {
        std::fs::write(&bad, bytes).unwrap();
        let message = import(&empty, &bad).unwrap_err().to_string();
        assert!(message.starts_with(&bad.display().to_string()), "{what}: {message}");
        assert!(std::fs::read_dir(empty.root()).unwrap().next().is_none(), "{what} left something");
    }
}
