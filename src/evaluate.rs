//! A model's outputs on given token ids, and its loss on a text.

mod ids;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::module::AutodiffModule as _;
use burn::tensor::{Int, Tensor, TensorData};
use corpus::Tokenizer;
use data_mixer::IGNORE;
use forgetting_eval::{ClozeItem, ClozeScore, HeldOut};
use fused_ops::{FusedOps, Precision, TrainingBackend};
use gptneox_model::{GptNeoX, Input, Site};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use schedule::LrSpec;
use study::cloze_scores;
use trainer::TrainSpec;

use crate::backend::OnBackend;
use crate::{Backend, Error, model_file};

pub use ids::Rows;

/// A model, and how it computes.
#[derive(Debug, Clone)]
pub struct Evaluate {
    /// A Hugging Face directory or a training checkpoint.
    pub model: PathBuf,
    /// What matrix products are computed in.
    pub precision: Precision,
}

/// What rows of ids came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IdsLoss {
    /// B.
    pub rows: usize,
    /// T.
    pub time: usize,
    /// Tokens that were predicted.
    pub predicted: u64,
    /// The mean of their losses, in nats.
    pub loss: f64,
}

/// How a text is cut.
#[derive(Debug, Clone)]
pub struct TextOptions {
    /// The text's file, UTF-8.
    pub text: PathBuf,
    /// A tokenizer.json; the one beside the model if none is given.
    pub tokenizer: Option<PathBuf>,
    /// Most tokens that a prediction sees; none: the model's positions.
    pub context: Option<usize>,
    /// Tokens that each window predicts; none: the context (windows do not overlap, so that the first predictions of
    /// each see little). Fewer give every prediction at least context − stride tokens to see, at more cost.
    pub stride: Option<usize>,
}

impl Evaluate {
    /// Reads `input_ids` `[B, T]` and writes `logits` `[B, T, V]`, `hidden_states.embed`, `hidden_states.block.0` …,
    /// `hidden_states.final_norm` `[B, T, C]` and `token_loss` `[B, T − 1]` (entry t: of the token at t + 1), all f32.
    ///
    /// With an `attention_mask` `[B, T]` padding is neither attended to nor predicted nor predicted from: what is written for it is 0.
    /// With `labels` `[B, T]` they are what is predicted, as Hugging Face's: that at t + 1 from the position t, −100 for none.
    ///
    /// # Errors
    /// Files that cannot be read or written, tensors that would be ignored, ids that the model does not have, rows beyond its
    /// positions, masks with holes; a mean loss that is not finite.
    pub fn ids(&self, backend: Backend, input: &Path, output: &Path) -> Result<IdsLoss, Error> {
        backend.on(Ids { spec: self, input, output })?
    }

    /// What the model chooses of multiple-choice items (JSON lines), with the tokenizer given or the one beside it.
    ///
    /// # Errors
    /// Files that cannot be read, items that are none, a choice longer than the model's positions, a log-likelihood that is not finite.
    pub fn items(&self, backend: Backend, items: &Path, tokenizer: Option<&Path>) -> Result<Vec<ClozeScore>, Error> {
        backend.on(Items { spec: self, items, tokenizer })?
    }

    /// The loss on a whole text, which begins a document. `progress` is told the tokens done and in all.
    ///
    /// # Errors
    /// Files that cannot be read, an empty text, windows outside their limits.
    pub fn text(
        &self,
        backend: Backend,
        options: &TextOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<HeldOut, Error> {
        backend.on(Text { spec: self, options, progress })?
    }
}

struct Ids<'a> {
    spec: &'a Evaluate,
    input: &'a Path,
    output: &'a Path,
}

fn tensor<B: FusedOps>(values: &[i32], time: usize) -> Tensor<B, 2, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / time, time]), &Default::default())
}

fn values<B: FusedOps, const D: usize>(t: Tensor<B, D>) -> Vec<f32> {
    t.into_data().convert::<f32>().into_vec().expect("converted to f32 just above")
}

/// What each position predicts: the next one; nothing at the end of a row.
pub fn next_tokens(ids: &[i32], time: usize) -> Vec<i32> {
    (0..ids.len()).map(|i| if i % time == time - 1 { IGNORE } else { ids[i + 1] }).collect()
}

impl OnBackend for Ids<'_> {
    type Output = Result<IdsLoss, Error>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let Self { spec, input, output } = self;
        let same = |a: &Path| a.canonicalize().ok();
        if same(input).is_some() && same(input) == same(output) {
            return Err(Error::option("output", output.display(), "is the input, which would be lost"));
        }
        let model = model_file::load::<AB>(&spec.model, spec.precision, &Default::default())?.valid();
        let rows = Rows::read(input, model.config().vocab_size)?;
        let time = rows.time;
        if time > model.config().longest() {
            let reason = format!("has rows of {time} tokens; the model takes {}", model.config().longest());
            return Err(Error::content(input, reason));
        }
        // One row at a time: what is kept is the output alone.
        let mut out: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
        let mut push = |name: String, shape: &[usize], values: Vec<f32>| match out.iter_mut().find(|o| o.0 == name) {
            Some(tensor) => tensor.2.extend(values),
            None => out.push((name, [&[rows.count()], shape].concat(), values)),
        };
        let (mut nats, mut predicted) = (0f64, 0u64);
        for row in rows.iter() {
            // Zero where nothing was read.
            let shown = |hidden: Tensor<AB::InnerBackend, 2>| {
                let width = hidden.dims()[1];
                let mut values = values(hidden);
                for t in (0..time).filter(|t| !row.read.contains(t)) {
                    values[t * width..(t + 1) * width].fill(0.0);
                }
                values
            };
            let mut observe = |site: Site, hidden: &Tensor<AB::InnerBackend, 2>| {
                push(format!("hidden_states.{site}"), &[time, hidden.dims()[1]], shown(hidden.clone()));
            };
            let starts = (row.read.start > 0).then(|| tensor(&vec![row.read.start as i32; time], time));
            let hidden = model.hidden(Input { ids: tensor(row.ids, time), document_starts: starts }, &mut observe);
            push("logits".to_owned(), &[time, model.config().vocab_size], shown(model.project(hidden.clone())));
            let losses = values(model.token_losses_of(hidden, tensor(row.targets, time)));
            nats += losses.iter().map(|l| f64::from(*l)).sum::<f64>();
            predicted += row.targets.iter().filter(|t| **t >= 0).count() as u64;
            push("token_loss".to_owned(), &[time - 1], losses[..time - 1].to_vec());
        }
        if predicted == 0 {
            return Err(Error::content(input, "no token is predicted: attention_mask or labels leave none"));
        }
        let loss = finite(nats / predicted as f64, &spec.model)?;
        write(output, &out)?;
        Ok(IdsLoss { rows: rows.count(), time, predicted, loss })
    }
}

/// A loss that is not finite is no result.
fn finite(loss: f64, model: &Path) -> Result<f64, Error> {
    if loss.is_finite() {
        return Ok(loss);
    }
    Err(Error::NotFinite { model: model.to_owned() })
}

/// Writes tensors, atomically.
fn write(path: &Path, tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Result<(), Error> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| Error::content(path, e))?;
    let file = atomic_file::AtomicFile::create(path).map_err(Error::io(path))?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), file.temporary_path()).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(e) => Error::io(path)(e),
        other => Error::content(path, other),
    })?;
    file.commit().map(drop).map_err(Error::io(path))
}

struct Items<'a> {
    spec: &'a Evaluate,
    items: &'a Path,
    tokenizer: Option<&'a Path>,
}

impl OnBackend for Items<'_> {
    type Output = Result<Vec<ClozeScore>, Error>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let Self { spec, items: path, tokenizer } = self;
        let tokenizer_file = model_file::tokenizer(&spec.model, tokenizer)?;
        let tokenizer = Tokenizer::from_file(&tokenizer_file)?;
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let items = ClozeItem::read(&text).map_err(|e| Error::content(path, e))?;
        let device = Default::default();
        let model = model_file::load::<AB>(&spec.model, spec.precision, &device)?.valid();
        model_file::check_vocabulary(&tokenizer, model.config(), &tokenizer_file)?;
        let recipe = TrainSpec::new(LrSpec::constant(0.0));
        let scores = cloze_scores(&model, &tokenizer, &items, &recipe, &device, &|| true)?;
        for value in scores.iter().flat_map(|score| &score.log_likelihoods) {
            finite(*value, &spec.model)?;
        }
        Ok(scores)
    }
}

struct Text<'a> {
    spec: &'a Evaluate,
    options: &'a TextOptions,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl OnBackend for Text<'_> {
    type Output = Result<HeldOut, Error>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let Self { spec, options, progress } = self;
        let tokenizer = Tokenizer::from_file(&model_file::tokenizer(&spec.model, options.tokenizer.as_deref())?)?;
        let text = std::fs::read_to_string(&options.text).map_err(Error::io(&options.text))?;
        let model = model_file::load::<AB>(&spec.model, spec.precision, &Default::default())?.valid();
        let config = model.config();
        let context = options.context.unwrap_or(config.max_positions);
        if !(1..=config.longest()).contains(&context) {
            let limit = format!("must be from 1 to the model's {} positions", config.longest());
            return Err(Error::option("context", context, limit));
        }
        let stride = options.stride.unwrap_or(context);
        if !(1..=context).contains(&stride) {
            return Err(Error::option("stride", stride, format!("must be from 1 to the context, {context}")));
        }
        // The text begins a document: its first token is predicted from the end of the one before.
        let mut ids = vec![tokenizer.end_of_text() as i32];
        ids.extend(tokenizer.encode(&text)?.iter().map(|id| *id as i32));
        if ids.len() == 1 {
            return Err(Error::content(&options.text, "is empty"));
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= config.vocab_size) {
            let reason = format!("gives token {id}; the model's vocabulary is {}", config.vocab_size);
            return Err(Error::content(&options.text, reason));
        }
        let tokens = ids.len() as u64 - 1;
        let mut nats = 0f64;
        let mut done = 0usize;
        while done < ids.len() - 1 {
            let until = (done + stride).min(ids.len() - 1);
            nats += window(&model, &ids, until.saturating_sub(context), done, until);
            done = until;
            progress(done as u64, tokens);
        }
        finite(nats, &spec.model)?;
        Ok(HeldOut { tokens, bytes: Some(text.len() as u64), nats })
    }
}

/// Σ of the losses of the tokens after positions `done..until`, each seeing those from `from` on.
fn window<B: FusedOps>(model: &GptNeoX<B>, ids: &[i32], from: usize, done: usize, until: usize) -> f64 {
    let time = until - from;
    let targets: Vec<i32> = (from..until).map(|i| if i < done { IGNORE } else { ids[i + 1] }).collect();
    let losses = model.token_losses(tensor(&ids[from..until], time), tensor(&targets, time));
    values(losses).into_iter().map(f64::from).sum()
}
