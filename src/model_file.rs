//! A model by its path: a Hugging Face directory, or a checkpoint of a training run.

use std::path::{Path, PathBuf};

use burn::tensor::DType;
use fused_ops::{FusedOps, Precision, TrainingBackend};
use gptneox_model::{Compute, GptNeoX, SaveOptions, load_pretrained, save_pretrained};

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
    let model = if path.is_dir() { load_pretrained(path, device)? } else { trainer::load_weights(path, device)? };
    Ok(model.with_compute(Compute { precision, recompute: false }))
}

/// The tokenizer's file: the one given, or the one that lies beside the model.
pub(crate) fn tokenizer(model: &Path, given: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let beside = model.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = if model.is_dir() { model } else { beside };
    let beside = dir.join("tokenizer.json");
    if beside.is_file() {
        Ok(beside)
    } else {
        Err(Error::content(dir, "holds no tokenizer.json; give --tokenizer FILE"))
    }
}

/// Writes the model at a path as a Hugging Face directory, with its tokenizer where one is given or lies beside it.
///
/// # Errors
/// A model that cannot be loaded, a directory that cannot be written, a weight that the type cannot hold.
pub fn convert(
    backend: Backend,
    model: &Path,
    output: &Path,
    options: &SaveOptions,
    tokenizer_file: Option<&Path>,
) -> Result<(), Error> {
    backend.on(Convert { model, output, options })??;
    match (tokenizer(model, tokenizer_file), tokenizer_file) {
        (Ok(file), _) => {
            let bytes = std::fs::read(&file).map_err(Error::io(&file))?;
            let to = output.join("tokenizer.json");
            atomic_file::write(&to, &bytes).map_err(Error::io(&to))
        }
        (Err(error), Some(_)) => Err(error),
        (Err(_), None) => Ok(()),
    }
}

struct Convert<'a> {
    model: &'a Path,
    output: &'a Path,
    options: &'a SaveOptions,
}

impl OnBackend for Convert<'_> {
    type Output = Result<(), Error>;

    fn run<AB: TrainingBackend>(self) -> Self::Output {
        let model = load::<AB::InnerBackend>(self.model, Precision::F32, &Default::default())?;
        Ok(save_pretrained(&model, self.output, self.options)?)
    }
}
