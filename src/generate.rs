//! A model's continuation of a text, as a stream of pieces of text.

use std::path::PathBuf;

use burn::module::AutodiffModule as _;
use corpus::Tokenizer;
use fused_ops::{Precision, TrainingBackend};
use gptneox_model::{Continuation, Ending, Sampling};

use crate::backend::OnBackend;
use crate::{Backend, Error, model_file};

/// What to continue, and how.
#[derive(Debug, Clone)]
pub struct Generate {
    /// A Hugging Face directory or a training checkpoint.
    pub model: PathBuf,
    /// A tokenizer.json; the one beside the model if none is given.
    pub tokenizer: Option<PathBuf>,
    /// The text to continue; empty: from the beginning of a document.
    pub prompt: String,
    /// At most so many new tokens.
    pub tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Go on after a token that ends a text: those that the model's folder names (`generation_config.json`, `config.json`), or
    /// else the tokenizer's end of a document.
    pub ignore_end: bool,
    /// What matrix products are computed in.
    pub precision: Precision,
}

/// What was generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The new tokens, the one that ended the text included.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub ending: Ending,
    /// The token that ended the text, as the tokenizer writes it.
    pub end: Option<String>,
    /// Seconds of generation, loading not included.
    pub seconds: f64,
}

impl Generate {
    /// Generates; `piece` gets the prompt, then each piece of text as soon as it is whole.
    ///
    /// # Errors
    /// A model or tokenizer that cannot be loaded or does not fit the other, a prompt too long, options outside their
    /// limits, and what `piece` returns.
    pub fn run(&self, backend: Backend, piece: &mut dyn FnMut(&str) -> Result<(), Error>) -> Result<Generated, Error> {
        backend.on(Task { spec: self, piece })?
    }
}

struct Task<'a> {
    spec: &'a Generate,
    piece: &'a mut dyn FnMut(&str) -> Result<(), Error>,
}

impl OnBackend for Task<'_> {
    type Output = Result<Generated, Error>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let Self { spec, piece } = self;
        let path = model_file::tokenizer(&spec.model, spec.tokenizer.as_deref())?;
        let tokenizer = Tokenizer::from_file(&path)?;
        let model = model_file::load::<AB>(&spec.model, spec.precision, &Default::default())?.valid();
        model_file::check_vocabulary(&tokenizer, model.config(), &path)?;
        let mut prompt = tokenizer.encode(&spec.prompt)?;
        if prompt.is_empty() {
            prompt.push(tokenizer.end_of_text());
        }
        let continuation = Continuation {
            sampling: spec.sampling,
            max_tokens: spec.tokens,
            stop: if spec.ignore_end { Vec::new() } else { model_file::end_tokens(&spec.model, &tokenizer)? },
            vocabulary: Some(tokenizer.vocab_size()),
        };
        let started = std::time::Instant::now();
        let mut generation = model.generate(&prompt, continuation)?;
        // What is continued is said whatever comes after it.
        piece(&spec.prompt)?;
        let mut text = tokenizer.decode_stream();
        let mut tokens = Vec::new();
        for token in generation.by_ref() {
            let token = token?;
            tokens.push(token);
            if let Some(text) = text(token)? {
                piece(&text)?;
            }
        }
        let ending = generation.ending().unwrap_or(Ending::Count);
        let end = if let Ending::Token(id) = ending { tokenizer.token(id) } else { None };
        Ok(Generated { tokens, ending, end, seconds: started.elapsed().as_secs_f64() })
    }
}
