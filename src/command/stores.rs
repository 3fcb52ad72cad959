//! `midtrain tokenize`, `train-bpe`, `inspect`, `verify` and `overlap`: token stores from files, and what can be asked of
//! them.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use corpus::{
    BuildProgress, Division, Escapes, Format, NgramIndex, NotReadReason, OnMalformed, PassedOver, ReadReport,
    SourceFiles, SpecialTokens, StoreBuilder, Template, TextInput, TextUnit, TokenStore, TokenizeError, Tokenizer,
    train_bpe,
};

use crate::Error;
use crate::terminal::say;

/// Between lines of progress.
const SAID_EVERY: Duration = Duration::from_secs(2);
/// Files that are named among those not read.
const FILES_NAMED: usize = 20;
/// Documents that [`OverlapArgs`] names of each store.
const NAMED: usize = 5;

#[derive(Debug, Args)]
struct FilesArgs {
    /// Files, folders, patterns, or hf://OWNER/NAME[@REVISION]/PATTERN.
    #[arg(required = true)]
    files: Vec<String>,
    /// What they are: txt, jsonl, json, csv, tsv, parquet; by their names where absent.
    #[arg(long, value_parser = named::<Format>)]
    format: Option<Format>,
    /// What is a document in plain text: line, paragraph, file.
    #[arg(long, default_value = "line", value_parser = named::<TextUnit>)]
    unit: TextUnit,
    /// Whether the first line of .csv and .tsv holds column names; where absent .csv has them, .tsv has not.
    #[arg(long, value_name = "true|false")]
    header: Option<bool>,
    /// What a backslash means in .tsv: text (itself), backslash (\n, \t, \r and \\ stand for the characters).
    #[arg(long, default_value = "text", value_parser = named::<Escapes>)]
    escapes: Escapes,
    /// How a record becomes text, such as "{question} {answer}"; recognised by its fields where absent.
    #[arg(long)]
    text: Option<String>,
    /// What stands before it and can be left out of a fine-tuning loss.
    #[arg(long, default_value = "", requires = "text")]
    prompt: String,
    /// The same as a study's sources file has it, such as '{ turns = "messages", tool_calls = "json" }'.
    #[arg(long, conflicts_with = "text", value_parser = template)]
    template: Option<Template>,
    /// Leave out and count malformed records instead of ending at the first.
    #[arg(long)]
    skip_malformed: bool,
}

/// A value by its name in files.
fn named<T: serde::de::DeserializeOwned>(name: &str) -> Result<T, String> {
    toml::Value::String(name.to_owned()).try_into().map_err(|e| e.message().to_owned())
}

/// A template as files have it.
fn template(toml: &str) -> Result<Template, String> {
    #[derive(serde::Deserialize)]
    struct Line {
        template: Template,
    }
    let line: Result<Line, _> = toml::from_str(&format!("template = {toml}"));
    line.map(|line| line.template).map_err(|e| e.message().to_owned())
}

impl FilesArgs {
    /// The files' documents, and what was passed over: what lies in the folder that is written is no input.
    fn inputs(&self, out: Option<&Path>) -> Result<(Vec<TextInput<'static>>, Vec<PassedOver>), Error> {
        let text = self.text.as_ref().map(|text| Template::parse(&self.prompt, text)).transpose()?;
        let set = SourceFiles {
            format: self.format,
            unit: self.unit,
            header: self.header,
            escapes: self.escapes,
            template: text.or_else(|| self.template.clone()),
            malformed: if self.skip_malformed { OnMalformed::Skip } else { OnMalformed::Fail },
            ..SourceFiles::matching(self.files.clone())
        };
        let mut found = set.find(Path::new(""))?;
        if let Some(out) = out.and_then(|out| out.canonicalize().ok()) {
            let own = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path.starts_with(&out));
            let (own, files) = found.files.into_iter().partition(own);
            found.files = files;
            found.passed_over.extend(Vec::into_iter(own).map(|path| PassedOver { path, why: NotReadReason::Output }));
        }
        let input = |path| TextInput::file(set.clone(), path);
        Ok((found.files.into_iter().map(input).collect::<Result<_, _>>()?, found.passed_over))
    }
}

/// What was not read, one line each: records, then files.
fn not_read(read: &ReadReport, empty: &[String], passed_over: &[PassedOver]) -> String {
    let mut files: Vec<String> = passed_over.iter().map(ToString::to_string).collect();
    files.extend(empty.iter().map(|file| format!("{file}: holds no document")));
    let more = files.len().saturating_sub(FILES_NAMED);
    files.truncate(FILES_NAMED);
    if more > 0 {
        files.push(format!("{more} more files"));
    }
    read.left_out().into_iter().chain(files).map(|what| format!("not read: {what}\n")).collect()
}

/// What is tokenised, and how.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  midtrain tokenize --tokenizer tokenizer.json --out stores/web \"web/**/*.parquet\"
  midtrain tokenize --tokenizer tokenizer.json --out stores/chat --template '{ turns = \"messages\" }' chat.jsonl
A command that is killed is finished by the same command: finished shards are kept. The store holds the files that are named: those that
are added later are tokenised alone, those that are named no more are removed from it. Several processes that are given the same command
share the work.")]
pub(super) struct TokenizeArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// A Hugging Face tokenizer.json.
    #[arg(long)]
    tokenizer: PathBuf,
    /// The folder for the store of all documents, and in it train/ and, where documents are held out, held-out/.
    #[arg(long)]
    out: PathBuf,
    /// The stores' name; that of the folder where absent.
    #[arg(long)]
    name: Option<String>,
    /// What special tokens that stand in texts are: text, or control (special tokens).
    #[arg(long, default_value = "text", value_parser = named::<SpecialTokens>)]
    special_tokens: SpecialTokens,
    /// Of 1000 documents, how many are held out.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1000))]
    held_out_permille: u16,
    /// Leave out documents that came before, white space apart.
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
        let tokenizer = Tokenizer::from_file(&self.tokenizer)?.with_special_tokens(self.special_tokens);
        let folder = std::path::absolute(&self.out).map_err(Error::io(&self.out))?;
        let folder = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = self.name.as_ref().unwrap_or(&folder);
        if name.is_empty() || name.contains(char::is_control) {
            return Err(Error::option("name", format!("{name:?}"), "must be a word or more".to_owned()));
        }
        let builder = StoreBuilder::new(&tokenizer, name).shard_bytes(self.shard_mb << 20);
        let mut said = Instant::now();
        let mut progress = |p: &BuildProgress<'_>| {
            if !self.quiet && said.elapsed() > SAID_EVERY {
                said = Instant::now();
                say(&format!(
                    "{} ({} of {} done): {:.0} documents/s, {:.1} MB/s",
                    p.input,
                    p.inputs_done,
                    p.inputs,
                    p.documents_per_second(),
                    p.megabytes_per_second()
                ));
            }
        };
        let (inputs, passed_over) = self.files.inputs(Some(&self.out))?;
        let report = match builder.build(&inputs, &self.out, &mut progress) {
            Err(TokenizeError::NoDocuments { report }) => {
                let left_out = not_read(&report.read, &report.empty, &passed_over);
                let reason = format!("is not made: there is no document in the files\n{left_out}");
                return Err(Error::content(&self.out, reason.trim_end()));
            }
            built => built?,
        };
        let left_out = not_read(&report.read, &report.empty, &passed_over);
        let whole = TokenStore::open(&self.out)?;
        let division = Division { held_out_permille: self.held_out_permille, deduplicate: self.deduplicate };
        let divided = division.divide(&whole, &self.out)?;
        Ok(format!(
            "{} training and {} held-out documents; {} duplicates left out\n{left_out}{} shards written, {} kept, {} \
             removed\n",
            divided.train,
            divided.held_out,
            divided.duplicates,
            report.shards_written,
            report.shards_kept,
            report.shards_removed
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
        let (mut texts, mut bytes, mut read, mut empty) = (Vec::new(), 0, ReadReport::default(), Vec::new());
        let (inputs, passed_over) = self.files.inputs(None)?;
        for input in inputs {
            let of_input = input.read(&mut |document| {
                bytes += document.len() as u64;
                texts.push(document.whole());
                if bytes < self.max_mb << 20 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            if of_input.documents == 0 {
                empty.push(input.label().to_owned());
            }
            read.add(of_input);
            if bytes >= self.max_mb << 20 {
                break;
            }
        }
        let tokenizer = train_bpe(texts.into_iter(), self.vocab)?;
        tokenizer.save(&self.out)?;
        let left_out = not_read(&read, &empty, &passed_over);
        Ok(format!("{left_out}{} tokens, fingerprint {}\n", tokenizer.vocab_size(), tokenizer.fingerprint()))
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
            // What reading met is told when it is read.
            let notes = shard.source.iter().filter(|(key, _)| *key != "report");
            let notes: Vec<String> = notes.map(|(k, v)| format!("{k} {}", v.trim())).collect();
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
