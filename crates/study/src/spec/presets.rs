//! The paper's protocol, at three sizes.

use fused_ops::Precision;
use gptneox_model::GptNeoXConfig;
use schedule::{Convention, Phase, Span, Weight};
use trainer::AdamWSpec;

use super::{
    ArmSpec, DataSpec, EvalSpec, FORMAT, FinetuneSpec, Kernels, LrChoice, PretrainSpec, ProbeSpec, SftSetSpec, Sources,
    StudySpec, TokenizerSpec,
};
use crate::Error;
use crate::protocol::{Mix, Probe, Protocol, SftSet, Size};

/// The presets' names.
pub const PRESETS: [&str; 3] = ["smoke", "mini", "paper"];

/// The protocol at a preset's size, on the generated corpus (`paper`: on stated token counts, to be planned).
///
/// # Errors
/// An unknown preset (lists those there are) or a weight that is none.
pub fn preset(name: &str, protocol: &Protocol<'_>) -> Result<StudySpec, Error> {
    let mut spec = match name {
        "smoke" => smoke(protocol.size),
        "mini" => mini(protocol.size),
        "paper" => paper(protocol.size)?,
        _ => return Err(Error::field("preset", name, format!("is unknown; presets: {}", PRESETS.join(", ")))),
    };
    for arm in protocol.arms {
        let mut spec_of = ArmSpec::control(arm.name);
        if let Some(Mix { role, weight, start }) = arm.mix {
            let scaled = u128::from(start) * u128::from(spec.pretrain.steps) / u128::from(protocol.steps.max(1));
            let phase = Phase::constant(Span::from(scaled as u64), role, weight);
            let error = |source| Error::Schedule { what: format!("arm {}", arm.name), source };
            spec_of.phases.push(phase.map_err(error)?);
        }
        spec.arms.push(spec_of);
    }
    let set = |s: &SftSet<'_>| SftSetSpec { name: s.name.into(), role: s.role.into(), mask_prompt: s.mask_prompt };
    spec.sft.sets = protocol.sft.iter().map(set).collect();
    let probe = |p: &Probe<'_>| ProbeSpec { name: p.name.into(), role: p.role.into() };
    spec.probes = protocol.probes.iter().map(probe).collect();
    Ok(spec)
}

fn bpe(vocab_size: usize, max_bytes: u64) -> TokenizerSpec {
    let roles = ["general", "starcoder", "math"].map(str::to_owned).to_vec();
    TokenizerSpec::Bpe { vocab_size, roles, max_bytes }
}

/// Minutes on two cores, on the generated corpus.
fn smoke(size: Size) -> StudySpec {
    let steps = 240;
    let (hidden, blocks, heads) = size.of([(64, 2, 4), (96, 3, 4), (128, 4, 4)]);
    StudySpec {
        format: FORMAT,
        kernels: Kernels::Same,
        model_name: format!("smoke-{}", size.letter()),
        study_seed: 0,
        pretrain_seeds: 1,
        sft_seeds: 2,
        data: DataSpec::Generated { seed: 1, general: 4000, specialised: 3000, sft: 700 },
        tokenizer: bpe(2048, 3_000_000),
        held_out_permille: 100,
        deduplicate: false,
        model: GptNeoXConfig::of_size(2048, hidden, blocks, heads),
        pretrain: PretrainSpec {
            steps,
            batch: 16,
            time: 128,
            lr_peak: 3e-3,
            lr_min: 3e-5,
            warmup: steps / 10,
            convention: Convention::default(),
            optimizer: AdamWSpec::default(),
            clip: 1.0,
            micro_tokens: 4096,
            max_epochs: 1.0,
            precision: Precision::F32,
            recompute: false,
            document_mask: false,
            keep_every: Some(60),
        },
        arms: Vec::new(),
        sft: FinetuneSpec {
            epochs: 4,
            batch: 32,
            max_time: 128,
            truncation: data_mixer::Truncation::Cut,
            examples: 256,
            held_out: 64,
            lr: LrChoice::SweepBase { grid: vec![1e-3, 2e-3, 4e-3], extend: 0 },
            warmup: TENTH,
            optimizer: AdamWSpec::default(),
            clip: 1.0,
            sets: Vec::new(),
        },
        eval: EvalSpec { general_sequences: 64, probe_documents: 200, path_rows: 32, path_stride: 1 },
        probes: Vec::new(),
    }
}

const TENTH: Weight = match Weight::from_percent(10) {
    Some(tenth) => tenth,
    None => Weight::ZERO,
};

/// An hour or two on two cores, on real data: a size at which the paper's Finding 1 was seen to show.
fn mini(size: Size) -> StudySpec {
    let steps = 500;
    let smoke = smoke(size);
    let (hidden, blocks, heads) = size.of([(192, 3, 4), (256, 4, 4), (320, 6, 5)]);
    StudySpec {
        model_name: format!("mini-{}", size.letter()),
        sft_seeds: 1,
        data: DataSpec::Generated { seed: 1, general: 60_000, specialised: 40_000, sft: 6000 },
        tokenizer: bpe(8192, 30_000_000),
        held_out_permille: 50,
        model: GptNeoXConfig::of_size(8192, hidden, blocks, heads),
        pretrain: PretrainSpec {
            steps,
            batch: 32,
            time: 256,
            lr_peak: 1e-3,
            lr_min: 1e-5,
            warmup: steps / 10,
            micro_tokens: 8192,
            keep_every: Some(100),
            ..smoke.pretrain
        },
        sft: FinetuneSpec {
            max_time: 256,
            examples: 800,
            held_out: 200,
            lr: LrChoice::SweepBase { grid: vec![2e-4, 5e-4, 1e-3], extend: 0 },
            ..smoke.sft
        },
        eval: EvalSpec { general_sequences: 120, path_stride: 4, ..smoke.eval },
        ..smoke
    }
}

/// The paper's own: 61 000 steps of 1024 × 2048 tokens, a Pythia (Tables 4 to 7), planned on the token counts that
/// [`Sources::paper`] states.
fn paper(size: Size) -> Result<StudySpec, Error> {
    let name = ["70m", "160m", "410m"][size as usize];
    let tokens = Sources::paper()?.0.into_iter().filter_map(|(role, files)| Some((role, files.stated_tokens?)));
    let smoke = smoke(size);
    Ok(StudySpec {
        model_name: name.to_owned(),
        sft_seeds: 5,
        data: DataSpec::Stated { tokens: tokens.collect() },
        model: GptNeoXConfig::pythia(name)?,
        pretrain: PretrainSpec {
            steps: 61_000,
            batch: 1024,
            time: 2048,
            lr_peak: 3e-4,
            lr_min: 1e-6,
            warmup: 6100,
            convention: Convention::Litgpt { accumulation: 16 },
            micro_tokens: 16 * 2048,
            keep_every: Some(5_000),
            precision: Precision::Bf16,
            ..smoke.pretrain
        },
        sft: FinetuneSpec {
            batch: 64,
            max_time: 2048,
            examples: 13_679,
            held_out: 1000,
            lr: LrChoice::SweepBase {
                grid: vec![
                    4e-6, 8e-6, 1e-5, 2e-5, 4e-5, 5e-5, 6e-5, 7e-5, 8e-5, 9e-5, 1e-4, 1.2e-4, 1.4e-4, 1.6e-4, 1.8e-4,
                    2e-4, 2.4e-4, 4e-4, 5e-4, 6e-4, 8e-4, 1e-3, 2e-3, 3e-3, 4e-3, 6e-3,
                ],
                extend: 0,
            },
            ..smoke.sft
        },
        eval: EvalSpec { general_sequences: 1000, ..smoke.eval },
        ..smoke
    })
}
