//! Indexed data sets as Megatron's own writer leaves them: every number of the index, every id.

use std::path::Path;
use std::sync::Arc;

use corpus::{MegatronStore, StoreDocument, StoreInfo, StoreWriter, TokenArray, TokenStore};
use data_mixer::{BatchSource as _, MixPlan, MixSpec, MixedBatches, Pairing, Sequences, SourceSize};
use schedule::{Shares, Step, Timeline};
use serde_json::Value;

use crate::fixture::{json, list};
use crate::{Check, Line, line};

/// Tokens of the sequences that are mixed.
const TIME: usize = 8;

pub(super) fn lines(dir: &Path) -> Vec<Line> {
    let expected = match json(&dir.join("expected.json")) {
        Ok(expected) => expected,
        Err(reason) => return vec![line("megatron/expected.json", Err(reason))],
    };
    let files = expected["files"].as_object().into_iter().flatten();
    files.map(|(name, file)| line(format!("megatron/{name}"), check(&dir.join(name), file))).collect()
}

fn numbers(of: &Value) -> Vec<u64> {
    of.as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

fn check(prefix: &Path, expected: &Value) -> Result<Check, String> {
    let mut check = Check::new();
    let store = MegatronStore::open(prefix, "fixture", 1 << 31).map_err(|e| e.to_string())?;
    store.verify().map_err(|e| e.to_string())?;
    for (found, field) in
        [(store.sequence_count(), "sequences"), (store.document_count(), "documents"), (store.token_count(), "tokens")]
    {
        check.exact(Some(found) == expected[field].as_u64(), field)?;
    }
    let lengths = numbers(&expected["sequence_lengths"]);
    for (i, length) in (0..).zip(&lengths) {
        let sequence = store.sequence(i).map_err(|e| e.to_string())?;
        check.exact(sequence.len() as u64 == *length, &format!("length of sequence {i}"))?;
    }
    for (d, borders) in (0..).zip(numbers(&expected["document_indices"]).windows(2)) {
        check.exact(store.sequences_of(d) == Some(borders[0]..borders[1]), &format!("sequences of document {d}"))?;
    }
    let mut documents = Vec::new();
    for (d, ids) in (0..).zip(list(expected, "document_ids")?) {
        let found = store.document(d).map_err(|e| e.to_string())?;
        check.exact(
            found.iter().map(|id| u64::from(*id)).collect::<Vec<_>>() == numbers(ids),
            &format!("document {d}"),
        )?;
        documents.push(found);
    }
    mixed(&mut check, Arc::new(store), &documents)?;
    Ok(check)
}

/// Batches of the file are those of the same documents in a store of ours.
fn mixed(check: &mut Check, theirs: Arc<MegatronStore>, documents: &[Vec<u32>]) -> Result<(), String> {
    let error = |e: &dyn std::fmt::Display| e.to_string();
    let dir = tempfile::tempdir().map_err(|e| error(&e))?;
    let path = dir.path().join("ours");
    let mut writer = StoreWriter::create(&path, StoreInfo::new("ours", "fixture", 1 << 31)).map_err(|e| error(&e))?;
    for tokens in documents {
        writer.push(StoreDocument { tokens, ..Default::default() }).map_err(|e| error(&e))?;
    }
    writer.finish().map_err(|e| error(&e))?;
    let ours = Arc::new(TokenStore::open(&path).map_err(|e| error(&e))?);
    let batches = |array: Arc<dyn TokenArray>| -> Result<MixedBatches, String> {
        let sequences = Sequences::new(array, TIME).map_err(|e| error(&e))?.with_document_mask(true);
        let plan = MixPlan::build(MixSpec {
            seed: 1,
            batch: 2,
            time: TIME as u64,
            timeline: Shares::one("x")
                .and_then(|all| Timeline::new(Step(4), all, Vec::new()))
                .map_err(|e| error(&e))?,
            sources: vec![SourceSize::new("x", sequences.len())],
            pairing: Pairing::Displace,
            max_epochs: 100.0,
        });
        MixedBatches::new(plan.map_err(|e| error(&e))?, vec![sequences]).map_err(|e| error(&e))
    };
    let (theirs, ours) = (batches(theirs)?, batches(ours)?);
    for step in 0..theirs.steps() {
        let digest = |batches: &MixedBatches| batches.batch(step).map(|batch| batch.digest()).map_err(|e| error(&e));
        check.exact(digest(&theirs)? == digest(&ours)?, &format!("batch {step}"))?;
    }
    Ok(())
}
