//! From inputs to a store: in parallel, by several processes, in bounded memory, resumable, always the same bytes.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;

use atomic_file::AtomicFile;
use rayon::ThreadPoolBuilder;
use xxhash_rust::xxh3::xxh3_64;

use super::folder::Folder;
use super::run::{Run, Settings};
use super::shard::input_of;
use super::{BuildProgress, BuildReport, TextInput, TokenizeError, Tokenizer};
use crate::TokenStore;
use crate::store::{finish_store, io};

/// Inputs that are read at once, at most: each takes its chunks' memory.
const READERS: usize = 8;

/// How inputs become a store.
///
/// Each input's documents lie in shards of their own, named by what decides them: the input's content, how it is read, the
/// tokenizer, the name. So an input that was tokenised once is not tokenised again, whatever is added, taken away or changed
/// beside it; and inputs can be tokenised by several processes at once, which build the same folder. A shard is written when it
/// is full and never again: after a kill the finished ones are kept, and the result is the same, byte for byte.
#[derive(Clone)]
pub struct StoreBuilder<'a> {
    settings: Settings<'a>,
    threads: Option<usize>,
}

impl std::fmt::Debug for StoreBuilder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreBuilder")
            .field("name", &self.settings.name)
            .field("shard_bytes", &self.settings.shard_bytes)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl<'a> StoreBuilder<'a> {
    /// A store of this name.
    pub fn new(tokenizer: &'a Tokenizer, name: &str) -> Self {
        let settings = Settings { tokenizer, name: name.to_owned(), shard_bytes: 256 << 20, stop: None };
        Self { settings, threads: None }
    }

    /// Text of a shard, about: the work that a kill can cost. It decides where shards end, so it changes their bytes.
    #[must_use]
    pub fn shard_bytes(self, shard_bytes: u64) -> Self {
        Self { settings: Settings { shard_bytes: shard_bytes.max(1), ..self.settings }, ..self }
    }

    /// Threads that tokenise; as many as rayon's where absent. They change no byte.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads: Some(threads.max(1)), ..self }
    }

    /// Stops when this says so; it is asked after every few megabytes. Finished shards stay.
    #[must_use]
    pub fn stop_when(self, stop: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { settings: Settings { stop: Some(stop), ..self.settings }, ..self }
    }

    /// Makes the store in a folder, or finishes it. `progress` is called every chunk.
    ///
    /// 1. Inputs whose shards are there are kept. Of the others each is tokenised by one process; what another one is at is
    ///    waited for.
    /// 2. The list of shards, in the inputs' order, makes them a store.
    /// 3. Shards of inputs that are none any more are removed, unless another process still works in the folder.
    ///
    /// # Errors
    /// An input that cannot be used (with its file and line), no document in any of them, a disk that is full. Finished shards
    /// stay: the same call continues.
    pub fn build(
        &self,
        inputs: &[TextInput<'_>],
        dir: &Path,
        progress: &mut (dyn FnMut(&BuildProgress<'_>) + Send),
    ) -> Result<BuildReport, TokenizeError> {
        fs::create_dir_all(dir).map_err(io(dir))?;
        self.check_other(dir)?;
        let prints: Vec<String> = inputs.iter().map(|input| self.print(input)).collect();
        let lock = Folder::enter(dir, &prints.join(" "))?;
        let threads = self.threads.unwrap_or_else(rayon::current_num_threads);
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| TokenizeError::Tokenizer(e.to_string()))?;
        let made = Run::new(&self.settings, dir, inputs, prints, pool, progress).all(threads.min(READERS))?;
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
        // Nothing must not take the place of what an earlier call made.
        if report.documents == 0 {
            return Err(TokenizeError::NoDocuments { report: Box::new(report) });
        }
        finish_store(dir, &shards)?;
        report.shards_removed = lock.leave(dir)?;
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
        let entries = match fs::read_dir(from) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(io(from))?,
        };
        for entry in entries {
            let name = entry.map_err(io(from))?.file_name();
            let Some(input) = name.to_str().and_then(input_of).filter(|input| wanted.contains(*input)) else {
                continue;
            };
            taken.insert(input.to_owned());
            let found = dir.join(&name).exists() || take(&from.join(&name), &dir.join(&name))?;
            if !found {
                taken.remove(input);
            }
        }
        Ok(taken.len())
    }

    /// A store of another name or tokenizer is not replaced: whoever meant another folder would lose it.
    fn check_other(&self, dir: &Path) -> Result<(), TokenizeError> {
        // One that cannot be read is made anew.
        let Ok(store) = TokenStore::open(dir) else { return Ok(()) };
        let Settings { tokenizer, name, .. } = &self.settings;
        let of = match () {
            () if store.name() != name => format!("called {:?}, not {name:?}", store.name()),
            () if store.tokenizer() != tokenizer.fingerprint() => {
                format!("of the tokenizer {}, not {}", store.tokenizer(), tokenizer.fingerprint())
            }
            () => return Ok(()),
        };
        Err(TokenizeError::Other { path: dir.to_owned(), of })
    }

    /// What decides an input's shards.
    fn print(&self, input: &TextInput<'_>) -> String {
        self.digest(&input.fingerprint)
    }

    fn digest(&self, input: &str) -> String {
        let Settings { tokenizer, name, shard_bytes, .. } = &self.settings;
        let (print, mode) = (tokenizer.fingerprint(), tokenizer.special_tokens());
        let settings = format!("4 {input} {print} {mode:?} {name} {shard_bytes}");
        format!("{:016x}", xxh3_64(settings.as_bytes()))
    }
}

/// A file under another name; whether it was there.
fn take(from: &Path, to: &Path) -> Result<bool, TokenizeError> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(true);
    }
    let mut original = match File::open(from) {
        // Another process has just removed it.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(io(from))?,
    };
    let mut copy = AtomicFile::create(to).map_err(io(to))?;
    std::io::copy(&mut original, &mut copy).map_err(io(to))?;
    copy.commit().map_err(io(to))?;
    Ok(true)
}
