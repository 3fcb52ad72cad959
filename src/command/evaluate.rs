//! `midtrain evaluate`: what a model makes of a text, or of token ids.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use fused_ops::Precision;

use crate::evaluate::{Evaluate, IdsLoss, TextOptions};
use crate::{Backend, Error};

/// A model, and what it is evaluated on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  midtrain evaluate --model DIR --text FILE                                     loss, perplexity, bits per byte
  midtrain evaluate --model DIR --input ids.safetensors --output out.safetensors
                                                                                logits, hidden states, token losses
DIR is any Hugging Face directory of a GPT-NeoX model; a training checkpoint (a .safetensors file) works too.")]
pub(super) struct EvaluateArgs {
    /// A Hugging Face directory or a training checkpoint.
    #[arg(long)]
    model: PathBuf,
    /// Token ids: a safetensors file with input_ids [rows, tokens], and attention_mask and labels where there are (-100: no target).
    #[arg(long, requires = "output", required_unless_present = "text")]
    #[arg(conflicts_with_all = ["text", "tokenizer", "context", "stride"])]
    input: Option<PathBuf>,
    /// Where logits, hidden_states.* and token_loss go.
    #[arg(long, requires = "input", conflicts_with = "text")]
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
    /// What computes.
    #[arg(long, default_value = "flex")]
    backend: String,
    /// What matrix products are computed in: f32 or bf16.
    #[arg(long, default_value = "f32", value_parser = crate::options::precision)]
    precision: Precision,
}

impl EvaluateArgs {
    pub(super) fn run(self) -> Result<String, Error> {
        let backend: Backend = self.backend.parse()?;
        let evaluate = Evaluate { model: self.model, precision: self.precision };
        if let (Some(input), Some(output)) = (&self.input, &self.output) {
            let IdsLoss { rows, time, predicted, loss } = evaluate.ids(backend, input, output)?;
            let of = if predicted == (rows * (time - 1)) as u64 { String::new() } else { format!(" of {predicted} targets") };
            return Ok(format!("{rows} x {time} tokens, mean loss {loss:.6} nats{of}: {}\n", output.display()));
        }
        let text = self.text.unwrap_or_default();
        let options = TextOptions { text, tokenizer: self.tokenizer, context: self.context, stride: self.stride };
        let watched = std::io::stderr().is_terminal();
        let loss = evaluate.text(backend, &options, &mut |done, all| {
            if watched {
                eprint!("\r{done} of {all} tokens{}", if done == all { "\n" } else { "" });
            }
        })?;
        let bits = loss.bits_per_byte().map_or_else(|| "–".to_owned(), |bits| format!("{bits:.6}"));
        Ok(format!(
            "tokens          {}\nbytes           {}\nloss            {:.6} nats per token\nperplexity      {:.4}\n\
             bits per byte   {bits}\n",
            loss.tokens,
            loss.bytes.unwrap_or(0),
            loss.nats_per_token(),
            loss.perplexity()
        ))
    }
}
