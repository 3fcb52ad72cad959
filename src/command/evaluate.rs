//! `midtrain evaluate`: what a model makes of a text, or of token ids.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use forgetting_eval::{ClozeScore, PerLength, accuracy, gold_bits_per_byte};
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
  midtrain evaluate --model DIR --items items.jsonl                             accuracies on multiple-choice items
items.jsonl holds an item a line: {\"question\": \"6 times 6 is\", \"choices\": [\"36\", \"12\"], \"gold\": 0}. Choices follow the question
after a space; acc, acc_norm and log-likelihoods are those of lm-evaluation-harness.
DIR is any Hugging Face directory of a GPT-NeoX model; a training checkpoint (a .safetensors file) works too.")]
pub(super) struct EvaluateArgs {
    /// A Hugging Face directory or a training checkpoint.
    #[arg(long)]
    model: PathBuf,
    /// Token ids: a safetensors file with input_ids [rows, tokens], and attention_mask and labels where there are (-100: no target).
    #[arg(long, requires = "output", required_unless_present_any = ["text", "items"])]
    #[arg(conflicts_with_all = ["text", "items", "tokenizer", "context", "stride"])]
    input: Option<PathBuf>,
    /// Where logits, hidden_states.* and token_loss go.
    #[arg(long, requires = "input", conflicts_with_all = ["text", "items"])]
    output: Option<PathBuf>,
    /// A UTF-8 text.
    #[arg(long)]
    text: Option<PathBuf>,
    /// Multiple-choice items, JSON lines with question, choices and gold.
    #[arg(long, conflicts_with_all = ["text", "context", "stride"])]
    items: Option<PathBuf>,
    /// Where the log-likelihood of every choice of every item goes, as CSV.
    #[arg(long, requires = "items", conflicts_with_all = ["input", "text"], value_name = "FILE")]
    choices: Option<PathBuf>,
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
            let of = if predicted == (rows * (time - 1)) as u64 {
                String::new()
            } else {
                format!(" of {predicted} targets")
            };
            return Ok(format!("{rows} x {time} tokens, mean loss {loss:.6} nats{of}: {}\n", output.display()));
        }
        if let Some(items) = &self.items {
            let scores = evaluate.items(backend, items, self.tokenizer.as_deref())?;
            if let Some(path) = &self.choices {
                write_choices(path, &scores)?;
            }
            return Ok(accuracies(&scores));
        }
        let text = self.text.unwrap_or_default();
        let options = TextOptions { text, tokenizer: self.tokenizer, context: self.context, stride: self.stride };
        let watched = std::io::stderr().is_terminal();
        let loss = evaluate.text(backend, &options, &mut |done, all| {
            if watched {
                let line = format!("\r{done} of {all} tokens{}", if done == all { "\n" } else { "" });
                // A reader that went away ends nothing.
                drop(std::io::stderr().write_all(line.as_bytes()));
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

fn accuracies(scores: &[ClozeScore]) -> String {
    let share = |per| accuracy(scores, per).unwrap_or(f64::NAN);
    format!(
        "items           {}\nacc             {:.4}\nacc_norm        {:.4}   (log-likelihoods per character)\n\
         acc_bytes       {:.4}   (per byte)\nbits per byte   {:.6} of the right answers\n",
        scores.len(),
        share(PerLength::Sum),
        share(PerLength::Characters),
        share(PerLength::Bytes),
        gold_bits_per_byte(scores).unwrap_or(f64::NAN)
    )
}

/// A row a choice.
fn write_choices(path: &Path, scores: &[ClozeScore]) -> Result<(), Error> {
    let mut text = "item,choice,log_likelihood,characters,bytes,gold\n".to_owned();
    for (i, score) in scores.iter().enumerate() {
        for (j, value) in score.log_likelihoods.iter().enumerate() {
            text += &format!("{i},{j},{value},{},{},{}\n", score.characters[j], score.bytes[j], j == score.gold);
        }
    }
    atomic_file::write(path, text.as_bytes()).map_err(Error::io(path))
}
