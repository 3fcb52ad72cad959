//! Running the jobs that the store lacks, in rounds, beside any number of other processes on the same store.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use crate::address::Address;
use crate::data::Data;
use crate::engine::Work;
use crate::graph::Graph;
use crate::job::{Input, Job, Kind, Reads};
use crate::question::Question;
use crate::store::{Failure, Files, Lock, Root, Status, Store};
use crate::{Engine, Error, Page, Progress, Study};

/// Seconds between looks at a job that another process works on.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Answers a question: runs what the store lacks, round by round, until every job that the question needs is done or
/// cannot be.
///
/// A job that fails loses only what depends on it: the page says what is missing, and [`Error::Failed`] lists why.
///
/// # Errors
/// A study that the question cannot be asked of, a store that cannot be read or written, a signal.
pub fn answer(
    question: &dyn Question,
    study: &Study,
    data: &Data,
    store: &Store,
    engine: &dyn Engine,
    progress: &mut Progress,
) -> Result<Answer, Error> {
    let _using = store.using()?;
    let mut runner = Runner::new(store, engine, progress);
    let nothing = BTreeMap::new();
    let mut plan = Graph::new(study, data, store, engine.machine(), &nothing).guessing();
    question.needs(&mut plan)?;
    let mut planned: BTreeSet<Address> = BTreeSet::new();
    let mut expected = HashMap::new();
    for job in plan.jobs() {
        planned.insert(job.address());
        if !matches!(job.status(store)?, Status::Done { .. } | Status::Failed(_)) {
            expected.insert(job.address(), job.cost());
        }
    }
    let total = expected.values().fold(0u64, |sum, cost| sum.saturating_add(*cost));
    runner.progress.begin(total);
    runner.expected = expected;
    loop {
        let failures = runner.failures.clone();
        let mut graph = Graph::new(study, data, store, engine.machine(), &failures);
        question.needs(&mut graph)?;
        let jobs = graph.jobs();
        Root::write(store, study, question.name(), data, &graph)?;
        if jobs.iter().all(|job| runner.is_settled(&job.address())) {
            let page = question.answer(&mut graph)?;
            let failures = graph.failures_that_matter();
            return Ok(Answer { page: with_machines(page, &graph)?, failures });
        }
        for job in &jobs {
            if planned.insert(job.address()) {
                runner.progress.extend(job.cost());
                runner.expected.insert(job.address(), job.cost());
            }
        }
        runner.complete(&jobs)?;
    }
}

/// What a question's answer is.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The page.
    pub page: Page,
    /// Why something on it is missing: each failed job once.
    pub failures: Vec<Failure>,
}

/// Where results of several classes of machine stand on one page, it says so.
fn with_machines(mut page: Page, graph: &Graph<'_>) -> Result<Page, Error> {
    let machines = graph.machines()?;
    if machines.len() > 1 {
        page.notes.push(format!(
            "Computed on machines whose matrix products differ in the last bits: {}. Each job's record names its own.",
            machines.join("; ")
        ));
    }
    Ok(page)
}

/// Runs a job by its address alone, with what it depends on.
///
/// # Errors
/// No such job, work that failed, a signal.
pub fn run_job(address: &Address, store: &Store, engine: &dyn Engine, progress: &mut Progress) -> Result<(), Error> {
    let _using = store.using()?;
    let mut jobs = vec![store.job(address)?];
    let mut at = 0;
    // Everything it needs, as far as the store knows it.
    while at < jobs.len() {
        for input in jobs[at].inputs() {
            if !jobs.iter().any(|job| job.address() == input.address) {
                jobs.push(store.job(&input.address)?);
            }
        }
        at += 1;
    }
    jobs.reverse();
    let mut runner = Runner::new(store, engine, progress);
    runner.complete(&jobs)?;
    let failures = runner.roots_of_failures();
    if failures.is_empty() { Ok(()) } else { Err(Error::Failed { failures }) }
}

/// What became of a look at a job.
enum Visit {
    /// It is done, or it is known why it cannot be.
    Settled,
    /// It is to be tried once more.
    Again,
    /// It waits for other jobs.
    Blocked,
    /// Another process works on it.
    Busy,
}

pub(crate) struct Runner<'a> {
    store: &'a Store,
    engine: &'a dyn Engine,
    pub(crate) progress: &'a mut Progress,
    settled: HashSet<Address>,
    failures: BTreeMap<Address, Failure>,
    /// Jobs whose freed files something needs.
    wanted: HashSet<Address>,
    /// What progress counts on for jobs that nobody has done yet.
    expected: HashMap<Address, u64>,
    /// Jobs that were tried once more, because a file that they read went away.
    retried: HashSet<Address>,
    /// Jobs that were made again because they were damaged: once each.
    repaired: HashSet<Address>,
    /// Jobs of which it was said that they are made again.
    announced: HashSet<Address>,
    /// Inputs that turned out to be needed though nobody asked for them.
    extra: Vec<Job>,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(store: &'a Store, engine: &'a dyn Engine, progress: &'a mut Progress) -> Self {
        Self {
            store,
            engine,
            progress,
            settled: HashSet::new(),
            failures: BTreeMap::new(),
            wanted: HashSet::new(),
            expected: HashMap::new(),
            retried: HashSet::new(),
            repaired: HashSet::new(),
            announced: HashSet::new(),
            extra: Vec::new(),
        }
    }

    fn is_settled(&self, address: &Address) -> bool {
        self.settled.contains(address) || self.failures.contains_key(address)
    }

    /// The jobs that failed themselves, not for another's sake.
    pub(crate) fn roots_of_failures(&self) -> Vec<Failure> {
        self.failures.values().filter(|failure| failure.root.is_none()).cloned().collect()
    }

    /// The result of a job that was completed.
    pub(crate) fn output<K: Kind>(&self, job: &K) -> Result<K::Output, Error> {
        let address = job.address();
        self.store.result::<K>(&address)?.ok_or(Error::NoJob { address })
    }

    /// Completes jobs without which nothing can be done: their first error is the study's.
    pub(crate) fn must(&mut self, jobs: &[Job]) -> Result<(), Error> {
        self.run_all(jobs, true)?;
        // Where their inputs lie now: what is made again later is made from these.
        jobs.iter().try_for_each(|job| self.store.update(job))
    }

    /// Completes jobs, inputs first; what fails is kept as such, with what depends on it.
    pub(crate) fn complete(&mut self, jobs: &[Job]) -> Result<(), Error> {
        self.run_all(jobs, false)
    }

    fn run_all(&mut self, jobs: &[Job], strict: bool) -> Result<(), Error> {
        let mut open: Vec<Job> = jobs.iter().filter(|job| !self.is_settled(&job.address())).cloned().collect();
        let mut said = false;
        while !open.is_empty() {
            let (mut moved, mut busy, mut left) = (false, None, Vec::new());
            for job in open {
                self.progress.signal.check()?;
                match self.visit(&job, strict)? {
                    Visit::Settled => moved = true,
                    Visit::Again => {
                        moved = true;
                        left.push(job);
                    }
                    Visit::Blocked => left.push(job),
                    Visit::Busy => {
                        busy.get_or_insert_with(|| job.label());
                        left.push(job);
                    }
                }
            }
            let known: HashSet<Address> = left.iter().map(Job::address).collect();
            let extra: Vec<Job> = self.extra.drain(..).filter(|job| !known.contains(&job.address())).collect();
            moved |= !extra.is_empty();
            // In front: others wait for them.
            open = extra.into_iter().chain(left).collect();
            if moved {
                said = false;
            } else if let Some(label) = busy {
                if !said {
                    self.progress.note(&format!("another process works on {label}: waiting for it"));
                    said = true;
                }
                std::thread::sleep(LOOK_EVERY);
            } else if let Some(job) = open.first() {
                // What it waits for is neither in the graph nor in the store.
                return Err(Error::NoJob { address: self.waits_for(job)? });
            }
        }
        Ok(())
    }

    /// The first input of a job that is not there.
    fn waits_for(&mut self, job: &Job) -> Result<Address, Error> {
        for input in job.inputs() {
            if !matches!(self.input(&input)?, Ready::Yes) {
                return Ok(input.address);
            }
        }
        Ok(job.address())
    }

    fn visit(&mut self, job: &Job, strict: bool) -> Result<Visit, Error> {
        let address = job.address();
        if self.is_settled(&address) {
            return Ok(Visit::Settled);
        }
        match self.stands(job, &address)? {
            Stands::Settled => return Ok(Visit::Settled),
            Stands::ToRun => {}
        }
        for input in job.inputs() {
            match self.input(&input)? {
                Ready::Yes => {}
                Ready::NotYet => return Ok(Visit::Blocked),
                Ready::Never(failure) => {
                    self.lose(job, &address, &input.address, failure)?;
                    return Ok(Visit::Settled);
                }
            }
        }
        let Some(lock) = Lock::take(&self.store.folder(&address))? else { return Ok(Visit::Busy) };
        // Another process may have done it since.
        if matches!(self.stands(job, &address)?, Stands::Settled) {
            return Ok(Visit::Settled);
        }
        // A result that is made again stays until the new one takes its place.
        self.store.begin(&lock, &address, job)?;
        let work = Work { job, store: self.store, lock: &lock, progress: &mut *self.progress };
        match self.engine.run(work) {
            Ok(()) => {
                // Its own run told progress.
                self.expected.remove(&address);
                self.wanted.remove(&address);
                self.settled.insert(address);
                Ok(Visit::Settled)
            }
            Err(error) => self.failed(job, address, error, &lock, strict),
        }
    }

    /// Whether a job is done, or known to fail; says so where it has to be done again.
    fn stands(&mut self, job: &Job, address: &Address) -> Result<Stands, Error> {
        match job.status(self.store)? {
            Status::Done { files: Files::Damaged(file) } => {
                self.announce(job, address, &format!("{file} is missing or not whole"));
                Ok(Stands::ToRun)
            }
            Status::Broken => {
                self.announce(job, address, "its result is damaged or another job's");
                Ok(Stands::ToRun)
            }
            Status::Done { files: Files::Released } if self.wanted.contains(address) => Ok(Stands::ToRun),
            Status::Done { .. } => {
                // By another process, since this one began.
                if let Some(cost) = self.expected.remove(address) {
                    self.progress.skip(cost);
                }
                self.store.tidy(address)?;
                self.settled.insert(address.clone());
                Ok(Stands::Settled)
            }
            Status::Failed(failure) => {
                self.failures.insert(address.clone(), failure);
                Ok(Stands::Settled)
            }
            Status::Absent => Ok(Stands::ToRun),
        }
    }

    /// Says once that a job is made again.
    fn announce(&mut self, job: &Job, address: &Address, why: &str) {
        if self.announced.insert(address.clone()) {
            self.progress.note(&format!("{}: {why} in {address}; it is made again", job.label()));
        }
    }

    /// Whether what a job reads of another one is there.
    fn input(&mut self, input: &Input) -> Result<Ready, Error> {
        if let Some(failure) = self.failures.get(&input.address) {
            let tolerated = input.what == Reads::Outcome && failure.certain;
            return Ok(if tolerated { Ready::Yes } else { Ready::Never(failure.clone()) });
        }
        let there = self.settled.contains(&input.address) && {
            match input.what {
                Reads::Outcome => true,
                Reads::Weights => crate::job::weights(self.store, &input.address).exists(),
                Reads::State => self.store.folder(&input.address).join(crate::job::FULL_STATE).exists(),
                Reads::Files => self.store.has_files(&input.address)?,
            }
        };
        if there {
            return Ok(Ready::Yes);
        }
        // Settled, but its files were freed: made again, now that they are needed. Or not asked for by anyone.
        if self.settled.remove(&input.address) {
            self.wanted.insert(input.address.clone());
        }
        match self.store.job(&input.address) {
            Ok(job) => self.extra.push(job),
            // It is in the graph, and not yet begun.
            Err(Error::NoJob { .. } | Error::Parse { .. }) => {}
            Err(other) => return Err(other),
        }
        Ok(Ready::NotYet)
    }

    /// What cannot be done because an input failed.
    fn lose(&mut self, job: &Job, address: &Address, input: &Address, cause: Failure) -> Result<(), Error> {
        let root = cause.root.clone().unwrap_or_else(|| input.clone());
        let reason = if cause.root.is_some() { cause.reason.clone() } else { cause.to_string() };
        let failure = Failure { label: job.label(), reason, certain: cause.certain, root: Some(root) };
        if failure.certain
            && let Some(lock) = Lock::take(&self.store.folder(address))?
        {
            self.store.begin(&lock, address, job)?;
            self.store.fail(&lock, &failure)?;
        }
        self.failures.insert(address.clone(), failure);
        Ok(())
    }

    /// After an error: a damaged file is made again, once; anything else is the job's failure.
    fn failed(&mut self, job: &Job, address: Address, error: Error, lock: &Lock, strict: bool) -> Result<Visit, Error> {
        if matches!(error, Error::Stopped { .. }) {
            return Err(error);
        }
        let damaged = error.damaged_file().and_then(|path| self.store.address_of(path));
        // `gc` in another process may have put weights in a state's place between a look and the read: look again.
        if damaged.as_ref().is_some_and(|damaged| *damaged != address) && self.retried.insert(address.clone()) {
            return Ok(Visit::Again);
        }
        // It is being made again already, for another job that reads it.
        if let Some(damaged) = &damaged
            && self.repaired.contains(damaged)
            && !self.is_settled(damaged)
        {
            return Ok(Visit::Again);
        }
        if let Some(damaged) = damaged
            && self.repaired.insert(damaged.clone())
        {
            self.progress.note(&format!("{error}; it is made again"));
            if damaged == address {
                self.store.clear(lock)?;
                return Ok(Visit::Again);
            }
            if let Some(lock) = Lock::take(&self.store.folder(&damaged))? {
                self.store.forget(&damaged)?;
                self.store.clear(&lock)?;
            }
            self.settled.remove(&damaged);
            if let Ok(job) = self.store.job(&damaged) {
                self.extra.push(job);
            }
            return Ok(Visit::Again);
        }
        if strict {
            return Err(error);
        }
        let label = job.label();
        let reason = error.to_string();
        // Some errors begin with the job's name.
        let reason = reason.strip_prefix(&format!("{label}: ")).map_or(reason.clone(), str::to_owned);
        let failure = Failure { label, reason, certain: error.is_certain(), root: None };
        self.progress.note(&format!("failed: {failure}"));
        // Where nothing can be written, it is known in this process alone.
        let _ = self.store.fail(lock, &failure);
        self.failures.insert(address, failure);
        Ok(Visit::Settled)
    }
}

enum Stands {
    Settled,
    ToRun,
}

enum Ready {
    Yes,
    NotYet,
    Never(Failure),
}
