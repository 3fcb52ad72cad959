//! Running jobs that the store lacks on an engine, beside any number of other processes on the same store.
//!
//! 1. What the store holds is settled; so is what is known to fail, with all that depends on it.
//! 2. Of the rest, jobs whose inputs are there are started while the engine has room, those first that most depends on.
//! 3. What the engine tells is passed to progress; an ended job may make others ready.
//! 4. What other processes work on is looked at again and again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::engine::{Ended, Event, Task, Trouble};
use crate::job::{Input, Job, Reads};
use crate::speeds::{Speeds, threads};
use crate::store::{Failure, Files, Lock, Status, Store};
use crate::{Engine, Error, Progress};

/// Time between looks at what other processes work on, and at signals.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Time between writes of what was learnt of speeds.
const WRITE_EVERY: Duration = Duration::from_secs(30);

pub(crate) struct Runner<'a> {
    store: &'a Store,
    engine: &'a mut dyn Engine,
    pub(crate) progress: &'a mut Progress,
    pub(crate) speeds: Speeds,
    written: Instant,
    settled: HashSet<Address>,
    pub(crate) failures: BTreeMap<Address, Failure>,
    /// Jobs whose freed files something needs.
    wanted: HashSet<Address>,
    /// Whether inputs that nobody asked for are left to others.
    alone: bool,
    /// Jobs that were tried once more: because a file that they read went away, or their process ended.
    retried: HashSet<Address>,
    lost: HashSet<Address>,
    /// Jobs that were made again because they were damaged: once each.
    repaired: HashSet<Address>,
    /// Jobs of which it was said that they are made again.
    announced: HashSet<Address>,
}

/// The jobs of a call.
#[derive(Default)]
struct Round {
    /// To be run, in the order in which they are wanted.
    open: Vec<Open>,
    /// Whether something happened since it was looked for jobs to start.
    changed: bool,
    /// The same by address, and those that run: what waits for them need not look at the store.
    known: HashSet<Address>,
    /// Those whose inputs were seen to be there.
    ready: HashSet<Address>,
    running: HashMap<Address, Running>,
    /// What other processes work on, and when it was looked at.
    busy: HashMap<Address, Instant>,
    /// Whether it was said that others are waited for.
    said: bool,
    /// Whether failures end it.
    strict: bool,
}

/// A job to be run. Its address is costly to find: it covers every learning rate.
struct Open {
    address: Address,
    inputs: Vec<Input>,
    job: Job,
}

impl Open {
    fn new(job: &Job, address: Address) -> Self {
        Self { address, inputs: job.inputs(), job: job.clone() }
    }
}

struct Running {
    open: Open,
    threads: usize,
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

impl<'a> Runner<'a> {
    pub(crate) fn new(store: &'a Store, engine: &'a mut dyn Engine, progress: &'a mut Progress) -> Result<Self, Error> {
        let speeds = Speeds::read(store, engine.machine())?;
        Ok(Self {
            store,
            engine,
            progress,
            speeds,
            written: Instant::now(),
            settled: HashSet::new(),
            failures: BTreeMap::new(),
            wanted: HashSet::new(),
            alone: false,
            retried: HashSet::new(),
            lost: HashSet::new(),
            repaired: HashSet::new(),
            announced: HashSet::new(),
        })
    }

    /// The same, that makes nothing but what it is asked for.
    pub(crate) fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    pub(crate) fn is_settled(&self, address: &Address) -> bool {
        self.settled.contains(address) || self.failures.contains_key(address)
    }

    /// The jobs that failed themselves, not for another's sake.
    pub(crate) fn roots_of_failures(&self) -> Vec<Failure> {
        self.failures.values().filter(|failure| failure.root.is_none()).cloned().collect()
    }

    /// Counts on jobs that are not done yet, and on no others.
    pub(crate) fn expect_only(&mut self, jobs: &[Job]) {
        let addresses: HashSet<Address> = jobs.iter().map(Job::address).collect();
        self.progress.keep(&addresses);
        for job in jobs {
            let address = job.address();
            if !self.is_settled(&address) {
                let seconds = self.seconds(job);
                self.progress.expect(address, seconds);
            }
        }
    }

    /// Seconds that a job is expected to take beside others.
    fn seconds(&self, job: &Job) -> f64 {
        self.speeds.seconds(&job.cost(), threads(&*self.engine, self.engine.slots()))
    }

    /// Completes jobs without which nothing can be done: their first error is the study's.
    pub(crate) fn must(&mut self, jobs: &[Job]) -> Result<(), Error> {
        self.run(jobs, true)
    }

    /// Completes jobs, inputs first; what fails is kept as such, with what depends on it.
    pub(crate) fn complete(&mut self, jobs: &[Job]) -> Result<(), Error> {
        self.run(jobs, false)
    }

    fn run(&mut self, jobs: &[Job], strict: bool) -> Result<(), Error> {
        let mut round = Round { strict, changed: true, ..Round::default() };
        for job in jobs {
            let address = job.address();
            if !self.is_settled(&address)
                && !round.known.contains(&address)
                && matches!(self.stands(job, &address)?, Stands::ToRun)
            {
                self.open(&mut round, job, address)?;
            }
        }
        self.order(&mut round.open);
        let result = self.work(&mut round);
        // What was learnt of speeds is no reason to fail.
        let _ = self.speeds.write();
        result
    }

    /// A job is to be run, and before it what it describes and the store lacks.
    fn open(&mut self, round: &mut Round, job: &Job, address: Address) -> Result<(), Error> {
        let seconds = self.seconds(job);
        self.progress.expect(address.clone(), seconds);
        round.known.insert(address.clone());
        // Others make what nobody asked this one for.
        for input in if self.alone { Vec::new() } else { job.describes() } {
            let address = input.address();
            if round.known.contains(&address) || self.settled.contains(&address) {
                continue;
            }
            // Freed files of it are needed.
            self.wanted.insert(address.clone());
            if matches!(self.stands(&input, &address)?, Stands::ToRun) {
                self.open(round, &input, address)?;
            }
        }
        round.open.push(Open::new(job, address));
        Ok(())
    }

    /// Those first that most depends on; one after the other, the order that was given is as good.
    fn order(&self, open: &mut [Open]) {
        if self.engine.slots() == 1 {
            return;
        }
        let mut behind: HashMap<&Address, f64> = HashMap::new();
        let mut ahead: HashMap<Address, f64> = HashMap::new();
        // Inputs stand before those who read them.
        for Open { address, inputs, job } in open.iter().rev() {
            let whole = self.seconds(job) + behind.get(address).copied().unwrap_or(0.0);
            for input in inputs {
                let longest = behind.entry(&input.address).or_insert(0.0);
                *longest = longest.max(whole);
            }
            ahead.insert(address.clone(), whole);
        }
        let of = |open: &Open| ahead.get(&open.address).copied().unwrap_or(0.0);
        open.sort_by(|a, b| of(b).total_cmp(&of(a)));
    }

    fn work(&mut self, round: &mut Round) -> Result<(), Error> {
        loop {
            if let Some(signal) = self.progress.signal.received() {
                return self.stop(round, signal);
            }
            self.start(round)?;
            // What was just found to be missing, or settled, may let something start.
            while round.changed && round.running.len() < self.engine.slots() {
                self.start(round)?;
            }
            if round.open.is_empty() && round.running.is_empty() {
                return Ok(());
            }
            if round.running.is_empty() {
                let Some(busy) = round.open.iter().find(|open| round.busy.contains_key(&open.address)) else {
                    // What it waits for is neither in the graph nor in the store.
                    return Err(Error::NoJob { address: self.waits_for(round)? });
                };
                if !round.said {
                    self.progress.note(&format!("another process works on {}: waiting for it", busy.job.label()));
                    round.said = true;
                }
            }
            if let Some(event) = self.engine.event(LOOK_EVERY) {
                self.hear(round, event)?;
            }
            if self.written.elapsed() > WRITE_EVERY {
                self.written = Instant::now();
                let _ = self.speeds.write();
            }
        }
    }

    /// Lets the jobs at work stop with checkpoints.
    fn stop(&mut self, round: &mut Round, signal: i32) -> Result<(), Error> {
        self.engine.stop(signal);
        while !round.running.is_empty() {
            if let Some(Event::Ended { job, .. }) = self.engine.event(LOOK_EVERY) {
                round.running.remove(&job);
            }
        }
        Err(Error::Stopped { signal })
    }

    /// The first input that is not there.
    fn waits_for(&mut self, round: &mut Round) -> Result<Address, Error> {
        let inputs: Vec<Input> = round.open.iter().flat_map(|open| open.inputs.clone()).collect();
        for input in inputs {
            if !matches!(self.input(round, &input)?, Ready::Yes) {
                return Ok(input.address);
            }
        }
        Ok(round.open.first().map_or_else(|| Address::named("none", "none"), |open| open.address.clone()))
    }

    /// Starts what is ready, while there is room.
    fn start(&mut self, round: &mut Round) -> Result<(), Error> {
        let room = self.engine.slots().saturating_sub(round.running.len());
        if room == 0 || (!round.changed && round.busy.is_empty()) {
            return Ok(());
        }
        round.changed = false;
        let (mut ready, mut left) = (Vec::new(), Vec::new());
        for open in std::mem::take(&mut round.open) {
            match self.look(round, &open)? {
                Look::Start => ready.push(open),
                Look::Wait => left.push(open),
                Look::Settled => {
                    round.known.remove(&open.address);
                    // What it settles may let others go on, or not.
                    round.changed = true;
                }
            }
        }
        // Inputs that turned out to be missing are in front.
        round.changed |= !round.open.is_empty();
        round.open.append(&mut left);
        let beside = (round.running.len() + ready.len()).min(self.engine.slots());
        let (share, threads) = (self.engine.share(beside), threads(&*self.engine, beside));
        let mut ready = ready.into_iter();
        for open in ready.by_ref().take(room) {
            round.said = false;
            let again = self.wanted.contains(&open.address);
            let task = Task { job: open.job.clone(), store: self.store.root().to_owned(), again, threads: share };
            self.engine.start(task)?;
            round.running.insert(open.address.clone(), Running { open, threads });
        }
        // They are ready: in front.
        round.open.splice(0..0, ready);
        Ok(())
    }

    /// What is to be done with an open job.
    fn look(&mut self, round: &mut Round, open: &Open) -> Result<Look, Error> {
        let Open { address, inputs, job } = open;
        if self.is_settled(address) {
            return Ok(Look::Settled);
        }
        if let Some(looked) = round.busy.get(address) {
            if looked.elapsed() < LOOK_EVERY {
                return Ok(Look::Wait);
            }
            if matches!(self.stands(job, address)?, Stands::Settled) {
                round.busy.remove(address);
                return Ok(Look::Settled);
            }
            if Lock::is_held(&self.store.folder(address))? {
                round.busy.insert(address.clone(), Instant::now());
                return Ok(Look::Wait);
            }
            round.busy.remove(address);
        }
        if round.ready.contains(address) {
            return Ok(Look::Start);
        }
        for input in inputs {
            match self.input(round, input)? {
                Ready::Yes => {}
                Ready::NotYet => return Ok(Look::Wait),
                Ready::Never(failure) => {
                    self.lose(job, address, &input.address, failure)?;
                    return Ok(Look::Settled);
                }
            }
        }
        round.ready.insert(address.clone());
        Ok(Look::Start)
    }

    fn hear(&mut self, round: &mut Round, event: Event) -> Result<(), Error> {
        match event {
            Event::Note(text) => self.progress.note(&text),
            Event::Resumed { job, done } => self.progress.resumed(&job, done),
            Event::Advanced { job, done, what } => self.progress.advanced(&job, done, &what),
            Event::Ended { job: address, how } => {
                if let Some(running) = round.running.remove(&address) {
                    round.changed = true;
                    self.ended(round, running, how)?;
                }
            }
        }
        Ok(())
    }

    fn ended(&mut self, round: &mut Round, running: Running, how: Ended) -> Result<(), Error> {
        let Running { open, threads } = running;
        match how {
            Ended::Done { seconds, resumed } => {
                let cost = open.job.cost();
                self.speeds.note(&cost.class, threads, cost.amount * (1.0 - resumed), seconds);
                self.progress.ended(&open.address, true);
                self.wanted.remove(&open.address);
                round.known.remove(&open.address);
                self.settled.insert(open.address);
            }
            Ended::Elsewhere => match self.stands(&open.job, &open.address)? {
                Stands::Settled => drop(round.known.remove(&open.address)),
                Stands::ToRun => self.reopen(round, open),
            },
            Ended::Busy => {
                round.busy.insert(open.address.clone(), Instant::now());
                round.open.insert(0, open);
            }
            Ended::Failed(trouble) => self.failed(round, open, trouble)?,
            Ended::Stopped { signal } => match self.progress.signal.received() {
                Some(signal) => return self.stop(round, signal),
                None => self.is_lost(round, open, &format!("was stopped by signal {signal}"))?,
            },
            Ended::Lost { reason } => self.is_lost(round, open, &reason)?,
        }
        Ok(())
    }

    /// Tries a job again, before everything else.
    fn reopen(&mut self, round: &mut Round, open: Open) {
        self.progress.restarted(&open.address);
        round.known.insert(open.address.clone());
        round.ready.remove(&open.address);
        round.open.insert(0, open);
        round.changed = true;
    }

    /// A job whose process ended is tried once more.
    fn is_lost(&mut self, round: &mut Round, open: Open, reason: &str) -> Result<(), Error> {
        if self.lost.insert(open.address.clone()) {
            self.progress.note(&format!("{}: its process {reason}; it is tried once more", open.job.label()));
            self.reopen(round, open);
            return Ok(());
        }
        let reason = format!("its process {reason}, for the second time");
        self.fail(round, open, Trouble { reason, certain: false, damaged: None, status: 1 })
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
                self.progress.ended(address, false);
                self.store.tidy(address)?;
                self.settled.insert(address.clone());
                Ok(Stands::Settled)
            }
            Status::Failed(failure) => {
                self.progress.lost(address);
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
    fn input(&mut self, round: &mut Round, input: &Input) -> Result<Ready, Error> {
        // An input that nobody asked for is looked at once more when it is known to be done.
        for _ in 0..2 {
            if let Some(failure) = self.failures.get(&input.address) {
                let tolerated = input.what == Reads::Outcome && failure.certain;
                return Ok(if tolerated { Ready::Yes } else { Ready::Never(failure.clone()) });
            }
            if round.known.contains(&input.address) {
                return Ok(Ready::NotYet);
            }
            if self.settled.contains(&input.address) && input.is_there(self.store)? {
                return Ok(Ready::Yes);
            }
            // Settled, but its files were freed: made again, now that they are needed. Or not asked for by anyone.
            if self.settled.remove(&input.address) {
                self.wanted.insert(input.address.clone());
            }
            let job = match self.store.job(&input.address) {
                Ok(job) => job,
                // Nobody has begun it: who waits for it is told so in the end.
                Err(Error::NoJob { .. } | Error::Parse { .. }) => return Ok(Ready::NotYet),
                Err(other) => return Err(other),
            };
            if matches!(self.stands(&job, &input.address)?, Stands::ToRun) {
                // Others make it.
                if !self.alone || self.wanted.contains(&input.address) {
                    self.open(round, &job, input.address.clone())?;
                }
                return Ok(Ready::NotYet);
            }
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
        self.progress.lost(address);
        self.failures.insert(address.clone(), failure);
        Ok(())
    }

    /// After an error: a damaged file is made again, once; anything else is the job's failure.
    fn failed(&mut self, round: &mut Round, open: Open, trouble: Trouble) -> Result<(), Error> {
        let damaged = trouble.damaged.as_deref().and_then(|path| self.store.address_of(path));
        let Some(damaged) = damaged else { return self.fail(round, open, trouble) };
        // `gc` in another process may have put weights in a state's place between a look and the read: look again.
        if damaged != open.address && self.retried.insert(open.address.clone()) {
            self.reopen(round, open);
            return Ok(());
        }
        // It is being made again already, for another job that reads it.
        if damaged != open.address && self.repaired.contains(&damaged) && !self.is_settled(&damaged) {
            self.reopen(round, open);
            return Ok(());
        }
        if !self.repaired.insert(damaged.clone()) {
            return self.fail(round, open, trouble);
        }
        self.progress.note(&format!("{trouble}; it is made again"));
        self.reopen_damaged(round, &damaged, damaged != open.address)?;
        self.reopen(round, open);
        Ok(())
    }

    /// Forgets what is damaged; `other`: it is not the job's own.
    fn reopen_damaged(&mut self, round: &mut Round, damaged: &Address, other: bool) -> Result<(), Error> {
        if let Some(lock) = Lock::take(&self.store.folder(damaged))? {
            if other {
                self.store.forget(damaged)?;
            }
            self.store.clear(&lock)?;
        }
        if !other {
            return Ok(());
        }
        self.settled.remove(damaged);
        match self.store.job(damaged) {
            Ok(job) if !round.known.contains(damaged) => self.open(round, &job, damaged.clone()),
            _ => Ok(()),
        }
    }

    fn fail(&mut self, round: &mut Round, open: Open, trouble: Trouble) -> Result<(), Error> {
        let Open { address, job, .. } = open;
        round.known.remove(&address);
        if round.strict {
            return Err(Error::Job(trouble));
        }
        let label = job.label();
        // Some errors begin with the job's name.
        let reason = trouble.reason.strip_prefix(&format!("{label}: ")).map_or(trouble.reason.clone(), str::to_owned);
        let failure = Failure { label, reason, certain: trouble.certain, root: None };
        self.progress.note(&format!("failed: {failure}"));
        // Where nothing can be written, it is known in this process alone.
        if let Ok(Some(lock)) = Lock::take(&self.store.folder(&address)) {
            let _ = self.store.fail(&lock, &failure);
        }
        self.progress.lost(&address);
        self.failures.insert(address, failure);
        Ok(())
    }
}

/// What is to be done with an open job.
enum Look {
    Start,
    Wait,
    Settled,
}
