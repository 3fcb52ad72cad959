//! From inputs to stores: in parallel, in bounded memory, resumable, the same bytes whatever the number of threads.

use std::collections::HashSet;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use atomic_file::AtomicFile;
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::shard::{FinishedShard, ShardWriters, parse_shard_name, shard_name};
use super::{SIDES, TextInput, TokenizeError, Tokenizer};
use crate::document::permille_of;
use crate::store::{StoreDocument, finish_store, io};
use crate::{Document, ReadError, ReadReport, StoreError, TokenStore};

/// Text that is tokenised at once: enough for every core, little enough to be forgotten.
const CHUNK_BYTES: usize = 4 << 20;
/// Chunks that are read ahead.
const QUEUE: usize = 2;

/// How inputs become a training store and a held-out store.
///
/// The stores lie in `train/` and `held-out/` of a folder, in shards. A shard is written when it is full and never
/// again: after a kill the finished ones are kept, and the result is the same, byte for byte.
#[derive(Clone)]
pub struct StoreBuilder<'a> {
    tokenizer: &'a Tokenizer,
    name: String,
    held_out_permille: u16,
    deduplicate: bool,
    shard_bytes: u64,
    stop: Option<&'a (dyn Fn() -> bool + Sync)>,
}

impl std::fmt::Debug for StoreBuilder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreBuilder")
            .field("name", &self.name)
            .field("held_out_permille", &self.held_out_permille)
            .field("deduplicate", &self.deduplicate)
            .field("shard_bytes", &self.shard_bytes)
            .finish_non_exhaustive()
    }
}

/// How far a building is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BuildProgress<'a> {
    /// The input it is at.
    pub input: &'a str,
    /// Inputs finished.
    pub inputs_done: usize,
    /// Inputs in all.
    pub inputs: usize,
    /// Documents tokenised by this process.
    pub documents: u64,
    /// Bytes of text tokenised by this process.
    pub bytes: u64,
    /// Tokens they became.
    pub tokens: u64,
    /// Time since the beginning.
    pub elapsed: Duration,
}

impl BuildProgress<'_> {
    /// Documents a second.
    pub fn documents_per_second(&self) -> f64 {
        self.documents as f64 / self.elapsed.as_secs_f64()
    }

    /// Megabytes of text a second.
    pub fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.elapsed.as_secs_f64()
    }
}

/// What a building did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildReport {
    /// Documents in the stores: training, held out.
    pub documents: [u64; 2],
    /// Exact duplicates left out.
    pub duplicates: u64,
    /// Malformed records left out.
    pub skipped: u64,
    /// What was wrong with the first of them.
    pub first_skipped: Option<String>,
    /// Shards that were there already.
    pub shards_kept: usize,
    /// Shards written.
    pub shards_written: usize,
}

/// The two stores of a folder. A side without any document is an empty store.
#[derive(Debug)]
pub struct BuiltStores {
    /// To train on.
    pub train: TokenStore,
    /// To evaluate on.
    pub held_out: TokenStore,
}

impl BuiltStores {
    /// Opens a finished folder.
    ///
    /// # Errors
    /// A store that is missing, unfinished or damaged.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let [train, held_out] = SIDES.map(|side| TokenStore::open(&dir.join(side)));
        Ok(Self { train: train?, held_out: held_out? })
    }

    /// Whether a folder is finished.
    pub fn exist(dir: &Path) -> bool {
        SIDES.iter().all(|side| dir.join(side).join("store.json").is_file())
    }
}

impl<'a> StoreBuilder<'a> {
    /// Stores of this name: nothing held out, duplicates kept.
    pub fn new(tokenizer: &'a Tokenizer, name: &str) -> Self {
        let name = name.to_owned();
        Self { tokenizer, name, held_out_permille: 0, deduplicate: false, shard_bytes: 256 << 20, stop: None }
    }

    /// Of 1000 documents, how many are held out, by the hash of their content: a document that stands in several inputs is
    /// on one side in all of them.
    #[must_use]
    pub fn held_out_permille(self, held_out_permille: u16) -> Self {
        Self { held_out_permille, ..self }
    }

    /// Leaves out documents whose content came before, over all inputs. Takes 8 to 16 bytes of memory a document.
    #[must_use]
    pub fn deduplicate(self, deduplicate: bool) -> Self {
        Self { deduplicate, ..self }
    }

    /// Text of a shard, about: the work that a kill can cost. It decides where shards end, so it changes their bytes.
    #[must_use]
    pub fn shard_bytes(self, shard_bytes: u64) -> Self {
        Self { shard_bytes: shard_bytes.max(1), ..self }
    }

    /// Stops when this says so; it is asked after every few megabytes. Finished shards stay.
    #[must_use]
    pub fn stop_when(self, stop: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// Makes both stores in a folder, or finishes them. `progress` is called every chunk.
    ///
    /// # Errors
    /// TextInput that cannot be used (with its file and line), a disk that is full, another process at the same folder.
    /// Finished shards stay: the same call continues.
    pub fn build(
        &self,
        inputs: &[TextInput<'_>],
        dir: &Path,
        progress: &mut dyn FnMut(&BuildProgress<'_>),
    ) -> Result<BuildReport, TokenizeError> {
        for side in SIDES {
            let side = dir.join(side);
            fs::create_dir_all(&side).map_err(io(&side))?;
        }
        // Held until the file is closed, by a kill too.
        let lock = File::create(dir.join(".lock")).map_err(io(dir))?;
        if lock.try_lock().is_err() {
            return Err(TokenizeError::Busy { path: dir.to_owned() });
        }
        remove_temporaries(dir)?;
        let mut run = Run {
            builder: self,
            dir,
            report: BuildReport::default(),
            seen: HashSet::new(),
            shards: Vec::new(),
            started: Instant::now(),
            documents: 0,
            bytes: 0,
            tokens: 0,
            inputs: inputs.len(),
            progress,
        };
        for (number, input) in inputs.iter().enumerate() {
            run.input(number, input)?;
        }
        if inputs.is_empty() {
            let shard = run.begin(0, 0, "", 0)?;
            run.end(shard, 0, true)?;
        }
        for side in SIDES {
            finish_store(&dir.join(side), &run.shards)?;
        }
        drop(lock);
        // Another process may wait at it: what is left then is an empty file.
        let _ = fs::remove_file(dir.join(".lock"));
        Ok(run.report)
    }

    /// Takes over what another folder holds of inputs that were built there, as those from a number on: a following
    /// [`build`](Self::build) of all inputs finds their shards, and leaves out duplicates across folders. So several
    /// processes can share the work. Files are linked where the file system can, else copied.
    ///
    /// # Errors
    /// A folder that cannot be read or written.
    pub fn adopt(&self, from: &Path, first_input: usize, dir: &Path) -> Result<(), TokenizeError> {
        for side in SIDES {
            let (from, to) = (from.join(side), dir.join(side));
            fs::create_dir_all(&to).map_err(io(&to))?;
            for entry in fs::read_dir(&from).map_err(io(&from))? {
                let name = entry.map_err(io(&from))?.file_name().to_string_lossy().into_owned();
                let Some((input, part)) = parse_shard_name(&name) else { continue };
                take(&from.join(&name), &to.join(shard_name(first_input + input, part)))?;
            }
        }
        Ok(())
    }

    /// What decides an input's shards, besides their number.
    fn fingerprint(&self, input: &TextInput<'_>) -> String {
        let settings = format!(
            "3 {} {} {} {} {} {}",
            input.fingerprint,
            self.tokenizer.fingerprint(),
            self.name,
            self.held_out_permille,
            self.deduplicate,
            self.shard_bytes
        );
        format!("{:016x}", xxh3_64(settings.as_bytes()))
    }
}

/// A file under another name.
fn take(from: &Path, to: &Path) -> Result<(), TokenizeError> {
    match fs::remove_file(to) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(to)(e).into()),
        _ => {}
    }
    if fs::hard_link(from, to).is_err() {
        let mut copy = AtomicFile::create(to).map_err(io(to))?;
        let mut original = File::open(from).map_err(io(from))?;
        std::io::copy(&mut original, &mut copy).map_err(io(to))?;
        copy.commit().map_err(io(to))?;
    }
    Ok(())
}

/// Files that a kill left behind.
fn remove_temporaries(dir: &Path) -> Result<(), StoreError> {
    for side in SIDES {
        let side = dir.join(side);
        for entry in fs::read_dir(&side).map_err(io(&side))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".tmp") {
                fs::remove_file(entry.path()).map_err(io(&entry.path()))?;
            }
        }
    }
    Ok(())
}

struct Run<'a, 'b> {
    builder: &'a StoreBuilder<'a>,
    dir: &'a Path,
    report: BuildReport,
    /// Hashes of documents so far, where duplicates are left out.
    seen: HashSet<u64>,
    /// Names of the shards so far; both sides have the same.
    shards: Vec<String>,
    started: Instant,
    documents: u64,
    bytes: u64,
    tokens: u64,
    inputs: usize,
    progress: &'b mut dyn FnMut(&BuildProgress<'_>),
}

impl Run<'_, '_> {
    fn input(&mut self, number: usize, input: &TextInput<'_>) -> Result<(), TokenizeError> {
        let fingerprint = self.builder.fingerprint(input);
        let mut part = 0;
        let mut read = 0;
        while let Some((last, by_its_end)) = self.keep(number, part, &fingerprint)? {
            (part, read) = (part + 1, by_its_end);
            if last {
                return Ok(());
            }
        }
        std::thread::scope(|scope| {
            let (sender, chunks) = sync_channel(QUEUE);
            let reader = scope.spawn(move || read_chunks(input, read, sender));
            let written = self.write_shards(number, part, read, input, &fingerprint, chunks);
            let report = reader.join().expect("reading returns its errors");
            // An error of writing stops the reader: it comes first.
            let shard = written?;
            let report = report?;
            self.report.first_skipped = self.report.first_skipped.take().or(report.first_skipped);
            self.end(shard, report.skipped, true)
        })
    }

    /// Takes a finished shard as it is, less what came in earlier inputs where they were built elsewhere: whether it is
    /// its input's last, and the documents read by its end.
    fn keep(&mut self, input: usize, part: usize, fingerprint: &str) -> Result<Option<(bool, u64)>, TokenizeError> {
        let name = shard_name(input, part);
        let Some(mut shard) = FinishedShard::open(self.dir, &name, fingerprint) else { return Ok(None) };
        if self.builder.deduplicate && shard.holds_any(&self.seen) {
            shard.without(&self.seen, self.dir, &name, fingerprint)?;
            let Some(rewritten) = FinishedShard::open(self.dir, &name, fingerprint) else { return Ok(None) };
            shard = rewritten;
        }
        for (i, store) in shard.sides.iter().enumerate() {
            if self.builder.deduplicate {
                self.seen.extend((0..store.document_count()).filter_map(|d| store.document_hash(d)));
            }
            self.report.documents[i] += store.document_count();
        }
        self.report.duplicates += shard.duplicates;
        self.report.skipped += shard.skipped;
        self.report.shards_kept += 1;
        self.shards.push(name);
        Ok(Some((shard.last, shard.read)))
    }

    fn begin(&self, input: usize, part: usize, fingerprint: &str, read: u64) -> Result<ShardWriters, TokenizeError> {
        let info = self.builder.tokenizer.store_info(&self.builder.name);
        ShardWriters::create(self.dir, shard_name(input, part), info, fingerprint, read)
    }

    /// Finishes a shard; `skipped`: malformed records of its input, where it is the last.
    fn end(&mut self, shard: ShardWriters, skipped: u64, last: bool) -> Result<(), TokenizeError> {
        let duplicates = shard.duplicates;
        let (name, documents) = shard.finish(skipped, last)?;
        self.report.documents[0] += documents[0];
        self.report.documents[1] += documents[1];
        self.report.duplicates += duplicates;
        self.report.skipped += skipped;
        self.report.shards_written += 1;
        self.shards.push(name);
        Ok(())
    }

    /// Tokenises chunks into shards; gives back the last, unfinished one.
    fn write_shards(
        &mut self,
        number: usize,
        mut part: usize,
        mut read: u64,
        input: &TextInput<'_>,
        fingerprint: &str,
        chunks: Receiver<Vec<Document>>,
    ) -> Result<ShardWriters, TokenizeError> {
        let mut shard = self.begin(number, part, fingerprint, read)?;
        for chunk in chunks {
            if self.builder.stop.is_some_and(|stop| stop()) {
                return Err(TokenizeError::Stopped);
            }
            let tokenizer = self.builder.tokenizer;
            let encoded: Vec<_> = chunk
                .par_iter()
                .map(|d| Ok((d.hash(), tokenizer.encode_document(d)?)))
                .collect::<Result<_, TokenizeError>>()?;
            for (hash, document) in encoded {
                // Full before this document, not after the last one: so that the last shard is never empty.
                if shard.bytes() >= self.builder.shard_bytes {
                    part += 1;
                    let next = self.begin(number, part, fingerprint, read)?;
                    self.end(std::mem::replace(&mut shard, next), 0, false)?;
                }
                read += 1;
                shard.read = read;
                self.documents += 1;
                self.bytes += u64::from(document.text_bytes);
                self.tokens += document.tokens.len() as u64;
                if self.builder.deduplicate && !self.seen.insert(hash) {
                    shard.duplicates += 1;
                    continue;
                }
                let side = usize::from(permille_of(hash) < self.builder.held_out_permille);
                shard.sides[side].push(StoreDocument {
                    tokens: &document.tokens,
                    prompt: document.prompt,
                    later_prompts: &document.later_prompts,
                    text_bytes: document.text_bytes,
                    hash: Some(hash),
                })?;
            }
            (self.progress)(&BuildProgress {
                input: &input.label,
                inputs_done: number,
                inputs: self.inputs,
                documents: self.documents,
                bytes: self.bytes,
                tokens: self.tokens,
                elapsed: self.started.elapsed(),
            });
        }
        Ok(shard)
    }
}

/// Sends an input's documents in chunks, after those that finished shards hold.
fn read_chunks(input: &TextInput<'_>, skip: u64, sender: SyncSender<Vec<Document>>) -> Result<ReadReport, ReadError> {
    let (mut chunk, mut bytes, mut read) = (Vec::new(), 0, 0);
    let report = input.read(&mut |document| {
        read += 1;
        if read <= skip {
            return ControlFlow::Continue(());
        }
        bytes += document.len();
        chunk.push(document);
        if bytes < CHUNK_BYTES {
            return ControlFlow::Continue(());
        }
        bytes = 0;
        // The writer has failed and gone.
        if sender.send(std::mem::take(&mut chunk)).is_err() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    if !chunk.is_empty() {
        let _ = sender.send(chunk);
    }
    Ok(report)
}
