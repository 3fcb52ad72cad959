//! A store's documents as a training store and a held-out store, each content once: selections, of which nothing is copied.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::document::permille_of;
use crate::store::io;
use crate::{StoreError, TokenStore};

/// How a store is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Division {
    /// Of 1000 documents, how many are held out, by the hash of their content: the same content is on the same side wherever it
    /// stands.
    pub held_out_permille: u16,
    /// Leaves out documents whose content came before. Takes 8 to 16 bytes of memory a document.
    pub deduplicate: bool,
}

/// What a division gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Divided {
    /// Documents to train on.
    pub train: u64,
    /// Documents that are held out.
    pub held_out: u64,
    /// Documents left out because their content came before.
    pub duplicates: u64,
}

impl Division {
    /// Makes `train/` in a folder, and `held-out/` where something may be held out; an older `held-out/` is removed where not.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn divide(self, whole: &TokenStore, dir: &Path) -> Result<Divided, StoreError> {
        let mut seen = HashSet::new();
        let mut sides = [Vec::new(), Vec::new()];
        let mut divided = Divided::default();
        for document in 0..whole.document_count() {
            let hash = whole.document_hash(document).ok_or_else(|| StoreError::Range {
                path: whole.path().to_owned(),
                what: "documents",
                from: document,
                to: document + 1,
                len: whole.document_count(),
            })?;
            if self.deduplicate && !seen.insert(hash) {
                divided.duplicates += 1;
                continue;
            }
            sides[usize::from(permille_of(hash) < self.held_out_permille)].push(document);
        }
        let [train, held_out] = sides;
        (divided.train, divided.held_out) = (train.len() as u64, held_out.len() as u64);
        let other = dir.join("held-out");
        // The held-out store first: whoever finds the training store finds it too.
        if self.held_out_permille > 0 {
            whole.select(held_out, &other)?;
        } else if other.join("store.json").exists() {
            match fs::remove_dir_all(&other) {
                // Another process does the same.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed.map_err(io(&other))?,
            }
        }
        whole.select(train, &dir.join("train"))?;
        Ok(divided)
    }
}
