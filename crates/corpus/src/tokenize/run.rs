//! A building's work: inputs are claimed, read, encoded and written, several at once.

use std::fs::{self, File, TryLockError};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rayon::ThreadPool;
use rayon::prelude::*;

use super::folder::CLAIM;
use super::shard::{FinishedShard, ShardWriter};
use super::{BuildProgress, EncodedDocument, TextInput, TokenizeError, Tokenizer};
use crate::store::{StoreDocument, io};
use crate::{Document, ReadError, ReadReport};

/// Text that is tokenised at once: enough for every core, little enough to be forgotten.
const CHUNK_BYTES: usize = 4 << 20;
/// Documents that are tokenised at once: each takes memory beside its text.
const CHUNK_DOCUMENTS: usize = 16_384;
/// Chunks of an input that are read ahead.
const QUEUE: usize = 2;
/// Between looks at whether another process has finished an input.
const LOOK: Duration = Duration::from_millis(50);

/// How documents become shards.
#[derive(Clone)]
pub(super) struct Settings<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    /// The store's name.
    pub(super) name: String,
    /// Text of a shard, about.
    pub(super) shard_bytes: u64,
    /// Asked now and then whether to stop.
    pub(super) stop: Option<&'a (dyn Fn() -> bool + Sync)>,
}

/// What became of an input.
#[derive(Default)]
pub(super) struct Made {
    pub(super) shards: Vec<String>,
    /// How many of them were there already.
    pub(super) kept: usize,
    pub(super) documents: u64,
    pub(super) report: ReadReport,
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

/// A chunk's documents, with the hashes of their contents.
type Encoded = Result<Vec<(u64, EncodedDocument)>, TokenizeError>;

struct State<'b> {
    progress: &'b mut (dyn FnMut(&BuildProgress<'_>) + Send),
    started: Instant,
    done: usize,
    documents: u64,
    bytes: u64,
    tokens: u64,
}

pub(super) struct Run<'a, 'b> {
    settings: &'a Settings<'a>,
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

impl<'a, 'b> Run<'a, 'b> {
    /// `prints`: what decides the shards of each input.
    pub(super) fn new(
        settings: &'a Settings<'a>,
        dir: &'a Path,
        inputs: &'a [TextInput<'a>],
        prints: Vec<String>,
        pool: ThreadPool,
        progress: &'b mut (dyn FnMut(&BuildProgress<'_>) + Send),
    ) -> Self {
        let state = State { progress, started: Instant::now(), done: 0, documents: 0, bytes: 0, tokens: 0 };
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { settings, dir, inputs, prints, pool, next, failed, state: Mutex::new(state) }
    }

    /// All inputs, several at once.
    pub(super) fn all(&self, readers: usize) -> Result<Vec<Made>, TokenizeError> {
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
        let asked = self.settings.stop.is_some_and(|stop| stop());
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
        let path = self.dir.join(format!("{CLAIM}{print}"));
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

    /// Three threads, so that none waits for another's work: one reads chunks, one has them encoded, this one writes.
    fn tokenise(&self, place: usize) -> Result<Made, TokenizeError> {
        let Begun { mut made, read, .. } = self.begun(&self.prints[place]);
        std::thread::scope(|scope| {
            let (to_encode, chunks) = sync_channel(QUEUE);
            let (to_write, encoded) = sync_channel(1);
            let input = &self.inputs[place];
            let reader = scope.spawn(move || read_chunks(input, read, &to_encode));
            let encoder = scope.spawn(move || self.encode_chunks(place, &chunks, &to_write));
            let written = self.write_shards(place, read, &mut made, encoded);
            // A panic of either goes on here, before anything says that the input is whole.
            encoder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let report = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // An error of writing stops the reader: it comes first.
            let shard = written?;
            if let Err(changed @ ReadError::Changed { .. }) = report {
                // They are named by what the file held, and hold something else.
                for name in &made.shards[made.kept..] {
                    fs::remove_file(self.dir.join(name)).map_err(io(&self.dir.join(name)))?;
                }
                return Err(changed.into());
            }
            made.report = report?;
            let report = made.report.clone();
            made.end(shard, Some(&report))?;
            Ok(made)
        })
    }

    fn begin(&self, place: usize, part: usize, read: u64) -> Result<ShardWriter, TokenizeError> {
        let info = self.settings.tokenizer.store_info(&self.settings.name);
        ShardWriter::create(self.dir, &self.prints[place], part, info, read)
    }

    /// Encodes chunks until there are no more, one fails or nobody wants them.
    fn encode_chunks(&self, place: usize, chunks: &Receiver<Vec<Document>>, to: &SyncSender<Encoded>) {
        let tokenizer = self.settings.tokenizer;
        let encode = |d: &Document| Ok((d.hash(), tokenizer.encode_document(d)?));
        for chunk in chunks {
            let encoded = self.pool.install(|| chunk.par_iter().map(encode).collect::<Result<Vec<_>, _>>());
            let encoded = encoded.map_err(|e: TokenizeError| e.in_input(&self.inputs[place].label));
            let failed = encoded.is_err();
            if to.send(encoded).is_err() || failed {
                return;
            }
        }
    }

    /// Writes chunks into shards; gives back the last, unfinished one.
    fn write_shards(
        &self,
        place: usize,
        mut read: u64,
        made: &mut Made,
        chunks: Receiver<Encoded>,
    ) -> Result<ShardWriter, TokenizeError> {
        let mut shard = self.begin(place, made.shards.len(), read)?;
        for encoded in chunks {
            self.check_stop()?;
            let encoded = encoded?;
            let (mut bytes, mut tokens, documents) = (0, 0, encoded.len() as u64);
            for (hash, document) in encoded {
                // Full before this document, not after the last one: so that the last shard is never empty.
                if shard.store.text_bytes() >= self.settings.shard_bytes {
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
