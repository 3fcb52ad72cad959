//! The checkpoint that a study begins at, as a file names it.

use std::path::{Path, PathBuf};

use corpus::HubModel;
use gptneox_model::{GptNeoXConfig, load_config};
use serde::{Deserialize, Serialize};

use super::TokenizerSpec;
use crate::Error;

/// The tokenizer of a checkpoint's folder.
const TOKENIZER: &str = "tokenizer.json";

/// Only what tells whether a base is to say more.
#[derive(Deserialize)]
pub(crate) struct Base {
    #[serde(default)]
    base: Option<toml::Value>,
    #[serde(default)]
    model: Option<toml::Value>,
    #[serde(default)]
    tokenizer: Option<toml::Value>,
}

/// What a base adds to a file.
#[derive(Serialize)]
struct Added {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<GptNeoXConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokenizer: Option<TokenizerSpec>,
}

impl Base {
    /// The tables that a file with a base does not hold itself.
    pub(crate) fn adds(&self) -> Result<String, Error> {
        // Of another type: the file's own error.
        let Some(base) = self.base.as_ref().and_then(toml::Value::as_str) else { return Ok(String::new()) };
        if self.model.is_some() && self.tokenizer.is_some() {
            return Ok(String::new());
        }
        let dir = folder(base)?;
        let model = self.model.is_none().then(|| load_config(&dir)).transpose()?;
        let tokenizer = self.tokenizer.is_none().then(|| tokenizer(&dir)).transpose()?;
        toml::to_string(&Added { model, tokenizer }).map_err(|e| Error::Parse { path: dir, reason: e.to_string() })
    }
}

/// The folder of a base: of one on the hub, that in the cache.
///
/// # Errors
/// A folder that is not there, a model that is not in the cache.
pub(crate) fn folder(base: &str) -> Result<PathBuf, Error> {
    if let Some(model) = base.strip_prefix("hf://") {
        let found = HubModel::parse(model).and_then(|model| model.resolve());
        return found.map_err(|e| Error::field("base", base, format!("cannot be had: {e}")));
    }
    let dir = PathBuf::from(base);
    if dir.is_dir() { Ok(dir) } else { Err(Error::field("base", base, "is no folder")) }
}

/// What tables call a base: its folder's name, or the model's.
pub(crate) fn name(base: &str) -> String {
    let last = base.trim_end_matches('/').rsplit('/').next().unwrap_or(base);
    last.to_owned()
}

/// A checkpoint's own tokenizer.
///
/// # Errors
/// A folder without one.
pub(crate) fn tokenizer(dir: &Path) -> Result<TokenizerSpec, Error> {
    let path = dir.join(TOKENIZER);
    if path.is_file() {
        return Ok(TokenizerSpec::File { path });
    }
    Err(Error::field("base", dir.display(), format!("holds no {TOKENIZER}: name one (tokenizer.file, --tokenizer)")))
}
