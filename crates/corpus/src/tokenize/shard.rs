//! A shard: the same name on both sides, with notes from which a building can go on after it.

use std::collections::HashSet;
use std::path::Path;

use super::{SIDES, TokenizeError};
use crate::store::StoreDocument;
use crate::{StoreInfo, StoreWriter, TokenStore};

/// A shard's name: the number of its input and its part of it.
pub(super) fn shard_name(input: usize, part: usize) -> String {
    format!("{input:05}-{part:04}.tokens")
}

/// Its input and its part of it.
pub(super) fn parse_shard_name(name: &str) -> Option<(usize, usize)> {
    let (input, part) = name.strip_suffix(".tokens")?.split_once('-')?;
    Some((input.parse().ok()?, part.parse().ok()?))
}

/// What is noted: what made it, documents of its input read by its end, duplicates and malformed records in it, and
/// whether its input ends with it.
const NOTES: [&str; 5] = ["input", "read", "duplicates", "skipped", "last"];

/// A shard while it is written.
pub(super) struct ShardWriters {
    name: String,
    /// Training, held out.
    pub(super) sides: [StoreWriter; 2],
    /// Documents of the input read so far.
    pub(super) read: u64,
    /// Duplicates left out of this shard.
    pub(super) duplicates: u64,
}

impl ShardWriters {
    pub(super) fn create(
        dir: &Path,
        name: String,
        mut info: StoreInfo,
        fingerprint: &str,
        read: u64,
    ) -> Result<Self, TokenizeError> {
        for key in NOTES {
            // Room for any number.
            info = info.with_source(key, " ".repeat(20));
        }
        let create = |side: &str| StoreWriter::create(&dir.join(side).join(&name), info.clone());
        let mut sides = [create(SIDES[0])?, create(SIDES[1])?];
        for side in &mut sides {
            side.note("input", fingerprint)?;
        }
        Ok(Self { name, sides, read, duplicates: 0 })
    }

    /// Bytes of text in it.
    pub(super) fn bytes(&self) -> u64 {
        self.sides.iter().map(StoreWriter::text_bytes).sum()
    }

    /// Writes both files, the training one last: it says that both are there. Gives its name and its documents.
    pub(super) fn finish(self, skipped: u64, last: bool) -> Result<(String, [u64; 2]), TokenizeError> {
        let Self { name, mut sides, read, duplicates } = self;
        for side in &mut sides {
            side.note("read", read)?;
            side.note("duplicates", duplicates)?;
            side.note("skipped", skipped)?;
            side.note("last", last)?;
        }
        let documents = [sides[0].document_count(), sides[1].document_count()];
        let [train, held_out] = sides;
        held_out.finish()?;
        train.finish()?;
        Ok((name, documents))
    }
}

/// A shard that an earlier run has finished.
pub(super) struct FinishedShard {
    /// Training, held out.
    pub(super) sides: [TokenStore; 2],
    pub(super) read: u64,
    pub(super) duplicates: u64,
    pub(super) skipped: u64,
    pub(super) last: bool,
}

impl FinishedShard {
    /// `None` if it is not there, is not whole, or was made of something else.
    pub(super) fn open(dir: &Path, name: &str, fingerprint: &str) -> Option<Self> {
        let [train, held_out] = SIDES.map(|side| TokenStore::open(&dir.join(side).join(name)));
        let (train, held_out) = (train.ok()?, held_out.ok()?);
        // Reading it costs little beside making it again later.
        train.verify().and_then(|()| held_out.verify()).ok()?;
        let notes = train.inspect().shards.pop()?.source;
        let note = |key: &str| notes.get(key).map(|v| v.trim());
        let number = |key: &str| note(key)?.parse().ok();
        if note("input") != Some(fingerprint) {
            return None;
        }
        let (read, duplicates, skipped) = (number("read")?, number("duplicates")?, number("skipped")?);
        let last = note("last") == Some("true");
        Some(Self { read, duplicates, skipped, last, sides: [train, held_out] })
    }

    /// Whether a document of it is among these.
    pub(super) fn holds_any(&self, seen: &HashSet<u64>) -> bool {
        let known = |store: &TokenStore, d| store.document_hash(d).is_some_and(|hash| seen.contains(&hash));
        self.sides.iter().any(|store| (0..store.document_count()).any(|d| known(store, d)))
    }

    /// Writes it again without the documents that are among these.
    pub(super) fn without(
        &self,
        seen: &HashSet<u64>,
        dir: &Path,
        name: &str,
        fingerprint: &str,
    ) -> Result<(), TokenizeError> {
        let [train, _] = &self.sides;
        let info = StoreInfo::new(train.name(), train.tokenizer(), train.vocabulary());
        let mut shard = ShardWriters::create(dir, name.to_owned(), info, fingerprint, self.read)?;
        shard.duplicates = self.duplicates;
        for (store, to) in self.sides.iter().zip(&mut shard.sides) {
            for d in 0..store.document_count() {
                let hash = store.document_hash(d);
                if hash.is_some_and(|hash| seen.contains(&hash)) {
                    shard.duplicates += 1;
                    continue;
                }
                let first = store.prompt_len(d);
                // The first prompt, where there is one, then those of later turns.
                let later: Vec<_> = store.prompts(d).skip(usize::from(first > 0)).collect();
                to.push(StoreDocument {
                    tokens: &store.document(d)?,
                    prompt: first,
                    later_prompts: &later,
                    text_bytes: store.text_bytes(d),
                    hash,
                })?;
            }
        }
        shard.finish(self.skipped, self.last)?;
        Ok(())
    }
}
