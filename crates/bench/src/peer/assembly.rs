//! Batches from token stores: from memory, and from a disk whose caches were dropped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use corpus::{StoreDocument, StoreInfo, StoreWriter, TokenStore, finish_store};
use data_mixer::{
    BatchSource as _, Grouping, MixPlan, MixSpec, MixedBatches, Pairing, Sequences, SftBatches, SftSpec,
    ShuffledDocuments, SourceSize, Truncation,
};
use schedule::{Shares, Step, Timeline};
use serde_json::{Value, json};

use super::median;
use crate::Error;

/// Tokens of a document that is made up.
const DOCUMENT: usize = 1000;

/// Batches to assemble.
#[derive(Debug, Clone)]
pub struct Assembly {
    /// Where the store lies; made there if it is not.
    pub dir: PathBuf,
    /// Millions of tokens in it.
    pub millions: u64,
    /// Shards that they are in.
    pub shards: u64,
    /// Sequences of a step.
    pub batch: u64,
    /// Tokens of a sequence.
    pub time: u64,
    /// Steps of a measurement.
    pub steps: u64,
    /// How often each is done.
    pub repeat: usize,
    /// Also with caches dropped, which needs root.
    pub cold: bool,
}

impl Assembly {
    /// Measures opening, assembly from memory on one thread and on all, with documents shuffled, and from a cold cache with
    /// and without asking for what comes.
    ///
    /// # Errors
    /// A folder that cannot be written, caches that cannot be dropped.
    pub fn run(&self) -> Result<Value, Error> {
        let path = self.dir.join(format!("store-{}-{}", self.millions, self.shards));
        if !path.join("store.json").exists() {
            self.make(&path)?;
        }
        let started = Instant::now();
        let store = TokenStore::open(&path).map_err(|e| content(&path, e))?;
        let open = started.elapsed().as_secs_f64();
        drop(store);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let one = pool.map_err(|e| Error::Option { option: "threads", value: "1".into(), limit: e.to_string() })?;
        let mut rates: [Vec<f64>; 5] = Default::default();
        // All of it into memory.
        TokenStore::open(&path).and_then(|store| store.verify()).map_err(|e| content(&path, e))?;
        for round in 0..self.repeat as u64 {
            rates[0].push(one.install(|| self.rate(&path, false, false, round))?);
            rates[1].push(self.rate(&path, false, false, round)?);
            rates[2].push(self.rate(&path, true, false, round)?);
        }
        for round in 0..if self.cold { self.repeat as u64 } else { 0 } {
            drop_caches()?;
            rates[3].push(self.rate(&path, false, false, round)?);
            drop_caches()?;
            rates[4].push(self.rate(&path, false, true, round)?);
        }
        let [one, all, shuffled, cold, asked] = rates.map(|rates| if rates.is_empty() { 0.0 } else { median(&rates) });
        Ok(json!({
            "peer": "midtrain_assembly", "millions": self.millions, "shards": self.shards, "batch": self.batch,
            "time": self.time, "steps": self.steps, "threads": rayon::current_num_threads(), "open_seconds": open,
            "tokens_per_s_one_thread": one.round(), "tokens_per_s": all.round(), "tokens_per_s_shuffled": shuffled.round(),
            "tokens_per_s_cold": cold.round(), "tokens_per_s_cold_will_need": asked.round(),
            "version": env!("CARGO_PKG_VERSION"),
        }))
    }

    /// Tokens a second of some steps.
    fn rate(&self, path: &Path, shuffle: bool, ask: bool, seed: u64) -> Result<f64, Error> {
        let store = Arc::new(TokenStore::open(path).map_err(|e| content(path, e))?);
        let wrong = |e: data_mixer::Error| content(path, e);
        let sequences = match shuffle {
            true => {
                let shuffled = ShuffledDocuments::new(store, seed).map_err(|e| content(path, e))?;
                Sequences::new(Arc::new(shuffled), self.time as usize)
            }
            false => Sequences::new(store, self.time as usize),
        };
        let sequences = sequences.map_err(wrong)?;
        let schedule = |e: schedule::Error| content(path, e);
        let plan = MixPlan::build(MixSpec {
            seed,
            batch: self.batch,
            time: self.time,
            timeline: Timeline::new(Step(self.steps), Shares::one("store").map_err(schedule)?, Vec::new())
                .map_err(schedule)?,
            sources: vec![SourceSize::new("store", sequences.len())],
            pairing: Pairing::Displace,
            max_epochs: 1.0,
        });
        let batches = MixedBatches::new(plan.map_err(wrong)?, vec![sequences]).map_err(wrong)?;
        let started = Instant::now();
        if ask {
            batches.will_need(0, 0..self.batch as usize);
        }
        for step in 0..self.steps {
            if ask {
                batches.will_need(step + 1, 0..self.batch as usize);
            }
            std::hint::black_box(batches.batch(step).map_err(wrong)?);
        }
        Ok((self.steps * self.batch * self.time) as f64 / started.elapsed().as_secs_f64())
    }

    fn make(&self, path: &Path) -> Result<(), Error> {
        let documents = self.millions * 1_000_000 / DOCUMENT as u64;
        let mut names = Vec::new();
        let wrong = |e: corpus::StoreError| content(path, e);
        for shard in 0..self.shards {
            let name = format!("{shard:05}.tokens");
            let info = StoreInfo::new("bench", "bench", 50_304);
            let mut writer = StoreWriter::create(&path.join(&name), info).map_err(wrong)?;
            for document in documents * shard / self.shards..documents * (shard + 1) / self.shards {
                let tokens: Vec<u32> =
                    (0..DOCUMENT as u64).map(|i| ((document * 31 + i * 7) % 50_277) as u32).collect();
                writer.push(StoreDocument { tokens: &tokens, ..Default::default() }).map_err(wrong)?;
            }
            writer.finish().map_err(wrong)?;
            names.push(name);
        }
        finish_store(path, &names).map_err(wrong)
    }
}

fn content(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::content(path, reason.to_string())
}

/// What the system holds of files is forgotten.
fn drop_caches() -> Result<(), Error> {
    let path = PathBuf::from("/proc/sys/vm/drop_caches");
    let synced = std::process::Command::new("sync").status();
    synced.and_then(|_| std::fs::write(&path, "3")).map_err(|source| Error::Io { path, source })
}

/// What grouping by length saves: positions that are computed in an epoch, padding included.
#[derive(Debug, Clone)]
pub struct Padding {
    /// A store whose documents are examples.
    pub store: PathBuf,
    /// Examples of a step.
    pub batch: usize,
    /// Tokens of the longest row.
    pub max_time: usize,
}

impl Padding {
    /// Counts both ways.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn run(&self) -> Result<Value, Error> {
        let store = Arc::new(TokenStore::open(&self.store).map_err(|e| content(&self.store, e))?);
        let of = |grouping| {
            let (batch, max_time) = (self.batch, self.max_time);
            let truncation = Truncation::Cut;
            let spec = SftSpec { epochs: 1, batch, max_time, truncation, mask_prompt: false, seed: 0, grouping };
            SftBatches::new(store.clone(), u64::MAX, spec).map_err(|e| content(&self.store, e))
        };
        let (random, grouped) = (of(Grouping::Random)?, of(Grouping::Length)?);
        let (a, b) = (random.padded_positions(), grouped.padded_positions());
        Ok(json!({
            "examples": random.report().examples, "positions": random.report().positions, "random": a, "grouped": b,
            "saved": 1.0 - b as f64 / a as f64, "batch": self.batch, "max_time": self.max_time,
        }))
    }
}
