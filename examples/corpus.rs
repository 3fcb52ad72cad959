//! Token stores from files, and what can be asked of them.
//!
//!     cargo run --release --example corpus -- train-bpe --vocab 8192 --out tokenizer.json texts/*.jsonl.zst
//!     cargo run --release --example corpus -- tokenize --tokenizer tokenizer.json --out stores/web "web/**/*.parquet"
//!     cargo run --release --example corpus -- inspect stores/web/train
//!     cargo run --release --example corpus -- verify stores/web/train
//!     cargo run --release --example corpus -- overlap --evaluated stores/gsm8k/held-out stores/web/train
//!
//! A `tokenize` that is killed is finished by the same command: finished shards are kept.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser};
use midtrain::corpus::{
    BuildProgress, Input, NgramIndex, OnMalformed, SourceFiles, StoreBuilder, Template, TokenStore, Tokenizer,
    train_bpe,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
#[command(about = "Token stores from files: tokenize, inspect, verify, search for contamination")]
enum Cli {
    /// Tokenises files into a training and a held-out store.
    Tokenize(Box<TokenizeArgs>),
    /// Trains a byte-level BPE.
    TrainBpe(TrainBpeArgs),
    /// Says what a store holds, by its headers.
    Inspect {
        /// A store: a file, or a folder of shards.
        store: PathBuf,
    },
    /// Reads a whole store and compares its checksums.
    Verify {
        /// A store: a file, or a folder of shards.
        store: PathBuf,
    },
    /// Looks for an evaluation set's text in training stores.
    Overlap {
        /// The evaluation set's store.
        #[arg(long)]
        evaluated: PathBuf,
        /// Tokens of the sequences looked for.
        #[arg(long, default_value_t = 13)]
        n: usize,
        /// The training stores.
        #[arg(required = true)]
        training: Vec<PathBuf>,
    },
}

#[derive(Args)]
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
    fn set(&self) -> Result<SourceFiles> {
        let template = self.text.as_ref().map(|text| Template::parse(&self.prompt, text)).transpose()?;
        let malformed = if self.skip_malformed { OnMalformed::Skip } else { OnMalformed::Fail };
        Ok(SourceFiles { template, malformed, ..SourceFiles::matching(self.files.clone()) })
    }

    fn inputs(&self) -> Result<Vec<Input<'static>>> {
        let set = self.set()?;
        let paths = set.paths(Path::new(""))?;
        Ok(paths.into_iter().map(|path| Input::file(set.clone(), path)).collect::<std::result::Result<_, _>>()?)
    }
}

#[derive(Args)]
struct TokenizeArgs {
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
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    shard_mb: u64,
    /// No progress.
    #[arg(long)]
    quiet: bool,
}

#[derive(Args)]
struct TrainBpeArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Tokens, the end-of-text token included.
    #[arg(long)]
    vocab: usize,
    /// Megabytes of text it is trained on, at most.
    #[arg(long, default_value_t = 100)]
    max_mb: usize,
    /// The tokenizer.json to write.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> ExitCode {
    let done = match Cli::parse() {
        Cli::Tokenize(args) => tokenize(&args),
        Cli::TrainBpe(args) => train(&args),
        Cli::Inspect { store } => inspect(&store),
        Cli::Verify { store } => verify(&store),
        Cli::Overlap { evaluated, n, training } => overlap(&evaluated, n, &training),
    };
    match done.and_then(|text| Ok(std::io::stdout().write_all(text.as_bytes())?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn tokenize(args: &TokenizeArgs) -> Result<String> {
    let tokenizer = Tokenizer::from_file(&args.tokenizer)?;
    let folder = args.out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let builder = StoreBuilder::new(&tokenizer, args.name.as_ref().unwrap_or(&folder))
        .held_out_permille(args.held_out_permille)
        .deduplicate(args.deduplicate)
        .shard_bytes(args.shard_mb << 20);
    let mut said = Instant::now();
    let mut say = |p: &BuildProgress<'_>| {
        if !args.quiet && said.elapsed() > Duration::from_secs(2) {
            said = Instant::now();
            let (documents, megabytes) = (p.documents_per_second(), p.megabytes_per_second());
            eprintln!(
                "{} ({} of {}): {documents:.0} documents/s, {megabytes:.1} MB/s",
                p.input,
                p.inputs_done + 1,
                p.inputs
            );
        }
    };
    let report = builder.build(&args.files.inputs()?, &args.out, &mut say)?;
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

fn train(args: &TrainBpeArgs) -> Result<String> {
    let (mut texts, mut bytes) = (Vec::new(), 0);
    for input in args.files.inputs()? {
        input.read(&mut |document| {
            bytes += document.len();
            texts.push(document.whole());
            if bytes < args.max_mb << 20 {
                std::ops::ControlFlow::Continue(())
            } else {
                std::ops::ControlFlow::Break(())
            }
        })?;
    }
    let tokenizer = train_bpe(texts.into_iter(), args.vocab)?;
    tokenizer.save(&args.out)?;
    Ok(format!("{} tokens, fingerprint {}\n", tokenizer.vocab_size(), tokenizer.fingerprint()))
}

fn inspect(path: &Path) -> Result<String> {
    let s = TokenStore::open(path)?.inspect();
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

fn verify(path: &Path) -> Result<String> {
    let store = TokenStore::open(path)?;
    store.verify()?;
    Ok(format!("{}: {} tokens, whole; fingerprint {}\n", path.display(), store.token_count(), store.fingerprint()))
}

fn overlap(evaluated: &Path, n: usize, training: &[PathBuf]) -> Result<String> {
    let evaluated = TokenStore::open(evaluated)?;
    let index = NgramIndex::new(&evaluated, n)?;
    let mut out = String::new();
    for path in training {
        let o = index.overlap(&TokenStore::open(path)?)?;
        let judged = o.documents - o.too_short;
        let (contaminated, too_short) = (o.contaminated, o.too_short);
        out += &format!(
            "{}: {contaminated} of {judged} documents share {n} tokens or more ({} of {} sequences); {too_short} are shorter\n",
            path.display(),
            o.shared,
            o.sequences
        );
        for (document, shared, sequences) in o.worst.iter().take(5) {
            out += &format!("  document {document}: {shared} of {sequences} sequences\n");
        }
    }
    Ok(out)
}
