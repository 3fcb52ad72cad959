//! Checkpoints out and in, and what a damaged or foreign one gets.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use fused_ops::backends::{Flex, NdArray};
use gptneox_model::{
    Error, GptNeoX, GptNeoXConfig, SaveOptions, Storage, export_parameters, load_pretrained, save_pretrained,
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

fn config() -> GptNeoXConfig {
    GptNeoXConfig {
        vocab_size: 24,
        hidden_size: 16,
        num_layers: 2,
        num_heads: 2,
        intermediate_size: 48,
        max_positions: 32,
        ..GptNeoXConfig::pythia("14m").unwrap()
    }
}

fn load(dir: &Path) -> Result<GptNeoX<Flex>, Error> {
    load_pretrained(dir, &Default::default())
}

fn saved(dir: &Path, config: &GptNeoXConfig) -> GptNeoX<Flex> {
    let model = GptNeoX::<Flex>::init(config, 3, &Default::default()).unwrap();
    save_pretrained(&model, dir, &SaveOptions::default()).unwrap();
    model
}

#[test]
fn a_round_trip_is_bit_equal() {
    let variants = [
        config(),
        GptNeoXConfig { tie_embeddings: true, ..config() },
        GptNeoXConfig { parallel_residual: false, tanh_gelu: true, rotary_pct: 1.0, ..config() },
        GptNeoXConfig { rotary_pct: 0.0, ..config() },
    ];
    for config in variants {
        let dir = tempfile::tempdir().unwrap();
        let model = saved(dir.path(), &config);
        let again = load(dir.path()).unwrap();
        assert_eq!(again.config(), &config);
        assert_eq!(export_parameters(&again), export_parameters(&model));
        let total: usize = export_parameters(&model).iter().map(|p| p.values.len()).sum();
        assert_eq!(total as u64, config.parameter_count().total);
        // Another save gives the same file.
        let other = tempfile::tempdir().unwrap();
        save_pretrained(&again, other.path(), &SaveOptions::default()).unwrap();
        for file in ["model.safetensors", "config.json"] {
            assert_eq!(std::fs::read(dir.path().join(file)).unwrap(), std::fs::read(other.path().join(file)).unwrap());
        }
    }
}

#[test]
fn first_weights_are_the_same_on_every_backend() {
    let flex = GptNeoX::<Flex>::init(&config(), 5, &Default::default()).unwrap();
    let ndarray = GptNeoX::<NdArray>::init(&config(), 5, &Default::default()).unwrap();
    assert_eq!(export_parameters(&flex), export_parameters(&ndarray));
    let other = GptNeoX::<Flex>::init(&config(), 6, &Default::default()).unwrap();
    assert_ne!(export_parameters(&flex), export_parameters(&other));
}

/// A file's tensors: name, shape, bytes.
type Tensors = Vec<(String, Vec<usize>, Vec<u8>)>;

/// Rewrites the weights with a change to the list of tensors.
fn rewrite(dir: &Path, change: impl Fn(&mut Tensors)) {
    let path = dir.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors =
        file.tensors().into_iter().map(|(n, v)| (n, v.shape().to_vec(), v.data().to_vec())).collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(n, s, d)| (n.as_str(), TensorView::new(Dtype::F32, s.clone(), d).unwrap()));
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let name = "gpt_neox.layers.1.mlp.dense_h_to_4h.bias";
    let dir = tempfile::tempdir().unwrap();
    let message = |change: &dyn Fn(&mut Tensors)| {
        saved(dir.path(), &config());
        rewrite(dir.path(), change);
        load(dir.path()).unwrap_err().to_string()
    };
    let missing = message(&|t| t.retain(|(n, ..)| n != name));
    assert_eq!(missing, format!("tensor {name} (shape [48]) is missing"));
    let unknown = message(&|t| t.push(("gpt_neox.extra".into(), vec![2], vec![0; 8])));
    assert_eq!(unknown, "tensor gpt_neox.extra (shape [2]) belongs to no parameter of this model");
    let shape = message(&|t| {
        let tensor = t.iter_mut().find(|(n, ..)| n == name).unwrap();
        (tensor.1, tensor.2) = (vec![24, 2], tensor.2.clone());
    });
    assert_eq!(shape, format!("tensor {name} has shape [24, 2], the model needs [48]"));
}

#[test]
fn damaged_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), &config());
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let mut hostile = vec![bytes[..bytes.len() / 2].to_vec(), bytes[..7].to_vec(), Vec::new()];
    hostile.push([u64::MAX.to_le_bytes().as_slice(), b"{}"].concat());
    for header in [
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
        "{\"a\":",
    ] {
        hostile.push([(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes(), &[0; 16]].concat());
    }
    for bytes in hostile {
        std::fs::write(&path, bytes).unwrap();
        let message = load(dir.path()).unwrap_err().to_string();
        assert!(message.contains("model.safetensors"), "{message}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(load(dir.path()).unwrap_err().to_string().contains("model.safetensors"));
    std::fs::write(dir.path().join("model.safetensors.index.json"), "{\"weight_map\":{\"a\":\"../secret\"}}").unwrap();
    assert!(load(dir.path()).unwrap_err().to_string().contains("is not a file name"));
}

#[test]
fn shards_and_half_types_hold_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let model = saved(dir.path(), &config());
    let files = |dir: &Path| {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    // Shards replace what an earlier save left, and a single file replaces shards.
    let sharded = SaveOptions { max_shard_bytes: Some(4000), ..SaveOptions::default() };
    save_pretrained(&model, dir.path(), &sharded).unwrap();
    let names = files(dir.path());
    assert!(names.len() > 4 && names.contains(&"model.safetensors.index.json".to_owned()), "{names:?}");
    assert!(!names.contains(&"model.safetensors".to_owned()));
    let largest = names.iter().map(|n| std::fs::metadata(dir.path().join(n)).unwrap().len()).max().unwrap();
    assert!(largest < 4000 + 3000, "a shard of {largest} bytes with its header");
    let text = std::fs::read_to_string(dir.path().join("model.safetensors.index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(index["metadata"]["total_size"], 4 * config().parameter_count().total);
    assert_eq!(export_parameters(&load(dir.path()).unwrap()), export_parameters(&model));
    std::fs::remove_file(dir.path().join("model-00002-of-00005.safetensors")).unwrap_or_default();
    saved(dir.path(), &config());
    assert_eq!(files(dir.path()), ["config.json", "model.safetensors"]);

    for (storage, name, bits) in [(Storage::F16, "float16", 11), (Storage::Bf16, "bfloat16", 8)] {
        for max_shard_bytes in [None, Some(1)] {
            save_pretrained(&model, dir.path(), &SaveOptions { storage, max_shard_bytes, ..SaveOptions::default() }).unwrap();
            let config = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
            assert!(config.contains(&format!("\"torch_dtype\": \"{name}\"")), "{config}");
            let again = load(dir.path()).unwrap();
            for (a, b) in export_parameters(&again).iter().zip(export_parameters(&model)) {
                assert_eq!((&a.name, &a.shape), (&b.name, &b.shape));
                for (a, b) in a.values.iter().zip(&b.values) {
                    // Rounded to that many significant bits, or to the smallest steps of f16.
                    assert!((a - b).abs() <= b.abs() / (1 << bits) as f32 + 6e-8, "{a} for {b}");
                }
            }
            // What was rounded once stays as it is.
            save_pretrained(&again, dir.path(), &SaveOptions { storage, max_shard_bytes, ..SaveOptions::default() }).unwrap();
            assert_eq!(export_parameters(&load(dir.path()).unwrap()), export_parameters(&again));
        }
    }
}

#[test]
fn a_weight_that_f16_cannot_hold_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), &config());
    let before = std::fs::read(dir.path().join("model.safetensors")).unwrap();
    let device = Default::default();
    let model = GptNeoX::<Flex>::from_parameters(&config(), &device, |name, shape| {
        let value = if name.ends_with("final_layer_norm.bias") { 7e4 } else { 1.0 };
        Ok(vec![value; shape.iter().product()])
    })
    .unwrap();
    let half = SaveOptions { storage: Storage::F16, ..SaveOptions::default() };
    let message = save_pretrained(&model, dir.path(), &half).unwrap_err().to_string();
    assert!(message.contains("gpt_neox.final_layer_norm.bias holds 70000, beyond the 65504 of F16"), "{message}");
    assert_eq!(std::fs::read(dir.path().join("model.safetensors")).unwrap(), before);
}

#[test]
fn a_config_beyond_its_weights_allocates_nothing() {
    // 16 Mi x 16 Mi numbers would be 1 PiB: refused by the file's shapes, before memory is taken.
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), &config());
    let path = dir.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("\"vocab_size\": 24", "\"vocab_size\": 16777216");
    std::fs::write(&path, text.replace("\"hidden_size\": 16", "\"hidden_size\": 16777216")).unwrap();
    let message = load(dir.path()).unwrap_err().to_string();
    assert!(message.contains("embed_in.weight has shape [24, 16], the model needs [16777216, 16777216]"), "{message}");
}

#[test]
fn a_save_that_was_broken_off_is_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let model = saved(dir.path(), &config());
    // A folder in the place of the file that comes last but one.
    std::fs::create_dir(dir.path().join("model.safetensors.index.json")).unwrap();
    let sharded = SaveOptions { max_shard_bytes: Some(4000), ..SaveOptions::default() };
    assert!(save_pretrained(&model, dir.path(), &sharded).is_err());
    assert!(load(dir.path()).unwrap_err().to_string().contains("config.json"));
}

#[test]
fn configs_of_other_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), &config());
    let path = dir.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        ("\"gpt_neox\"", "\"llama\"", "model_type = llama must be gpt_neox"),
        ("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\"", "hidden_act = relu must be gelu"),
        ("\"num_attention_heads\": 2", "\"num_attention_heads\": 3", "num_heads = 3 must divide hidden_size 16"),
        ("\"attention_bias\": true", "\"attention_bias\": false", "attention_bias = false is not supported"),
        ("\"vocab_size\": 24,", "", "missing field `vocab_size`"),
    ] {
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let message = load(dir.path()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}
