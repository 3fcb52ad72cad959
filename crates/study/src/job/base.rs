//! The checkpoint that a study begins at: read once, and kept as a model of the store.

use std::path::PathBuf;

use fused_ops::TrainingBackend;
use gptneox_model::{Checkpoint, GptNeoXConfig, SaveOptions, checkpoint_files, save_pretrained};
use serde::{Deserialize, Serialize};
use serde_json::json;
use trainer::parameter_vector;
use xxhash_rust::xxh3::Xxh3;

use super::{Context, Cost, Input, Kind, MODEL};
use crate::Error;
use crate::address::{Address, digest};
use crate::fingerprints::Fingerprints;
use crate::spec::base_folder;

/// Reads a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImportBase {
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// Changes whenever its files do.
    pub(crate) fingerprint: String,
    /// Bytes of its files.
    pub(crate) bytes: u64,
}

/// A checkpoint: `model/` in the job's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Imported {
    /// A digest of the model and all its weights: this is what addresses hold.
    pub(crate) digest: String,
    /// The model.
    pub(crate) config: GptNeoXConfig,
}

impl ImportBase {
    /// Of a base as a study names it.
    ///
    /// # Errors
    /// A folder that is not there, files that cannot be read.
    pub(crate) fn new(base: &str, known: &mut Fingerprints) -> Result<Self, Error> {
        let dir = base_folder(base)?;
        let (fingerprint, bytes) = print(&dir, known)?;
        Ok(Self { dir, fingerprint, bytes })
    }
}

/// What a folder's files are, and their bytes.
fn print(dir: &std::path::Path, known: &mut Fingerprints) -> Result<(String, u64), Error> {
    let files = checkpoint_files(dir)?;
    let contents = known.of(&files)?;
    let names = files.iter().map(|file| file.file_name().map(|n| n.to_string_lossy().into_owned()));
    let bytes = contents.iter().map(|(_, bytes)| bytes).sum();
    Ok((digest(&names.zip(contents.iter().map(|(content, _)| content)).collect::<Vec<_>>()), bytes))
}

impl Kind for ImportBase {
    const NAME: &'static str = "base";
    const VERSION: u32 = 1;
    type Output = Imported;

    fn address(&self) -> Address {
        Self::identified_by(&json!({ "files": self.fingerprint }))
    }

    fn label(&self) -> String {
        format!("reading the checkpoint {}", self.dir.display())
    }

    fn inputs(&self) -> Vec<Input> {
        Vec::new()
    }

    fn cost(&self) -> Cost {
        Cost::of("import", self.bytes as f64)
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let mut known = Fingerprints::read(cx.store.root())?.until(cx.report.signal());
        if print(&self.dir, &mut known)?.0 != self.fingerprint {
            let limit = "is not the checkpoint that the job was planned for: it changed since";
            return Err(Error::field("base", self.dir.display(), limit));
        }
        let checkpoint = Checkpoint::open(&self.dir)?;
        if let Some((field, share)) = checkpoint.metadata().dropout() {
            let field = format!("{field} of {}", self.dir.display());
            let limit = "must be 0: nothing is trained with dropout here (set it to 0 to go on without)";
            return Err(Error::field(field, share, limit));
        }
        let model = checkpoint.model::<AB::InnerBackend>(cx.device)?;
        let options =
            SaveOptions { metadata: checkpoint.metadata().clone().with_dtype_of_weights(), ..SaveOptions::default() };
        save_pretrained(&model, &cx.folder.join(MODEL), &options)?;
        let config = model.config().clone();
        let mut hash = Xxh3::new();
        hash.update(digest(&config).as_bytes());
        for weights in parameter_vector(&model).chunks(1 << 16) {
            hash.update(&weights.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>());
        }
        Ok(Imported { digest: format!("{:032x}", hash.digest128()), config })
    }
}
