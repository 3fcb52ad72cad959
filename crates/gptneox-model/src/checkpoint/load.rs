//! Reading a checkpoint directory. Weight files are mapped: each tensor is read once, straight into its parameter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use fused_ops::FusedOps;
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::{CONFIG, GENERATION, INDEX, Index, SINGLE, Storage, format_error, io};
use crate::{Error, GptNeoX, GptNeoXConfig, Metadata, parse_config};

/// Buffers of old checkpoints that are no parameters.
const BUFFERS: [&str; 3] = [".attention.bias", ".attention.masked_bias", "rotary_emb.inv_freq"];
/// What parameters of the body begin with, in a checkpoint of the whole model.
const BODY: &str = "gpt_neox.";
const EMBEDDING: &str = "gpt_neox.embed_in.weight";
const OUTPUT: &str = "embed_out.weight";
/// The output matrix as transformers 5 calls it.
const LM_HEAD: &str = "lm_head.weight";

/// A Hugging Face checkpoint directory, opened: what it says, and its weights, still in their files.
///
/// ```no_run
/// use fused_ops::backends::Flex;
/// use gptneox_model::{Checkpoint, GptNeoX};
///
/// let checkpoint = Checkpoint::open("pythia-70m".as_ref())?;
/// println!("{} positions, stored as {:?}", checkpoint.config().max_positions, checkpoint.storage()?);
/// let model: GptNeoX<Flex> = checkpoint.model(&Default::default())?;
/// # Ok::<(), gptneox_model::Error>(())
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    config: GptNeoXConfig,
    metadata: Metadata,
    maps: Vec<(PathBuf, Mmap)>,
}

/// A tensor, the file that it is in, and its name there.
struct Found<'a> {
    path: &'a Path,
    stored: String,
    view: TensorView<'a>,
}

impl Found<'_> {
    /// Whether it is the same tensor, to the bit.
    fn equals(&self, other: &Self) -> bool {
        let parts = |found: &Self| (found.view.shape().to_vec(), found.view.dtype());
        parts(self) == parts(other) && self.view.data() == other.view.data()
    }
}

impl Checkpoint {
    /// Reads what a directory says, and maps its weights.
    ///
    /// # Errors
    /// Files that cannot be read or are malformed, a model that this crate does not compute.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let (config, metadata) = read_config(dir)?;
        let map = |path: PathBuf| {
            let file = File::open(&path).map_err(io(&path))?;
            // SAFETY: the map is read-only; a checkpoint that another process rewrites while it is being read is
            // outside what any reader can support.
            let map = unsafe { Mmap::map(&file) }.map_err(io(&path))?;
            Ok((path, map))
        };
        let maps = weight_files(dir)?.into_iter().map(map).collect::<Result<Vec<_>, Error>>()?;
        Ok(Self { dir: dir.to_owned(), config, metadata, maps })
    }

    /// The model's sizes.
    pub fn config(&self) -> &GptNeoXConfig {
        &self.config
    }

    /// What the directory says beside the model.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The type in which the weights are stored: where they differ in it, the widest.
    ///
    /// # Errors
    /// A weight file that is malformed.
    pub fn storage(&self) -> Result<Storage, Error> {
        let types: BTreeSet<String> =
            self.tensors()?.values().map(|found| format!("{:?}", found.view.dtype())).collect();
        let types: Vec<&str> = types.iter().map(String::as_str).collect();
        Ok(match types.as_slice() {
            ["F16"] => Storage::F16,
            ["BF16"] => Storage::Bf16,
            _ => Storage::F32,
        })
    }

    /// The model; f16 and bf16 weights become f32.
    ///
    /// # Errors
    /// A weight file that is malformed; tensors that are missing, unknown or of another shape (named, with their file).
    pub fn model<B: FusedOps>(&self, device: &B::Device) -> Result<GptNeoX<B>, Error> {
        let mut tensors = self.tensors()?;
        self.one_table(&mut tensors)?;
        let mut used = BTreeSet::new();
        let model = GptNeoX::from_parameters(&self.config, device, |name, shape| {
            let missing = || Error::MissingTensor { name: name.to_owned(), expected: shape.to_vec() };
            let Found { path, stored, view } = tensors.get(name).ok_or_else(|| missing().within(&self.dir))?;
            if view.shape() != shape {
                let (expected, found) = (shape.to_vec(), view.shape().to_vec());
                return Err(Error::Shape { name: stored.clone(), expected, found }.within(path));
            }
            used.insert(name.to_owned());
            widen(view).map_err(|dtype| {
                format_error(path, format!("tensor {stored} has type {dtype:?}, not F32, F16 or BF16"))
            })
        })?;
        match tensors.iter().find(|(name, _)| !used.contains(*name)) {
            Some((_, Found { path, stored, view })) => {
                Err(Error::UnknownTensor { name: stored.clone(), found: view.shape().to_vec() }.within(path))
            }
            None => Ok(model),
        }
    }

    /// All parameters under the names of this crate.
    ///
    /// 1. Buffers of old checkpoints are left out.
    /// 2. `lm_head.weight` is `embed_out.weight`.
    ///    (Twice the same tensor is one.)
    /// 3. Names of the body get the `gpt_neox.` that they lack, as where the body alone was saved, and lose one that is there twice.
    fn tensors(&self) -> Result<BTreeMap<String, Found<'_>>, Error> {
        let mut named = Vec::new();
        for (path, map) in &self.maps {
            let file = SafeTensors::deserialize(map).map_err(|e| format_error(path, e))?;
            named.extend(file.tensors().into_iter().map(|(stored, view)| Found { path, stored, view }));
        }
        named.retain(|found| !BUFFERS.iter().any(|buffer| found.stored.ends_with(buffer)));
        let mut tensors = BTreeMap::new();
        for found in named {
            let own = canonical(&found.stored);
            match tensors.get(&own) {
                Some(earlier) if !found.equals(earlier) => {
                    let reason = format!(
                        "tensor {} is {own}, and so is {} in {}, which differs",
                        found.stored,
                        earlier.stored,
                        earlier.path.display()
                    );
                    return Err(format_error(found.path, reason));
                }
                Some(_) => {}
                None => drop(tensors.insert(own, found)),
            }
        }
        Ok(tensors)
    }

    /// Embedding and output matrix: one stored tensor where they are tied, two where they are not.
    fn one_table(&self, tensors: &mut BTreeMap<String, Found<'_>>) -> Result<(), Error> {
        let tied = |limit: String| Error::config("tie_word_embeddings", self.config.tie_embeddings, limit);
        if !self.config.tie_embeddings {
            let missing = match (tensors.contains_key(EMBEDDING), tensors.contains_key(OUTPUT)) {
                (true, false) => format!("{OUTPUT} or {LM_HEAD}"),
                (false, true) => EMBEDDING.to_owned(),
                _ => return Ok(()),
            };
            return Err(tied(format!("needs the tensor {missing}, which is not there")).within(&self.dir));
        }
        match (tensors.remove(OUTPUT), tensors.get(EMBEDDING)) {
            (Some(output), None) => drop(tensors.insert(EMBEDDING.to_owned(), output)),
            (Some(output), Some(embedding)) if !output.equals(embedding) => {
                let limit = format!(
                    "says that {} and {} are one tensor, but the two that are stored differ",
                    output.stored, embedding.stored
                );
                return Err(tied(limit).within(output.path));
            }
            _ => {}
        }
        Ok(())
    }
}

/// A tensor's name in this crate.
fn canonical(name: &str) -> String {
    let inner = name.strip_prefix(BODY).unwrap_or(name);
    let of_body = |name: &str| ["embed_in.", "layers.", "final_layer_norm."].iter().any(|part| name.starts_with(part));
    match inner {
        LM_HEAD => OUTPUT.to_owned(),
        _ if name == OUTPUT => OUTPUT.to_owned(),
        _ if of_body(inner) => format!("{BODY}{inner}"),
        _ if inner.strip_prefix(BODY).is_some_and(of_body) => inner.to_owned(),
        _ => name.to_owned(),
    }
}

/// Loads a checkpoint directory as `save_pretrained` writes it: [`Checkpoint::open`] and [`Checkpoint::model`] at once.
///
/// # Errors
/// As theirs.
pub fn load_pretrained<B: FusedOps>(dir: &Path, device: &B::Device) -> Result<GptNeoX<B>, Error> {
    Checkpoint::open(dir)?.model(device)
}

/// The model of a checkpoint directory, without its weights.
///
/// # Errors
/// A `config.json` that is missing, malformed, or of a model that this crate does not compute.
pub fn load_config(dir: &Path) -> Result<GptNeoXConfig, Error> {
    Ok(read_config(dir)?.0)
}

fn read_config(dir: &Path) -> Result<(GptNeoXConfig, Metadata), Error> {
    let path = dir.join(CONFIG);
    let config = read_json(&path)?;
    let model = parse_config(&config).map_err(|e| e.within(&path))?;
    let generation = dir.join(GENERATION);
    let generation = if generation.exists() {
        match read_json(&generation)? {
            Value::Object(fields) => Some(fields),
            _ => return Err(format_error(&generation, "must hold an object")),
        }
    } else {
        None
    };
    // An object: it was parsed as one.
    let fields = config.as_object().cloned().unwrap_or_default();
    let metadata = Metadata::new(&fields, generation).map_err(|e| e.within(dir))?;
    Ok((model, metadata))
}

fn read_json(path: &Path) -> Result<Value, Error> {
    let text = std::fs::read_to_string(path).map_err(io(path))?;
    serde_json::from_str(&text).map_err(|e| format_error(path, e))
}

/// The files of a checkpoint directory that decide its model: its `config.json` and its weights.
///
/// # Errors
/// An index that cannot be read.
pub fn checkpoint_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    Ok([dir.join(CONFIG)].into_iter().chain(weight_files(dir)?).collect())
}

/// The weight files of a checkpoint directory: as transformers, the single file, and shards where there is none.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let (single, index_path) = (dir.join(SINGLE), dir.join(INDEX));
    // transformers takes these before all others.
    let early = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let early = early.map(|name| name.to_string_lossy().into_owned()).find(|name| is_early_shard(name));
    if let Some(name) = early {
        let reason = format!("holds {name}, shards of a kind that is not supported: save it again with transformers");
        return Err(format_error(dir, reason));
    }
    if single.exists() || !index_path.exists() {
        let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json"].into_iter().find(|f| dir.join(f).exists());
        if let Some(pickled) = pickled.filter(|_| !single.exists()) {
            let reason = format!("holds {pickled} and no {SINGLE}: save it again with safe_serialization=True");
            return Err(format_error(dir, reason));
        }
        return Ok(vec![single]);
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

/// Shards as a tensor-parallel program writes them, `shard-00000-model-00001-of-00002.safetensors`.
pub(super) fn is_early_shard(name: &str) -> bool {
    name.starts_with("shard-") && name.contains("-model-") && name.ends_with(".safetensors")
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
