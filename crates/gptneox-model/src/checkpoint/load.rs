//! Reading a checkpoint directory. Weight files are mapped: each tensor is read once, straight into its parameter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use fused_ops::FusedOps;
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{CONFIG, INDEX, Index, SINGLE, format_error, io};
use crate::{Error, GptNeoX, GptNeoXConfig, HuggingFaceConfig};

/// Buffers of old checkpoints that are no parameters.
const BUFFERS: [&str; 4] =
    ["attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq", "rotary_emb.inv_freq"];

/// Loads a checkpoint directory as `save_pretrained` writes it; f32, f16 and bf16 weights become f32.
///
/// # Errors
/// Unreadable or malformed files, and tensors that are missing, unknown or of another shape (all named).
pub fn load_pretrained<B: FusedOps>(dir: &Path, device: &B::Device) -> Result<GptNeoX<B>, Error> {
    let config = load_config(dir)?;
    let maps = weight_files(dir)?
        .into_iter()
        .map(|path| {
            let file = File::open(&path).map_err(io(&path))?;
            // SAFETY: the map is read-only; a checkpoint that another process rewrites while it is being read is
            // outside what any reader can support.
            let map = unsafe { Mmap::map(&file) }.map_err(io(&path))?;
            Ok((path, map))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let mut tensors = BTreeMap::new();
    for (path, map) in &maps {
        let file = SafeTensors::deserialize(map).map_err(|e| format_error(path, e))?;
        for (name, view) in file.tensors() {
            if !BUFFERS.iter().any(|buffer| name.ends_with(buffer)) && tensors.insert(name.clone(), view).is_some() {
                return Err(format_error(path, format!("tensor {name} is in two files")));
            }
        }
    }
    if config.tie_embeddings {
        tensors.remove("embed_out.weight");
    }
    let mut used = BTreeSet::new();
    let model = GptNeoX::from_parameters(&config, device, |name, shape| {
        let missing = || Error::MissingTensor { name: name.to_owned(), expected: shape.to_vec() };
        let view = tensors.get(name).ok_or_else(missing)?;
        if view.shape() != shape {
            return Err(Error::Shape { name: name.to_owned(), expected: shape.to_vec(), found: view.shape().to_vec() });
        }
        used.insert(name.to_owned());
        widen(view)
            .map_err(|dtype| format_error(dir, format!("tensor {name} has type {dtype:?}, not F32, F16 or BF16")))
    })?;
    match tensors.iter().find(|(name, _)| !used.contains(*name)) {
        Some((name, view)) => Err(Error::UnknownTensor { name: name.clone(), found: view.shape().to_vec() }),
        None => Ok(model),
    }
}

/// The model of a checkpoint directory, without its weights.
///
/// # Errors
/// A `config.json` that is missing, malformed, or of a model that this crate does not compute.
pub fn load_config(dir: &Path) -> Result<GptNeoXConfig, Error> {
    let path = dir.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(io(&path))?;
    let config: HuggingFaceConfig = serde_json::from_str(&text).map_err(|e| format_error(&path, e))?;
    GptNeoXConfig::try_from(config)
}

/// The files of a checkpoint directory that decide its model: its `config.json` and its weights.
///
/// # Errors
/// An index that cannot be read.
pub fn checkpoint_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    Ok([dir.join(CONFIG)].into_iter().chain(weight_files(dir)?).collect())
}

/// The weight files of a checkpoint directory.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let index_path = dir.join(INDEX);
    if !index_path.exists() {
        return Ok(vec![dir.join(SINGLE)]);
    }
    let text = std::fs::read_to_string(&index_path).map_err(io(&index_path))?;
    let index: Index = serde_json::from_str(&text).map_err(|e| format_error(&index_path, e))?;
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    names
        .into_iter()
        .map(|name| {
            if Path::new(name).components().count() == 1 && !name.contains(['/', '\\']) && name != ".." {
                Ok(dir.join(name))
            } else {
                Err(format_error(&index_path, format!("shard {name:?} is not a file name")))
            }
        })
        .collect()
}

/// The values as f32, or the type that cannot be widened.
fn widen(view: &TensorView<'_>) -> Result<Vec<f32>, Dtype> {
    let pairs = || view.data().chunks_exact(2).map(|b| [b[0], b[1]]);
    match view.dtype() {
        Dtype::F32 => Ok(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
        Dtype::F16 => Ok(pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect()),
        Dtype::BF16 => Ok(pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect()),
        other => Err(other),
    }
}
