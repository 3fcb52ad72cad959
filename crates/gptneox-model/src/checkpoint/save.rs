//! Writing a checkpoint directory.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use atomic_file::AtomicFolder;
use fused_ops::FusedOps;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensorError, View};

use super::{CONFIG, GENERATION, INDEX, Index, SINGLE, format_error, io};
use crate::{Error, GptNeoX, Metadata, NamedTensor, export_parameters};

/// The type in which weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Storage {
    /// Bit-equal to the model's parameters.
    #[default]
    F32,
    /// Rounded; a value beyond ±65504 is refused.
    F16,
    /// Rounded.
    Bf16,
}

impl Storage {
    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// As `config.json` spells it.
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }
}

/// How a checkpoint is written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SaveOptions {
    /// The type of the weights.
    pub storage: Storage,
    /// The most bytes of tensors in a file; a larger tensor has a file of its own. `None`: one file.
    pub max_shard_bytes: Option<u64>,
    /// What the directory says beside the model.
    pub metadata: Metadata,
    /// Files that are copied into the directory, under these names: a tokenizer, say.
    pub files: Vec<(String, PathBuf)>,
    /// Files of the directory that do not stay, though they belong to no checkpoint: those of another tokenizer, say.
    pub without: Vec<String>,
}

/// A tensor that is converted when it is written.
struct Stored<'a> {
    tensor: &'a NamedTensor,
    storage: Storage,
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.storage.dtype()
    }
    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let values = &self.tensor.values;
        Cow::Owned(match self.storage {
            Storage::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Storage::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            Storage::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        })
    }
    fn data_len(&self) -> usize {
        self.tensor.values.len() * self.storage.bytes()
    }
}

/// Writes a checkpoint that Hugging Face transformers loads. Stored as f32, loading it gives the same bits.
///
/// 1. Everything is written to a new folder beside the directory.
/// 2. What the directory holds beside a checkpoint (a tokenizer, a README) is brought over.
/// 3. The new folder takes the directory's place. Whatever breaks the writing off before leaves the directory as it was.
///
/// # Errors
/// Files that cannot be written; a weight that the type cannot hold.
pub fn save_pretrained<B: FusedOps>(model: &GptNeoX<B>, dir: &Path, options: &SaveOptions) -> Result<(), Error> {
    let tensors = export_parameters(model);
    if options.storage == Storage::F16 {
        check_f16(dir, &tensors)?;
    }
    let folder = AtomicFolder::create(dir).map_err(io(dir))?;
    let new = folder.path();
    let shards = shards(&tensors, options);
    match shards.as_slice() {
        [all] => write_weights(&new.join(SINGLE), all, options.storage)?,
        shards => {
            let mut index = Index::default();
            let total: u64 = tensors.iter().map(|t| (t.values.len() * options.storage.bytes()) as u64).sum();
            index.metadata.insert("total_size".to_owned(), total.into());
            for (i, shard) in shards.iter().enumerate() {
                let file = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
                write_weights(&new.join(&file), shard, options.storage)?;
                index.weight_map.extend(shard.iter().map(|t| (t.name.clone(), file.clone())));
            }
            write_json(&new.join(INDEX), &index)?;
        }
    }
    for (name, from) in &options.files {
        std::fs::copy(from, new.join(name)).map_err(io(from))?;
    }
    if let Some(generation) = options.metadata.generation() {
        write_json(&new.join(GENERATION), generation)?;
    }
    write_json(&new.join(CONFIG), &options.metadata.config_of(model.config(), options.storage.name()))?;
    let goes = |name: &str| is_checkpoint(name) || options.without.iter().any(|file| file == name);
    folder.commit(&goes).map_err(io(dir))
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(value).map_err(|e| format_error(path, e))?;
    std::fs::write(path, &text).map_err(io(path))
}

/// Whether a file belongs to a checkpoint, and so is replaced with it.
fn is_checkpoint(name: &str) -> bool {
    let shard = |stem: &str, end: &str| name.starts_with(stem) && name.contains("-of-") && name.ends_with(end);
    [CONFIG, GENERATION, SINGLE, INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json"].contains(&name)
        || shard("model-", ".safetensors")
        || shard("pytorch_model-", ".bin")
        || super::load::is_early_shard(name)
}

fn check_f16(dir: &Path, tensors: &[NamedTensor]) -> Result<(), Error> {
    for tensor in tensors {
        if let Some(v) = tensor.values.iter().find(|v| v.is_finite() && f16::from_f32(**v).is_infinite()) {
            let reason = format!("tensor {} holds {v}, beyond the 65504 of F16; store it as BF16 or F32", tensor.name);
            return Err(format_error(dir, reason));
        }
    }
    Ok(())
}

/// The tensors of each file, in order.
fn shards<'a>(tensors: &'a [NamedTensor], options: &SaveOptions) -> Vec<Vec<&'a NamedTensor>> {
    let limit = options.max_shard_bytes.unwrap_or(u64::MAX);
    let mut shards: Vec<Vec<&NamedTensor>> = Vec::new();
    let mut filled = u64::MAX;
    for tensor in tensors {
        let bytes = (tensor.values.len() * options.storage.bytes()) as u64;
        match shards.last_mut() {
            Some(shard) if filled.saturating_add(bytes) <= limit => {
                shard.push(tensor);
                filled += bytes;
            }
            _ => {
                shards.push(vec![tensor]);
                filled = bytes;
            }
        }
    }
    shards
}

fn write_weights(path: &Path, tensors: &[&NamedTensor], storage: Storage) -> Result<(), Error> {
    // Older versions of transformers refuse files without this entry.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let views = tensors.iter().map(|tensor| (tensor.name.as_str(), Stored { tensor, storage }));
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|e| match e {
        SafeTensorError::IoError(e) => io(path)(e),
        other => format_error(path, other),
    })
}
