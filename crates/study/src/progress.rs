//! Progress over all jobs with an estimate of the time left.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use crate::StopSignal;
use crate::address::Address;

/// Who is told of progress. This crate prints nothing itself.
pub trait Watcher: std::fmt::Debug {
    /// A message of its own.
    fn note(&self, message: &str) {
        let _ = message;
    }

    /// So much of all is done, from 0 to 1, and what is being done. Called after every step: most calls are to be passed
    /// over.
    fn at(&self, done: f64, what: &dyn Fn() -> String) {
        let _ = (done, what);
    }

    /// Nothing more comes.
    fn finish(&self) {}
}

/// Nobody.
impl Watcher for () {}

/// Progress through jobs of known cost, in seconds that they are expected to take.
#[derive(Debug)]
pub struct Progress {
    watcher: Box<dyn Watcher>,
    jobs: HashMap<Address, Share>,
    /// Seconds that all jobs are expected to take, and those that are done.
    total: f64,
    done: f64,
    /// Of the seconds done, those that this process found done: they do not count for the speed.
    skipped: f64,
    /// Jobs done, and jobs.
    counts: (usize, usize),
    started: Instant,
    /// Asked between steps.
    pub signal: StopSignal,
}

/// A job's part.
#[derive(Debug, Clone, Copy)]
struct Share {
    seconds: f64,
    /// How much of it is done, from 0 to 1.
    done: f64,
}

impl Progress {
    /// Told to a watcher.
    pub fn new(watcher: impl Watcher + 'static, signal: StopSignal) -> Self {
        Self {
            watcher: Box::new(watcher),
            jobs: HashMap::new(),
            total: 0.0,
            done: 0.0,
            skipped: 0.0,
            counts: (0, 0),
            started: Instant::now(),
            signal,
        }
    }

    /// Begins with nothing planned.
    pub(crate) fn begin(&mut self) {
        self.jobs.clear();
        (self.total, self.done, self.skipped, self.counts) = (0.0, 0.0, 0.0, (0, 0));
        self.started = Instant::now();
    }

    /// Counts on a job that is expected to take so many seconds; one that is counted on already is counted once.
    pub(crate) fn expect(&mut self, job: Address, seconds: f64) {
        self.jobs.entry(job).or_insert_with(|| {
            self.total += seconds;
            self.counts.1 += 1;
            Share { seconds, done: 0.0 }
        });
    }

    /// A job goes on where so much of it was done before.
    pub(crate) fn resumed(&mut self, job: &Address, done: f64) {
        self.skipped += self.set(job, done);
    }

    /// So much of a job is done, and what it is at.
    pub(crate) fn advanced(&mut self, job: &Address, done: f64, what: &str) {
        self.set(job, done);
        self.show(what);
    }

    /// A job is done: by this process, or found so.
    pub(crate) fn ended(&mut self, job: &Address, here: bool) {
        let more = self.set(job, 1.0);
        if !here {
            self.skipped += more;
        }
        self.counts.0 += usize::from(self.jobs.remove(job).is_some());
    }

    /// A job will not be done: nothing is expected of it any more.
    pub(crate) fn lost(&mut self, job: &Address) {
        if let Some(share) = self.jobs.remove(job) {
            self.total -= share.seconds;
            self.done -= share.seconds * share.done;
            self.counts.0 += 1;
        }
    }

    /// Nothing is expected of other jobs any more: another choice was made than was foreseen.
    pub(crate) fn keep(&mut self, jobs: &HashSet<Address>) {
        let gone = self.jobs.extract_if(|job, _| !jobs.contains(job));
        let (mut seconds, mut done, mut count) = (0.0, 0.0, 0);
        for (_, share) in gone {
            seconds += share.seconds;
            done += share.seconds * share.done;
            count += 1;
        }
        self.total -= seconds;
        self.done -= done;
        self.counts.1 -= count;
    }

    /// A job starts again from its beginning, or from a checkpoint that it will tell of.
    pub(crate) fn restarted(&mut self, job: &Address) {
        self.set(job, 0.0);
    }

    /// The seconds by which it went on.
    fn set(&mut self, job: &Address, done: f64) -> f64 {
        let Some(share) = self.jobs.get_mut(job) else { return 0.0 };
        let more = (done.clamp(0.0, 1.0) - share.done) * share.seconds;
        share.done = done.clamp(0.0, 1.0);
        self.done += more;
        more
    }

    fn show(&self, what: &str) {
        let fraction = if self.total > 0.0 { (self.done / self.total).clamp(0.0, 1.0) } else { 0.0 };
        let (done, jobs) = self.counts;
        self.watcher.at(fraction, &|| format!("{done}/{jobs} jobs, {}, {what}", self.estimate()));
    }

    /// A message of its own.
    pub fn note(&self, message: &str) {
        self.watcher.note(message);
    }

    /// Nothing more comes.
    pub fn finish(&self) {
        self.watcher.finish();
    }

    fn estimate(&self) -> String {
        let (seconds, worked) = (self.started.elapsed().as_secs_f64(), self.done - self.skipped);
        // The beginning tells little.
        if worked < 0.01 * self.total || worked <= 0.0 || seconds < 1.0 {
            return "ETA unknown".to_owned();
        }
        format!("ETA {}", duration((self.total - self.done).max(0.0) * seconds / worked))
    }
}

/// A time in two units.
pub(crate) fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s:02}s"),
        (0, h, m, _) => format!("{h}h{m:02}m"),
        (d, h, ..) => format!("{d}d{h:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_done_is_no_speed() {
        let mut progress = Progress::new((), StopSignal::default());
        let job = |name: &str| Address::named("evaluate", name);
        progress.begin();
        for (name, seconds) in [("a", 10.0), ("b", 20.0), ("c", 30.0), ("a", 10.0)] {
            progress.expect(job(name), seconds);
        }
        assert_eq!((progress.total, progress.counts), (60.0, (0, 3)));
        progress.ended(&job("a"), false);
        assert_eq!((progress.done, progress.skipped), (10.0, 10.0));
        assert_eq!(progress.estimate(), "ETA unknown");
        progress.resumed(&job("b"), 0.5);
        progress.advanced(&job("b"), 0.75, "");
        assert_eq!((progress.done, progress.skipped), (25.0, 20.0));
        progress.lost(&job("c"));
        assert_eq!((progress.total, progress.done), (30.0, 25.0));
        progress.restarted(&job("b"));
        progress.ended(&job("b"), true);
        assert_eq!((progress.done, progress.counts), (30.0, (3, 3)));
        // A job that nobody counted on changes nothing.
        progress.ended(&job("d"), true);
        assert_eq!((progress.done, progress.counts), (30.0, (3, 3)));
    }

    #[test]
    fn durations() {
        for (seconds, text) in [(0.4, "0s"), (61.0, "1m01s"), (3_700.0, "1h01m"), (190_000.0, "2d04h")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
