//! Checkpoints: weights, optimiser, position in one safetensors file, checksummed and renamed into place.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use atomic_file::AtomicFile;
use data_mixer::LedgerHead;
use fused_ops::{FusedOps, TrainingBackend};
use gptneox_model::{GptNeoX, GptNeoXConfig, export_parameters, parameter_shapes};
use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::optimizer::{Moments, from_host, to_host};
use crate::{Error, TrainSpec, Trainer};

/// 3: the ledger's digests are sums over rows.
const VERSION: u32 = 3;
const KEY: &str = "midtrain";

/// What tells whether the rest can be read.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Meta {
    version: u32,
    step: u64,
    updates: u64,
    ledger: LedgerHead,
    spec: TrainSpec,
    /// The model's sizes.
    model: GptNeoXConfig,
    /// xxh3 of every tensor's name and bytes, in order of name.
    checksum: String,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

fn damaged(path: &Path, reason: impl ToString) -> Error {
    Error::Checkpoint { path: path.to_owned(), reason: reason.to_string() }
}

fn checksum<'a>(tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut tensors: Vec<_> = tensors.collect();
    tensors.sort_unstable_by_key(|(name, _)| *name);
    let mut hash = Xxh3::new();
    for (name, bytes) in tensors {
        hash.update(name.as_bytes());
        hash.update(bytes);
    }
    format!("{:032x}", hash.digest128())
}

impl<AB: TrainingBackend> Trainer<AB> {
    /// Writes a checkpoint, atomically: the file is complete or not there.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let parameters = export_parameters(self.model());
        let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::with_capacity(3 * parameters.len());
        for (p, Moments { m, v }) in parameters.into_iter().zip(&self.moments) {
            let count = p.values.len();
            tensors.push((format!("adamw_m.{}", p.name), p.shape.clone(), to_host::<AB::InnerBackend>(m, count)));
            tensors.push((format!("adamw_v.{}", p.name), p.shape.clone(), to_host::<AB::InnerBackend>(v, count)));
            tensors.push((format!("model.{}", p.name), p.shape, p.values));
        }
        let bytes = |values: &'_ [f32]| -> Vec<u8> { bytemuck::cast_slice(values).to_vec() };
        let raw: Vec<(String, Vec<usize>, Vec<u8>)> =
            tensors.into_iter().map(|(name, shape, values)| (name, shape, bytes(&values))).collect();
        let meta = Meta {
            version: VERSION,
            step: self.step,
            updates: self.updates,
            ledger: self.ledger,
            spec: self.spec.clone(),
            model: self.model().config().clone(),
            checksum: checksum(raw.iter().map(|(name, _, b)| (name.as_str(), b.as_slice()))),
        };
        let views = raw
            .iter()
            .map(|(name, shape, b)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), b)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|e| damaged(path, e))?;
        write(path, views, &meta)
    }

    /// Continues from a checkpoint: weights, optimiser and position become its own.
    ///
    /// # Errors
    /// A damaged file, another model, or another spec (the fields that differ are named).
    pub fn load(self, path: &Path) -> Result<Self, Error> {
        self.load_but(path, &["recompute"])
    }

    /// Continues from a checkpoint of another run that had the same optimiser up to its step: as [`load`](Self::load),
    /// but the learning rates and the limit of skipped steps may differ from there on.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn fork(self, path: &Path) -> Result<Self, Error> {
        self.load_but(path, &["recompute", "lr", "max_skipped"])
    }

    fn load_but(mut self, path: &Path, ignored: &[&str]) -> Result<Self, Error> {
        let file = Checkpoint::open(path)?;
        let fields = differing_fields(&file.meta.spec, &self.spec, ignored)
            .into_iter()
            .chain(differing_fields(&file.meta.model, self.model().config(), &[]))
            .collect::<Vec<_>>();
        if !fields.is_empty() {
            return Err(Error::OtherSpec { path: path.to_owned(), fields });
        }
        let tensors = file.tensors()?;
        let model = model::<AB>(&tensors, &file.meta.model, &self.device)?;
        self.moments = parameter_shapes(&model)
            .iter()
            .map(|(name, shape)| {
                let moment = |kind: &str| {
                    let values = read(&tensors, format!("{kind}.{name}"), shape)?;
                    Ok::<_, gptneox_model::Error>(from_host::<AB::InnerBackend>(values, shape, &self.device))
                };
                Ok(Moments { m: moment("adamw_m")?, v: moment("adamw_v")? })
            })
            .collect::<Result<_, gptneox_model::Error>>()?;
        self.model = Some(model.with_compute(self.spec.compute()));
        (self.step, self.updates, self.ledger) = (file.meta.step, file.meta.updates, file.meta.ledger);
        Ok(self)
    }
}

/// A checkpoint file, mapped.
struct Checkpoint<'a> {
    path: &'a Path,
    map: Mmap,
    meta: Meta,
}

impl<'a> Checkpoint<'a> {
    fn open(path: &'a Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(io(path))?;
        // SAFETY: the map is read-only, and checkpoints are renamed into place when complete, never rewritten.
        let map = unsafe { Mmap::map(&file) }.map_err(io(path))?;
        let (_, header) = SafeTensors::read_metadata(&map).map_err(|e| damaged(path, e))?;
        let meta = header.metadata().as_ref().and_then(|m| m.get(KEY));
        let meta = meta.ok_or_else(|| damaged(path, "is no checkpoint of this project"))?;
        let version = serde_json::from_str::<Version>(meta).map_err(|e| damaged(path, e))?.version;
        if version != VERSION {
            return Err(damaged(path, format!("has version {version}, this program reads {VERSION}")));
        }
        let meta = serde_json::from_str(meta).map_err(|e| damaged(path, e))?;
        Ok(Self { path, map, meta })
    }

    /// Its tensors, once their checksum is found to be right.
    fn tensors(&self) -> Result<SafeTensors<'_>, Error> {
        let tensors = SafeTensors::deserialize(&self.map).map_err(|e| damaged(self.path, e))?;
        let views = tensors.tensors();
        if checksum(views.iter().map(|(name, view)| (name.as_str(), view.data()))) != self.meta.checksum {
            return Err(damaged(self.path, "checksum differs: its content was damaged"));
        }
        Ok(tensors)
    }
}

/// Writes a checkpoint again without its optimiser state: a third of the size, to be evaluated or fine-tuned, not to be
/// continued.
///
/// # Errors
/// A file that cannot be read, is damaged or no checkpoint; one that cannot be written.
pub fn keep_weights(from: &Path, to: &Path) -> Result<(), Error> {
    let file = Checkpoint::open(from)?;
    let tensors = file.tensors()?;
    let names = tensors.names().into_iter().filter(|name| name.starts_with("model."));
    let views = names
        .map(|name| Ok((name, tensors.tensor(name)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| damaged(from, e))?;
    let checksum = checksum(views.iter().map(|(name, view)| (*name, view.data())));
    write(to, views, &Meta { checksum, ..file.meta.clone() })
}

/// Whether a checkpoint is complete and undamaged.
///
/// # Errors
/// The damage.
pub fn verify_checkpoint(path: &Path) -> Result<(), Error> {
    Checkpoint::open(path)?.tensors().map(|_| ())
}

/// Complete or not there.
fn write(path: &Path, views: Vec<(&str, TensorView<'_>)>, meta: &Meta) -> Result<(), Error> {
    let meta = serde_json::to_string(meta).map_err(|e| damaged(path, e))?;
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(io(dir))?;
    let file = AtomicFile::create(path).map_err(io(path))?;
    let metadata = HashMap::from([(KEY.to_owned(), meta)]);
    safetensors::serialize_to_file(views, Some(metadata), file.temporary_path()).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(e) => io(path)(e),
        other => damaged(path, other),
    })?;
    file.commit().map(drop).map_err(io(path))
}

/// The model of a checkpoint, without optimiser and position: what fine-tuning and generation start from.
///
/// # Errors
/// A file that cannot be read, is damaged or no checkpoint.
pub fn load_weights<B: FusedOps>(path: &Path, device: &B::Device) -> Result<GptNeoX<B>, Error> {
    let file = Checkpoint::open(path)?;
    Ok(model(&file.tensors()?, &file.meta.model, device)?)
}

fn model<B: FusedOps>(
    tensors: &SafeTensors<'_>,
    config: &GptNeoXConfig,
    device: &B::Device,
) -> Result<GptNeoX<B>, gptneox_model::Error> {
    GptNeoX::from_parameters(config, device, |name, shape| read(tensors, format!("model.{name}"), shape))
}

fn read(tensors: &SafeTensors<'_>, name: String, shape: &[usize]) -> Result<Vec<f32>, gptneox_model::Error> {
    let view = tensors
        .tensor(&name)
        .map_err(|_| gptneox_model::Error::MissingTensor { name: name.clone(), expected: shape.to_vec() })?;
    if view.shape() != shape {
        return Err(gptneox_model::Error::Shape { name, expected: shape.to_vec(), found: view.shape().to_vec() });
    }
    Ok(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// The names of the fields in which two specs differ, but for some.
fn differing_fields<T: Serialize>(a: &T, b: &T, but: &[&str]) -> Vec<String> {
    let value = |spec: &T| serde_json::to_value(spec).unwrap_or_default();
    let (a, b) = (value(a), value(b));
    let names: BTreeSet<&String> = [&a, &b].iter().filter_map(|v| v.as_object()).flat_map(|o| o.keys()).collect();
    names
        .into_iter()
        .filter(|name| a[*name] != b[*name] && !but.contains(&name.as_str()))
        .map(|name| format!("{name} ({} there, {} here)", a[name], b[name]))
        .collect()
}

/// The name of a step's checkpoint.
pub(crate) fn file_name(step: u64) -> String {
    format!("step-{step:09}.safetensors")
}

/// The checkpoints of a run's folder by step, newest first. (Whether they are whole is [`verify_checkpoint`]'s.)
pub fn checkpoints(dir: &Path) -> Vec<(u64, PathBuf)> {
    let mut found: Vec<(u64, PathBuf)> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let step = name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()?;
            Some((step, entry.path()))
        })
        .collect();
    found.sort_unstable_by_key(|(step, _)| std::cmp::Reverse(*step));
    found
}
