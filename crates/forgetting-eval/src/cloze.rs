//! Multiple-choice tasks by likelihood: which of several continuations of a question a model finds most likely, as
//! lm-evaluation-harness' `multiple_choice` scores it.
//!
//! With ℓ(c) the summed log-likelihood of a choice's tokens after the question:
//!
//! - `acc`: the share of items whose right choice has the largest ℓ;
//! - `acc_norm`: the same with ℓ divided by the choice's number of characters (what the harness calls so);
//! - `acc_bytes`: by its number of bytes in UTF-8, which is what papers that say "per byte" mean;
//! - bits per byte of the right answer: −ℓ / (ln 2 · bytes), of all items together (sums over sums), which moves long before
//!   accuracies do.
//!
//! The first of equal ones is chosen.

use serde::{Deserialize, Serialize};

/// A question with its choices.
///
/// ```
/// use forgetting_eval::ClozeItem;
/// let items = ClozeItem::read(r#"{"question": "6 times 6 is", "choices": ["36", "12"], "gold": 0}"#)?;
/// assert_eq!(items[0].choices[items[0].gold], "36");
/// # Ok::<(), forgetting_eval::ClozeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClozeItem {
    /// What is continued.
    #[serde(alias = "query", alias = "context")]
    pub question: String,
    /// The continuations; a space is put before each.
    pub choices: Vec<String>,
    /// The place of the right one, from 0.
    #[serde(alias = "answer", alias = "label")]
    pub gold: usize,
}

/// Items that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClozeError {
    /// A line that is no item.
    #[error("line {line}: {reason}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// No items.
    #[error("there is no item: a line each, {{\"question\": …, \"choices\": [...], \"gold\": place}}")]
    Empty,
}

impl ClozeItem {
    /// Items from JSON lines: `question` (also `query`, `context`), `choices`, `gold` (also `answer`, `label`). Empty lines are passed
    /// over.
    ///
    /// # Errors
    /// The first line that is no item, has fewer than two choices, an empty choice, or a `gold` beyond them.
    pub fn read(lines: &str) -> Result<Vec<Self>, ClozeError> {
        let filled = lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let items = filled
            .map(|(number, line)| {
                let wrong = |reason: String| ClozeError::Line { line: number + 1, reason };
                let item: Self = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
                match item.choices.len() {
                    0 | 1 => return Err(wrong(format!("{} choices: must be 2 or more", item.choices.len()))),
                    count if item.gold >= count => {
                        return Err(wrong(format!("gold = {} must be below {count}, its choices", item.gold)));
                    }
                    _ => {}
                }
                match item.choices.iter().position(String::is_empty) {
                    Some(place) => Err(wrong(format!("choice {place} is empty"))),
                    None => Ok(item),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        if items.is_empty() { Err(ClozeError::Empty) } else { Ok(items) }
    }
}

/// What a model made of an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClozeScore {
    /// The log-likelihood of each choice's tokens, in nats.
    pub log_likelihoods: Vec<f64>,
    /// The characters of each choice.
    pub characters: Vec<u64>,
    /// Its bytes in UTF-8.
    pub bytes: Vec<u64>,
    /// The place of the right one.
    pub gold: usize,
}

/// By what log-likelihoods are divided before they are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PerLength {
    /// By nothing: `acc`.
    Sum,
    /// By characters: `acc_norm`.
    Characters,
    /// By bytes.
    Bytes,
}

impl ClozeScore {
    /// Of an item's choices.
    pub fn new(item: &ClozeItem, log_likelihoods: Vec<f64>) -> Self {
        let lengths = |of: fn(&String) -> usize| item.choices.iter().map(|choice| of(choice) as u64).collect();
        Self {
            log_likelihoods,
            characters: lengths(|choice| choice.chars().count()),
            bytes: lengths(String::len),
            gold: item.gold,
        }
    }

    /// The choice that is found most likely.
    pub fn chosen(&self, per: PerLength) -> usize {
        let value = |place: usize| match per {
            PerLength::Sum => self.log_likelihoods[place],
            PerLength::Characters => self.log_likelihoods[place] / self.characters[place].max(1) as f64,
            PerLength::Bytes => self.log_likelihoods[place] / self.bytes[place].max(1) as f64,
        };
        (1..self.log_likelihoods.len()).fold(0, |best, place| if value(place) > value(best) { place } else { best })
    }

    /// Whether the right one was chosen.
    pub fn is_right(&self, per: PerLength) -> bool {
        self.chosen(per) == self.gold
    }

    /// Bits per byte of the right answer.
    pub fn gold_bits_per_byte(&self) -> f64 {
        -self.log_likelihoods[self.gold] / std::f64::consts::LN_2 / self.bytes[self.gold].max(1) as f64
    }
}

/// The share of items of which the right choice was found most likely; `None` without items.
pub fn accuracy(scores: &[ClozeScore], per: PerLength) -> Option<f64> {
    let right = scores.iter().filter(|score| score.is_right(per)).count();
    (!scores.is_empty()).then(|| right as f64 / scores.len() as f64)
}

/// Bits per byte of all right answers together; `None` without items.
pub fn gold_bits_per_byte(scores: &[ClozeScore]) -> Option<f64> {
    let nats: f64 = scores.iter().map(|score| -score.log_likelihoods[score.gold]).sum();
    let bytes: u64 = scores.iter().map(|score| score.bytes[score.gold]).sum();
    (bytes > 0).then(|| nats / std::f64::consts::LN_2 / bytes as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_decide_as_they_are_asked_to() {
        // "é" is one character and two bytes.
        let item = ClozeItem { question: "?".into(), choices: vec!["aaaa".into(), "éé".into(), "b".into()], gold: 1 };
        let score = ClozeScore::new(&item, vec![-4.4, -3.0, -1.2]);
        assert_eq!([PerLength::Sum, PerLength::Characters, PerLength::Bytes].map(|per| score.chosen(per)), [2, 0, 1]);
        assert!((score.gold_bits_per_byte() - 3.0 / std::f64::consts::LN_2 / 4.0).abs() < 1e-15);
        let even = ClozeScore { log_likelihoods: vec![-1.0, -1.0, -1.0], ..score.clone() };
        assert_eq!(even.chosen(PerLength::Sum), 0);
        let scores = [score, even];
        assert_eq!(accuracy(&scores, PerLength::Bytes), Some(0.5));
        assert_eq!(accuracy(&[], PerLength::Sum), None);
        assert!((gold_bits_per_byte(&scores).unwrap() - 4.0 / std::f64::consts::LN_2 / 8.0).abs() < 1e-15);
    }

    #[test]
    fn what_is_no_item_is_said() {
        for (lines, expected) in [
            ("", "there is no item"),
            ("\n\n{\"question\": 1}", "line 3: "),
            (r#"{"question": "a", "choices": ["b"], "gold": 0}"#, "line 1: 1 choices: must be 2 or more"),
            (r#"{"query": "a", "choices": ["b", "c"], "answer": 2}"#, "gold = 2 must be below 2"),
            (r#"{"context": "a", "choices": ["b", ""], "label": 1}"#, "choice 1 is empty"),
        ] {
            let message = ClozeItem::read(lines).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
