//! Generation with kept keys and values, against whole forward passes.
#![allow(clippy::unwrap_used, reason = "tests")]

use burn::tensor::{Int, Tensor, TensorData};
use fused_ops::backends::{Flex, NdArray};
use fused_ops::{FusedOps, Precision};
use gptneox_model::{Compute, Continuation, Ending, GptNeoX, GptNeoXConfig, RopeScaling, Sampling};

fn config() -> GptNeoXConfig {
    GptNeoXConfig { max_positions: 32, ..GptNeoXConfig::of_size(40, 32, 2, 4) }
}

fn model<B: FusedOps>(config: &GptNeoXConfig) -> GptNeoX<B> {
    // Weights larger than a fresh model's, so that tokens differ clearly.
    let fresh = GptNeoX::<Flex>::init(config, 3, &Default::default()).unwrap();
    let mut weights = gptneox_model::export_parameters(&fresh).into_iter();
    GptNeoX::from_parameters(config, &Default::default(), |name, _| {
        let tensor = weights.find(|t| t.name == name).unwrap();
        Ok(tensor.values.iter().map(|v| v * 3.0).collect())
    })
    .unwrap()
}

fn tokens<B: FusedOps>(model: &GptNeoX<B>, prompt: &[u32], spec: Continuation) -> Vec<u32> {
    model.generate(prompt, spec).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Each token by a forward pass over all before it.
fn slowly<B: FusedOps>(model: &GptNeoX<B>, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut ids: Vec<i32> = prompt.iter().map(|id| *id as i32).collect();
    for _ in 0..count {
        let input = TensorData::new(ids.clone(), [1, ids.len()]);
        let logits = model.logits(Tensor::<B, 2, Int>::from_data(input, &Default::default()));
        let logits = logits.into_data().to_vec::<f32>().unwrap();
        let last = &logits[logits.len() - 40..];
        ids.push((0..40).max_by(|a, b| last[*a].total_cmp(&last[*b])).unwrap() as i32);
    }
    ids[prompt.len()..].iter().map(|id| *id as u32).collect()
}

#[test]
fn greedy_tokens_are_those_of_whole_passes() {
    fn check<B: FusedOps>() {
        for config in [config(), GptNeoXConfig { parallel_residual: false, ..config() }] {
            let model = model::<B>(&config);
            for prompt in [&[5u32][..], &[1, 2, 3, 4, 5, 6, 7]] {
                let found = tokens(&model, prompt, Continuation::greedy(12));
                assert_eq!(found, slowly(&model, prompt, 12));
                assert!(found.windows(2).any(|w| w[0] != w[1]), "a text of one token shows nothing: {found:?}");
            }
        }
    }
    check::<Flex>();
    check::<NdArray>();
}

#[test]
fn generation_ends_at_the_stop_token_the_count_and_the_last_position() {
    let model = model::<Flex>(&config());
    let all = tokens(&model, &[5], Continuation::greedy(20));
    assert_eq!(all.len(), 20);
    let stop = all[6];
    let first = all.iter().position(|t| *t == stop).unwrap();
    let stopped = tokens(&model, &[5], Continuation { stop: vec![stop], ..Continuation::greedy(20) });
    assert_eq!(stopped, all[..=first]);
    // 32 positions hold a prompt of 30, and two new tokens; a third is predicted from the last position.
    let prompt: Vec<u32> = (0..30).collect();
    assert_eq!(tokens(&model, &prompt, Continuation::greedy(100)).len(), 3);
    assert_eq!(tokens(&model, &[5], Continuation::greedy(0)).len(), 0);
}

#[test]
fn sampling_repeats_with_its_seed_and_stays_inside_the_vocabulary() {
    let model = model::<Flex>(&config());
    let spec = |seed, vocabulary| Continuation {
        sampling: Sampling::Nucleus { temperature: 2.0, top_p: 0.95, seed },
        vocabulary,
        ..Continuation::greedy(25)
    };
    let one = tokens(&model, &[5], spec(1, None));
    assert_eq!(one, tokens(&model, &[5], spec(1, None)));
    assert_ne!(one, tokens(&model, &[5], spec(2, None)));
    assert!(one.iter().any(|t| *t >= 10));
    assert!(tokens(&model, &[5], spec(1, Some(10))).iter().all(|t| *t < 10));
    // A cold, narrow choice is the greedy one.
    let cold = Continuation {
        sampling: Sampling::Nucleus { temperature: 1e-3, top_p: 0.5, seed: 3 },
        ..Continuation::greedy(10)
    };
    assert_eq!(tokens(&model, &[5], cold), tokens(&model, &[5], Continuation::greedy(10)));
}

#[test]
fn bf16_generates_too() {
    let model = model::<Flex>(&config()).with_compute(Compute { precision: Precision::Bf16, recompute: false });
    assert_eq!(tokens(&model, &[5], Continuation::greedy(8)).len(), 8);
}

#[test]
fn what_cannot_be_generated_is_an_error() {
    let model = model::<Flex>(&config());
    let nucleus = |temperature, top_p| Continuation {
        sampling: Sampling::Nucleus { temperature, top_p, seed: 0 },
        ..Continuation::greedy(1)
    };
    let long = vec![1; 33];
    for (prompt, spec, expected) in [
        (&[][..], Continuation::greedy(1), "prompt empty must hold at least one token"),
        (&[40], Continuation::greedy(1), "token id 40 is not below the model's vocabulary of 40"),
        (&long, Continuation::greedy(1), "prompt of 33 tokens is longer than the model's 32 positions"),
        (&[1], nucleus(0.0, 1.0), "temperature 0 must be above 0"),
        (&[1], nucleus(f64::NAN, 1.0), "temperature NaN must be above 0"),
        (&[1], nucleus(1.0, 0.0), "top_p 0 must be above 0 and at most 1"),
        (&[1], nucleus(1.0, 1.5), "top_p 1.5 must be"),
        (&[1], Continuation { vocabulary: Some(0), ..Continuation::greedy(1) }, "vocabulary 0 must be at least 1"),
    ] {
        let message = model.generate(prompt, spec).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let damaged = GptNeoX::<Flex>::from_parameters(&config(), &Default::default(), |_, shape| {
        Ok(vec![f32::NAN; shape.iter().product()])
    })
    .unwrap();
    let found: Vec<_> = damaged.generate(&[1], Continuation::greedy(5)).unwrap().collect();
    assert_eq!(found.len(), 1);
    assert!(found[0].as_ref().unwrap_err().to_string().contains("is not finite"));
}

/// Why a text ended, and any of several tokens that end one.
#[test]
fn the_ending_is_told() {
    let model = GptNeoX::<Flex>::init(&config(), 1, &Default::default()).unwrap();
    let ended = |prompt: &[u32], spec: Continuation| {
        let mut generation = model.generate(prompt, spec).unwrap();
        assert_eq!(generation.ending(), None);
        let tokens: Vec<u32> = generation.by_ref().collect::<Result<_, _>>().unwrap();
        (tokens, generation.ending())
    };
    let (tokens, ending) = ended(&[5], Continuation::greedy(4));
    assert_eq!((tokens.len(), ending), (4, Some(Ending::Count)));
    let (_, ending) = ended(&[5; 30], Continuation::greedy(20));
    assert_eq!(ending, Some(Ending::Positions));
    let (ended_at, ending) = ended(&[5], Continuation { stop: vec![39, tokens[1]], ..Continuation::greedy(20) });
    let first = tokens.iter().position(|t| *t == tokens[1]).unwrap();
    assert_eq!((&ended_at[..], ending), (&tokens[..=first], Some(Ending::Token(tokens[1]))));
}

/// Beyond the positions dynamic scaling changes the angles of all that was read: each token is that of a model without a cache.
#[test]
fn dynamic_scaling_reads_again() {
    let scaling = RopeScaling::Dynamic { factor: 4.0 };
    let config = GptNeoXConfig { max_positions: 6, rotary_pct: 0.5, rope_scaling: Some(scaling), ..config() };
    let model = GptNeoX::<Flex>::init(&config, 1, &Default::default()).unwrap();
    let mut all = vec![5u32, 9, 3];
    let generated: Vec<u32> =
        model.generate(&all, Continuation::greedy(12)).unwrap().collect::<Result<_, _>>().unwrap();
    for token in &generated {
        let ids: Vec<i32> = all.iter().map(|id| *id as i32).collect();
        let ids = Tensor::<Flex, 2, Int>::from_data(TensorData::new(ids, [1, all.len()]), &Default::default());
        let logits: Vec<f32> = model.logits(ids).into_data().into_vec().unwrap();
        let last = &logits[(all.len() - 1) * 40..];
        let best = (0..40).fold(0, |best, id| if last[id] > last[best] { id } else { best });
        assert_eq!(*token, best as u32, "after {} tokens", all.len());
        all.push(*token);
    }
    assert_eq!(generated.len(), 12);
}
