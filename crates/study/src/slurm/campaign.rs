//! A study on Slurm, from its submission to its page.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
use crate::store::{Failure, Files, Lock, Root, Status, Store};
use crate::{Answer, Engine, Error, Machine, Progress, Question, Study};

/// The folder of campaigns in a store.
const SLURM: &str = "slurm";
const STATE: &str = "campaign.json";
const FORMAT: u32 = 1;
/// Tasks of an array: Slurm's usual limit is 1001.
const ARRAY: usize = 1000;
/// How often a job is tried.
const TRIES: u32 = 2;
/// How long a planning job waits for another process that plans.
const PATIENCE: Duration = Duration::from_secs(300);

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
    /// The last round.
    pub(super) round: u32,
    /// Numbers of its arrays that were submitted, in order.
    pub(super) arrays: Vec<String>,
    /// The number of the planning job that waits for it; `None` until everything before was submitted.
    pub(super) planner: Option<String>,
    /// All numbers, of all rounds.
    pub(super) ids: Vec<String>,
    /// How often jobs were tried without a result, by the rounds up to `counted`.
    pub(super) tries: BTreeMap<Address, u32>,
    pub(super) counted: u32,
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
                "submitted: job {ids} plans what is left; scripts and logs in {folder}; the same command with \
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

    /// Waits for somebody who submits the study, or plans it.
    fn wait_for_lock(&self, progress: &Progress) -> Result<Lock, Error> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(lock) = Lock::take(&self.folder)? {
                return Ok(lock);
            }
            progress.signal.check()?;
            if Instant::now() > until {
                let reason = format!("{}: another process plans this study", self.folder.display());
                return Err(Error::Slurm { command: "planning".to_owned(), reason });
            }
            std::thread::sleep(Duration::from_millis(100));
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
    let Some(_lock) = Lock::take(&campaign.folder)? else {
        let reason = "it is being planned just now; ask again in a moment".to_owned();
        return Err(Error::Slurm { command: "submitting".to_owned(), reason });
    };
    let before = campaign.state()?;
    if let Some(state) = &before {
        let queued = queue::queued(&state.ids)?;
        if !queued.is_empty() {
            let ids = queued.into_iter().map(|job| job.id).collect();
            return Ok(Submitted { folder: campaign.folder.clone(), ids, under_way: true });
        }
    }
    let round = before.map_or(0, |state| state.round);
    let id = campaign.submit(&campaign.planning(template, step, round, Vec::new()))?;
    // The planning job waits for this lock, and finds itself in the record.
    campaign.write(&State {
        format: FORMAT,
        question: question.name().to_owned(),
        step: step.clone(),
        round,
        arrays: Vec::new(),
        planner: Some(id.clone()),
        ids: vec![id.clone()],
        tries: BTreeMap::new(),
        counted: round,
        outcome: None,
    })?;
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
            let mut known = Fingerprints::read(store.root())?.until(&progress.signal);
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

/// Writes an answer where it is wanted.
pub type Write<'a> = dyn FnMut(&Answer, &mut dyn Engine, &mut Progress) -> Result<(), Error> + 'a;

/// Plans the round after `round` in a planning job: submits it, or answers the question and has the answer written.
///
/// A planning job that is killed and requeued goes on where it was.
///
/// # Errors
/// Data that cannot be used, a store that cannot be written, a queue that refuses, a signal; what `write` met.
#[allow(clippy::too_many_arguments, reason = "what a study is, where it runs, and what becomes of the answer")]
pub fn plan(
    round: u32,
    question: &dyn Question,
    study: &Study,
    store: &Store,
    template: &Template,
    engine: &mut dyn Engine,
    progress: &mut Progress,
    write: &mut Write<'_>,
) -> Result<(), Error> {
    let store = &absolute(store)?;
    let _using = store.using()?;
    let campaign = Campaign::of(store, study, question);
    let _lock = campaign.wait_for_lock(progress)?;
    let Some(mut state) = campaign.state()? else {
        let path = campaign.folder.join(STATE);
        return Err(Error::Parse { path, reason: "is missing: submit the study with --engine slurm".to_owned() });
    };
    if state.round > round {
        // This job was requeued. All that it had to do is done, or is done now.
        return if state.planner.is_some() { Ok(()) } else { send(&campaign, &mut state, template, progress) };
    }
    let outcome = plan_round(&campaign, &mut state, question, study, template, engine, progress)
        .and_then(|answer| answer.map(|answer| write(&answer, engine, progress)).transpose());
    match &outcome {
        // More is to come, or this job is to go on.
        Ok(None) | Err(Error::Stopped { .. }) => {}
        Ok(Some(())) => state.outcome = Some(Outcome::Answered),
        Err(error) => state.outcome = Some(Outcome::Failed(error.to_string())),
    }
    campaign.write(&state)?;
    outcome.map(drop)
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
    count_tries(campaign, state)?;
    let mut given_up = given_up(store, state)?;
    loop {
        progress.signal.check()?;
        let next = look(question, study, store, &machine, &given_up, progress)?;
        let moment = of_a_moment(&next.open);
        if !moment.is_empty() {
            let mut runner = Runner::new(store, engine, progress)?;
            if next.data.is_some() {
                runner.complete(&moment)?
            } else {
                runner.must(&moment)?
            };
            given_up.extend(runner.failures);
            continue;
        }
        if next.open.is_empty()
            && let Some(data) = &next.data
        {
            return answer_knowing(question, study, data, store, engine, progress, next.failures).map(Some);
        }
        state.round += 1;
        write_json(&campaign.tasks_file(state.round), &bundle(next.open))?;
        (state.arrays, state.planner) = (Vec::new(), None);
        campaign.write(state)?;
        send(campaign, state, template, progress)?;
        return Ok(None);
    }
}

/// Counts, once a round, the jobs of it that could be run and have no result.
fn count_tries(campaign: &Campaign<'_>, state: &mut State) -> Result<(), Error> {
    if state.counted == state.round {
        return Ok(());
    }
    let store = campaign.store;
    for job in campaign.tasks(state.round)?.iter().flat_map(|task| &task.jobs) {
        let address = job.address();
        let mut ready = true;
        for input in job.inputs() {
            ready &= input.is_there(store)?;
        }
        if ready && !is_settled(store, job)? && !Lock::is_held(&store.folder(&address))? {
            *state.tries.entry(address).or_default() += 1;
        }
    }
    state.counted = state.round;
    campaign.write(state)
}

/// Whether a job has a result, or it is known why it has none.
fn is_settled(store: &Store, job: &Job) -> Result<bool, Error> {
    let damaged = |files: &Files| matches!(files, Files::Damaged(_));
    Ok(match job.status(store)? {
        Status::Done { files } => !damaged(&files),
        Status::Failed(_) => true,
        Status::Absent | Status::Broken => false,
    })
}

/// Jobs that were tried often enough.
fn given_up(store: &Store, state: &State) -> Result<BTreeMap<Address, Failure>, Error> {
    let mut out = BTreeMap::new();
    for (address, _) in state.tries.iter().filter(|(_, tries)| **tries >= TRIES) {
        let job = store.job(address).ok();
        if let Some(job) = &job
            && is_settled(store, job)?
        {
            continue;
        }
        let label = job.map_or_else(|| address.to_string(), |job| job.label());
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

/// Submits what was not yet submitted of the last round, and the planning job that waits for it.
fn send(campaign: &Campaign<'_>, state: &mut State, template: &Template, progress: &Progress) -> Result<(), Error> {
    let (round, step) = (state.round, state.step.clone());
    let (tasks, file) = (campaign.tasks(round)?, campaign.tasks_file(round));
    let mut ids = vec![String::new(); tasks.len()];
    // The same arrays each time, so that those with a number are those that were submitted.
    let arrays = arrays(&tasks, ARRAY);
    for (number, members) in arrays.iter().enumerate() {
        if state.arrays.len() == number {
            let script = round_script(campaign, template, &step, (round, number), &file, &tasks, members, &ids);
            let id = campaign.submit(&script)?;
            state.ids.push(id.clone());
            state.arrays.push(id);
            campaign.write(state)?;
        }
        for (place, task) in members.iter().enumerate() {
            ids[*task] = format!("{}_{place}", state.arrays[number]);
        }
    }
    let id = campaign.submit(&campaign.planning(template, &step, round, state.arrays.clone()))?;
    state.ids.push(id.clone());
    state.planner = Some(id);
    campaign.write(state)?;
    progress.note(&format!("round {round}: {} tasks in {} arrays", tasks.len(), arrays.len()));
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
