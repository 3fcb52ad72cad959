//! Checkpoints out and in, and what a damaged or foreign one gets.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use fused_ops::backends::{Flex, NdArray};
use gptneox_model::{
    Checkpoint, Error, GptNeoX, GptNeoXConfig, Metadata, RopeScaling, SaveOptions, Storage, checkpoint_files,
    export_parameters, load_config, load_pretrained, save_pretrained,
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::json;

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
    // Each names the file or folder that it is about.
    let of = |what: &str| format!("{}: {what}", dir.path().join("model.safetensors").display());
    assert_eq!(missing, format!("{}: tensor {name} (shape [48]) is missing", dir.path().display()));
    let unknown = message(&|t| t.push(("gpt_neox.extra".into(), vec![2], vec![0; 8])));
    assert_eq!(unknown, of("tensor gpt_neox.extra (shape [2]) belongs to no parameter of this model"));
    let shape = message(&|t| {
        let tensor = t.iter_mut().find(|(n, ..)| n == name).unwrap();
        (tensor.1, tensor.2) = (vec![24, 2], tensor.2.clone());
    });
    assert_eq!(shape, of(&format!("tensor {name} has shape [24, 2], the model needs [48]")));
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
            save_pretrained(&model, dir.path(), &SaveOptions { storage, max_shard_bytes, ..SaveOptions::default() })
                .unwrap();
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
            save_pretrained(&again, dir.path(), &SaveOptions { storage, max_shard_bytes, ..SaveOptions::default() })
                .unwrap();
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
    // 16 Mi x 16 Ki numbers would be 1 TiB: refused by the file's shapes, before memory is taken.
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), &config());
    let path = dir.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("\"vocab_size\": 24", "\"vocab_size\": 16777216");
    std::fs::write(&path, text.replace("\"hidden_size\": 16", "\"hidden_size\": 16384")).unwrap();
    let message = load(dir.path()).unwrap_err().to_string();
    assert!(message.contains("embed_in.weight has shape [24, 16], the model needs [16777216, 16384]"), "{message}");
}

/// Until the new checkpoint is complete the old one is there, and nothing of the new one.
#[cfg(unix)]
#[test]
fn a_save_that_is_broken_off_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("model");
    let model = saved(&place, &config());
    std::fs::write(place.join("README"), "stays").unwrap();
    let bytes = std::fs::read(place.join("model.safetensors")).unwrap();
    let missing = ("tokenizer.json".to_owned(), dir.path().join("not there"));
    let options = SaveOptions { storage: Storage::Bf16, files: vec![missing], ..SaveOptions::default() };
    let message = save_pretrained(&model, &place, &options).unwrap_err().to_string();
    assert!(message.contains("not there"), "{message}");
    assert_eq!(std::fs::read(place.join("model.safetensors")).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing half-written is left");
    // A complete one replaces the checkpoint's own files only.
    save_pretrained(&model, &place, &SaveOptions { max_shard_bytes: Some(4000), ..SaveOptions::default() }).unwrap();
    assert!(!place.join("model.safetensors").exists());
    assert_eq!(std::fs::read_to_string(place.join("README")).unwrap(), "stays");
    // A file is no folder.
    assert!(save_pretrained(&model, &place.join("README"), &SaveOptions::default()).is_err());
}

/// Rewrites `config.json`.
fn configure(dir: &Path, change: impl Fn(&mut serde_json::Map<String, serde_json::Value>)) {
    let path = dir.join("config.json");
    let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(config.as_object_mut().unwrap());
    std::fs::write(&path, config.to_string()).unwrap();
}

/// Everything that a directory says beside its model is in the one that is written from it.
#[test]
fn what_a_directory_says_is_carried_through() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    saved(dir.path(), &config());
    configure(dir.path(), |config| {
        config.extend([
            ("eos_token_id".to_owned(), json!([2, 5])),
            ("bos_token_id".to_owned(), json!(1)),
            ("pad_token_id".to_owned(), json!(null)),
            ("architectures".to_owned(), json!(["GPTNeoXModel"])),
            ("hidden_dropout".to_owned(), json!(0.25)),
            ("task_specific".to_owned(), json!({ "a": [1] })),
        ]);
    });
    std::fs::write(dir.path().join("generation_config.json"), r#"{"eos_token_id": 7, "temperature": 0.5}"#).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.metadata().end_tokens(), Some(vec![7]), "generation_config.json is asked first");
    assert_eq!(checkpoint.metadata().dropout(), Some(("hidden_dropout", 0.25)));
    assert_eq!(checkpoint.storage().unwrap(), Storage::F32);
    let model = checkpoint.model::<Flex>(&Default::default()).unwrap();
    let options = SaveOptions { metadata: checkpoint.metadata().clone(), ..SaveOptions::default() };
    save_pretrained(&model, to.path(), &options).unwrap();
    let read = |dir: &Path, name: &str| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(dir.join(name)).unwrap()).unwrap()
    };
    assert_eq!(read(to.path(), "config.json"), read(dir.path(), "config.json"));
    assert_eq!(read(to.path(), "generation_config.json"), read(dir.path(), "generation_config.json"));
    // The type in which transformers loads the weights, whatever they are stored in, unless it is to be that.
    configure(dir.path(), |config| drop(config.insert("dtype".to_owned(), json!("bfloat16"))));
    let metadata = Checkpoint::open(dir.path()).unwrap().metadata().clone();
    for (metadata, expected) in [(metadata.clone(), "bfloat16"), (metadata.with_dtype_of_weights(), "float32")] {
        save_pretrained(&model, to.path(), &SaveOptions { metadata, ..SaveOptions::default() }).unwrap();
        assert_eq!(read(to.path(), "config.json")["torch_dtype"], json!(expected));
    }
    // Without one, config.json's are meant: a list, none, or nothing said.
    std::fs::remove_file(dir.path().join("generation_config.json")).unwrap();
    for (said, expected) in
        [(json!([2, 5]), Some(vec![2, 5])), (json!(3), Some(vec![3])), (json!(-1), Some(vec![])), (json!(null), None)]
    {
        configure(dir.path(), |config| drop(config.insert("eos_token_id".to_owned(), said.clone())));
        assert_eq!(Checkpoint::open(dir.path()).unwrap().metadata().end_tokens(), expected, "{said}");
    }
    configure(dir.path(), |config| drop(config.insert("eos_token_id".to_owned(), json!("end"))));
    assert!(load(dir.path()).unwrap_err().to_string().contains("eos_token_id = \"end\" must be a whole number"));
    // A model of this project's own says what its tokenizer says, or nothing.
    saved(dir.path(), &config());
    assert_eq!(read(dir.path(), "config.json")["eos_token_id"], json!(null));
    let named = SaveOptions { metadata: Metadata::with_end_token(9), ..SaveOptions::default() };
    save_pretrained(&model, dir.path(), &named).unwrap();
    assert_eq!(read(dir.path(), "generation_config.json"), json!({ "bos_token_id": 9, "eos_token_id": 9 }));
}

/// Spellings of one configuration are one model; what cannot be computed is refused by its field.
#[test]
fn rotary_scaling_is_read_as_transformers_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), &config());
    let with = |fields: serde_json::Value| {
        saved(dir.path(), &config());
        configure(dir.path(), |config| config.extend(fields.as_object().unwrap().clone()));
        load_config(dir.path()).map_err(|e| e.to_string())
    };
    let linear = GptNeoXConfig { rope_scaling: Some(RopeScaling::Linear { factor: 2.0 }), ..config() };
    for fields in [
        json!({ "rope_scaling": { "type": "linear", "factor": 2 } }),
        json!({ "rope_scaling": { "rope_type": "linear", "factor": 2.0 }, "rope_parameters": { "rope_type": "dynamic", "factor": 9.0 } }),
        json!({ "rope_scaling": {}, "rope_parameters": { "type": "linear", "factor": 2.0, "original_max_position_embeddings": 3 } }),
        json!({ "rope_scaling": null, "rope_parameters": { "type": "dynamic", "rope_type": "linear", "factor": 2.0 } }),
    ] {
        assert_eq!(with(fields.clone()).as_ref(), Ok(&linear), "{fields}");
    }
    let other =
        with(json!({ "rope_parameters": { "rope_theta": 500, "partial_rotary_factor": 0.5 }, "rotary_pct": 0.125 }));
    assert_eq!(other, Ok(GptNeoXConfig { rotary_base: 500.0, rotary_pct: 0.5, ..config() }));
    for (fields, expected) in [
        (
            json!({ "rope_scaling": { "type": "yarn", "factor": 2.0 } }),
            "rope_scaling.rope_type = yarn is not supported",
        ),
        (
            json!({ "rope_parameters": { "rope_type": "llama3" } }),
            "rope_parameters.rope_type = llama3 is not supported",
        ),
        (json!({ "rope_scaling": { "type": "linear" } }), "rope_scaling.factor = missing must be a positive number"),
        (json!({ "rope_scaling": { "type": "dynamic", "factor": -1.0 } }), "rope_scaling.factor = -1.0 must be"),
        (json!({ "rope_scaling": { "rope_type": null } }), "rope_type = null must be a text"),
        (json!({ "rope_scaling": 3 }), "rope_scaling = 3 must be an object"),
        (json!({ "quantization_config": {} }), "quantization_config = given is not supported"),
        (json!({ "head_dim": 4 }), "head_dim = given is not supported"),
    ] {
        let message = with(fields).unwrap_err();
        assert!(message.contains(expected) && message.contains("config.json"), "{message}");
    }
    // What is written is read again, also by versions that know the old spelling only.
    let model = GptNeoX::<Flex>::init(&linear, 3, &Default::default()).unwrap();
    save_pretrained(&model, dir.path(), &SaveOptions::default()).unwrap();
    assert_eq!(load(dir.path()).unwrap().config(), &linear);
}

/// One matrix or two: what is stored must be what is said.
#[test]
fn tied_and_untied_tables_do_not_contradict_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (embedding, output) = ("gpt_neox.embed_in.weight", "embed_out.weight");
    let tied = GptNeoXConfig { tie_embeddings: true, ..config() };
    let message = |config: &GptNeoXConfig, change: &dyn Fn(&mut Tensors)| {
        saved(dir.path(), config);
        rewrite(dir.path(), change);
        load(dir.path()).map(|model| export_parameters(&model)).map_err(|e| e.to_string())
    };
    let expected = export_parameters(&saved(dir.path(), &tied));
    let copy = |tensors: &mut Tensors| {
        let mut copy = tensors.iter().find(|(n, ..)| n == embedding).unwrap().clone();
        copy.0 = output.to_owned();
        tensors.push(copy);
    };
    assert_eq!(message(&tied, &copy).as_ref(), Ok(&expected));
    let renamed = |tensors: &mut Tensors| {
        copy(tensors);
        tensors.retain(|(n, ..)| n != embedding);
    };
    assert_eq!(message(&tied, &renamed).as_ref(), Ok(&expected));
    let other = |tensors: &mut Tensors| {
        copy(tensors);
        tensors.last_mut().unwrap().2[0] ^= 1;
    };
    let refused = message(&tied, &other).unwrap_err();
    assert!(refused.contains("tie_word_embeddings = true") && refused.contains("differ"), "{refused}");
    let refused = message(&config(), &|tensors| tensors.retain(|(n, ..)| n != output)).unwrap_err();
    assert!(
        refused.contains("tie_word_embeddings = false needs the tensor embed_out.weight or lm_head.weight"),
        "{refused}"
    );
    let refused = message(&config(), &|tensors| tensors.retain(|(n, ..)| n != embedding)).unwrap_err();
    assert!(refused.contains("tie_word_embeddings = false needs the tensor gpt_neox.embed_in.weight"), "{refused}");
}

/// Names of other savers: the output matrix of transformers 5, a body that was saved alone, a prefix that is there twice.
#[test]
fn other_names_are_the_same_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let expected = export_parameters(&saved(dir.path(), &config()));
    let renames: [fn(&str) -> String; 3] = [
        |name| name.replace("embed_out", "lm_head"),
        |name| name.trim_start_matches("gpt_neox.").to_owned(),
        |name| name.replace("gpt_neox.layers.1", "gpt_neox.gpt_neox.layers.1").replace("embed_out", "gpt_neox.lm_head"),
    ];
    for rename in renames {
        saved(dir.path(), &config());
        rewrite(dir.path(), |tensors| {
            tensors.iter_mut().for_each(|(name, ..)| *name = rename(name));
            tensors.push(("gpt_neox.layers.0.attention.rotary_emb.inv_freq".to_owned(), vec![1], vec![0; 4]));
        });
        assert_eq!(export_parameters(&load(dir.path()).unwrap()), expected);
    }
    let twice = |tensors: &mut Tensors| {
        let mut copy = tensors.iter().find(|(n, ..)| n == "embed_out.weight").unwrap().clone();
        copy.0 = "lm_head.weight".to_owned();
        tensors.push(copy);
    };
    saved(dir.path(), &config());
    rewrite(dir.path(), twice);
    assert_eq!(export_parameters(&load(dir.path()).unwrap()), expected, "twice the same is once");
    rewrite(dir.path(), |tensors| tensors.iter_mut().find(|(n, ..)| n == "lm_head.weight").unwrap().2[0] ^= 1);
    let message = load(dir.path()).unwrap_err().to_string();
    assert!(message.contains("embed_out.weight") && message.contains("lm_head.weight"), "{message}");
}

/// transformers takes the single file where there is one: an index that an earlier save left beside it says nothing.
#[test]
fn a_stale_index_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let model = saved(dir.path(), &config());
    std::fs::write(dir.path().join("model.safetensors.index.json"), r#"{"weight_map": {"a": "gone.safetensors"}}"#)
        .unwrap();
    assert_eq!(export_parameters(&load(dir.path()).unwrap()), export_parameters(&model));
    assert_eq!(checkpoint_files(dir.path()).unwrap().len(), 2);
    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    assert!(load(dir.path()).unwrap_err().to_string().contains("gone.safetensors"));
    std::fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    std::fs::write(dir.path().join("pytorch_model.bin"), "").unwrap();
    assert!(load(dir.path()).unwrap_err().to_string().contains("holds pytorch_model.bin and no model.safetensors"));
}

#[test]
fn configs_of_other_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), &config());
    let path = dir.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        ("\"gpt_neox\"", "\"llama\"", "model_type = llama must be gpt_neox"),
        ("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\"", "hidden_act = relu is not supported; must be gelu"),
        (
            "\"num_attention_heads\": 2",
            "\"num_attention_heads\": 3",
            "num_attention_heads = 3 must divide hidden_size 16",
        ),
        ("\"attention_bias\": true", "\"attention_bias\": false", "attention_bias = false is not supported"),
        ("\"vocab_size\": 24", "\"vocab_size\": \"24\"", "vocab_size = \"24\" must be a whole number"),
        (",\n  \"vocab_size\": 24", "", "the model needs [50432, 16]"),
    ] {
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let message = load(dir.path()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}
