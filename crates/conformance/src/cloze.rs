//! Multiple-choice items: log-likelihoods, predictions, accuracies, bits per byte.

use std::path::Path;

use burn::module::AutodiffModule as _;
use fused_ops::TrainingBackend;
use gptneox_model::load_pretrained;
use midtrain::corpus::Tokenizer;
use midtrain::forgetting_eval::{ClozeItem, ClozeScore, PerLength, accuracy, gold_bits_per_byte};
use midtrain::study::cloze_scores;
use schedule::LrSpec;
use serde_json::Value;
use trainer::TrainSpec;

use crate::fixture::{ids, json, list, number};
use crate::{Check, Line, line};

const LIKELIHOOD: f64 = 1e-4;
const BITS: f64 = 1e-4;
const ACCURACIES: [(&str, PerLength); 3] =
    [("acc", PerLength::Sum), ("acc_norm", PerLength::Characters), ("acc_bytes", PerLength::Bytes)];

pub(super) fn lines<AB: TrainingBackend>(folder: &Path) -> Vec<Line> {
    let compared = || -> Result<Check, String> {
        let said = |e: &dyn std::fmt::Display| e.to_string();
        let expected = json(&folder.join("expected.json"))?;
        let text = std::fs::read_to_string(folder.join("items.jsonl")).map_err(|e| said(&e))?;
        let items = ClozeItem::read(&text).map_err(|e| said(&e))?;
        let dir = folder.join("model");
        let tokenizer = Tokenizer::from_file(&dir.join("tokenizer.json")).map_err(|e| said(&e))?;
        let device = Default::default();
        let model = load_pretrained::<AB>(&dir, &device).map_err(|e| said(&e))?.valid();
        let spec = TrainSpec::new(LrSpec::constant(0.0));
        let scores = cloze_scores(&model, &tokenizer, &items, &spec, &device, &|| true).map_err(|e| said(&e))?;
        let mut check = Check::new();
        let longest = model.config().max_positions;
        check.exact(longest as f64 == number(&expected, "max_positions")?, "max_positions")?;
        let truth = list(&expected, "items")?;
        check.exact(truth.len() == items.len(), "number of items")?;
        for (i, ((item, score), truth)) in items.iter().zip(&scores).zip(truth).enumerate() {
            one(&mut check, i, (item, score, &tokenizer, longest), truth)?;
        }
        for (field, per) in ACCURACIES {
            let found = accuracy(&scores, per).ok_or("no items")?;
            check.exact((found - number(&expected, field)?).abs() < 1e-12, field)?;
        }
        for (field, per) in ACCURACIES {
            let found = accuracy(&scores, per).ok_or("no items")?;
            check.exact((found - number(&expected["harness"], field)?).abs() < 1e-12, &format!("harness' {field}"))?;
        }
        let found = gold_bits_per_byte(&scores).ok_or("no items")?;
        check.near(found, number(&expected, "gold_bits_per_byte_of_all")?, BITS, "gold_bits_per_byte_of_all");
        let mean = scores.iter().map(ClozeScore::gold_bits_per_byte).sum::<f64>() / scores.len() as f64;
        check.near(mean, number(&expected, "mean_gold_bits_per_byte")?, BITS, "mean_gold_bits_per_byte");
        Ok(check)
    };
    vec![line("cloze/expected.json", compared())]
}

fn one(
    check: &mut Check,
    i: usize,
    (item, score, tokenizer, longest): (&ClozeItem, &ClozeScore, &Tokenizer, usize),
    truth: &Value,
) -> Result<(), String> {
    let (choices, truth_item) = (list(truth, "choices")?, truth);
    check.exact(choices.len() == item.choices.len(), &format!("choices of item {i}"))?;
    for (j, (choice, truth)) in item.choices.iter().zip(choices).enumerate() {
        let place = format!("log-likelihood of choice {j} of item {i}");
        check.near(score.log_likelihoods[j], number(truth, "log_likelihood")?, LIKELIHOOD, &place);
        let continuation = tokenizer.encode_continuation(&item.question, &format!(" {choice}"));
        let (context, continuation) = continuation.map_err(|e| e.to_string())?;
        check.exact(
            context.len() as f64 == number(truth, "context_tokens")?,
            &format!("tokens before choice {j} of item {i}"),
        )?;
        let cut = (context.len() + continuation.len()).saturating_sub(longest + 1);
        check.exact(
            cut as f64 == number(truth, "context_tokens_cut")?,
            &format!("tokens cut of choice {j} of item {i}"),
        )?;
        check.exact(
            continuation.len() as f64 == number(truth, "tokens")?,
            &format!("tokens of choice {j} of item {i}"),
        )?;
        let own: Vec<i64> = continuation.into_iter().map(i64::from).collect();
        check.exact(own == ids(&truth["ids"]), &format!("ids of choice {j} of item {i}"))?;
        let harness = list(truth_item, "harness_log_likelihoods")?.get(j).and_then(Value::as_f64).ok_or("no number")?;
        check.near(score.log_likelihoods[j], harness, LIKELIHOOD, &format!("harness' {place}"));
        check.exact(score.characters[j] == number(truth, "characters")? as u64, "characters")?;
        check.exact(score.bytes[j] == number(truth, "bytes")? as u64, "bytes")?;
    }
    for (field, chosen, per) in [
        ("acc", "prediction", PerLength::Sum),
        ("acc_norm", "prediction_norm", PerLength::Characters),
        ("acc_bytes", "prediction_bytes", PerLength::Bytes),
    ] {
        check.exact(f64::from(score.is_right(per)) == number(truth, field)?, &format!("{field} of item {i}"))?;
        check.exact(score.chosen(per) as f64 == number(truth, chosen)?, &format!("{chosen} of item {i}"))?;
    }
    let place = format!("bits per byte of item {i}");
    check.near(score.gold_bits_per_byte(), number(truth, "gold_bits_per_byte")?, BITS, &place);
    check.exact(score.gold as f64 == number(truth, "gold")?, &format!("gold of item {i}"))
}
