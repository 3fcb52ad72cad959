//! What a model makes of token ids, or of a text.
//!
//!     cargo run --release --example evaluate -- --model DIR --input ids.safetensors --output out.safetensors
//!     cargo run --release --example evaluate -- --model DIR --text FILE --tokenizer tokenizer.json
//!
//! The first writes logits, hidden states and token losses; the second prints loss, perplexity and bits per byte.
//! DIR is any Hugging Face directory of a GPT-NeoX model; a training checkpoint (a .safetensors file) works too.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use midtrain::evaluate::{Evaluate, TextOptions};
use midtrain::{Backend, Error, parse_precision};

#[derive(Parser)]
#[command(about = "What a GPT-NeoX model makes of token ids, or of a text")]
struct Args {
    /// A Hugging Face directory or a training checkpoint.
    #[arg(long)]
    model: PathBuf,
    /// Token ids: a safetensors file with input_ids [rows, tokens].
    #[arg(long, requires = "output", required_unless_present = "text", conflicts_with = "text")]
    input: Option<PathBuf>,
    /// Where logits, hidden_states.* and token_loss go.
    #[arg(long)]
    output: Option<PathBuf>,
    /// A UTF-8 text.
    #[arg(long)]
    text: Option<PathBuf>,
    /// A tokenizer.json (default: the one beside the model).
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Most tokens that a prediction sees (default: the model's positions).
    #[arg(long)]
    context: Option<usize>,
    /// Tokens predicted in each window; below the context, windows overlap (default: the context).
    #[arg(long)]
    stride: Option<usize>,
    #[arg(long, default_value = "flex")]
    backend: String,
    /// What matrix products are computed in: f32 or bf16.
    #[arg(long, default_value = "f32")]
    precision: String,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
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

fn run(args: &Args) -> Result<String, Error> {
    let backend: Backend = args.backend.parse()?;
    let evaluate = Evaluate { model: args.model.clone(), precision: parse_precision(&args.precision)? };
    if let (Some(input), Some(output)) = (&args.input, &args.output) {
        let (rows, time, loss) = evaluate.ids(backend, input, output)?;
        return Ok(format!("{rows} x {time} tokens, mean loss {loss:.6} nats: {}", output.display()));
    }
    let text = args.text.clone().unwrap_or_default();
    let options = TextOptions { text, tokenizer: args.tokenizer.clone(), context: args.context, stride: args.stride };
    let watched = std::io::stderr().is_terminal();
    let loss = evaluate.text(backend, &options, &mut |done, all| {
        if watched {
            eprint!("\r{done} of {all} tokens{}", if done == all { "\n" } else { "" });
        }
    })?;
    Ok(format!(
        "tokens          {}\nbytes           {}\nloss            {:.6} nats per token\nperplexity      {:.4}\nbits per byte   {:.6}",
        loss.tokens,
        loss.bytes,
        loss.mean(),
        loss.perplexity(),
        loss.bits_per_byte()
    ))
}
