//! From a study's spec to the mixer's and the trainer's: mixtures, recipes, fine-tuning rows.

use data_mixer::{MixPlan, MixSpec, Pairing, SourceSize, stream_key};
use schedule::{LrSpec, Timeline};
use trainer::TrainSpec;

use crate::{ArmSpec, Error, Prepared, SftSetSpec, StudySpec};

/// The seed of a pretraining run's purpose.
pub(crate) fn pretrain_seed(spec: &StudySpec, purpose: &str, seed: u64) -> u64 {
    stream_key(spec.study_seed, purpose, seed)
}

/// An arm's mixture.
pub(crate) fn mix_plan(
    spec: &StudySpec,
    arm: &ArmSpec,
    seed: u64,
    sequences: &dyn Fn(&str) -> u64,
) -> Result<MixPlan, Error> {
    let timeline = spec.timeline(arm)?;
    build_mix(spec, &arm.name, timeline, seed, sequences)
}

/// A mixture of the study's sources along a timeline.
pub(crate) fn build_mix(
    spec: &StudySpec,
    arm: &str,
    timeline: Timeline,
    seed: u64,
    sequences: &dyn Fn(&str) -> u64,
) -> Result<MixPlan, Error> {
    let names = timeline.general_sources().into_iter().chain(timeline.specialised_sources());
    let sources = names.map(|name| SourceSize::new(name, sequences(name))).collect();
    MixPlan::build(MixSpec {
        seed: pretrain_seed(spec, "pretraining data", seed),
        batch: spec.pretrain.batch,
        time: spec.pretrain.time as u64,
        timeline,
        sources,
        pairing: Pairing::Displace,
        max_epochs: spec.pretrain.max_epochs,
    })
    .map_err(|source| Error::Mixture { arm: arm.to_owned(), source })
}

/// The recipe of pretraining.
pub(crate) fn pretrain_recipe(spec: &StudySpec) -> TrainSpec {
    let p = &spec.pretrain;
    TrainSpec {
        optimizer: p.optimizer.clone(),
        clip: p.clip,
        micro_tokens: p.micro_tokens,
        precision: p.precision,
        recompute: p.recompute,
        ..TrainSpec::new(spec.pretrain_lr())
    }
}

/// The recipe of fine-tuning over `steps` steps.
pub(crate) fn finetune_recipe(spec: &StudySpec, lr: f64, steps: u64) -> TrainSpec {
    let s = &spec.sft;
    let warmup = (u128::from(steps) * u128::from(s.warmup.parts()) / u128::from(schedule::Weight::PARTS)) as u64;
    TrainSpec {
        optimizer: s.optimizer.clone(),
        clip: s.clip,
        micro_tokens: spec.pretrain.micro_tokens,
        precision: spec.pretrain.precision,
        recompute: spec.pretrain.recompute,
        ..TrainSpec::new(LrSpec::cosine(lr, 0.0, warmup, steps))
    }
}

/// A fine-tuning set's training batches.
pub(crate) fn sft_batches(
    spec: &StudySpec,
    prepared: &Prepared,
    set: &SftSetSpec,
    seed: u64,
) -> Result<data_mixer::SftBatches, Error> {
    let store = prepared.roles[&set.role].train.clone();
    Ok(data_mixer::SftBatches::new(store, spec.sft.examples, sft_rows(spec, set, seed))?)
}

/// A fine-tuning set's held-out examples, with the training mask.
pub(crate) fn sft_held_out(
    spec: &StudySpec,
    prepared: &Prepared,
    set: &SftSetSpec,
) -> Result<data_mixer::SftBatches, Error> {
    let store = prepared.roles[&set.role].held_out.clone();
    Ok(data_mixer::SftBatches::new(store, spec.sft.held_out, sft_rows(spec, set, 0))?)
}

fn sft_rows(spec: &StudySpec, set: &SftSetSpec, seed: u64) -> data_mixer::SftSpec {
    data_mixer::SftSpec {
        epochs: spec.sft.epochs,
        batch: spec.sft.batch,
        max_time: spec.sft.max_time,
        truncation: spec.sft.truncation,
        mask_prompt: set.mask_prompt,
        seed: stream_key(spec.study_seed, "fine-tuning order", seed),
    }
}
