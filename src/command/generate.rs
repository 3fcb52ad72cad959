//! `midtrain generate`: continues a text, as it comes.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use fused_ops::Precision;
use gptneox_model::{Ending, Sampling};

use crate::generate::Generate;
use crate::terminal::say;
use crate::{Backend, Error};

/// A model, a text, and how it goes on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  midtrain generate --model DIR --prompt \"Once upon a time\"
  midtrain generate --model DIR --temperature 0.8 --top-p 0.95 --seed 1
DIR is a Hugging Face directory of a GPT-NeoX model with its tokenizer.json, such as a study leaves for each fine-tuned model
(STORE/finetune/KEY/model); a training checkpoint works too, with --tokenizer.")]
pub(super) struct GenerateArgs {
    /// A Hugging Face directory or a training checkpoint.
    #[arg(long)]
    model: PathBuf,
    /// A tokenizer.json (default: the one beside the model).
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// The text to continue; without it, a document from its beginning.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    prompt: String,
    /// Most new tokens.
    #[arg(long, default_value_t = 100)]
    tokens: usize,
    /// Chooses by chance, with logits divided by it; without it and --top-p, the most probable token.
    #[arg(long, allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Chooses among the most probable tokens that reach this sum.
    #[arg(long)]
    top_p: Option<f64>,
    /// Seed of chance (default: 0); of no use without --temperature or --top-p.
    #[arg(long)]
    seed: Option<u64>,
    /// Goes on after a token that ends a text (those that the model's folder names, or else the tokenizer's).
    #[arg(long)]
    ignore_end: bool,
    /// What computes.
    #[arg(long, default_value = "flex")]
    backend: String,
    /// What matrix products are computed in: f32 or bf16.
    #[arg(long, default_value = "f32", value_parser = crate::options::precision)]
    precision: Precision,
    /// The text alone: no count of tokens and seconds.
    #[arg(long)]
    quiet: bool,
}

impl GenerateArgs {
    pub(super) fn run(self) -> Result<(), Error> {
        let sampling = match (self.temperature, self.top_p) {
            (None, None) => match self.seed {
                None => Sampling::Greedy,
                Some(seed) => {
                    let limit = "needs --temperature or --top-p: without them nothing is left to chance";
                    return Err(Error::option("seed", seed, limit));
                }
            },
            (temperature, top_p) => Sampling::Nucleus {
                temperature: temperature.unwrap_or(1.0),
                top_p: top_p.unwrap_or(1.0),
                seed: self.seed.unwrap_or(0),
            },
        };
        let spec = Generate {
            model: self.model,
            tokenizer: self.tokenizer,
            prompt: self.prompt,
            tokens: self.tokens,
            sampling,
            ignore_end: self.ignore_end,
            precision: self.precision,
        };
        let mut stdout = std::io::stdout();
        let mut print = |text: &str| {
            let said = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
            said.map_err(|source| Error::Io { path: "standard output".into(), source })
        };
        let generated = spec.run(self.backend.parse::<Backend>()?, &mut print)?;
        print("\n")?;
        if !self.quiet {
            let count = generated.tokens.len();
            let why = match generated.ending {
                Ending::Token(id) => {
                    format!(
                        "ended by the token {}",
                        generated.end.map_or_else(|| id.to_string(), |t| format!("{t} ({id})"))
                    )
                }
                Ending::Count => format!("--tokens {} reached", self.tokens),
                Ending::Positions => "the model's positions are used up".to_owned(),
            };
            say(&format!("[{count} tokens, {:.1} a second; {why}]", count as f64 / generated.seconds.max(1e-9)));
        }
        Ok(())
    }
}
