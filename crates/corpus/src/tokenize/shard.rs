//! A shard of an input: documents of it as a store file, with notes from which a building can go on after it.

use std::path::Path;

use super::TokenizeError;
use crate::{ReadReport, StoreInfo, StoreWriter, TokenStore};

/// What stands for notes that found no room.
const OTHERS: &str = "times something else was not read";
/// Room for a report among the notes.
const REPORT: usize = 800;

/// A shard's name: what decides the documents of its input, and its part of it.
pub(super) fn shard_name(input: &str, part: usize) -> String {
    format!("{input}-{part:05}.tokens")
}

/// What decides the input of a shard of this name.
pub(super) fn input_of(name: &str) -> Option<&str> {
    let (input, part) = name.strip_suffix(".tokens")?.rsplit_once('-')?;
    let digits = |text: &str, base| !text.is_empty() && text.chars().all(|c: char| c.is_digit(base));
    (input.len() == 16 && digits(input, 16) && digits(part, 10)).then_some(input)
}

/// A shard while it is written.
pub(super) struct ShardWriter {
    name: String,
    pub(super) store: StoreWriter,
    /// Documents of the input read so far.
    pub(super) read: u64,
}

impl ShardWriter {
    pub(super) fn create(
        dir: &Path,
        input: &str,
        part: usize,
        info: StoreInfo,
        read: u64,
    ) -> Result<Self, TokenizeError> {
        let name = shard_name(input, part);
        // What is noted: what made it, documents of its input read by its end, and what reading the input met where it is the
        // last.
        let info = info
            .with_source("input", input)
            .with_source("read", " ".repeat(20))
            .with_source("report", " ".repeat(REPORT));
        Ok(Self { store: StoreWriter::create(&dir.join(&name), info)?, name, read })
    }

    /// Writes it. `report`: of the whole input, where it ends here. Gives its name and its documents.
    pub(super) fn finish(mut self, report: Option<&ReadReport>) -> Result<(String, u64), TokenizeError> {
        self.store.note("read", self.read)?;
        self.store.note("report", report.map_or_else(String::new, written))?;
        let documents = self.store.document_count();
        self.store.finish()?;
        Ok((self.name, documents))
    }
}

/// A report in the room that there is: the counts, then as much of the rest as fits.
fn written(report: &ReadReport) -> String {
    let json = |report: &ReadReport| serde_json::to_string(report).expect("numbers and texts are JSON");
    // It stands as a text in the header's JSON, with each quote escaped.
    let fits = |text: &str| serde_json::to_string(text).is_ok_and(|quoted| quoted.len() <= REPORT);
    let mut report = report.clone();
    for text in [&mut report.first_blank, &mut report.first_skipped].into_iter().flatten() {
        text.truncate(text.floor_char_boundary(150));
    }
    let mut others = 0;
    while !fits(&json(&report)) {
        report.notes.remove(OTHERS);
        let Some((_, times)) = report.notes.pop_last() else { break };
        others += times;
        report.notes.insert(OTHERS.to_owned(), others);
    }
    if !fits(&json(&report)) {
        (report.first_blank, report.first_skipped) = (None, None);
        report.notes.insert(OTHERS.to_owned(), others);
    }
    json(&report)
}

/// A shard that an earlier run has finished.
pub(super) struct FinishedShard {
    pub(super) name: String,
    pub(super) documents: u64,
    pub(super) read: u64,
    /// Of the whole input, where it ends with this shard.
    pub(super) report: Option<ReadReport>,
}

impl FinishedShard {
    /// `None` if it is not there, is not whole, or was made of something else.
    pub(super) fn open(dir: &Path, input: &str, part: usize) -> Option<Self> {
        let name = shard_name(input, part);
        let store = TokenStore::open(&dir.join(&name)).ok()?;
        // Reading it costs little beside making it again later.
        store.verify().ok()?;
        let notes = store.inspect().shards.pop()?.source;
        let note = |key: &str| notes.get(key).map(|value| value.trim());
        if note("input") != Some(input) {
            return None;
        }
        let report = note("report")?;
        let report = if report.is_empty() { None } else { Some(serde_json::from_str(report).ok()?) };
        Some(Self { name, documents: store.document_count(), read: note("read")?.parse().ok()?, report })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_fit_their_room() {
        let mut report = ReadReport { documents: u64::MAX, skipped: 3, ..ReadReport::default() };
        report.first_skipped = Some("\"\\ü".repeat(500));
        report.notes.extend((0..50).map(|i| (format!("\"note\" {i} {}", "x".repeat(50)), i)));
        let text = written(&report);
        assert!(serde_json::to_string(&text).unwrap().len() <= REPORT);
        let back: ReadReport = serde_json::from_str(&text).unwrap();
        assert_eq!((back.documents, back.skipped), (u64::MAX, 3));
        let small = ReadReport { blank: 1, first_blank: Some("a:1".into()), notes: [("n".into(), 2)].into(), ..report };
        assert_eq!(serde_json::from_str::<ReadReport>(&written(&small)).unwrap().notes, small.notes);
    }

    #[test]
    fn names_of_shards_name_their_input() {
        assert_eq!(input_of(&shard_name("0123456789abcdef", 7)), Some("0123456789abcdef"));
        for other in ["store.json", "a-1.tokens", "0123456789abcdeg-00001.tokens", "0123456789abcdef.tokens"] {
            assert_eq!(input_of(other), None, "{other}");
        }
    }
}
