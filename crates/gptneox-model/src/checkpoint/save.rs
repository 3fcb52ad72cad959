//! Writing a checkpoint directory.

use atomic_file::AtomicFile;
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use fused_ops::FusedOps;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensorError, View};

use super::{CONFIG, INDEX, Index, SINGLE, format_error, io};
use crate::{Error, GptNeoX, HuggingFaceConfig, NamedTensor, export_parameters};

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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SaveOptions {
    /// The type of the weights.
    pub storage: Storage,
    /// The most bytes of tensors in a file; a larger tensor has a file of its own. `None`: one file.
    pub max_shard_bytes: Option<u64>,
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
/// Every file is complete or not there. What the folder held of an earlier checkpoint is removed, and `config.json`
/// comes last: a write that was broken off leaves a folder that loaders refuse.
///
/// # Errors
/// Files that cannot be written; a weight that the type cannot hold (nothing is touched then).
pub fn save_pretrained<B: FusedOps>(model: &GptNeoX<B>, dir: &Path, options: &SaveOptions) -> Result<(), Error> {
    let tensors = export_parameters(model);
    if options.storage == Storage::F16 {
        check_f16(dir, &tensors)?;
    }
    std::fs::create_dir_all(dir).map_err(io(dir))?;
    let config_path = dir.join(CONFIG);
    remove_earlier(dir)?;
    let shards = shards(&tensors, options);
    match shards.as_slice() {
        [all] => write_weights(&dir.join(SINGLE), all, options.storage)?,
        shards => {
            let mut index = Index::default();
            let total: u64 = tensors.iter().map(|t| (t.values.len() * options.storage.bytes()) as u64).sum();
            index.metadata.insert("total_size".to_owned(), total.into());
            for (i, shard) in shards.iter().enumerate() {
                let file = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
                write_weights(&dir.join(&file), shard, options.storage)?;
                index.weight_map.extend(shard.iter().map(|t| (t.name.clone(), file.clone())));
            }
            let path = dir.join(INDEX);
            let text = serde_json::to_vec_pretty(&index).map_err(|e| format_error(&path, e))?;
            atomic_file::write(&path, &text).map_err(io(&path))?;
        }
    }
    let config = HuggingFaceConfig::from(model.config()).stored_as(options.storage.name());
    let text = serde_json::to_vec_pretty(&config).map_err(|e| format_error(&config_path, e))?;
    atomic_file::write(&config_path, &text).map_err(io(&config_path))
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

fn remove_earlier(dir: &Path) -> Result<(), Error> {
    let is_ours = |name: &str| {
        name == CONFIG
            || name == SINGLE
            || name == INDEX
            || (name.starts_with("model-") && name.contains("-of-") && name.ends_with(".safetensors"))
    };
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io(dir))? {
        names.extend(entry.map_err(io(dir))?.file_name().into_string().ok().filter(|n| is_ours(n)));
    }
    // config.json first: from then on the folder is no checkpoint.
    names.sort_by_key(|name| name != CONFIG);
    for path in names.iter().map(|name| dir.join(name)) {
        std::fs::remove_file(&path).map_err(io(&path))?;
    }
    Ok(())
}

fn write_weights(path: &Path, tensors: &[&NamedTensor], storage: Storage) -> Result<(), Error> {
    let file = AtomicFile::create(path).map_err(io(path))?;
    // transformers refuses files without this entry.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let views = tensors.iter().map(|tensor| (tensor.name.as_str(), Stored { tensor, storage }));
    safetensors::serialize_to_file(views, Some(metadata), file.temporary_path()).map_err(|e| match e {
        SafeTensorError::IoError(e) => io(path)(e),
        other => format_error(path, other),
    })?;
    file.commit().map(drop).map_err(io(path))
}
