//! The paper's protocol, at three sizes of study. Each is written out: none follows from another.

use std::collections::BTreeMap;

use data_mixer::{Pairing, Truncation};
use fused_ops::Precision;
use gptneox_model::GptNeoXConfig;
use schedule::{Convention, Phase, Weight};
use trainer::AdamWSpec;

use super::{
    ArmSpec, CurveShape, DataSpec, EvalSpec, FORMAT, FinetuneCurve, FinetuneSpec, GENERAL, HoldOut, Kernels, LrChoice,
    PretrainSpec, ProbeSpec, SftSetSpec, SizeSpec, Sources, Splits, StudySpec, TokenizerSpec,
};
use crate::Error;
use crate::protocol::{Mix, Probe, Protocol, RATES, SftSet, Size};

/// The presets' names.
pub const PRESETS: [&str; 3] = ["smoke", "mini", "paper"];

/// The paper's sequences of a step and tokens of a sequence (Table 4, Section 3).
const PAPER_BATCH: u64 = 1024;
const PAPER_TIME: usize = 2048;

const TENTH: Weight = match Weight::from_percent(10) {
    Some(tenth) => tenth,
    None => Weight::ZERO,
};

/// A cosine to 0 with 10 % warm-up (Appendix C).
const CURVE: FinetuneCurve = FinetuneCurve {
    shape: CurveShape::Cosine,
    warmup: TENTH,
    min: Weight::ZERO,
    convention: Convention::CosineWarmupWithMinLr,
};

/// The protocol at a preset's size, on the generated corpus (`paper`: on stated token counts, to be planned).
///
/// # Errors
/// An unknown preset (lists those there are), a size that it does not have, a weight that is none.
pub fn preset(name: &str, protocol: &Protocol<'_>) -> Result<StudySpec, Error> {
    let of = |size: &Size| of_size(name, protocol, *size);
    let (first, others) = match protocol.sizes {
        [] => return Err(Error::field("sizes", "[]", "must hold at least one size")),
        [first, others @ ..] => (of(first)?, others),
    };
    let others = others.iter().map(|size| Ok(SizeSpec::between(&of(size)?, &first)));
    Ok(StudySpec { sizes: others.collect::<Result<_, Error>>()?, ..first })
}

/// The protocol at one of its sizes.
fn of_size(name: &str, protocol: &Protocol<'_>, size: Size) -> Result<StudySpec, Error> {
    let (spec, examples): (StudySpec, fn(&SftSet<'_>) -> u64) = match name {
        "smoke" => (smoke(protocol, size)?, |_| 256),
        "mini" => (mini(protocol, size)?, |_| 800),
        "paper" => (paper(protocol, size)?, |set| set.examples),
        _ => return Err(Error::field("preset", name, format!("is unknown; presets: {}", PRESETS.join(", ")))),
    };
    let set = |s: &SftSet<'_>| SftSetSpec {
        name: s.name.into(),
        role: s.role.into(),
        mask_prompt: s.mask_prompt,
        examples: Some(examples(s)),
        items: None,
    };
    let probe = |p: &Probe<'_>| ProbeSpec { name: p.name.into(), role: p.role.into() };
    Ok(StudySpec {
        arms: arms(protocol, spec.pretrain.steps)?,
        sft: FinetuneSpec { sets: protocol.sft.iter().map(set).collect(), ..spec.sft },
        probes: protocol.probes.iter().map(probe).collect(),
        ..spec
    })
}

/// The protocol's arms in a run of so many steps.
fn arms(protocol: &Protocol<'_>, steps: u64) -> Result<Vec<ArmSpec>, Error> {
    let arm = |arm: &crate::protocol::Arm<'_>| {
        let mut spec = ArmSpec::control(arm.name);
        if let Some(Mix { role, weight, start, epochs }) = arm.mix {
            let start = start.scaled(steps, protocol.steps, PAPER_BATCH * PAPER_TIME as u64);
            let phase = Phase::constant(start, role, weight);
            let error = |source| Error::Schedule { what: format!("arm {}", arm.name), source };
            spec.phases.push(phase.map_err(error)?);
            spec.max_epochs.extend(epochs.map(|epochs| (role.to_owned(), epochs)));
        }
        Ok(spec)
    };
    protocol.arms.iter().map(arm).collect()
}

/// What a preset's ladder of stand-ins has for a size.
fn on_ladder<T: Copy>(preset: &str, size: Size, ladder: &[T]) -> Result<T, Error> {
    let limit = format!("is the paper's {}: the preset {preset} has s, m and l", size.name());
    size.of(ladder).ok_or_else(|| Error::field("size", size.letter(), limit))
}

/// General text held out per mille; of each fine-tuning set so many examples for validation and test.
fn splits(protocol: &Protocol<'_>, general: u16, validation: u64, test: u64) -> BTreeMap<String, Splits> {
    let sets = protocol.sft.iter().map(|set| (set.role.to_owned(), Splits::documents(validation, test)));
    [(GENERAL.to_owned(), Splits::test(HoldOut::permille(general)))].into_iter().chain(sets).collect()
}

fn bpe(vocab_size: usize, max_bytes: u64) -> TokenizerSpec {
    let roles = [GENERAL, "starcoder", "math"].map(str::to_owned).to_vec();
    TokenizerSpec::Bpe { vocab_size, roles, max_bytes }
}

/// Minutes on two cores, on the generated corpus.
fn smoke(protocol: &Protocol<'_>, size: Size) -> Result<StudySpec, Error> {
    let (hidden, blocks, heads) = on_ladder("smoke", size, &[(64, 2, 4), (96, 3, 4), (128, 4, 4)])?;
    Ok(StudySpec {
        format: FORMAT,
        kernels: Kernels::Same,
        model_name: format!("smoke-{}", size.letter()),
        base: None,
        study_seed: 0,
        pretrain_seeds: 1,
        sft_seeds: 2,
        data: DataSpec::Generated { seed: 1, general: 4000, specialised: 3000, sft: 700 },
        tokenizer: bpe(2048, 3_000_000),
        splits: splits(protocol, 100, 64, 64),
        special_tokens: Default::default(),
        deduplicate: false,
        ngram: 13,
        decontaminate: Vec::new(),
        model: GptNeoXConfig::of_size(2048, hidden, blocks, heads),
        pretrain: PretrainSpec {
            steps: 240,
            batch: 16,
            time: 128,
            lr_peak: 3e-3,
            lr_min: 3e-5,
            warmup: 24,
            shape: CurveShape::Cosine,
            convention: Convention::CosineWarmupWithMinLr,
            optimizer: AdamWSpec::default(),
            clip: 1.0,
            micro_tokens: 4096,
            max_epochs: 1.0,
            pairing: Pairing::Displace,
            precision: Precision::F32,
            recompute: false,
            document_mask: false,
            shuffle_documents: false,
            keep_every: Some(60),
        },
        arms: Vec::new(),
        sft: FinetuneSpec {
            epochs: 4,
            batch: 32,
            max_time: 128,
            truncation: Truncation::Cut,
            group_by_length: false,
            lr: LrChoice::SweepBase { grid: vec![4e-3, 8e-3, 1.6e-2], extend: 3 },
            curve: CURVE,
            optimizer: AdamWSpec::default(),
            clip: 1.0,
            replay: None,
            sets: Vec::new(),
        },
        eval: EvalSpec {
            general_sequences: 64,
            along: None,
            examples: None,
            probe_documents: 200,
            path_rows: 32,
            path_stride: 1,
            checkpoint_every: Some(60),
            plane_points: 9,
        },
        probes: Vec::new(),
        sizes: Vec::new(),
    })
}

/// An hour or two on two cores, on real data: a size at which the paper's Finding 1 was seen to show.
fn mini(protocol: &Protocol<'_>, size: Size) -> Result<StudySpec, Error> {
    let (hidden, blocks, heads) = on_ladder("mini", size, &[(192, 3, 4), (256, 4, 4), (320, 6, 5)])?;
    Ok(StudySpec {
        format: FORMAT,
        kernels: Kernels::Same,
        model_name: format!("mini-{}", size.letter()),
        base: None,
        study_seed: 0,
        pretrain_seeds: 1,
        sft_seeds: 1,
        data: DataSpec::Generated { seed: 1, general: 60_000, specialised: 40_000, sft: 6000 },
        tokenizer: bpe(8192, 30_000_000),
        splits: splits(protocol, 50, 100, 200),
        special_tokens: Default::default(),
        deduplicate: false,
        ngram: 13,
        decontaminate: Vec::new(),
        model: GptNeoXConfig::of_size(8192, hidden, blocks, heads),
        pretrain: PretrainSpec {
            steps: 500,
            batch: 32,
            time: 256,
            lr_peak: 1e-3,
            lr_min: 1e-5,
            warmup: 50,
            shape: CurveShape::Cosine,
            convention: Convention::CosineWarmupWithMinLr,
            optimizer: AdamWSpec::default(),
            clip: 1.0,
            micro_tokens: 8192,
            max_epochs: 1.0,
            pairing: Pairing::Displace,
            precision: Precision::F32,
            recompute: false,
            document_mask: false,
            shuffle_documents: false,
            keep_every: Some(100),
        },
        arms: Vec::new(),
        sft: FinetuneSpec {
            epochs: 4,
            batch: 32,
            max_time: 256,
            truncation: Truncation::Cut,
            group_by_length: false,
            lr: LrChoice::SweepBase { grid: vec![2e-4, 5e-4, 1e-3], extend: 3 },
            curve: CURVE,
            optimizer: AdamWSpec::default(),
            clip: 1.0,
            replay: None,
            sets: Vec::new(),
        },
        eval: EvalSpec {
            general_sequences: 120,
            along: None,
            examples: None,
            probe_documents: 200,
            path_rows: 32,
            path_stride: 1,
            checkpoint_every: Some(100),
            plane_points: 11,
        },
        probes: Vec::new(),
        sizes: Vec::new(),
    })
}

/// The paper's own (Section 3, Tables 4 to 7): planned on the counts that [`Sources::paper`] states, with a Pythia tokenizer
/// (`--tokenizer`). Micro-batches are of 16 sequences for 70m and 160m, 8 for 410m and 4 for 1b, on 4, 4, 8 and 8 ranks: what
/// LitGPT's curve counts follows from these, not from the machine that trains.
fn paper(protocol: &Protocol<'_>, size: Size) -> Result<StudySpec, Error> {
    let limit = "is no size of the paper";
    let of = |ladder: &[u64]| size.of(ladder).ok_or_else(|| Error::field("size", size.letter(), limit));
    let (micro, ranks) = (of(&[16, 16, 8, 4])?, of(&[4, 4, 8, 8])?);
    let sources = Sources::paper()?.0;
    let tokens = sources.iter().filter_map(|(role, files)| Some((role.clone(), files.stated_tokens?))).collect();
    let examples = sources.iter().filter_map(|(role, files)| Some((role.clone(), files.stated_splits?))).collect();
    let used = |role: &str| role == GENERAL || protocol.sft.iter().any(|set| set.role == role);
    let splits = sources.iter().filter(|(role, _)| used(role)).map(|(role, files)| {
        let split = |split: &Option<HoldOut>| split.clone().unwrap_or_default();
        (role.clone(), Splits { validation: split(&files.validation), test: split(&files.test) })
    });
    Ok(StudySpec {
        format: FORMAT,
        kernels: Kernels::Same,
        model_name: size.name().to_owned(),
        base: None,
        study_seed: 0,
        pretrain_seeds: 1,
        sft_seeds: 5,
        data: DataSpec::Stated { tokens, examples },
        tokenizer: TokenizerSpec::File { path: "tokenizer.json".into() },
        splits: splits.collect(),
        special_tokens: Default::default(),
        deduplicate: false,
        ngram: 13,
        decontaminate: Vec::new(),
        model: GptNeoXConfig::pythia(size.name())?,
        pretrain: PretrainSpec {
            steps: 61_000,
            batch: PAPER_BATCH,
            time: PAPER_TIME,
            lr_peak: 3e-4,
            lr_min: 1e-6,
            warmup: 6_100,
            shape: CurveShape::Cosine,
            convention: Convention::Litgpt { accumulation: PAPER_BATCH / (micro * ranks) },
            optimizer: AdamWSpec::default(),
            clip: 1.0,
            micro_tokens: micro as usize * PAPER_TIME,
            max_epochs: 1.0,
            pairing: Pairing::Displace,
            precision: Precision::Bf16,
            recompute: false,
            document_mask: false,
            shuffle_documents: false,
            keep_every: Some(5_000),
        },
        arms: Vec::new(),
        sft: FinetuneSpec {
            epochs: 4,
            batch: 64,
            max_time: PAPER_TIME,
            truncation: Truncation::Cut,
            group_by_length: false,
            lr: LrChoice::SweepBase { grid: RATES.to_vec(), extend: 0 },
            curve: CURVE,
            optimizer: AdamWSpec::default(),
            clip: 1.0,
            replay: None,
            sets: Vec::new(),
        },
        eval: EvalSpec {
            general_sequences: 1000,
            along: None,
            examples: Some(1000),
            probe_documents: 200,
            path_rows: 32,
            path_stride: 1,
            checkpoint_every: Some(5_000),
            plane_points: 21,
        },
        probes: Vec::new(),
        sizes: Vec::new(),
    })
}
