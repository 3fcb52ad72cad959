//! What an arm is pretrained on, for other programs' trainers.

use data_mixer::{MixedBatches, Sequences};

use crate::data::Data;
use crate::store::Store;
use crate::{ArmId, Error, Study};

/// The batches of an arm by step: those that its training run sees, with the same digests as its ledger.
///
/// # Errors
/// An arm with an impossible mixture, a store that cannot be read.
pub fn batches(study: &Study, data: &Data, store: &Store, arm: ArmId, seed: u64) -> Result<MixedBatches, Error> {
    let spec = &study.spec().pretrain;
    let plan = study.mix(arm, seed, &data.sequences(spec.time))?;
    let open = |role: &str| -> Result<Sequences, Error> {
        let shuffled = spec.shuffle_documents.then(|| study.seed("pretraining data", seed));
        let sequences = data.role(role).train.sequences_of(store, role, spec.time, shuffled)?;
        Ok(sequences.with_document_mask(spec.document_mask))
    };
    let sources = plan.spec().sources.iter().map(|source| open(&source.name)).collect::<Result<_, _>>()?;
    Ok(MixedBatches::new(plan, sources)?)
}
