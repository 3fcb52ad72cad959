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
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::optimizer::{Moments, from_host, to_host};
use crate::step::Position;
use crate::{Change, Error, TrainSpec, Trainer};

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
    /// The steps skipped lately.
    #[serde(default)]
    skips: Vec<u64>,
    /// The recipe, read only by who goes on: weights are read whatever fields it has.
    spec: Value,
    /// The model's sizes.
    model: GptNeoXConfig,
    /// xxh3 of every tensor's name and bytes, in order of name.
    #[serde(default)]
    checksum: String,
    /// xxh3 of all of this but itself. (Files of earlier programs have none.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seal: Option<String>,
}

impl Meta {
    fn sealed(self) -> Self {
        let seal = Some(self.own_seal());
        Self { seal, ..self }
    }

    fn own_seal(&self) -> String {
        let plain = value(&Self { seal: None, ..self.clone() });
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(plain.to_string().as_bytes()))
    }
}

/// A tensor's name, shape and values.
type Named = (String, Vec<usize>, Vec<f32>);

/// What a checkpoint holds, on the host: training may go on while it is written.
pub(crate) struct Snapshot {
    meta: Meta,
    tensors: Vec<Named>,
}

impl Snapshot {
    /// The steps done.
    pub(crate) fn step(&self) -> u64 {
        self.meta.step
    }

    /// Writes a checkpoint, atomically: the file is complete or not there.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let bytes = self.tensors.iter().map(|(name, _, values)| (name.as_str(), bytemuck::cast_slice(values)));
        let meta = Meta { checksum: checksum(bytes), ..self.meta.clone() }.sealed();
        let views = self
            .tensors
            .iter()
            .map(|(name, shape, values)| {
                let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values))?;
                Ok((name.as_str(), view))
            })
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|e| damaged(path, e))?;
        write(path, views, &meta)
    }
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
        self.snapshot().write(path)
    }

    /// A copy of everything that a checkpoint holds.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let parameters = export_parameters(self.model());
        let mut tensors: Vec<Named> = Vec::with_capacity(3 * parameters.len());
        for (p, Moments { m, v }) in parameters.into_iter().zip(&self.moments) {
            let count = p.values.len();
            tensors.push((format!("adamw_m.{}", p.name), p.shape.clone(), to_host::<AB::InnerBackend>(m, count)));
            tensors.push((format!("adamw_v.{}", p.name), p.shape.clone(), to_host::<AB::InnerBackend>(v, count)));
            tensors.push((format!("model.{}", p.name), p.shape, p.values));
        }
        let meta = Meta {
            version: VERSION,
            step: self.step,
            updates: self.updates,
            ledger: self.ledger,
            skips: self.skips.clone(),
            spec: value(&self.spec),
            model: self.model().config().clone(),
            checksum: String::new(),
            seal: None,
        };
        Snapshot { meta, tensors }
    }

    /// A run that goes on from a checkpoint: weights, optimiser and position are the file's.
    ///
    /// # Errors
    /// A damaged file, or another spec (the fields that differ are named; `recompute`, `max_skipped` and `skip_window` change no
    /// result and may differ).
    pub fn resume(path: &Path, spec: TrainSpec, device: &AB::Device) -> Result<Self, Error> {
        Self::resume_with(path, spec, device, &[])
    }

    /// The same under a spec that differs in some fields: from the checkpoint's step on it holds. Skipped steps are counted anew where
    /// a field differs.
    ///
    /// # Errors
    /// As [`resume`](Self::resume), but for these fields.
    pub fn resume_with(path: &Path, spec: TrainSpec, device: &AB::Device, allowed: &[Change]) -> Result<Self, Error> {
        let file = CheckpointFile::open(path)?;
        let allowed: Vec<&str> = allowed.iter().map(|change| change.name()).collect();
        let fields = differing_fields(&file.spec()?, &spec, &[&allowed[..], &CHANGE_NOTHING].concat());
        if !fields.is_empty() {
            return Err(Error::OtherSpec { path: path.to_owned(), fields });
        }
        let same = differing_fields(&file.spec()?, &spec, &CHANGE_NOTHING).is_empty();
        let tensors = file.tensors()?;
        let model = model::<AB>(&tensors, &file.meta.model, device).map_err(|e| damaged(path, e))?;
        let moments = parameter_shapes(&model)
            .iter()
            .map(|(name, shape)| {
                let moment = |kind: &str| {
                    let values = read(&tensors, format!("{kind}.{name}"), shape).map_err(|e| damaged(path, e))?;
                    Ok::<_, Error>(from_host::<AB::InnerBackend>(values, shape, device))
                };
                Ok(Moments { m: moment("adamw_m")?, v: moment("adamw_v")? })
            })
            .collect::<Result<_, Error>>()?;
        let Meta { step, updates, ledger, skips, .. } = file.meta;
        let position = Position { step, updates, ledger, skips: if same { skips } else { Vec::new() } };
        Self::at(position, model, moments, spec, device)
    }

    /// A run that goes on from another one's checkpoint, which had the same optimiser up to its step: from there on the learning rates
    /// may differ.
    ///
    /// # Errors
    /// As [`resume`](Self::resume), but for the learning rates.
    pub fn fork(path: &Path, spec: TrainSpec, device: &AB::Device) -> Result<Self, Error> {
        Self::resume_with(path, spec, device, &[Change::Lr])
    }
}

/// Fields of a spec that change no result.
const CHANGE_NOTHING: [&str; 3] = ["recompute", "max_skipped", "skip_window"];

fn value(spec: &impl Serialize) -> Value {
    serde_json::to_value(spec).unwrap_or_default()
}

/// A checkpoint file, mapped.
struct CheckpointFile<'a> {
    path: &'a Path,
    map: Mmap,
    meta: Meta,
}

impl<'a> CheckpointFile<'a> {
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
        let meta: Meta = serde_json::from_str(meta).map_err(|e| damaged(path, e))?;
        if meta.seal.as_ref().is_some_and(|seal| *seal != meta.own_seal()) {
            return Err(damaged(path, "checksum differs: what it says of its step was damaged"));
        }
        match step_of(path) {
            Some(step) if step != meta.step => Err(damaged(path, format!("is the checkpoint of step {}", meta.step))),
            _ => Ok(Self { path, map, meta }),
        }
    }

    /// The recipe that it was written under.
    fn spec(&self) -> Result<TrainSpec, Error> {
        serde_json::from_value(self.meta.spec.clone())
            .map_err(|e| damaged(self.path, format!("its spec is not one that this program reads: {e}")))
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
    let file = CheckpointFile::open(from)?;
    let tensors = file.tensors()?;
    let names = tensors.names().into_iter().filter(|name| name.starts_with("model."));
    let views = names
        .map(|name| Ok((name, tensors.tensor(name)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| damaged(from, e))?;
    let checksum = checksum(views.iter().map(|(name, view)| (*name, view.data())));
    write(to, views, &Meta { checksum, ..file.meta.clone() }.sealed())
}

/// Whether a checkpoint is complete and undamaged.
///
/// # Errors
/// The damage.
pub fn verify_checkpoint(path: &Path) -> Result<(), Error> {
    CheckpointFile::open(path)?.tensors().map(|_| ())
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
    let file = CheckpointFile::open(path)?;
    model(&file.tensors()?, &file.meta.model, device).map_err(|e| damaged(path, e))
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

/// The fields in which two specs differ, but for some, each with both values.
pub(crate) fn differing_fields<T: Serialize>(a: &T, b: &T, but: &[&str]) -> Vec<String> {
    let (a, b) = (value(a), value(b));
    let names: BTreeSet<&String> = [&a, &b].iter().filter_map(|v| v.as_object()).flat_map(|o| o.keys()).collect();
    names
        .into_iter()
        .filter(|name| a[*name] != b[*name] && !but.contains(&name.as_str()))
        .map(|name| format!("{name} ({} there, {} here)", a[name], b[name]))
        .collect()
}

/// The sizes of a checkpoint's model, without its weights.
///
/// # Errors
/// A file that cannot be read or is no checkpoint.
pub fn load_model_config(path: &Path) -> Result<GptNeoXConfig, Error> {
    Ok(CheckpointFile::open(path)?.meta.model)
}

/// The step in the name of a run's checkpoint.
fn step_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()
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
            let path = entry.path();
            Some((step_of(&path)?, path))
        })
        .collect();
    found.sort_unstable_by_key(|(step, _)| std::cmp::Reverse(*step));
    found
}
