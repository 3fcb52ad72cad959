//! `midtrain tokenize`, `train-bpe`, `inspect`, `verify` and `overlap`: token stores from files, and what can be asked of
//! them.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use corpus::{
    BuildProgress, NgramIndex, OnMalformed, SourceFiles, StoreBuilder, Template, TextInput, TokenStore, Tokenizer,
    train_bpe,
};

use crate::Error;
use crate::terminal::say;

/// Between lines of progress.
const SAID_EVERY: Duration = Duration::from_secs(2);
/// Documents that [`OverlapArgs`] names of each store.
const NAMED: usize = 5;

#[derive(Debug, Args)]
struct FilesArgs {
    /// Files, folders, patterns, or hf://OWNER/NAME[@REVISION]/PATTERN.
    #[arg(required = true)]
    files: Vec<String>,
    /// How a record becomes text, such as "{question} {answer}"; recognised by its fields where absent.
    #[arg(long)]
    text: Option<String>,
    /// What stands before it and can be left out of a fine-tuning loss.
    #[arg(long, default_value = "", requires = "text")]
    prompt: String,
    /// Leave out and count malformed records instead of ending at the first.
    #[arg(long)]
    skip_malformed: bool,
}

impl FilesArgs {
    fn inputs(&self) -> Result<Vec<TextInput<'static>>, Error> {
        let template = self.text.as_ref().map(|text| Template::parse(&self.prompt, text)).transpose()?;
        let malformed = if self.skip_malformed { OnMalformed::Skip } else { OnMalformed::Fail };
        let set = SourceFiles { template, malformed, ..SourceFiles::matching(self.files.clone()) };
        let paths = set.paths(Path::new(""))?;
        Ok(paths.into_iter().map(|path| TextInput::file(set.clone(), path)).collect::<Result<_, _>>()?)
    }
}

/// What is tokenised, and how.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  midtrain tokenize --tokenizer tokenizer.json --out stores/web \"web/**/*.parquet\"
A command that is killed is finished by the same command: finished shards are kept.")]
pub(super) struct TokenizeArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// A Hugging Face tokenizer.json.
    #[arg(long)]
    tokenizer: PathBuf,
    /// The folder for train/ and held-out/.
    #[arg(long)]
    out: PathBuf,
    /// The stores' name; that of the folder where absent.
    #[arg(long)]
    name: Option<String>,
    /// Of 1000 documents, how many are held out.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1000))]
    held_out_permille: u16,
    /// Leave out documents that came before.
    #[arg(long)]
    deduplicate: bool,
    /// Megabytes of text in a shard: the work that a kill can cost.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    shard_mb: u64,
    /// No progress.
    #[arg(long)]
    quiet: bool,
}

impl TokenizeArgs {
    pub(super) fn run(&self) -> Result<String, Error> {
        let tokenizer = Tokenizer::from_file(&self.tokenizer)?;
        let folder = self.out.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let builder = StoreBuilder::new(&tokenizer, self.name.as_ref().unwrap_or(&folder))
            .held_out_permille(self.held_out_permille)
            .deduplicate(self.deduplicate)
            .shard_bytes(self.shard_mb << 20);
        let mut said = Instant::now();
        let mut progress = |p: &BuildProgress<'_>| {
            if !self.quiet && said.elapsed() > SAID_EVERY {
                said = Instant::now();
                say(&format!(
                    "{} ({} of {}): {:.0} documents/s, {:.1} MB/s",
                    p.input,
                    p.inputs_done + 1,
                    p.inputs,
                    p.documents_per_second(),
                    p.megabytes_per_second()
                ));
            }
        };
        let report = builder.build(&self.files.inputs()?, &self.out, &mut progress)?;
        let skipped = report.first_skipped.map_or_else(String::new, |first| format!(", the first: {first}"));
        Ok(format!(
            "{} training and {} held-out documents; {} duplicates and {} malformed records left out{skipped}\n\
             {} shards written, {} kept\n",
            report.documents[0],
            report.documents[1],
            report.duplicates,
            report.skipped,
            report.shards_written,
            report.shards_kept
        ))
    }
}

/// What a BPE is trained on.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  midtrain train-bpe --vocab 8192 --out tokenizer.json texts/*.jsonl.zst")]
pub(super) struct TrainBpeArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Tokens, the end-of-text token included.
    #[arg(long)]
    vocab: usize,
    /// Megabytes of text it is trained on, at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    max_mb: u64,
    /// The tokenizer.json to write.
    #[arg(long)]
    out: PathBuf,
}

impl TrainBpeArgs {
    pub(super) fn run(&self) -> Result<String, Error> {
        let (mut texts, mut bytes) = (Vec::new(), 0);
        for input in self.files.inputs()? {
            input.read(&mut |document| {
                bytes += document.len() as u64;
                texts.push(document.whole());
                if bytes < self.max_mb << 20 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
        }
        let tokenizer = train_bpe(texts.into_iter(), self.vocab)?;
        tokenizer.save(&self.out)?;
        Ok(format!("{} tokens, fingerprint {}\n", tokenizer.vocab_size(), tokenizer.fingerprint()))
    }
}

/// A store.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  midtrain inspect stores/web/train\n  midtrain verify stores/web/train")]
pub(super) struct StoreArgs {
    /// A store: a file, or a folder of shards.
    store: PathBuf,
}

impl StoreArgs {
    pub(super) fn inspect(&self) -> Result<String, Error> {
        let s = TokenStore::open(&self.store)?.inspect();
        let mut out = format!(
            "{}: {} documents, {} tokens, {} bytes of text ({:.3} bytes a token)\ntokenizer {}, vocabulary {}\n",
            s.name,
            s.documents,
            s.tokens,
            s.text_bytes,
            s.text_bytes as f64 / s.tokens as f64,
            s.tokenizer,
            s.vocabulary
        );
        if let Some([least, middle, most]) = s.lengths {
            out += &format!("tokens of a document: {least} to {most}, median {middle}\n");
        }
        for shard in s.shards {
            let notes: Vec<String> = shard.source.iter().map(|(k, v)| format!("{k} {}", v.trim())).collect();
            let (path, documents, tokens) = (shard.path.display(), shard.documents, shard.tokens);
            out += &format!("  {path}: {documents} documents, {tokens} tokens; {}\n", notes.join(", "));
        }
        Ok(out)
    }

    pub(super) fn verify(&self) -> Result<String, Error> {
        let store = TokenStore::open(&self.store)?;
        store.verify()?;
        let (path, tokens) = (self.store.display(), store.token_count());
        Ok(format!("{path}: {tokens} tokens, whole; fingerprint {}\n", store.fingerprint()))
    }
}

/// What is looked for, and where.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  midtrain overlap --evaluated stores/gsm8k/held-out stores/web/train stores/math/train"
)]
pub(super) struct OverlapArgs {
    /// The store of an evaluation set; of several, once each.
    #[arg(long, required = true)]
    evaluated: Vec<PathBuf>,
    /// Tokens of the sequences looked for.
    #[arg(long, default_value_t = 13)]
    n: usize,
    /// The training stores.
    #[arg(required = true)]
    training: Vec<PathBuf>,
}

impl OverlapArgs {
    pub(super) fn run(&self) -> Result<String, Error> {
        let n = self.n;
        let evaluated = self.evaluated.iter().map(|path| TokenStore::open(path)).collect::<Result<Vec<_>, _>>()?;
        let index = NgramIndex::new(&evaluated.iter().collect::<Vec<_>>(), n)?;
        let hashes: Vec<HashSet<u64>> = evaluated.iter().map(|store| contents(store).collect()).collect();
        let mut out = String::new();
        for path in &self.training {
            let training = TokenStore::open(path)?;
            let found = index.contamination(&training)?;
            for ((set, hashes), o) in self.evaluated.iter().zip(&hashes).zip(&found.sets) {
                let equal = contents(&training).filter(|hash| hashes.contains(hash)).count();
                out += &format!(
                    "{}, evaluated {}: {equal} training documents are evaluated ones (white space folded); {} of {} \
                     evaluated documents share {n} tokens or more ({} of {} sequences) with {} training documents; {} are \
                     shorter\n",
                    path.display(),
                    set.display(),
                    o.contaminated,
                    o.documents - o.too_short,
                    o.shared,
                    o.sequences,
                    o.holders,
                    o.too_short
                );
                for (document, shared, sequences) in o.worst.iter().take(NAMED) {
                    out += &format!("  evaluated document {document}: {shared} of {sequences} sequences\n");
                }
            }
        }
        Ok(out)
    }
}

/// The hashes of a store's documents.
fn contents(store: &TokenStore) -> impl Iterator<Item = u64> + '_ {
    (0..store.document_count()).filter_map(|document| store.document_hash(document))
}
