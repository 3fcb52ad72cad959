//! The study's tokenizer: a BPE trained on its own text, or a file that is given.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use corpus::{Tokenizer, train_bpe};
use fused_ops::TrainingBackend;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::held_out::HeldOut;
use super::source::RoleSource;
use super::{Context, Cost, Input, Kind};
use crate::Error;
use crate::address::Address;
use crate::engine::Report;
use crate::files;
use crate::fingerprints::Fingerprints;
use crate::store::Store;

/// The file in the job's folder.
const FILE: &str = "tokenizer.json";

/// Where a tokenizer comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TokenizerSource {
    /// A byte-level BPE.
    Trained {
        /// Tokens.
        vocab_size: usize,
        /// Bytes of text it is trained on, at most; the roles give equal parts.
        max_bytes: u64,
        /// What is held out of the study's roles, and not trained on.
        held_out: HeldOut,
        /// The roles.
        roles: Vec<RoleSource>,
    },
    /// A Hugging Face `tokenizer.json`.
    File {
        /// The file.
        path: PathBuf,
        /// Changes whenever the tokenizer does.
        fingerprint: String,
    },
}

/// Makes a tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MakeTokenizer {
    /// From what.
    pub(crate) source: TokenizerSource,
}

/// A tokenizer: `tokenizer.json` in the job's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenizerMade {
    /// Changes whenever the tokenizer does.
    pub(crate) fingerprint: String,
    /// One more than the largest token id.
    pub(crate) vocab_size: usize,
}

impl MakeTokenizer {
    /// The file that a finished job left.
    pub(crate) fn file(store: &Store, address: &Address) -> PathBuf {
        store.folder(address).join(FILE)
    }
}

impl Kind for MakeTokenizer {
    const NAME: &'static str = "tokenizer";
    const VERSION: u32 = 2;
    type Output = TokenizerMade;

    fn address(&self) -> Address {
        let identity = match &self.source {
            TokenizerSource::Trained { vocab_size, max_bytes, held_out, roles } => {
                let texts: Vec<&str> = roles.iter().map(|r| r.fingerprint.as_str()).collect();
                json!({ "bpe": vocab_size, "bytes": max_bytes, "held_out": held_out.digest(), "texts": texts })
            }
            TokenizerSource::File { fingerprint, .. } => json!({ "file": fingerprint }),
        };
        Self::identified_by(&identity)
    }

    fn label(&self) -> String {
        match &self.source {
            TokenizerSource::Trained { vocab_size, .. } => format!("training a BPE of {vocab_size} tokens"),
            TokenizerSource::File { path, .. } => format!("tokenizer {}", path.display()),
        }
    }

    fn inputs(&self) -> Vec<Input> {
        match &self.source {
            TokenizerSource::Trained { held_out, .. } => held_out.inputs(),
            TokenizerSource::File { .. } => Vec::new(),
        }
    }

    fn cost(&self) -> Cost {
        match &self.source {
            TokenizerSource::Trained { max_bytes, roles, .. } => {
                Cost::of("bpe", roles.iter().map(|role| role.bytes).sum::<u64>().min(*max_bytes) as f64)
            }
            TokenizerSource::File { .. } => Cost::of("copy", 1.0),
        }
    }

    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let to = cx.folder.join(FILE);
        let tokenizer = match &self.source {
            TokenizerSource::Trained { vocab_size, max_bytes, held_out, roles } => {
                let tokenizer = train(*vocab_size, *max_bytes, held_out, roles, cx)?;
                tokenizer.save(&to)?;
                tokenizer
            }
            TokenizerSource::File { path, fingerprint } => copy(path, fingerprint, &to)?,
        };
        Ok(TokenizerMade { fingerprint: tokenizer.fingerprint().to_owned(), vocab_size: tokenizer.vocab_size() })
    }
}

/// A copy, so that the store holds all that a model of it needs.
fn copy(path: &Path, fingerprint: &str, to: &Path) -> Result<Tokenizer, Error> {
    let tokenizer = Tokenizer::from_file(path)?;
    if tokenizer.fingerprint() != fingerprint {
        return Err(Error::field(
            "tokenizer",
            path.display(),
            "is not the one that the job was planned for: it changed since",
        ));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    files::write(to, &bytes)?;
    Ok(tokenizer)
}

fn train<AB: TrainingBackend>(
    vocab_size: usize,
    max_bytes: u64,
    held_out: &HeldOut,
    roles: &[RoleSource],
    cx: &Context<'_, AB>,
) -> Result<Tokenizer, Error> {
    let report: &Report = cx.report;
    let mut known = Fingerprints::read(cx.store.root())?;
    let share = max_bytes / (roles.len().max(1) as u64);
    let held_out = held_out.read(cx.store, "")?;
    let mut texts = Vec::new();
    for role in roles {
        report.check()?;
        let mut bytes = 0u64;
        let generator = role.generator();
        role.open(generator.as_ref(), &mut known)?.each(&|_| true, &mut |document, _| {
            if bytes > share || report.signal().received().is_some() {
                return ControlFlow::Break(());
            }
            if held_out.contains_key(&document.hash()) {
                return ControlFlow::Continue(());
            }
            let text = document.whole();
            bytes += text.len() as u64;
            texts.push(text);
            ControlFlow::Continue(())
        })?;
    }
    report.check()?;
    Ok(train_bpe(texts.into_iter(), vocab_size)?)
}
