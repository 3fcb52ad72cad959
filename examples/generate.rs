//! Continues a text, as it comes.
//!
//!     cargo run --release --example generate -- --model DIR --prompt "Once upon a time"
//!     cargo run --release --example generate -- --model DIR --temperature 0.8 --top-p 0.95 --seed 1
//!
//! DIR is a Hugging Face directory of a GPT-NeoX model with its tokenizer.json, such as a study leaves for each
//! fine-tuned model (STORE/finetune/KEY/model); a training checkpoint works too, with --tokenizer.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use midtrain::generate::Generate;
use midtrain::gptneox_model::Sampling;
use midtrain::{Backend, Error, parse_precision};

#[derive(Parser)]
#[command(about = "Continues a text with a GPT-NeoX model")]
struct Args {
    /// A Hugging Face directory or a training checkpoint.
    #[arg(long)]
    model: PathBuf,
    /// A tokenizer.json (default: the one beside the model).
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// The text to continue; without it, a document from its beginning.
    #[arg(long, default_value = "")]
    prompt: String,
    /// Most new tokens.
    #[arg(long, default_value_t = 100)]
    tokens: usize,
    /// Chooses by chance, with logits divided by it; without it and --top-p, the most probable token.
    #[arg(long)]
    temperature: Option<f64>,
    /// Chooses among the most probable tokens that reach this sum.
    #[arg(long)]
    top_p: Option<f64>,
    /// Seed of chance.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Goes on after the end of a document.
    #[arg(long)]
    ignore_end: bool,
    #[arg(long, default_value = "flex")]
    backend: String,
    /// What matrix products are computed in: f32 or bf16.
    #[arg(long, default_value = "f32")]
    precision: String,
    /// The text alone: no count of tokens and seconds.
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the text has gone: nothing is wrong.
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    let sampling = match (args.temperature, args.top_p) {
        (None, None) => Sampling::Greedy,
        (temperature, top_p) => {
            Sampling::Nucleus { temperature: temperature.unwrap_or(1.0), top_p: top_p.unwrap_or(1.0), seed: args.seed }
        }
    };
    let spec = Generate {
        model: args.model.clone(),
        tokenizer: args.tokenizer.clone(),
        prompt: args.prompt.clone(),
        tokens: args.tokens,
        sampling,
        ignore_end: args.ignore_end,
        precision: parse_precision(&args.precision)?,
    };
    let mut stdout = std::io::stdout();
    let mut say = |text: &str| {
        let said = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        said.map_err(|source| Error::Io { path: "standard output".into(), source })
    };
    let mut begun = false;
    let generated = spec.run(args.backend.parse::<Backend>()?, &mut |piece| {
        if !std::mem::replace(&mut begun, true) {
            say(&args.prompt)?;
        }
        say(piece)
    })?;
    say("\n")?;
    if !args.quiet {
        let count = generated.tokens.len();
        let end = if generated.ended { ", end of the document" } else { "" };
        eprintln!("[{count} tokens, {:.1} a second{end}]", count as f64 / generated.seconds);
    }
    Ok(())
}
