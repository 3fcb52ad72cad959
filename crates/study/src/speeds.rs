//! How fast jobs are done here: measured whenever one is, kept in the store beside the machine's description.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::address::digest;
use crate::engine::Engine;
use crate::files::{read_json, write_json};
use crate::job::Cost;
use crate::store::Store;
use crate::{Error, Machine};

/// The folder of machines' records in a store.
const MACHINES: &str = "machines";
/// The format of a record.
const FORMAT: u32 = 1;
/// Seconds of measurement that count as much as everything before.
const MEMORY: f64 = 600.0;
/// Seconds that a timing counts for.
const TIMED: f64 = 0.1;

/// A machine, as far as it matters for speed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Host {
    /// The backend.
    pub backend: String,
    /// The class of its matrix kernels.
    pub kernels: String,
    /// The processor's name.
    pub processor: String,
    /// Its cores.
    pub cores: usize,
    /// Names of its GPUs.
    pub gpus: Vec<String>,
}

impl Host {
    /// This one.
    fn of(machine: &Machine) -> Self {
        let value = |line: &str| line.split_once(':').map(|(_, value)| value.trim().to_owned());
        let first = |path: &str, key: &str| {
            let text = std::fs::read_to_string(path).ok()?;
            text.lines().find(|line| line.starts_with(key)).and_then(value)
        };
        let processor = first("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let listed = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
        let mut gpus: Vec<String> =
            listed.filter_map(|gpu| first(&gpu.path().join("information").to_string_lossy(), "Model")).collect();
        gpus.sort_unstable();
        let (backend, kernels) = (machine.backend.clone(), machine.kernels.clone());
        Self { backend, kernels, processor, cores: cores(), gpus }
    }
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// What was measured of a class of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Measured {
    amount: f64,
    seconds: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    format: u32,
    machine: Host,
    /// By class and threads.
    measured: BTreeMap<String, Measured>,
}

/// The speeds of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Speeds {
    path: PathBuf,
    record: Record,
    /// What this process measured, and has not written yet.
    fresh: BTreeMap<String, Measured>,
}

/// Amounts a second of what was never measured.
fn usual(what: &str) -> f64 {
    match what {
        "tokenise" => 3e6,
        "bpe" => 2e6,
        "count" => 3e8,
        "rows" => 1e6,
        "hash" => 1e8,
        "import" => 2e8,
        "split" => 1e6,
        "overlap" => 5e6,
        "proximity" => 2e6,
        "train" | "evaluate" | "probe" | "walk" => 2e10,
        _ => 1e3,
    }
}

impl Speeds {
    /// What a store knows of this machine. A record that cannot be read counts as none.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(crate) fn read(store: &Store, machine: &Machine) -> Result<Self, Error> {
        let host = Host::of(machine);
        let path = store.root().join(MACHINES).join(format!("{}-{}.json", host.backend, &digest(&host)[..12]));
        let known = match read_json::<Record>(&path) {
            Err(Error::Parse { .. }) => None,
            other => other?,
        };
        let empty = || Record { format: FORMAT, machine: host.clone(), measured: BTreeMap::new() };
        let record = known.filter(|known| known.format == FORMAT && known.machine == host).unwrap_or_else(empty);
        Ok(Self { path, record, fresh: BTreeMap::new() })
    }

    /// None.
    #[cfg(test)]
    fn unknown() -> Self {
        let machine = Host::of(&Machine::unknown());
        let record = Record { format: FORMAT, machine, measured: BTreeMap::new() };
        Self { path: PathBuf::new(), record, fresh: BTreeMap::new() }
    }

    /// Whether a class was measured with so many threads.
    pub(crate) fn knows(&self, class: &str, threads: usize) -> bool {
        self.measured(&key(class, threads)).is_some()
    }

    fn measured(&self, key: &str) -> Option<Measured> {
        let sum = |a: Measured, b: Measured| Measured { amount: a.amount + b.amount, seconds: a.seconds + b.seconds };
        match (self.record.measured.get(key), self.fresh.get(key)) {
            (Some(known), Some(fresh)) => Some(sum(known.weakened(fresh.seconds), *fresh)),
            (known, fresh) => known.or(fresh).copied(),
        }
    }

    /// Seconds that a job is expected to take on so many threads.
    pub(crate) fn seconds(&self, cost: &Cost, threads: usize) -> f64 {
        if cost.amount <= 0.0 {
            return 0.0;
        }
        cost.amount / self.speed(&cost.class, threads)
    }

    /// Amount a second: measured; else of the same work on rows of another length, or of training the same model, or on
    /// another number of threads; else what is usual.
    fn speed(&self, class: &str, threads: usize) -> f64 {
        let mut words = class.split(' ');
        let (what, shape) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let like = |what: &str| {
            let prefix = if shape.is_empty() { what.to_owned() } else { format!("{what} {shape} ") };
            let keys = self.record.measured.keys().chain(self.fresh.keys());
            let mut similar = keys.filter(|key| key.starts_with(&prefix)).collect::<Vec<_>>();
            // The nearest number of threads first.
            similar.sort_by_key(|key| {
                key.rsplit_once('@').and_then(|(_, n)| n.parse::<usize>().ok()).map(|n| n.abs_diff(threads))
            });
            let nearest = similar.first()?;
            let found = self.measured(nearest)?;
            Some(found.amount / found.seconds)
        };
        let exact = self.measured(&key(class, threads)).map(|found| found.amount / found.seconds);
        exact
            .or_else(|| like(what))
            .or_else(|| if shape.is_empty() { None } else { like("train") })
            .unwrap_or(usual(what))
    }

    /// Notes that a job of a class did an amount in some seconds.
    pub(crate) fn note(&mut self, class: &str, threads: usize, amount: f64, seconds: f64) {
        if class.is_empty() || !(amount > 0.0 && seconds > 0.0) {
            return;
        }
        let fresh = self.fresh.entry(key(class, threads)).or_default();
        fresh.amount += amount;
        fresh.seconds += seconds;
    }

    /// Notes what was timed, so that jobs of a run soon count for more.
    pub(crate) fn timed(&mut self, class: &str, threads: usize, speed: f64) {
        self.note(class, threads, speed * TIMED, TIMED);
    }

    /// Adds what this process measured to what others wrote meanwhile.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn write(&mut self) -> Result<(), Error> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        if let Ok(Some(known)) = read_json::<Record>(&self.path)
            && known.format == FORMAT
            && known.machine == self.record.machine
        {
            self.record = known;
        }
        for (key, fresh) in std::mem::take(&mut self.fresh) {
            let known = self.record.measured.entry(key).or_default();
            let before = known.weakened(fresh.seconds);
            *known = Measured { amount: before.amount + fresh.amount, seconds: before.seconds + fresh.seconds };
        }
        write_json(&self.path, &self.record)
    }
}

impl Measured {
    /// Counts for less, the more was measured since.
    fn weakened(self, seconds: f64) -> Self {
        let weight = (MEMORY / (self.seconds + seconds).max(MEMORY)).min(1.0);
        Self { amount: self.amount * weight, seconds: self.seconds * weight }
    }
}

fn key(class: &str, threads: usize) -> String {
    format!("{class}@{threads}")
}

/// Threads of each of so many jobs.
pub(crate) fn threads(engine: &dyn Engine, jobs: usize) -> usize {
    engine.share(jobs).map_or_else(cores, std::num::NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speeds() -> Speeds {
        Speeds::unknown()
    }

    #[test]
    fn what_is_measured_is_expected() {
        let mut speeds = speeds();
        let cost = Cost::of("train ab 64", 100.0);
        assert!(!speeds.knows("train ab 64", 2));
        assert_eq!(speeds.seconds(&cost, 2), 100.0 / usual("train"));
        speeds.note("train ab 64", 2, 50.0, 10.0);
        assert_eq!(speeds.seconds(&cost, 2), 20.0);
        // The same model in rows of another length, and what was never measured of it; another model is another one.
        assert_eq!(speeds.seconds(&Cost::of("train ab 32", 100.0), 2), 20.0);
        assert_eq!(speeds.seconds(&Cost::of("walk ab 32", 100.0), 1), 20.0);
        assert_eq!(speeds.seconds(&Cost::of("train cd 64", 100.0), 2), 100.0 / usual("train"));
        speeds.note("evaluate ab 64", 2, 10.0, 1.0);
        assert_eq!(speeds.seconds(&Cost::of("evaluate ab 64", 100.0), 2), 10.0);
        assert_eq!(speeds.seconds(&Cost::default(), 2), 0.0);
    }

    #[test]
    fn nonsense_is_not_noted() {
        let mut speeds = speeds();
        for (amount, seconds) in [(0.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (1.0, f64::NAN)] {
            speeds.note("count", 1, amount, seconds);
        }
        assert!(!speeds.knows("count", 1));
    }

    #[test]
    fn two_processes_add_up_and_the_past_fades() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let read = || Speeds::read(&store, &Machine::unknown()).unwrap();
        let (mut a, mut b) = (read(), read());
        a.note("count", 1, 10.0, 1.0);
        b.note("count", 1, 30.0, 1.0);
        a.write().unwrap();
        b.write().unwrap();
        assert_eq!(read().seconds(&Cost::of("count", 40.0), 1), 2.0);
        // A machine that became ten times as fast.
        let mut later = read();
        later.note("count", 1, 200.0 * 10.0 * MEMORY, 10.0 * MEMORY);
        later.write().unwrap();
        assert!((read().seconds(&Cost::of("count", 200.0), 1) - 1.0).abs() < 0.1);
        // A damaged record is none.
        std::fs::write(&read().path, "{").unwrap();
        assert!(!read().knows("count", 1));
    }
}
