//! Times what other software also does, with the same options and the same JSON line, so that both can be alternated.
//!
//! ```sh
//! cargo run --release -p bench --bin peer-bench -- train-step --config pythia-70m --batch 1 --seq 512
//! cargo run --release -p bench --bin peer-bench -- versus --peer "python torch_train_step.py --fused" --rounds 5 -- \
//!     train-step --config pythia-70m --batch 1 --seq 512
//! ```

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use bench::Error;
use bench::peer::{Assembly, Cka, Count, Padding, Tokenize, TrainRun, TrainStep, Work, import};
use bench::roofline::{self, Design, GPUS};
use bench::versus::Versus;
use clap::{Args, Parser, Subcommand};
use gptneox_model::GptNeoXConfig;
use metrics_cka::Form;
use midtrain::{Backend, parse_precision};

midtrain::allocator!();

#[derive(Parser)]
#[command(about = "Times what other software also does, for side-by-side runs")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Forward, loss, backward, clip, AdamW on GPT-NeoX.
    TrainStep(Box<TrainStepArgs>),
    /// Loading a Hugging Face directory or a training checkpoint.
    Import {
        #[arg(long)]
        model: PathBuf,
        #[arg(long, default_value = "flex")]
        backend: String,
    },
    /// A whole run: what it costs beside its steps, and how long it stands still for checkpoints.
    TrainRun {
        #[arg(long, default_value = "pythia-70m")]
        config: String,
        #[arg(long, default_value_t = 1)]
        rows: usize,
        #[arg(long, default_value_t = 512)]
        time: usize,
        #[arg(long, default_value_t = 101)]
        steps: u64,
        /// Steps between checkpoints.
        #[arg(long, default_value_t = 100)]
        every: u64,
        /// Training waits for checkpoints.
        #[arg(long)]
        wait: bool,
        /// The folder of the run, which must not be there yet.
        #[arg(long)]
        dir: PathBuf,
        #[arg(long, default_value = "flex")]
        backend: String,
    },
    /// Reading, tokenising and storing a .jsonl file.
    Tokenize(TokenizeArgs),
    /// Counting two raw files of token ids, and their similarity. (The script's --make writes such files.)
    Count(CountArgs),
    /// Linear CKA of all pairs of layers of two made-up sets of states, streamed in batches.
    Cka(CkaArgs),
    /// Opening a store and assembling batches from it: from memory, shuffled, and with caches dropped.
    Assembly(AssemblyArgs),
    /// Positions of an epoch of fine-tuning, with examples grouped by length and without.
    Padding {
        /// A store whose documents are examples.
        store: PathBuf,
        #[arg(long, default_value_t = 64)]
        batch: usize,
        #[arg(long, default_value_t = 2048)]
        max_time: usize,
    },
    /// What a training step on a GPU must move and compute, kernel by kernel, as CSV. Nothing is measured.
    ///
    /// MB are 10^6 bytes; least_ms follows from the data sheet's bandwidth and bf16 operations, expected_ms from the shares of them that
    /// kernels reached in a step of 160m on an H200. Launches take no time. MFU: as expected, attention in full.
    Roofline {
        /// pythia-14m, 31m, 70m, 160m, 410m, 1b, 1.4b, 2.8b.
        #[arg(long, default_value = "pythia-160m")]
        config: String,
        /// Sequences of the micro-batch.
        #[arg(long, default_value_t = 16)]
        batch: usize,
        #[arg(long, default_value_t = 2048)]
        seq: usize,
        #[arg(long, default_value = "h200", value_parser = ["h100", "h200"])]
        gpu: String,
        /// As it was with a kernel for each norm, and flash attention for heads of 64 features only.
        #[arg(long)]
        separate_norms: bool,
    },
    /// Alternates one of the others with another program that takes the same options; prints medians and ratios.
    Versus(VersusArgs),
}

#[derive(Args)]
struct TrainStepArgs {
    /// pythia-14m, 31m, 70m, 160m, 410m, 1b.
    #[arg(long, default_value = "pythia-70m")]
    config: String,
    #[arg(long)]
    hidden: Option<usize>,
    #[arg(long)]
    layers: Option<usize>,
    #[arg(long)]
    heads: Option<usize>,
    #[arg(long)]
    ffn: Option<usize>,
    #[arg(long, default_value_t = 50_304)]
    vocab: usize,
    /// Sequences of a micro-batch.
    #[arg(long, default_value_t = 2)]
    batch: usize,
    /// Micro-batches of a step.
    #[arg(long, default_value_t = 1)]
    accum: usize,
    #[arg(long, default_value_t = 512)]
    seq: usize,
    #[arg(long, default_value_t = 5)]
    steps: usize,
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// fp32, or bf16 (f32 parameters, bf16 matrix products).
    #[arg(long, default_value = "fp32")]
    dtype: String,
    /// flex, ndarray, vulkan, cuda; --device cpu and cuda are understood too.
    #[arg(long, alias = "device", default_value = "flex")]
    backend: String,
    /// Forward and backward only.
    #[arg(long)]
    no_optimizer: bool,
    /// Forward and loss only, without gradients.
    #[arg(long, conflicts_with = "no_optimizer")]
    forward_only: bool,
    /// Activation checkpointing.
    #[arg(long)]
    recompute: bool,
    /// A Hugging Face directory with the first weights.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// A safetensors file with input_ids [accum x batch, seq].
    #[arg(long)]
    ids: Option<PathBuf>,
    #[arg(long)]
    threads: Option<usize>,
    /// Peak TFLOP/s of the device, for MFU.
    #[arg(long)]
    peak: Option<f64>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Options of the PyTorch script that change nothing here: attention and AdamW are always fused.
    #[arg(long)]
    attn: Option<String>,
    #[arg(long)]
    fused: bool,
    #[arg(long)]
    compile: bool,
    #[arg(long)]
    tf32: bool,
}

#[derive(Args)]
struct TokenizeArgs {
    /// A tokenizer.json.
    tokenizer: PathBuf,
    /// .jsonl, plain or as .gz or .zst.
    jsonl: PathBuf,
    #[arg(long, default_value = "text")]
    field: String,
    /// Documents, at most; 0: all, streamed.
    #[arg(long, default_value_t = 2000)]
    limit: usize,
    #[arg(long)]
    threads: Option<usize>,
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Only the tokenizers crate's encode_batch on texts in memory.
    #[arg(long)]
    encode_only: bool,
}

#[derive(Args)]
struct CountArgs {
    #[arg(num_args = 2, required = true)]
    files: Vec<PathBuf>,
    #[arg(long, default_value = "uint16", value_parser = ["uint16", "uint32"])]
    dtype: String,
    #[arg(long, default_value_t = 50_304)]
    vocab: usize,
    /// Threads.
    #[arg(long)]
    workers: Option<usize>,
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Options of the script that change nothing here.
    #[arg(long)]
    chunk: Option<usize>,
    #[arg(long)]
    pool: Option<String>,
}

#[derive(Args)]
struct CkaArgs {
    /// Examples.
    #[arg(long, default_value_t = 4096)]
    n: usize,
    /// Examples held in memory; they come again and again.
    #[arg(long)]
    held: Option<usize>,
    /// Features of a layer.
    #[arg(long, default_value_t = 512)]
    p: usize,
    /// Layers of either side.
    #[arg(long, default_value_t = 7)]
    layers: usize,
    /// features, gram, or auto: the cheaper one.
    #[arg(long, default_value = "features", value_parser = ["features", "gram", "auto"])]
    method: String,
    #[arg(long, default_value = "f32", value_parser = ["f32", "f64"])]
    dtype: String,
    /// Examples of a batch.
    #[arg(long, default_value_t = 512)]
    batch: usize,
    /// Examples of a product.
    #[arg(long, default_value_t = 2048)]
    chunk: usize,
    /// Groups of the jackknife.
    #[arg(long, default_value_t = 1)]
    groups: usize,
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    #[arg(long)]
    threads: Option<usize>,
    /// Also compute in f64, and tell the largest difference.
    #[arg(long)]
    check: bool,
}

#[derive(Args)]
struct AssemblyArgs {
    /// Where the made-up store lies; kept for the next time.
    dir: PathBuf,
    /// Millions of tokens in it.
    #[arg(long, default_value_t = 1000)]
    millions: u64,
    #[arg(long, default_value_t = 4)]
    shards: u64,
    #[arg(long, default_value_t = 1024)]
    batch: u64,
    #[arg(long, default_value_t = 2048)]
    seq: u64,
    #[arg(long, default_value_t = 32)]
    steps: u64,
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    /// Also with the system's caches dropped: needs root.
    #[arg(long)]
    cold: bool,
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(Args)]
struct VersusArgs {
    /// The other program with what it alone needs, such as "python torch_train_step.py --fused".
    #[arg(long)]
    peer: String,
    /// Turns of each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Also times whole processes: many steps less one step.
    #[arg(long)]
    cross_check: bool,
    /// Where every printed line goes, as JSONL.
    #[arg(long)]
    raw: Option<PathBuf>,
    /// What is timed, and its options.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().what {
        What::TrainStep(args) => train_step(&args),
        What::Import { model, backend } => {
            backend.parse().map_err(Error::from).and_then(|b: Backend| Ok(import(&model, b)?.to_string()))
        }
        What::Tokenize(args) => tokenize(args),
        What::Count(args) => count(args),
        What::Cka(args) => cka(args),
        What::Assembly(args) => assembly(args),
        What::TrainRun { config, rows, time, steps, every, wait, dir, backend } => {
            train_run(&config, TrainRunSizes { rows, time, steps, every, wait }, dir, &backend)
        }
        What::Padding { store, batch, max_time } => Padding { store, batch, max_time }.run().map(|v| v.to_string()),
        What::Versus(args) => versus(&args),
        What::Roofline { config, batch, seq, gpu, separate_norms } => {
            let design = if separate_norms { Design::SeparateNorms } else { Design::Now };
            roofline(&config, [batch, seq], &gpu, design)
        }
    };
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn roofline(config: &str, [batch, seq]: [usize; 2], gpu: &str, design: Design) -> Result<String, Error> {
    for (option, value) in [("batch", batch), ("seq", seq)] {
        if !(1..=1 << 20).contains(&value) {
            let limit = "must be from 1 to 1048576".to_owned();
            return Err(Error::Option { option, value: value.to_string(), limit });
        }
    }
    let model = GptNeoXConfig::pythia(config.strip_prefix("pythia-").unwrap_or(config))?;
    let gpu = GPUS.into_iter().find(|g| g.name == gpu).unwrap_or(GPUS[0]);
    let kernels = roofline::kernels(&model, batch, seq, design);
    let mut text = "kernel,bound,launches,MB,GFLOP,least_ms,expected_ms,MFU\n".to_owned();
    for k in &kernels {
        let bound = if k.bytes / gpu.bandwidth > k.operations / gpu.operations { "memory" } else { "operations" };
        let (least, expected) = (1e3 * k.least(gpu), 1e3 * k.expected(gpu));
        let name = if k.name.contains(',') { format!("\"{}\"", k.name) } else { k.name.to_owned() };
        let (mb, gflop) = (k.bytes / 1e6, k.operations / 1e9);
        text += &format!("{name},{bound},{},{mb:.0},{gflop:.0},{least:.3},{expected:.3},\n", k.launches);
    }
    let t = roofline::total(&kernels, &model, batch, seq, gpu);
    let gflop = kernels.iter().map(|k| k.operations).sum::<f64>() / 1e9;
    let (mb, least, expected) = (t.bytes / 1e6, t.least_ms, t.expected_ms);
    text += &format!("all,,{},{mb:.0},{gflop:.0},{least:.1},{expected:.1},{:.3}", t.launches, t.expected_mfu);
    Ok(text)
}

fn tokenize(args: TokenizeArgs) -> Result<String, Error> {
    threads(args.threads)?;
    let TokenizeArgs { tokenizer, jsonl, field, limit, repeat, encode_only, .. } = args;
    let limit = (limit > 0).then_some(limit);
    Ok(Tokenize { tokenizer, file: jsonl, field, limit, repeat, encode_only }.run()?.to_string())
}

fn count(args: CountArgs) -> Result<String, Error> {
    threads(args.workers)?;
    let [a, b] = args.files.as_slice() else {
        let limit = "must be two".to_owned();
        return Err(Error::Option { option: "files", value: args.files.len().to_string(), limit });
    };
    let id_bytes = if args.dtype == "uint16" { 2 } else { 4 };
    let files = [a.clone(), b.clone()];
    Ok(Count { files, id_bytes, vocabulary: args.vocab, repeat: args.repeat }.run()?.to_string())
}

fn assembly(args: AssemblyArgs) -> Result<String, Error> {
    threads(args.threads)?;
    let AssemblyArgs { dir, millions, shards, batch, seq: time, steps, repeat, cold, .. } = args;
    for (option, value) in
        [("millions", millions), ("shards", shards), ("batch", batch), ("seq", time), ("steps", steps)]
    {
        if value == 0 {
            return Err(Error::Option { option, value: "0".to_owned(), limit: "must be at least 1".to_owned() });
        }
    }
    Ok(Assembly { dir, millions, shards, batch, time, steps, repeat: repeat.max(1), cold }.run()?.to_string())
}

fn cka(args: CkaArgs) -> Result<String, Error> {
    threads(args.threads)?;
    let CkaArgs { n, held, p, layers, batch, chunk, groups, repeat, check, .. } = args;
    let form = match args.method.as_str() {
        "gram" => Form::Gram,
        "auto" => Form::Auto,
        _ => Form::Features,
    };
    Ok(Cka { n, held, p, layers, form, batch, chunk, double: args.dtype == "f64", groups, repeat, check }
        .run()?
        .to_string())
}

fn threads(threads: Option<usize>) -> Result<(), Error> {
    let Some(n) = threads else { return Ok(()) };
    let built = rayon::ThreadPoolBuilder::new().num_threads(n).build_global();
    built.map_err(|e| Error::Option { option: "threads", value: n.to_string(), limit: e.to_string() })
}

fn train_step(args: &TrainStepArgs) -> Result<String, Error> {
    let backend = if args.backend == "cpu" { "flex" } else { &args.backend }.parse::<Backend>()?;
    let (batch, accum, seq) = (args.batch, args.accum, args.seq);
    for (option, value, least) in [("batch", batch, 1), ("accum", accum, 1), ("seq", seq, 2)] {
        if value < least {
            return Err(Error::Option { option, value: value.to_string(), limit: format!("must be at least {least}") });
        }
    }
    threads(args.threads)?;
    let base = GptNeoXConfig::pythia(args.config.strip_prefix("pythia-").unwrap_or(&args.config))?;
    let hidden_size = args.hidden.unwrap_or(base.hidden_size);
    let model = GptNeoXConfig {
        vocab_size: args.vocab,
        hidden_size,
        num_layers: args.layers.unwrap_or(base.num_layers),
        num_heads: args.heads.unwrap_or(base.num_heads),
        intermediate_size: args.ffn.unwrap_or(4 * hidden_size),
        max_positions: base.max_positions.max(seq),
        ..base
    };
    let work = match (args.forward_only, args.no_optimizer) {
        (true, _) => Work::Forward,
        (_, true) => Work::Gradients,
        _ => Work::Train,
    };
    let bench = TrainStep {
        name: args.config.clone(),
        model,
        batch,
        accum,
        seq,
        steps: args.steps,
        warmup: args.warmup,
        seed: args.seed,
        work,
        precision: parse_precision(&args.dtype)?,
        recompute: args.recompute,
        weights: args.weights.clone(),
        ids: args.ids.clone(),
        peak: args.peak,
    };
    Ok(bench.run(backend)?.to_string())
}

struct TrainRunSizes {
    rows: usize,
    time: usize,
    steps: u64,
    every: u64,
    wait: bool,
}

fn train_run(config: &str, sizes: TrainRunSizes, dir: PathBuf, backend: &str) -> Result<String, Error> {
    if dir.exists() {
        let limit = "is there already: a run would go on from what it holds".to_owned();
        return Err(Error::Option { option: "dir", value: dir.display().to_string(), limit });
    }
    let TrainRunSizes { rows, time, steps, every, wait } = sizes;
    let model = GptNeoXConfig::pythia(config.strip_prefix("pythia-").unwrap_or(config))?;
    let run = TrainRun { name: config.to_owned(), model, rows, time, steps, every, wait, dir };
    Ok(run.run(backend.parse::<Backend>()?)?.to_string())
}

fn versus(args: &VersusArgs) -> Result<String, Error> {
    let program = std::env::current_exe().map_err(|source| Error::Io { path: "this program".into(), source })?;
    let ours = std::iter::once(program.display().to_string()).chain(args.command.clone()).collect();
    // The first word names the measurement; the other program knows what it measures.
    let words = args.peer.split_whitespace().map(str::to_owned);
    let theirs = words.chain(args.command.iter().skip(1).cloned()).collect();
    let mut raw = match &args.raw {
        Some(path) => {
            let file = std::fs::File::create(path).map_err(|source| Error::Io { path: path.clone(), source })?;
            Some((path, file))
        }
        None => None,
    };
    let mut failed = None;
    let versus = Versus { ours, theirs, rounds: args.rounds, cross_check: args.cross_check };
    let comparison = versus.run(&mut |turn| {
        let side = if turn.ours { "ours" } else { "theirs" };
        let seconds = ["median_step_s", "seconds", "count_seconds"].iter().find_map(|f| turn.line[*f].as_f64());
        eprintln!("round {}, {side}: {} s", turn.round + 1, seconds.unwrap_or(f64::NAN));
        if let Some((path, file)) = &mut raw {
            let record = serde_json::json!({
                "round": turn.round, "side": side, "load": turn.load, "wall_s": turn.wall, "wall_one_step_s": turn.wall_one,
                "line": turn.line,
            });
            if let Err(source) = writeln!(file, "{record}") {
                failed = Some(Error::Io { path: path.to_path_buf(), source });
            }
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(comparison.text()),
    }
}
