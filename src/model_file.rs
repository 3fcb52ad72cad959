//! A model by its path: a Hugging Face directory, or a checkpoint of a training run.

use std::path::{Path, PathBuf};

use burn::tensor::DType;
use corpus::Tokenizer;
use fused_ops::{FusedOps, Precision, TrainingBackend};
use gptneox_model::{
    Checkpoint, Compute, GptNeoX, GptNeoXConfig, Metadata, SaveOptions, Storage, load_pretrained, save_pretrained,
};

use crate::backend::OnBackend;
use crate::{Backend, Error};

/// The model at a path — a Hugging Face directory or a checkpoint of a training run —, computing in a precision.
///
/// # Errors
/// A model that cannot be loaded, a precision that the backend lacks.
pub fn load<B: FusedOps>(path: &Path, precision: Precision, device: &B::Device) -> Result<GptNeoX<B>, Error> {
    if precision == Precision::Bf16 && !B::supports_dtype(device, DType::BF16) {
        let limit = format!("is unavailable on the backend {}", B::name(device));
        return Err(Error::option("precision", "bf16", limit));
    }
    check(path)?;
    let model = if path.is_dir() { load_pretrained(path, device)? } else { trainer::load_weights(path, device)? };
    Ok(model.with_compute(Compute { precision, recompute: false }))
}

/// A path where there is a model, or an error that says what was looked for, and what was perhaps meant.
fn check(model: &Path) -> Result<(), Error> {
    const CONFIG: &str = "config.json";
    let refused = |reason: String| Err(Error::content(model, reason));
    if !model.exists() {
        return refused("there is no such model: neither a Hugging Face folder nor a training checkpoint".to_owned());
    }
    if model.is_file() && folder(model).join(CONFIG).is_file() {
        return refused(format!("is a file of a Hugging Face folder: give the folder, {}", folder(model).display()));
    }
    let state = model.join("state.safetensors");
    if model.is_dir() && !model.join(CONFIG).exists() && state.is_file() {
        return refused(format!("is a run's folder: its checkpoint is {}", state.display()));
    }
    Ok(())
}

/// Whether a file is a tokenizer's, as far as its form goes.
fn check_tokenizer(path: &Path) -> Result<(), Error> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| Error::content(path, e))?;
    match value.get("model") {
        Some(_) => Ok(()),
        None => Err(Error::content(path, "is no tokenizer.json: it has no model")),
    }
}

/// The folder of a model: its own, or the one that its file lies in.
fn folder(model: &Path) -> &Path {
    let beside = model.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if model.is_dir() { model } else { beside }
}

/// The tokenizer's file: the one given, or the one that lies beside the model.
pub(crate) fn tokenizer(model: &Path, given: Option<&Path>) -> Result<PathBuf, Error> {
    check(model)?;
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let beside = folder(model).join(TOKENIZER);
    if beside.is_file() {
        Ok(beside)
    } else {
        Err(Error::content(folder(model), format!("holds no {TOKENIZER}; give --tokenizer FILE")))
    }
}

/// Whether a model has all tokens of a tokenizer.
pub(crate) fn check_vocabulary(tokenizer: &Tokenizer, model: &GptNeoXConfig, path: &Path) -> Result<(), Error> {
    let (tokens, vocabulary) = (tokenizer.vocab_size(), model.vocab_size);
    if tokens <= vocabulary {
        return Ok(());
    }
    Err(Error::content(path, format!("has {tokens} tokens, the model a vocabulary of {vocabulary}")))
}

/// The tokens that end a text: those that the model's folder names, or else the tokenizer's.
pub(crate) fn end_tokens(model: &Path, tokenizer: &Tokenizer) -> Result<Vec<u32>, Error> {
    let said = if model.is_dir() { Checkpoint::open(model)?.metadata().end_tokens() } else { None };
    Ok(said.unwrap_or_else(|| vec![tokenizer.end_of_text()]))
}

const TOKENIZER: &str = "tokenizer.json";
/// What belongs to a tokenizer in transformers' folders.
const TOKENIZER_FILES: [&str; 7] = [
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
];

/// How a model is written.
#[derive(Debug, Clone, Default)]
pub struct ConvertOptions {
    /// The type of the weights; none: as they are stored, a training checkpoint's in f32.
    pub storage: Option<Storage>,
    /// The most bytes of tensors in a file.
    pub max_shard_bytes: Option<u64>,
    /// A tokenizer.json; none: the one beside the model, where there is one.
    pub tokenizer: Option<PathBuf>,
}

/// Writes the model at a path as a Hugging Face directory, with its tokenizer and what its folder says of special tokens and
/// generation. The directory may be the model's own: it is replaced once the new one is complete.
///
/// # Errors
/// A model that cannot be loaded, a directory that cannot be written, a weight that the type cannot hold.
pub fn convert(backend: Backend, model: &Path, output: &Path, options: &ConvertOptions) -> Result<(), Error> {
    check(model)?;
    let beside = |name: &str| (name.to_owned(), folder(model).join(name));
    let mut files: Vec<(String, PathBuf)> = TOKENIZER_FILES.into_iter().map(beside).collect();
    files.retain(|(_, path)| path.is_file());
    if let Some(given) = &options.tokenizer {
        check_tokenizer(given)?;
        files = vec![(TOKENIZER.to_owned(), given.clone())];
    }
    let same = model.canonicalize().ok().is_some_and(|model| output.canonicalize().is_ok_and(|output| output == model));
    if files.is_empty() && !same && output.join(TOKENIZER).exists() {
        let reason = format!(
            "holds a {TOKENIZER}, and the model brings none: remove it, or say with --tokenizer that it is the model's"
        );
        return Err(Error::content(output, reason));
    }
    // What is there of another tokenizer speaks of that.
    let without = TOKENIZER_FILES.map(str::to_owned).to_vec();
    let (stored, metadata) = if model.is_dir() {
        let checkpoint = Checkpoint::open(model)?;
        (checkpoint.storage()?, checkpoint.metadata().clone())
    } else {
        // A training checkpoint says nothing of tokens.
        let tokenizer = files.iter().find(|(name, _)| name == TOKENIZER);
        let end = tokenizer.map(|(_, path)| Tokenizer::from_file(path).map(|t| t.end_of_text())).transpose()?;
        (Storage::F32, end.map_or_else(Metadata::default, Metadata::with_end_token))
    };
    let storage = options.storage.unwrap_or(stored);
    // Another type of the weights than they had is also said.
    let metadata = if options.storage.is_some() { metadata.with_dtype_of_weights() } else { metadata };
    let save = SaveOptions { storage, max_shard_bytes: options.max_shard_bytes, metadata, files, without };
    backend.on(Convert { model, output, save })?
}

struct Convert<'a> {
    model: &'a Path,
    output: &'a Path,
    save: SaveOptions,
}

impl OnBackend for Convert<'_> {
    type Output = Result<(), Error>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let model = load::<AB::InnerBackend>(self.model, Precision::F32, &Default::default())?;
        Ok(save_pretrained(&model, self.output, &self.save)?)
    }
}
