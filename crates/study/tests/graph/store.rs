//! What the store survives: missing and damaged files, freed space, other machines; jobs by their address.

use study::{
    Answer, Engine as _, Failure, Keep, Question, Representations, Store, Study, StudySpec, Table2, Theory, export, gc,
    import,
};

use crate::support::{arm, ask, copy, count, data, engine, files, json, quiet, spec, steps_trained};

fn two_arms() -> StudySpec {
    let mut spec = spec();
    spec.arms.push(arm("Code", &[(8, "starcoder", "0.5")]));
    spec.pretrain.keep_every = Some(10);
    spec.sft.lr = study::LrChoice::SweepBase { grid: vec![1e-3, 2e-3], extend: 0 };
    spec
}

fn figure6() -> impl Question {
    Representations { arm: "Code", set: "Pycode", probe: "APPS" }
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    (dir, store)
}

/// Pages are long: a difference is said, not printed.
#[track_caller]
fn same_page(page: &report::Page, expected: &report::Page) {
    let text = |page: &report::Page| page.text(80);
    assert_eq!(text(page), text(expected));
    assert!(page == expected, "same text, but other files or pictures");
}

fn sound(answer: &Answer) -> &report::Page {
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
    study::run_job(&study::Address::parse(&address).unwrap(), &store, &mut engine(), &mut quiet()).unwrap();
    assert_eq!(json(&evaluation.path().join("done.json"))["result"], expected);
    assert_eq!(trained(&store), jobs);
    let message = study::run_job(&study::Address::parse("evaluate/00").unwrap(), &store, &mut engine(), &mut quiet());
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

/// Where inputs lie is in no address, but what is made again is made from where they lie now.
#[test]
fn data_that_moved_are_found_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let generator = corpus::Generator::new(1);
    let mut sources = study::Sources::default();
    let domains = [
        ("general", corpus::Domain::General, 220),
        ("starcoder", corpus::Domain::Code, 120),
        ("math", corpus::Domain::Math, 120),
        ("sft/pycode", corpus::Domain::Pycode, 60),
        ("probe", corpus::Domain::Problems, 60),
    ];
    for (role, domain, count) in domains {
        std::fs::create_dir_all(first.join(role)).unwrap();
        let line = |d: corpus::Document| serde_json::json!({ "prompt": d.prompt, "text": d.text }).to_string() + "\n";
        let text: String = generator.documents(domain).take(count).map(line).collect();
        std::fs::write(first.join(role).join("a.jsonl"), text).unwrap();
        sources.0.extend(study::Sources::folders(&[role.to_owned()], &study::HoldOut::default(), &first).0);
        let template = corpus::Template::parse("{prompt}", "{text}").unwrap();
        sources.0.get_mut(role).unwrap().sets[0].template = Some(template);
    }
    let files_of = |dir: &std::path::Path| study::DataSpec::Files {
        dir: dir.to_owned(),
        sources: sources.clone(),
        part_bytes: None,
    };
    let mut spec = StudySpec { data: files_of(&first), ..two_arms() };
    let store = Store::new(&dir.path().join("store"));
    let page = sound(&ask(&spec, &store, &Table2)).clone();
    std::fs::rename(&first, &second).unwrap();
    spec.data = files_of(&second);
    let trained = steps_trained(&store);
    same_page(sound(&ask(&spec, &store, &Table2)), &page);
    assert_eq!(steps_trained(&store), trained);
    // Something is lost: it is made from the new place.
    let lost = files(&store.root().join("data")).into_iter().find(|path| path.ends_with("store.json")).unwrap();
    std::fs::remove_file(lost).unwrap();
    std::fs::remove_dir_all(store.root().join("finetune")).unwrap();
    same_page(sound(&ask(&spec, &store, &Table2)), &page);
}

/// A store may lie in a folder that holds other things: they are nobody's to free.
#[test]
fn gc_touches_jobs_alone() {
    let (_dir, store) = store();
    let spec = two_arms();
    ask(&spec, &store, &Table2);
    let others = ["notes/2026/log.txt", "pretrain/mine/data.bin", "projects/a/done.json", "data/raw/text.jsonl"];
    for file in others.map(|file| store.root().join(file)) {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "mine").unwrap();
    }
    gc(&store, &Keep::Every, false).unwrap();
    assert!(others.iter().all(|file| store.root().join(file).exists()));
    // Without any study's record nothing is known to be needless.
    std::fs::remove_dir_all(store.root().join("studies")).unwrap();
    let left = files(store.root());
    assert!(gc(&store, &Keep::Every, false).unwrap_err().to_string().contains("holds no study's record"));
    assert_eq!(files(store.root()), left);
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

/// A result is its own job's, and as it was written.
#[test]
fn results_that_were_changed_or_swapped_are_made_again() {
    let (_dir, store) = store();
    let spec = two_arms();
    let page = sound(&ask(&spec, &store, &Table2)).clone();
    let mut done: Vec<_> =
        files(&store.root().join("evaluate")).into_iter().filter(|path| path.ends_with("done.json")).collect();
    let (first, second) = (done.remove(0), done.remove(0));
    let text = std::fs::read(&first).unwrap();
    std::fs::copy(&second, &first).unwrap();
    std::fs::write(&second, text).unwrap();
    let changed = std::fs::read_to_string(&done[0]).unwrap();
    let loss = json(&done[0])["result"][0]["nats"].to_string();
    std::fs::write(&done[0], changed.replacen(&loss, "1.25", 1)).unwrap();
    same_page(sound(&ask(&spec, &store, &Table2)), &page);
}

#[test]
fn a_damaged_model_is_made_again() {
    let (_dir, store) = store();
    let spec = two_arms();
    let page = sound(&ask(&spec, &store, &Table2)).clone();
    for path in files(&store.root().join("finetune")).iter().filter(|path| path.ends_with("model.safetensors")) {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 64].fill(0xff);
        std::fs::write(path, bytes).unwrap();
    }
    std::fs::remove_dir_all(store.root().join("evaluate")).unwrap();
    same_page(sound(&ask(&spec, &Store::new(store.root()), &Table2)), &page);
}

/// A state on the way, or its log, or all of it, is gone or damaged: what goes on from it finds another way.
#[test]
fn states_on_the_way_may_go() {
    let (_whole, whole) = store();
    let spec = two_arms();
    let page = sound(&ask(&spec, &whole, &Theory)).clone();
    let kept = |store: &Store| {
        let runs = crate::support::runs(store);
        let kept =
            runs.into_values().filter(|run| run.is_kept()).map(|run| store.root().join("pretrain").join(run.name));
        kept.collect::<Vec<_>>()
    };
    let forks = |store: &Store| {
        let runs = crate::support::runs(store).into_values().filter(|run| run.step == 8);
        runs.map(|run| store.root().join("pretrain").join(run.name)).collect::<Vec<_>>()
    };
    assert!(kept(&whole).len() > 2 && forks(&whole).len() == 1);
    let harms: [&dyn Fn(&Store); 4] = [
        &|store| kept(store).iter().for_each(|state| std::fs::remove_dir_all(state).unwrap()),
        &|store| kept(store).iter().for_each(|state| std::fs::remove_file(state.join("log.jsonl")).unwrap()),
        &|store| {
            for state in kept(store) {
                std::fs::remove_file(state.join("log.jsonl")).unwrap();
                std::fs::remove_file(state.join("job.json")).unwrap();
            }
        },
        &|store| {
            for state in kept(store).iter().chain(&forks(store)) {
                let path = state.join("state.safetensors");
                let mut bytes = std::fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(&path, bytes).unwrap();
            }
        },
    ];
    let mut more = spec.clone();
    more.arms.push(arm("Later", &[(14, "math", "0.5")]));
    let expected = sound(&ask(&more, &whole, &Theory)).clone();
    for harm in harms {
        let (_dir, store) = self::store();
        same_page(sound(&ask(&spec, &store, &Theory)), &page);
        harm(&store);
        std::fs::remove_dir_all(store.root().join("walk")).unwrap();
        same_page(sound(&ask(&spec, &store, &Theory)), &page);
        same_page(sound(&ask(&more, &store, &Theory)), &expected);
    }
}

/// A checkpoint that another study left, whose rates go on differently, is gone on from.
#[test]
fn a_checkpoint_of_a_study_with_other_rates_later_on() {
    let (_dir, store) = store();
    let mut spec = spec();
    spec.pretrain.warmup = 12;
    spec.pretrain.keep_every = Some(5);
    spec.arms.push(arm("Code", &[(12, "starcoder", "0.5")]));
    ask(&spec, &store, &Table2);
    let runs = crate::support::runs(&store);
    let at = |step: u64| {
        let run = runs.values().find(|run| run.step == step).unwrap();
        store.root().join("pretrain").join(&run.name)
    };
    // The fork, as a kill at step 10 would have left it.
    let (fork, kept) = (at(12), at(10));
    for file in ["done.json", "state.safetensors"] {
        std::fs::remove_file(fork.join(file)).unwrap();
    }
    std::fs::copy(kept.join("state.safetensors"), fork.join("step-000000010.safetensors")).unwrap();
    for file in ["log.jsonl", "ledger"] {
        std::fs::copy(kept.join(file), fork.join(file)).unwrap();
    }
    std::fs::remove_dir_all(&kept).unwrap();
    std::fs::remove_dir_all(at(5)).unwrap();
    spec.pretrain.lr_min *= 3.0;
    let (_other, other) = self::store();
    let page = sound(&ask(&spec, &other, &Table2)).clone();
    same_page(sound(&ask(&spec, &store, &Table2)), &page);
    let log = std::fs::read_to_string(fork.join("log.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 12);
}

#[test]
fn nothing_is_freed_while_a_store_is_used() {
    let (_dir, store) = store();
    ask(&two_arms(), &store, &Table2);
    let using = store.using().unwrap();
    let message = gc(&store, &Keep::Every, false).unwrap_err().to_string();
    assert!(message.contains("another process uses the store"), "{message}");
    assert!(!gc(&store, &Keep::Every, true).unwrap().freed.is_empty());
    drop(using);
    assert!(!gc(&store, &Keep::Every, false).unwrap().freed.is_empty());
}

/// A phase that does not name its general side has that of the phase before it: proximity says the same of both.
#[test]
fn an_inherited_general_side_counts() {
    let (_dir, store) = store();
    let mixed = |repeat: bool| {
        let text = |general: &str| {
            format!(
                "name = \"Mixed\"\nphases = [\n  {{ start = 6, weight = \"0.3\", specialised = \"math\", general = {{ general = \
                 \"0.5\", flan = \"0.5\" }} }},\n  {{ start = 12, weight = \"0.3\", specialised = \"math\"{general} }},\n]\n"
            )
        };
        let general = if repeat { ", general = { general = \"0.5\", flan = \"0.5\" }" } else { "" };
        let mut spec = spec();
        spec.arms.push(toml::from_str(&text(general)).unwrap());
        spec
    };
    let pages = [false, true].map(|repeat| sound(&ask(&mixed(repeat), &store, &study::Similarities::Figure2)).clone());
    same_page(&pages[0], &pages[1]);
}

/// What a store has is known if it is a result; what only failed there, or cannot be read, is taken.
#[test]
fn a_bundle_fills_what_is_missing_and_stays_inside() {
    let (dir, from) = store();
    let spec = two_arms();
    let page = sound(&ask(&spec, &from, &Table2)).clone();
    let bundle = dir.path().join("a.bundle");
    let results = export(&from, &[], &bundle).unwrap().results;
    let asked = |path: &&std::path::PathBuf| {
        path.ends_with("done.json")
            && !std::fs::read_to_string(path.with_file_name("job.json")).unwrap().contains("(kept)")
    };
    for (i, path) in files(from.root()).iter().filter(asked).enumerate() {
        match i % 3 {
            0 => std::fs::write(path, "{").unwrap(),
            1 => {
                let failed = "{\"label\":\"x\",\"reason\":\"disk full\",\"certain\":false}";
                std::fs::write(path.with_file_name("failed.json"), failed).unwrap();
                std::fs::remove_file(path).unwrap();
            }
            _ => {}
        }
    }
    let taken = import(&from, &bundle).unwrap();
    assert!(taken.known < results / 2, "{taken:?}");
    let trained = steps_trained(&from);
    same_page(sound(&ask(&spec, &from, &Table2)), &page);
    assert_eq!(steps_trained(&from), trained);

    // A question's name is no path.
    let text = zstd::decode_all(&*std::fs::read(&bundle).unwrap()).unwrap();
    let text = String::from_utf8(text).unwrap().replace("\"question\":\"table2\"", "\"question\":\"../../../evil\"");
    let body = &text[..text.trim_end().rfind('\n').unwrap() + 1];
    let digest = format!("{{\"xxh3\":\"{:032x}\"}}\n", xxhash_rust::xxh3::xxh3_128(body.as_bytes()));
    std::fs::write(&bundle, zstd::encode_all((body.to_owned() + &digest).as_bytes(), 3).unwrap()).unwrap();
    let deep = tempfile::tempdir().unwrap();
    let inside = Store::new(&deep.path().join("a/b/c/store"));
    import(&inside, &bundle).unwrap();
    assert!(files(deep.path()).iter().all(|path| path.starts_with(inside.root())));
}

/// Rot changes no time: it is found on demand.
#[test]
fn what_rots_is_found_on_demand() {
    let (_dir, store) = store();
    let spec = two_arms();
    let page = sound(&ask(&spec, &store, &Table2)).clone();
    let study = Study::new(spec.clone()).unwrap();
    let verified = |store: &Store| {
        let data = data(&study, store);
        study::verify(&Table2, &study, &data, store, engine().machine()).unwrap()
    };
    let whole = verified(&store);
    assert!(whole.damaged.is_empty() && whole.files > 20 && whole.bytes > 100_000, "{whole}");
    // A byte of a store, and the times as they were.
    let path =
        files(&store.root().join("data")).into_iter().find(|p| p.extension().is_some_and(|e| e == "tokens")).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
    let rotten = verified(&store);
    assert_eq!(rotten.damaged.len(), 1, "{rotten}");
    same_page(sound(&ask(&spec, &store, &Table2)), &page);
    assert!(verified(&store).damaged.is_empty());
}

/// A file that is added to a role is tokenised alone: the shards of the others are those that were there. What is not read is
/// known to the data.
#[cfg(unix)]
#[test]
fn added_files_are_tokenised_alone() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let generator = corpus::Generator::new(1);
    let roles = [
        ("general", corpus::Domain::General, 220),
        ("starcoder", corpus::Domain::Code, 120),
        ("math", corpus::Domain::Math, 120),
        ("sft/pycode", corpus::Domain::Pycode, 60),
        ("probe", corpus::Domain::Problems, 60),
    ];
    let mut sources = study::Sources::default();
    let line = |d: corpus::Document| serde_json::json!({ "question": d.prompt, "answer": d.text }).to_string() + "\n";
    for (role, domain, count) in roles {
        std::fs::create_dir_all(dir.path().join(role)).unwrap();
        let lines: Vec<String> = generator.documents(domain).take(count).map(line).collect();
        for (i, part) in lines.chunks(count / 4).enumerate() {
            std::fs::write(dir.path().join(role).join(format!("b{i}.jsonl")), part.concat()).unwrap();
        }
        sources.0.extend(study::Sources::folders(&[role.to_owned()], &study::HoldOut::default(), dir.path()).0);
    }
    std::fs::write(dir.path().join("starcoder/notes.md"), "not data").unwrap();
    std::fs::write(dir.path().join("starcoder/empty.jsonl"), "").unwrap();
    let of_files = study::DataSpec::Files { dir: dir.path().to_owned(), sources, part_bytes: None };
    // A tokenizer that does not change with the text.
    let tokenizer = dir.path().join("tokenizer.json");
    let texts = generator.documents(corpus::Domain::General).take(200).map(|d| d.whole());
    corpus::train_bpe(texts, 270).unwrap().save(&tokenizer).unwrap();
    let spec = StudySpec { data: of_files, tokenizer: study::TokenizerSpec::File { path: tokenizer }, ..two_arms() };
    let study = Study::new(spec).unwrap();
    let store = Store::new(&dir.path().join("store"));
    let shards = || {
        let all =
            files(&store.root().join("data")).into_iter().filter(|p| p.extension().is_some_and(|e| e == "tokens"));
        all.map(|path| (path.file_name().unwrap().to_owned(), std::fs::metadata(path).unwrap().ino()))
            .collect::<Vec<_>>()
    };
    let said = serde_json::to_string(&data(&study, &store)).unwrap();
    assert!(said.contains("starcoder/notes.md: no known format"), "{said}");
    assert!(said.contains("starcoder/empty.jsonl: holds no document"), "{said}");
    let before = shards();
    // First by its name, so that the others' places change.
    let more: String = generator.documents(corpus::Domain::General).skip(220).take(30).map(line).collect();
    std::fs::write(dir.path().join("general/a.jsonl"), more).unwrap();
    data(&study, &store);
    let mut inodes = std::collections::HashMap::new();
    for (name, inode) in shards() {
        inodes.entry(name).or_insert_with(std::collections::HashSet::new).insert(inode);
    }
    assert_eq!(inodes.len(), before.len() + 1);
    assert!(inodes.values().all(|inodes| inodes.len() == 1), "{inodes:?}");
}
