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
        (vec!["--model", "nowhere", "--tokenizer", "nowhere.json"], "nowhere"),
        (vec!["--model", path(&model), "--precision", "f16"], "must be f32 or bf16"),
        (vec!["--model", path(&model), "--backend", "tpu"], "backend = tpu is not in this build"),
    ] {
        let output = run("generate", &args);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}
