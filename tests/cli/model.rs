//! `evaluate` and `generate` on this project's fixtures and on what a study leaves.

use std::path::{Path, PathBuf};
use std::process::Output;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::harness::{fixture, program, run_tiny, stderr};

fn run(name: &str, args: &[&str]) -> Output {
    program(name).args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn path(p: &Path) -> &str {
    p.to_str().unwrap()
}

/// A model that the tiny study fine-tuned, with its tokenizer beside it.
fn fine_tuned(dir: &Path) -> PathBuf {
    run_tiny(dir, &[]);
    let mut models: Vec<PathBuf> =
        std::fs::read_dir(dir.join("store/finetune")).unwrap().map(|e| e.unwrap().path().join("model")).collect();
    models.sort();
    models.remove(0)
}

#[test]
fn evaluate_writes_what_the_reference_holds() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["parallel", "sequential"] {
        let model = fixture("reference/models").join(name);
        let expected = std::fs::read(model.join("expected.safetensors")).unwrap();
        let expected = SafeTensors::deserialize(&expected).unwrap();
        let out = dir.path().join("out.safetensors");
        let input = model.join("expected.safetensors");
        text(&run("evaluate", &["--model", path(&model), "--input", path(&input), "--output", path(&out)]));
        let found = std::fs::read(&out).unwrap();
        let found = SafeTensors::deserialize(&found).unwrap();
        let values = |file: &SafeTensors<'_>, name: &str| -> (Vec<usize>, Vec<f32>) {
            let view = file.tensor(name).unwrap();
            (view.shape().to_vec(), view.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
        };
        // Of L + 1 states the reference's last one is that after the final norm.
        let last = (0..).take_while(|i| expected.names().contains(&format!("hidden_states.{i}").as_str())).count() - 1;
        let mut pairs = vec![
            ("logits".to_owned(), "logits".to_owned()),
            ("token_loss".to_owned(), "token_loss".to_owned()),
            ("hidden_states.embed".to_owned(), "hidden_states.0".to_owned()),
            ("hidden_states.final_norm".to_owned(), format!("hidden_states.{last}")),
        ];
        pairs.extend((1..last).map(|i| (format!("hidden_states.block.{}", i - 1), format!("hidden_states.{i}"))));
        for (ours, theirs) in &pairs {
            let ((shape, a), (expected_shape, b)) = (values(&found, ours), values(&expected, theirs));
            assert_eq!(shape, expected_shape, "{ours}");
            let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(worst < 5e-5, "{name}, {ours}: {worst}");
        }
    }
}

#[test]
fn a_fine_tuned_model_is_evaluated_and_continued() {
    let dir = tempfile::tempdir().unwrap();
    let model = fine_tuned(dir.path());
    let file = dir.path().join("text.txt");
    std::fs::write(&file, "the river runs past the old mill and the house. ".repeat(30)).unwrap();
    let number = |text: &str, name: &str| -> f64 {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().parse().unwrap()
    };
    let base = ["--model", path(&model), "--text", path(&file)];
    let whole = text(&run("evaluate", &base));
    let (loss, tokens, bytes) = (number(&whole, "loss"), number(&whole, "tokens"), number(&whole, "bytes"));
    assert_eq!(bytes, 48.0 * 30.0);
    assert!((number(&whole, "perplexity") / loss.exp() - 1.0).abs() < 1e-4);
    let bits = loss * tokens / bytes / std::f64::consts::LN_2;
    assert!((number(&whole, "bits per byte") - bits).abs() < 1e-5);
    // Another form of the same model says the same; rounded weights nearly so.
    let converted = |more: &[&str]| {
        let to = dir.path().join("converted");
        text(&run("convert", &[&["--model", path(&model), "--output", path(&to)], more].concat()));
        number(&text(&run("evaluate", &["--model", path(&to), "--text", path(&file)])), "loss")
    };
    assert_eq!(converted(&["--max-shard-mb", "1"]), loss);
    let rounded = converted(&["--dtype", "bf16"]);
    assert!(rounded != loss && (rounded - loss).abs() < 0.02, "{rounded} and {loss}");
    // A checkpoint of pretraining, which brings no tokenizer.
    let checkpoint = std::fs::read_dir(dir.path().join("store/pretrain")).unwrap().next().unwrap().unwrap().path();
    let checkpoint = checkpoint.join("state.safetensors");
    let tokenizer = model.join("tokenizer.json");
    let of_base = ["--model", path(&checkpoint), "--text", path(&file), "--tokenizer", path(&tokenizer)];
    assert!(number(&text(&run("evaluate", &of_base)), "loss").is_finite());
    let same = dir.path().join("base");
    text(&run("convert", &["--model", path(&checkpoint), "--output", path(&same), "--tokenizer", path(&tokenizer)]));
    let of_same = ["--model", path(&same), "--text", path(&file)];
    assert_eq!(text(&run("evaluate", &of_same)), text(&run("evaluate", &of_base)));

    // Windows of half the context see less; windows that overlap see at least half.
    let cut = |more: &[&str]| number(&text(&run("evaluate", &[&base[..], more].concat())), "loss");
    assert!((cut(&["--context", "256"]) - loss).abs() < 1e-5, "256 is the model's positions");
    let (short, overlapping) = (cut(&["--context", "64"]), cut(&["--context", "64", "--stride", "8"]));
    assert!(short.is_finite() && overlapping.is_finite() && short != overlapping && short != loss);

    let prompt = ["--model", path(&model), "--prompt", "the river"];
    let continued = |more: &[&str]| text(&run("generate", &[&prompt[..], more].concat()));
    let greedy = continued(&["--tokens", "12", "--ignore-end"]);
    assert!(greedy.starts_with("the river") && greedy.len() > 12, "{greedy}");
    // The prompt is printed whatever comes, and why it ended is said.
    let none = run("generate", &[&prompt[..], &["--tokens", "0"]].concat());
    assert_eq!(String::from_utf8_lossy(&none.stdout), "the river\n");
    assert!(stderr(&none).contains("[0 tokens") && stderr(&none).contains("--tokens 0 reached"), "{}", stderr(&none));
    let ended = run("generate", &[&prompt[..], &["--tokens", "400"]].concat());
    let why = stderr(&ended);
    assert!(why.contains("ended by the token <|endoftext|>") || why.contains("positions are used up"), "{why}");
    let config = std::fs::read_to_string(model.join("generation_config.json")).unwrap();
    assert!(config.contains("eos_token_id"), "{config}");
    assert_eq!(greedy, continued(&["--tokens", "12", "--ignore-end"]));
    let by_chance = |seed| continued(&["--tokens", "30", "--ignore-end", "--temperature", "1.5", "--seed", seed]);
    assert_eq!(by_chance("1"), by_chance("1"));
    assert_ne!(by_chance("1"), by_chance("2"));
}

#[test]
fn what_cannot_be_evaluated_or_continued_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let model = fixture("reference/models/parallel");
    let ids = |name: &str, shape: [usize; 2], values: &[i64]| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::I64, shape.to_vec(), &bytes).unwrap();
        let file = dir.path().join(name);
        std::fs::write(&file, safetensors::serialize([("input_ids", view)], None).unwrap()).unwrap();
        file
    };
    let out = dir.path().join("out.safetensors");
    let long = vec![1; 5000];
    for (input, expected) in [
        (ids("high", [1, 2], &[1, 1 << 40]), "id 1099511627776 is outside the model's vocabulary"),
        (ids("low", [1, 2], &[1, -1]), "id -1 is outside"),
        (ids("short", [2, 1], &[1, 1]), "input_ids [2, 1] needs a row, and two tokens in it"),
        (ids("long", [1, 5000], &long), "has rows of 5000 tokens; the model takes"),
        (model.join("config.json"), "config.json"),
        (dir.path().join("nowhere"), "nowhere"),
    ] {
        let output = run("evaluate", &["--model", path(&model), "--input", path(&input), "--output", path(&out)]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert!(!out.exists());
    }
    for (args, expected) in [
        (vec!["--model", path(&model)], "holds no tokenizer.json; give --tokenizer FILE"),
        (vec!["--model", "nowhere", "--tokenizer", "nowhere.json"], "nowhere: there is no such model"),
        (vec!["--model", "nowhere"], "nowhere: there is no such model"),
        (vec!["--model", path(&model), "--seed", "1"], "seed = 1 needs --temperature or --top-p"),
        (vec!["--model", path(&model), "--precision", "f16"], "must be f32 or bf16"),
        (vec!["--model", path(&model), "--backend", "tpu"], "backend = tpu is not in this build"),
    ] {
        let output = run("generate", &args);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

/// Rows of ids with masks and labels: padding changes nothing, and only what is asked for is predicted.
#[test]
fn masks_and_labels_are_honoured() {
    let dir = tempfile::tempdir().unwrap();
    let model = fixture("reference/models/parallel");
    let out = dir.path().join("out.safetensors");
    let evaluated = |tensors: &[(&str, [usize; 2], Vec<i64>)]| {
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|(.., values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let views = tensors
            .iter()
            .zip(&bytes)
            .map(|((name, shape, _), bytes)| (*name, TensorView::new(Dtype::I64, shape.to_vec(), bytes).unwrap()));
        let file = dir.path().join("in.safetensors");
        std::fs::write(&file, safetensors::serialize(views, None).unwrap()).unwrap();
        run("evaluate", &["--model", path(&model), "--input", path(&file), "--output", path(&out)])
    };
    let loss = |output: &Output| -> f64 {
        let said = text(output);
        said.split("mean loss ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    };
    let ids = vec![3, 1, 4, 1, 5, 9];
    let plain = loss(&evaluated(&[("input_ids", [1, 6], ids.clone())]));
    for (before, after) in [(0, 3), (3, 0), (2, 2)] {
        let padded = [vec![0; before], ids.clone(), vec![0; after]].concat();
        let mask = [vec![0; before], vec![1; 6], vec![0; after]].concat();
        let time = padded.len();
        let masked = evaluated(&[("input_ids", [1, time], padded), ("attention_mask", [1, time], mask)]);
        assert!((loss(&masked) - plain).abs() < 2e-6, "{before} before, {after} after");
        assert!(text(&masked).contains("of 5 targets"));
        let file = std::fs::read(&out).unwrap();
        let file = SafeTensors::deserialize(&file).unwrap();
        let logits = file.tensor("logits").unwrap();
        let width = logits.data().len() / time;
        assert!(logits.data()[..before * width].iter().all(|b| *b == 0), "nothing is said of padding");
    }
    // Labels: only the last token is asked for.
    let mut labels = vec![-100; 6];
    labels[5] = 9;
    let last = evaluated(&[("input_ids", [1, 6], ids.clone()), ("labels", [1, 6], labels)]);
    assert!(text(&last).contains("of 1 targets"));
    for (more, expected) in [
        (("attention_mask", [1, 6], vec![1, 1, 0, 1, 1, 1]), "has a hole at place 2 of row 0"),
        (("attention_mask", [1, 6], vec![0; 6]), "leaves no token of row 0"),
        (("attention_mask", [1, 5], vec![1; 5]), "attention_mask [1, 5] must be as input_ids [1, 6]"),
        (("attention_mask", [1, 6], vec![2; 6]), "holds 2 in row 0; must be 0 or 1"),
        (("labels", [1, 6], vec![-100; 6]), "no token is predicted"),
        (("labels", [1, 6], vec![-7; 6]), "label -7 is outside"),
        (("position_ids", [1, 6], vec![0; 6]), "holds position_ids, which would be ignored"),
    ] {
        let output = evaluated(&[("input_ids", [1, 6], ids.clone()), more]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

/// The cases that went wrong, as they lie in the folder of large fixtures.
#[test]
fn models_of_other_savers_are_what_they_say() {
    let Some(shared) = std::env::var_os("MIDTRAIN_SHARED") else {
        eprintln!("skipped: MIDTRAIN_SHARED is not set");
        return;
    };
    let cases = Path::new(&shared).join("cases/model");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.safetensors");
    let loss = |model: &Path, ids: &Path| -> f64 {
        let said = text(&run("evaluate", &["--model", path(model), "--input", path(ids), "--output", path(&out)]));
        said.split("mean loss ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    };
    let variants = cases.join("07-hf-config-variants");
    let expected: std::collections::BTreeMap<String, f64> =
        serde_json::from_str(&std::fs::read_to_string(variants.join("expected_loss.json")).unwrap()).unwrap();
    assert!(!expected.is_empty());
    let mut all: Vec<(PathBuf, PathBuf, f64)> = expected
        .into_iter()
        .map(|(name, loss)| (variants.join(name), variants.join("ids.safetensors"), loss))
        .collect();
    let (rope, stale) = (cases.join("04-rope-scaling"), cases.join("05-stale-index"));
    all.push((rope.join("t_rope_lin"), rope.join("ids64.safetensors"), 14.328_809));
    for name in ["s_stale", "s_stale2"] {
        all.push((stale.join(name), stale.join("ids64.safetensors"), 4.932_147));
    }
    for (model, ids, expected) in all {
        let found = loss(&model, &ids);
        assert!((found - expected).abs() < 2e-5, "{}: {found}, expected {expected}", model.display());
    }
    // Converted, a model keeps its end token; onto itself, its tokenizer too.
    let to = dir.path().join("converted");
    text(&run("convert", &["--model", path(&cases.join("06-eos-id/t_eos2")), "--output", path(&to)]));
    let config = std::fs::read_to_string(to.join("config.json")).unwrap();
    assert!(config.contains("\"eos_token_id\": 2") && config.contains("\"bos_token_id\": 1"), "{config}");
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(cases.join("01-inplace-convert")).unwrap() {
        let from = entry.unwrap().path();
        std::fs::write(copy.join(from.file_name().unwrap()), std::fs::read(&from).unwrap()).unwrap();
    }
    let tokenizer = std::fs::read(copy.join("tokenizer.json")).unwrap();
    text(&run("convert", &["--model", path(&copy), "--output", path(&copy), "--dtype", "bf16"]));
    assert_eq!(std::fs::read(copy.join("tokenizer.json")).unwrap(), tokenizer);
    assert!(copy.join("README").exists());
}
