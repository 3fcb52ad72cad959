//! From inputs to a store: in parallel, by several processes, in bounded memory, resumable, always the same bytes.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use atomic_file::AtomicFile;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use xxhash_rust::xxh3::xxh3_64;

use super::shard::{FinishedShard, ShardWriter, input_of};
use super::{TextInput, TokenizeError, Tokenizer};
use crate::store::{StoreDocument, finish_store, io};
use crate::{Document, ReadError, ReadReport};

/// Text that is tokenised at once: enough for every core, little enough to be forgotten.
const CHUNK_BYTES: usize = 4 << 20;
/// Documents that are tokenised at once: each takes memory beside its text.
const CHUNK_DOCUMENTS: usize = 16_384;
/// Chunks of an input that are read ahead.
const QUEUE: usize = 2;
/// Inputs that are read at once, at most: each takes its chunks' memory.
const READERS: usize = 8;
/// Between looks at whether another process has finished an input.
const LOOK: Duration = Duration::from_millis(50);
/// The folder's lock: shared by the processes that write into it.
const LOCK: &str = ".lock";

/// How inputs become a store.
///
/// Each input's documents lie in shards of their own, named by what decides them: the input's content, how it is read, the
/// tokenizer, the name. So an input that was tokenised once is not tokenised again, whatever is added, taken away or changed
/// beside it; and inputs can be tokenised by several processes at once, which build the same folder. A shard is written when it
/// is full and never again: after a kill the finished ones are kept, and the result is the same, byte for byte.
#[derive(Clone)]
pub struct StoreBuilder<'a> {
    tokenizer: &'a Tokenizer,
    name: String,
    shard_bytes: u64,
    threads: Option<usize>,
    stop: Option<&'a (dyn Fn() -> bool + Sync)>,
}

impl std::fmt::Debug for StoreBuilder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreBuilder")
            .field("name", &self.name)
            .field("shard_bytes", &self.shard_bytes)
            .field("threads", &self.threads)
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
    /// Documents in the store.
    pub documents: u64,
    /// What reading the inputs met, those that were tokenised before too.
    pub read: ReadReport,
    /// Inputs without any document.
    pub empty: Vec<String>,
    /// Shards that were there already, or were made by another process.
    pub shards_kept: usize,
    /// Shards written.
    pub shards_written: usize,
    /// Shards of inputs that are none any more, removed.
    pub shards_removed: usize,
}

impl<'a> StoreBuilder<'a> {
    /// A store of this name.
    pub fn new(tokenizer: &'a Tokenizer, name: &str) -> Self {
        Self { tokenizer, name: name.to_owned(), shard_bytes: 256 << 20, threads: None, stop: None }
    }

    /// Text of a shard, about: the work that a kill can cost. It decides where shards end, so it changes their bytes.
    #[must_use]
    pub fn shard_bytes(self, shard_bytes: u64) -> Self {
        Self { shard_bytes: shard_bytes.max(1), ..self }
    }

    /// Threads that tokenise; as many as rayon's where absent. They change no byte.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads: Some(threads.max(1)), ..self }
    }

    /// Stops when this says so; it is asked after every few megabytes. Finished shards stay.
    #[must_use]
    pub fn stop_when(self, stop: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// Makes the store in a folder, or finishes it. `progress` is called every chunk.
    ///
    /// 1. Inputs whose shards are there are kept. Of the others each is tokenised by one process; what another one is at is
    ///    waited for.
    /// 2. The list of shards, in the inputs' order, makes them a store.
    /// 3. Shards of inputs that are none any more are removed, unless another process still works in the folder.
    ///
    /// # Errors
    /// An input that cannot be used (with its file and line), a disk that is full. Finished shards stay: the same call
    /// continues.
    pub fn build(
        &self,
        inputs: &[TextInput<'_>],
        dir: &Path,
        progress: &mut (dyn FnMut(&BuildProgress<'_>) + Send),
    ) -> Result<BuildReport, TokenizeError> {
        fs::create_dir_all(dir).map_err(io(dir))?;
        let lock = Folder::enter(dir)?;
        let threads = self.threads.unwrap_or_else(rayon::current_num_threads);
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let run = Run {
            builder: self,
            dir,
            inputs,
            prints: inputs.iter().map(|input| self.print(input)).collect(),
            pool: pool.map_err(|e| TokenizeError::Tokenizer(e.to_string()))?,
            next: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            state: Mutex::new(State { progress, started: Instant::now(), done: 0, documents: 0, bytes: 0, tokens: 0 }),
        };
        let made = run.all(threads.min(READERS))?;
        let mut report = BuildReport::default();
        let mut shards = Vec::new();
        for (input, made) in inputs.iter().zip(made) {
            report.shards_kept += made.kept;
            report.shards_written += made.shards.len() - made.kept;
            report.documents += made.documents;
            if made.documents == 0 {
                report.empty.push(input.label.clone());
            }
            report.read.add(made.report);
            shards.extend(made.shards);
        }
        if shards.is_empty() {
            let nothing = ShardWriter::create(dir, &self.digest(""), 0, self.tokenizer.store_info(&self.name), 0)?;
            shards.push(nothing.finish(Some(&ReadReport::default()))?.0);
        }
        finish_store(dir, &shards)?;
        report.shards_removed = lock.leave(dir, &shards)?;
        Ok(report)
    }

    /// Takes over finished shards of these inputs from another folder, where they were tokenised: a following
    /// [`build`](Self::build) finds them. Files are linked where the file system can, else copied. Gives how many inputs it took
    /// over.
    ///
    /// # Errors
    /// A folder that cannot be read or written.
    pub fn adopt(&self, from: &Path, inputs: &[TextInput<'_>], dir: &Path) -> Result<usize, TokenizeError> {
        let wanted: HashSet<String> = inputs.iter().map(|input| self.print(input)).collect();
        fs::create_dir_all(dir).map_err(io(dir))?;
        let mut taken = HashSet::new();
        for entry in fs::read_dir(from).map_err(io(from))? {
            let name = entry.map_err(io(from))?.file_name();
            let Some(input) = name.to_str().and_then(input_of).filter(|input| wanted.contains(*input)) else {
                continue;
            };
            taken.insert(input.to_owned());
            if !dir.join(&name).exists() {
                take(&from.join(&name), &dir.join(&name))?;
            }
        }
        Ok(taken.len())
    }

    /// What decides an input's shards.
    fn print(&self, input: &TextInput<'_>) -> String {
        self.digest(&input.fingerprint)
    }

    fn digest(&self, input: &str) -> String {
        let mode = self.tokenizer.special_tokens();
        let settings =
            format!("4 {input} {} {mode:?} {} {}", self.tokenizer.fingerprint(), self.name, self.shard_bytes);
        format!("{:016x}", xxh3_64(settings.as_bytes()))
    }
}

/// A file under another name.
fn take(from: &Path, to: &Path) -> Result<(), TokenizeError> {
    if fs::hard_link(from, to).is_err() {
        let mut copy = AtomicFile::create(to).map_err(io(to))?;
        let mut original = File::open(from).map_err(io(from))?;
        std::io::copy(&mut original, &mut copy).map_err(io(to))?;
        copy.commit().map_err(io(to))?;
    }
    Ok(())
}

/// The folder that processes write into. Whoever is alone in it tidies up.
struct Folder {
    lock: File,
}

impl Folder {
    /// Removes what a kill left behind, where no other process is at work.
    fn enter(dir: &Path) -> Result<Self, TokenizeError> {
        let path = dir.join(LOCK);
        let lock = File::create(&path).map_err(io(&path))?;
        if lock.try_lock().is_ok() {
            for entry in fs::read_dir(dir).map_err(io(dir))?.flatten() {
                let name = entry.file_name();
                if name.to_string_lossy().starts_with(".tmp") || name.to_string_lossy().starts_with(".claim") {
                    fs::remove_file(entry.path()).map_err(io(&entry.path()))?;
                }
            }
            lock.unlock().map_err(io(&path))?;
        }
        lock.lock_shared().map_err(io(&path))?;
        Ok(Self { lock })
    }

    /// Removes shards that are none of the store's, where no other process is at work. Gives how many.
    fn leave(self, dir: &Path, shards: &[String]) -> Result<usize, TokenizeError> {
        self.lock.unlock().map_err(io(dir))?;
        let mut removed = 0;
        if self.lock.try_lock().is_ok() {
            let listed: HashSet<&str> = shards.iter().map(String::as_str).collect();
            for entry in fs::read_dir(dir).map_err(io(dir))?.flatten() {
                let name = entry.file_name();
                let other = name.to_str().is_some_and(|name| input_of(name).is_some() && !listed.contains(name));
                if other {
                    fs::remove_file(entry.path()).map_err(io(&entry.path()))?;
                    removed += 1;
                }
            }
            // Another process may wait at it: what is left then is an empty file.
            let _ = fs::remove_file(dir.join(LOCK));
        }
        Ok(removed)
    }
}

/// What became of an input.
#[derive(Default)]
struct Made {
    shards: Vec<String>,
    /// How many of them were there already.
    kept: usize,
    documents: u64,
    report: ReadReport,
}

impl Made {
    /// Finishes a shard; the report of the whole input where it ends with it.
    fn end(&mut self, shard: ShardWriter, report: Option<&ReadReport>) -> Result<(), TokenizeError> {
        let (name, documents) = shard.finish(report)?;
        self.documents += documents;
        self.shards.push(name);
        Ok(())
    }
}

/// What earlier runs made of an input.
#[derive(Default)]
struct Begun {
    made: Made,
    /// Documents of it that were read for that.
    read: u64,
    /// Whether it is all.
    whole: bool,
}

struct State<'b> {
    progress: &'b mut (dyn FnMut(&BuildProgress<'_>) + Send),
    started: Instant,
    done: usize,
    documents: u64,
    bytes: u64,
    tokens: u64,
}

struct Run<'a, 'b> {
    builder: &'a StoreBuilder<'a>,
    dir: &'a Path,
    inputs: &'a [TextInput<'a>],
    /// What decides the shards of each.
    prints: Vec<String>,
    pool: ThreadPool,
    /// The input that nobody has begun yet.
    next: AtomicUsize,
    /// Whether one failed: the others stop then.
    failed: AtomicBool,
    state: Mutex<State<'b>>,
}

impl Run<'_, '_> {
    /// All inputs, several at once.
    fn all(&self, readers: usize) -> Result<Vec<Made>, TokenizeError> {
        let made: Mutex<Vec<Option<Made>>> = Mutex::new(self.inputs.iter().map(|_| None).collect());
        let work = || {
            let mut waiting = Vec::new();
            loop {
                let place = self.next.fetch_add(1, Ordering::Relaxed);
                if place >= self.inputs.len() {
                    break;
                }
                match self.input(place, false)? {
                    Some(one) => locked(&made)[place] = Some(one),
                    None => waiting.push(place),
                }
            }
            for place in waiting {
                let one = self.input(place, true)?;
                locked(&made)[place] = one;
            }
            Ok(())
        };
        let work = || work().inspect_err(|_: &TokenizeError| self.failed.store(true, Ordering::Relaxed));
        let outcomes: Vec<Result<(), TokenizeError>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..readers.min(self.inputs.len())).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        // What made the others stop comes before their being stopped.
        let errors = outcomes.into_iter().filter_map(Result::err);
        let (stopped, others): (Vec<_>, Vec<_>) = errors.partition(|e| matches!(e, TokenizeError::Stopped));
        match others.into_iter().chain(stopped).next() {
            Some(error) => Err(error),
            None => Ok(made.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()),
        }
    }

    fn check_stop(&self) -> Result<(), TokenizeError> {
        let asked = self.builder.stop.is_some_and(|stop| stop());
        if asked || self.failed.load(Ordering::Relaxed) { Err(TokenizeError::Stopped) } else { Ok(()) }
    }

    /// An input's shards; `None` where another process or thread is at it and is not to be waited for.
    fn input(&self, place: usize, wait: bool) -> Result<Option<Made>, TokenizeError> {
        self.check_stop()?;
        let print = &self.prints[place];
        if let Some(made) = self.finished(print) {
            self.advance(place, |state| state.done += 1);
            return Ok(Some(made));
        }
        let path = self.dir.join(format!(".claim-{print}"));
        let claim = File::create(&path).map_err(io(&path))?;
        loop {
            match claim.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if !wait => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK),
                Err(TryLockError::Error(e)) => return Err(io(&path)(e).into()),
            }
            self.check_stop()?;
        }
        // Whoever held it may have finished.
        let made = match self.finished(print) {
            Some(made) => made,
            None => self.tokenise(place)?,
        };
        let _ = fs::remove_file(&path);
        self.advance(place, |state| state.done += 1);
        Ok(Some(made))
    }

    /// An input whose shards are all there.
    fn finished(&self, print: &str) -> Option<Made> {
        let begun = self.begun(print);
        begun.whole.then_some(begun.made)
    }

    /// What is there of an input.
    fn begun(&self, print: &str) -> Begun {
        let mut begun = Begun::default();
        while let Some(shard) = FinishedShard::open(self.dir, print, begun.made.shards.len()) {
            begun.made.documents += shard.documents;
            begun.made.shards.push(shard.name);
            begun.read = shard.read;
            // Its last shard says so.
            if let Some(report) = shard.report {
                (begun.made.report, begun.whole) = (report, true);
                break;
            }
        }
        begun.made.kept = begun.made.shards.len();
        begun
    }

    fn tokenise(&self, place: usize) -> Result<Made, TokenizeError> {
        let Begun { mut made, read, .. } = self.begun(&self.prints[place]);
        std::thread::scope(|scope| {
            let (sender, chunks) = sync_channel(QUEUE);
            let input = &self.inputs[place];
            let reader = scope.spawn(move || read_chunks(input, read, &sender));
            let written = self.write_shards(place, read, &mut made, chunks);
            let report = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // An error of writing stops the reader: it comes first.
            let shard = written?;
            made.report = report?;
            let report = made.report.clone();
            made.end(shard, Some(&report))?;
            Ok(made)
        })
    }

    fn begin(&self, place: usize, part: usize, read: u64) -> Result<ShardWriter, TokenizeError> {
        let info = self.builder.tokenizer.store_info(&self.builder.name);
        ShardWriter::create(self.dir, &self.prints[place], part, info, read)
    }

    /// Tokenises chunks into shards; gives back the last, unfinished one.
    fn write_shards(
        &self,
        place: usize,
        mut read: u64,
        made: &mut Made,
        chunks: Receiver<Vec<Document>>,
    ) -> Result<ShardWriter, TokenizeError> {
        let mut shard = self.begin(place, made.shards.len(), read)?;
        for chunk in chunks {
            self.check_stop()?;
            let tokenizer = self.builder.tokenizer;
            let encode = |d: &Document| Ok((d.hash(), tokenizer.encode_document(d)?));
            let encoded = self.pool.install(|| chunk.par_iter().map(encode).collect::<Result<Vec<_>, _>>());
            let encoded = encoded.map_err(|e: TokenizeError| e.in_input(&self.inputs[place].label))?;
            let (mut bytes, mut tokens, documents) = (0, 0, encoded.len() as u64);
            for (hash, document) in encoded {
                // Full before this document, not after the last one: so that the last shard is never empty.
                if shard.store.text_bytes() >= self.builder.shard_bytes {
                    let next = self.begin(place, made.shards.len() + 1, read)?;
                    made.end(std::mem::replace(&mut shard, next), None)?;
                }
                read += 1;
                shard.read = read;
                bytes += u64::from(document.text_bytes);
                tokens += document.tokens.len() as u64;
                shard.store.push(StoreDocument {
                    tokens: &document.tokens,
                    prompt: document.prompt,
                    later_prompts: &document.later_prompts,
                    text_bytes: document.text_bytes,
                    hash: Some(hash),
                })?;
            }
            self.advance(place, |state| {
                state.documents += documents;
                state.bytes += bytes;
                state.tokens += tokens;
            });
        }
        Ok(shard)
    }

    fn advance(&self, place: usize, change: impl FnOnce(&mut State<'_>)) {
        let mut state = locked(&self.state);
        let state = &mut *state;
        change(state);
        (state.progress)(&BuildProgress {
            input: &self.inputs[place].label,
            inputs_done: state.done,
            inputs: self.inputs.len(),
            documents: state.documents,
            bytes: state.bytes,
            tokens: state.tokens,
            elapsed: state.started.elapsed(),
        });
    }
}

/// What a thread that panicked left is as good: the panic goes on where the threads are joined.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends an input's documents in chunks, after those that finished shards hold.
fn read_chunks(input: &TextInput<'_>, skip: u64, sender: &SyncSender<Vec<Document>>) -> Result<ReadReport, ReadError> {
    let (mut chunk, mut bytes, mut read) = (Vec::new(), 0, 0);
    let report = input.read(&mut |document| {
        read += 1;
        if read <= skip {
            return ControlFlow::Continue(());
        }
        bytes += document.len();
        chunk.push(document);
        if bytes < CHUNK_BYTES && chunk.len() < CHUNK_DOCUMENTS {
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
