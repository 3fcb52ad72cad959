//! What a model makes of multiple-choice items.

use corpus::{SpecialTokens, Tokenizer};
use data_mixer::{Batch, IGNORE};
use forgetting_eval::{ClozeItem, ClozeScore};
use fused_ops::FusedOps;
use gptneox_model::GptNeoX;
use trainer::{TrainSpec, evaluate_tokens};

use crate::Error;

/// Characters of a choice that an error shows.
const SHOWN: usize = 60;

/// A choice as a row: what the model reads, and from where on it is predicted.
struct Row {
    item: usize,
    choice: usize,
    /// Context and continuation.
    ids: Vec<i32>,
    /// How many of them are the continuation.
    predicted: usize,
}

/// The log-likelihood of each choice of each item, a space before it, after the item's question.
///
/// Special tokens that stand in a text are special, as in lm-evaluation-harness. Rows of one length are computed together, so that nothing is padded; a row longer than the model's positions loses its beginning,
/// as in lm-evaluation-harness.
///
/// `go_on` is asked before each batch; where it says no, what is returned is empty.
///
/// # Errors
/// A text that the tokenizer refuses, a choice longer than the model's positions, one without tokens, ids that the model does not have.
pub fn cloze_scores<B: FusedOps>(
    model: &GptNeoX<B>,
    tokenizer: &Tokenizer,
    items: &[ClozeItem],
    spec: &TrainSpec,
    device: &B::Device,
    go_on: &dyn Fn() -> bool,
) -> Result<Vec<ClozeScore>, Error> {
    let longest = model.config().max_positions;
    // As the harness reads them.
    let tokenizer = &tokenizer.clone().with_special_tokens(SpecialTokens::Control);
    let mut rows = Vec::new();
    for (i, item) in items.iter().enumerate() {
        for (j, choice) in item.choices.iter().enumerate() {
            rows.push(row(tokenizer, longest, (i, item), (j, choice))?);
        }
    }
    rows.sort_by_key(|row| (row.ids.len(), row.item, row.choice));
    let mut scores: Vec<Vec<f64>> = items.iter().map(|item| vec![0.0; item.choices.len()]).collect();
    for rows in rows.chunk_by(|a, b| a.ids.len() == b.ids.len()) {
        let time = rows[0].ids.len() - 1;
        for rows in rows.chunks((spec.micro_tokens / time).max(1)) {
            if !go_on() {
                return Ok(Vec::new());
            }
            let inputs = rows.iter().flat_map(|row| row.ids[..time].to_vec()).collect();
            let targets = rows.iter().flat_map(targets).collect();
            let batch = Batch::new(time, inputs, targets, vec![0; rows.len()])?;
            let mut places = rows.iter();
            evaluate_tokens(model, std::iter::once(Ok(batch)), spec, device, &mut |_, losses| {
                for (losses, row) in losses.chunks_exact(time).zip(&mut places) {
                    scores[row.item][row.choice] = -losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
                }
            })?;
        }
    }
    Ok(items.iter().zip(scores).map(|(item, scores)| ClozeScore::new(item, scores)).collect())
}

fn row(
    tokenizer: &Tokenizer,
    longest: usize,
    (i, item): (usize, &ClozeItem),
    (j, choice): (usize, &String),
) -> Result<Row, Error> {
    let wrong = |limit: String| {
        let shown: String = choice.chars().take(SHOWN).collect();
        let more = if shown.len() < choice.len() { "…" } else { "" };
        Error::field(format!("choice {j} of item {i}"), format!("{shown:?}{more}"), limit)
    };
    let (context, continuation) = tokenizer.encode_continuation(&item.question, &format!(" {choice}"))?;
    if continuation.is_empty() {
        return Err(wrong("has no token of its own after its question".to_owned()));
    }
    if continuation.len() > longest {
        return Err(wrong(format!(
            "has {} tokens; must not exceed the model's {longest} positions",
            continuation.len()
        )));
    }
    let all: Vec<i32> = context.iter().chain(&continuation).map(|id| *id as i32).collect();
    // The last one is predicted and not read.
    let cut = all.len().saturating_sub(longest + 1);
    Ok(Row { item: i, choice: j, ids: all[cut..].to_vec(), predicted: continuation.len() })
}

fn targets(row: &Row) -> Vec<i32> {
    let first = row.ids.len() - row.predicted;
    (1..row.ids.len()).map(|place| if place >= first { row.ids[place] } else { IGNORE }).collect()
}
