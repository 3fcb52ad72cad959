//! A study on Slurm, from its submission to its page.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::queue;
use super::script::{Script, Template};
use super::tasks::{Task, arrays, bundle, failures, open};
use crate::address::Address;
use crate::data::{Data, Prepared, next, without_files};
use crate::files::{read_json, write_json};
use crate::fingerprints::Fingerprints;
use crate::graph::Graph;
use crate::job::Job;
use crate::run::answer_knowing;
use crate::runner::Runner;
use crate::store::{Failure, Lock, Root, Store};
use crate::{Answer, Engine, Error, Machine, Progress, Question, Study};

/// The folder of campaigns in a store.
const SLURM: &str = "slurm";
const STATE: &str = "campaign.json";
const FORMAT: u32 = 1;
/// Tasks of an array: Slurm's usual limit is 1001.
const ARRAY: usize = 1000;
/// How often a task is tried.
const TRIES: u32 = 2;

/// How the program is called again on the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The program and the arguments that it was called with.
    pub command: Vec<String>,
    /// The folder that it was called in.
    pub folder: PathBuf,
}

/// Where a campaign stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) format: u32,
    pub(super) question: String,
    pub(super) step: Step,
    /// Rounds that were submitted.
    pub(super) round: u32,
    /// Numbers of the queue's jobs, all rounds.
    pub(super) ids: Vec<String>,
    /// How often jobs were submitted.
    pub(super) tries: BTreeMap<Address, u32>,
    pub(super) outcome: Option<Outcome>,
}

/// How a campaign ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Answered,
    Failed(String),
}

/// What was submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The campaign's folder: scripts, tasks, logs.
    pub folder: PathBuf,
    /// The planning job's number; those of a campaign that was under way already.
    pub ids: Vec<String>,
    /// Whether it was under way already: nothing was submitted.
    pub under_way: bool,
}

impl std::fmt::Display for Submitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ids, folder) = (self.ids.join(", "), self.folder.display());
        if self.under_way {
            write!(f, "under way already: jobs {ids}; the same command with --status says how far")
        } else {
            write!(
                f,
                "submitted: job {ids} plans the first round; scripts and logs in {folder}; the same command with \
                       --status says how far it is"
            )
        }
    }
}

/// A study's campaign.
pub(super) struct Campaign<'a> {
    store: &'a Store,
    pub(super) folder: PathBuf,
    name: String,
}

impl<'a> Campaign<'a> {
    pub(super) fn of(store: &'a Store, study: &Study, question: &dyn Question) -> Self {
        let name = Root::name(study.spec(), question.name());
        Self { store, folder: store.root().join(SLURM).join(&name), name }
    }

    pub(super) fn state(&self) -> Result<Option<State>, Error> {
        let state: Option<State> = read_json(&self.folder.join(STATE))?;
        Ok(state.filter(|state| state.format == FORMAT))
    }

    fn write(&self, state: &State) -> Result<(), Error> {
        write_json(&self.folder.join(STATE), state)
    }

    fn tasks_file(&self, round: u32) -> PathBuf {
        self.folder.join(format!("round-{round}.json"))
    }

    /// The tasks of a round.
    pub(super) fn tasks(&self, round: u32) -> Result<Vec<Task>, Error> {
        Ok(read_json(&self.tasks_file(round))?.unwrap_or_default())
    }

    fn script<'t>(&self, template: &'t Template, step: &Step, what: &str, extra: Vec<String>) -> Script<'t> {
        Script {
            template,
            name: format!("{what}-{}", self.name),
            tasks: None,
            after: Vec::new(),
            logs: self.folder.join("logs"),
            folder: step.folder.clone(),
            command: step.command.iter().cloned().chain(extra).collect(),
        }
    }

    /// A planning job that waits for others.
    fn planning<'t>(&self, template: &'t Template, step: &Step, round: u32, after: Vec<String>) -> Script<'t> {
        let script = self.script(template, step, &format!("plan-{round}"), vec![format!("--slurm-plan={round}")]);
        Script { after, ..script }
    }

    /// Keeps a script for whoever wants to read it, and submits it.
    fn submit(&self, script: &Script<'_>) -> Result<String, Error> {
        let logs = &script.logs;
        std::fs::create_dir_all(logs).map_err(Error::io(logs))?;
        let text = script.text();
        crate::files::write(&self.folder.join(format!("{}.sh", script.name)), text.as_bytes())?;
        queue::submit(&text)
    }
}

/// Records a campaign and submits its first planning job. One that is under way is left alone.
///
/// # Errors
/// A store that cannot be written, a queue that refuses.
pub fn submit(
    question: &dyn Question,
    study: &Study,
    store: &Store,
    template: &Template,
    step: &Step,
) -> Result<Submitted, Error> {
    // Scripts run elsewhere: what they name must be found from there.
    let store = &absolute(store)?;
    let campaign = Campaign::of(store, study, question);
    let Some(_lock) = Lock::take(&campaign.folder)? else { return Err(Error::InUse { path: campaign.folder }) };
    let before = campaign.state()?;
    if let Some(state) = &before {
        let queued = queue::queued(&state.ids).unwrap_or_default();
        if !queued.is_empty() {
            let ids = queued.into_iter().map(|job| job.id).collect();
            return Ok(Submitted { folder: campaign.folder.clone(), ids, under_way: true });
        }
    }
    let round = before.map_or(0, |state| state.round);
    let mut state = State {
        format: FORMAT,
        question: question.name().to_owned(),
        step: step.clone(),
        round,
        ids: Vec::new(),
        tries: BTreeMap::new(),
        outcome: None,
    };
    campaign.write(&state)?;
    let id = campaign.submit(&campaign.planning(template, step, round, Vec::new()))?;
    state.ids.push(id.clone());
    campaign.write(&state)?;
    Ok(Submitted { folder: campaign.folder.clone(), ids: vec![id], under_way: false })
}

fn absolute(store: &Store) -> Result<Store, Error> {
    let root = std::path::absolute(store.root()).map_err(Error::io(store.root()))?;
    Ok(Store::new(&root))
}

/// What comes next.
struct Next {
    /// All jobs that are known to be needed, inputs first.
    jobs: Vec<Job>,
    /// Those that are to be run.
    open: Vec<Job>,
    failures: BTreeMap<Address, Failure>,
    data: Option<Data>,
}

/// The next round's jobs.
fn look(
    question: &dyn Question,
    study: &Study,
    store: &Store,
    machine: &Machine,
    given_up: &BTreeMap<Address, Failure>,
    progress: &Progress,
) -> Result<Next, Error> {
    let data = match without_files(study, store, progress)? {
        Some(data) => Prepared::Whole(data),
        None => {
            let mut known = Fingerprints::read(store)?;
            let prepared = next(study, store, &mut known)?;
            known.write()?;
            prepared
        }
    };
    let data = match data {
        Prepared::Whole(data) => data,
        Prepared::Needs(jobs) => {
            let failures = failures(&jobs, store, given_up)?;
            // Without its data there is no study.
            if let Some(failure) = failures.values().find(|failure| failure.root.is_none()) {
                return Err(Error::Failed { failures: vec![failure.clone()] });
            }
            let open = open(&jobs, store, &failures)?;
            return Ok(Next { jobs, open, failures, data: None });
        }
    };
    let mut known = given_up.clone();
    loop {
        let mut graph = Graph::new(study, &data, store, machine, &known);
        question.needs(&mut graph)?;
        let jobs = graph.jobs();
        let found = failures(&jobs, store, given_up)?;
        if found == known {
            Root::write(store, study, question.name(), &data, &graph)?;
            let open = open(&jobs, store, &found)?;
            return Ok(Next { jobs, open, failures: found, data: Some(data) });
        }
        // What failed may change what is asked for.
        known = found;
    }
}

/// Plans a round in a planning job: submits it and gives `None`, or answers the question.
///
/// # Errors
/// Data that cannot be used, a store that cannot be written, a queue that refuses, a signal.
pub fn plan(
    question: &dyn Question,
    study: &Study,
    store: &Store,
    template: &Template,
    engine: &mut dyn Engine,
    progress: &mut Progress,
) -> Result<Option<Answer>, Error> {
    let store = &absolute(store)?;
    let _using = store.using()?;
    let campaign = Campaign::of(store, study, question);
    let Some(_lock) = Lock::take(&campaign.folder)? else { return Err(Error::InUse { path: campaign.folder }) };
    let Some(mut state) = campaign.state()? else {
        let path = campaign.folder.join(STATE);
        return Err(Error::Parse { path, reason: "is missing: submit the study with --engine slurm".to_owned() });
    };
    let planned = plan_round(&campaign, &mut state, question, study, template, engine, progress);
    if !matches!(planned, Ok(None) | Err(Error::Stopped { .. })) {
        state.outcome = Some(match &planned {
            Err(error) => Outcome::Failed(error.to_string()),
            Ok(_) => Outcome::Answered,
        });
        campaign.write(&state)?;
    }
    planned
}

fn plan_round(
    campaign: &Campaign<'_>,
    state: &mut State,
    question: &dyn Question,
    study: &Study,
    template: &Template,
    engine: &mut dyn Engine,
    progress: &mut Progress,
) -> Result<Option<Answer>, Error> {
    let store = campaign.store;
    let machine = engine.machine().clone();
    let given_up = given_up(store, state)?;
    loop {
        progress.signal.check()?;
        let round = look(question, study, store, &machine, &given_up, progress)?;
        let moment = of_a_moment(&round.open);
        if !moment.is_empty() {
            let mut runner = Runner::new(store, engine, progress)?;
            if round.data.is_some() {
                runner.complete(&moment)?
            } else {
                runner.must(&moment)?
            };
            continue;
        }
        if round.open.is_empty()
            && let Some(data) = &round.data
        {
            return answer_knowing(question, study, data, store, engine, progress, round.failures).map(Some);
        }
        send(campaign, state, template, round.open, progress)?;
        return Ok(None);
    }
}

/// Jobs that were tried often enough.
fn given_up(store: &Store, state: &State) -> Result<BTreeMap<Address, Failure>, Error> {
    let mut out = BTreeMap::new();
    for (address, _) in state.tries.iter().filter(|(_, tries)| **tries >= TRIES) {
        if store.is_done(address) {
            continue;
        }
        let label = store.job(address).map_or_else(|_| address.to_string(), |job| job.label());
        let known: Option<Failure> = store.failure(address)?;
        let reason = known.map_or_else(
            || format!("its task ended {TRIES} times without a result: see the logs of the rounds"),
            |failure| failure.reason,
        );
        out.insert(address.clone(), Failure { label, reason, certain: false, root: None });
    }
    Ok(out)
}

/// What a planning job does itself: it takes a moment, and nothing that it reads is still to be made.
fn of_a_moment(open: &[Job]) -> Vec<Job> {
    let addresses: Vec<Address> = open.iter().map(Job::address).collect();
    let short = |job: &&Job| {
        let quick = matches!(job, Job::Select(_) | Job::CountRows(_) | Job::CountTokens(_));
        quick && job.inputs().iter().all(|input| !addresses.contains(&input.address))
    };
    open.iter().filter(short).cloned().collect()
}

/// Submits a round, and the planning job that waits for it.
fn send(
    campaign: &Campaign<'_>,
    state: &mut State,
    template: &Template,
    open: Vec<Job>,
    progress: &Progress,
) -> Result<(), Error> {
    let round = state.round + 1;
    for job in &open {
        *state.tries.entry(job.address()).or_default() += 1;
    }
    let tasks = bundle(open);
    let file = campaign.tasks_file(round);
    write_json(&file, &tasks)?;
    state.round = round;
    campaign.write(state)?;
    let step = state.step.clone();
    let mut ids = vec![String::new(); tasks.len()];
    let mut submitted = Vec::new();
    for (number, members) in arrays(&tasks, ARRAY).into_iter().enumerate() {
        let script = round_script(campaign, template, &step, (round, number), &file, &tasks, &members, &ids);
        let id = campaign.submit(&script)?;
        for (place, task) in members.iter().enumerate() {
            ids[*task] = format!("{id}_{place}");
        }
        submitted.push(id.clone());
        state.ids.push(id);
        campaign.write(state)?;
    }
    let count = (tasks.len(), submitted.len());
    let id = campaign.submit(&campaign.planning(template, &step, round, submitted))?;
    state.ids.push(id);
    campaign.write(state)?;
    progress.note(&format!("round {round}: {} tasks in {} arrays", count.0, count.1));
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "all of it is one script")]
fn round_script<'t>(
    campaign: &Campaign<'_>,
    template: &'t Template,
    step: &Step,
    (round, number): (u32, usize),
    file: &Path,
    tasks: &[Task],
    members: &[usize],
    ids: &[String],
) -> Script<'t> {
    let members_list = members.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let extra = vec![format!("--slurm-tasks={}", file.display()), format!("--slurm-members={members_list}")];
    let script = campaign.script(template, step, &format!("round-{round}-{number}"), extra);
    let after = members.first().map(|first| tasks[*first].after.iter().map(|t| ids[*t].clone()).collect());
    Script { tasks: Some(members.len()), after: after.unwrap_or_default(), ..script }
}

/// The next round's plan and scripts as text; nothing is submitted and nothing run. Numbers of jobs that the queue would
/// give are written as `ARRAY0`, `ARRAY1`, ….
///
/// # Errors
/// As [`plan`].
pub fn preview(
    question: &dyn Question,
    study: &Study,
    store: &Store,
    machine: &Machine,
    template: &Template,
    step: &Step,
    progress: &Progress,
) -> Result<String, Error> {
    let store = &absolute(store)?;
    let campaign = Campaign::of(store, study, question);
    let next = look(question, study, store, machine, &BTreeMap::new(), progress)?;
    let mut out = String::new();
    let _ = writeln!(out, "slurm: {} jobs are known, {} are to be run", next.jobs.len(), next.open.len());
    if next.data.is_none() {
        out += "The data are prepared first; what follows is planned on the cluster when that is done.\n";
    }
    let tasks = bundle(next.open);
    let file = campaign.tasks_file(1);
    let mut ids = vec![String::new(); tasks.len()];
    let mut names = Vec::new();
    for (number, members) in arrays(&tasks, ARRAY).into_iter().enumerate() {
        let script = round_script(&campaign, template, step, (1, number), &file, &tasks, &members, &ids);
        for (place, task) in members.iter().enumerate() {
            ids[*task] = format!("ARRAY{number}_{place}");
            let labels = tasks[*task].jobs.iter().map(Job::label).collect::<Vec<_>>().join("; ");
            let _ = writeln!(out, "ARRAY{number}_{place}: {labels}");
        }
        names.push((format!("ARRAY{number}"), script.text()));
    }
    let last = campaign.planning(template, step, 1, names.iter().map(|(name, _)| name.clone()).collect());
    names.push(("the job that plans the next round".to_owned(), last.text()));
    for (name, text) in names {
        let _ = write!(out, "\n==> {name}\n{text}");
    }
    Ok(out)
}

/// Runs the jobs of an array's task. Jobs whose inputs other tasks did not make are left for the next round.
///
/// # Errors
/// Jobs that failed, inputs that are missing, a signal.
pub fn run_task(
    file: &Path,
    members: &[usize],
    place: usize,
    store: &Store,
    engine: &mut dyn Engine,
    progress: &mut Progress,
) -> Result<(), Error> {
    let _using = store.using()?;
    let tasks: Vec<Task> =
        read_json(file)?.ok_or_else(|| Error::Parse { path: file.to_owned(), reason: "is missing".to_owned() })?;
    let task = members.get(place).and_then(|number| tasks.get(*number)).ok_or_else(|| {
        Error::field("SLURM_ARRAY_TASK_ID", place, format!("is no task of this array of {}", members.len()))
    })?;
    let mut runner = Runner::new(store, engine, progress)?.alone();
    runner.complete(&task.jobs)?;
    let failures = runner.roots_of_failures();
    if failures.is_empty() { Ok(()) } else { Err(Error::Failed { failures }) }
}
