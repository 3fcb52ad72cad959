//! Conversations: turns by role as prompts and answers.

use serde::{Deserialize, Serialize};

use super::notes::Notes;
use super::record::Value;
use crate::{Document, Turn};

/// Who answers, in lower case.
const ANSWERS: [&str; 9] = ["assistant", "gpt", "model", "bot", "chatbot", "ai", "chatgpt", "bing", "bard"];
/// Whose turns are prompts.
const PROMPTS: [&str; 9] =
    ["user", "human", "prompter", "system", "developer", "tool", "function", "observation", "ipython"];
/// Fields of a turn that are known to be no text of it.
const NO_TEXT: [&str; 8] = ["role", "from", "content", "value", "name", "id", "weight", "tool_call_id"];
/// Types of a content's parts that are its text.
const TEXT_PARTS: [&str; 3] = ["text", "input_text", "output_text"];
/// Where a turn calls tools.
const CALLS: [&str; 2] = ["tool_calls", "function_call"];

/// What becomes of an assistant's calls of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolCalls {
    /// They are an error of their record.
    #[default]
    Refuse,
    /// Each is a line of JSON at the end of its answer.
    Json,
    /// They are left out, and counted.
    LeaveOut,
}

/// How roles are called, beside the names that are known, and what becomes of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Roles {
    /// In lower case.
    answers: Vec<String>,
    prompts: Vec<String>,
    tool_calls: ToolCalls,
}

/// A name as it is compared.
fn folded(role: &str) -> String {
    role.trim().to_lowercase()
}

impl Roles {
    /// With further names of roles that answer, and of roles whose turns are prompts.
    pub(super) fn new(answers: &[String], prompts: &[String], tool_calls: ToolCalls) -> Self {
        let folded = |names: &[String]| names.iter().map(|name| folded(name)).collect();
        Self { answers: folded(answers), prompts: folded(prompts), tool_calls }
    }

    /// Whether a role answers.
    fn answers(&self, role: &str) -> Result<bool, String> {
        match folded(role) {
            role if self.answers.contains(&role) => Ok(true),
            role if self.prompts.contains(&role) => Ok(false),
            role if ANSWERS.contains(&&*role) => Ok(true),
            role if PROMPTS.contains(&&*role) => Ok(false),
            _ => Err(format!(
                "role {role:?} is not known; answers: {}; prompts: {}; the template's answer_roles and prompt_roles add \
                 others",
                ANSWERS.join(", "),
                PROMPTS.join(", ")
            )),
        }
    }

    /// Turns as prompts and answers, the first prompt after what is given. What follows the last answer is left out, and
    /// noted.
    pub(super) fn document(&self, mut prompt: String, turns: &Value, notes: &mut Notes) -> Result<Document, String> {
        let Value::List(turns) = turns else { return Err("the turns are no list".to_owned()) };
        let mut out: Vec<Turn> = Vec::new();
        let mut open = false;
        for (i, turn) in turns.iter().enumerate() {
            let at = |reason: String| format!("turn {i}: {reason}");
            let read = match turn {
                Value::Text(text) => Some((i % 2 == 1, text.clone())),
                _ => self.turn(turn, notes).map_err(at)?,
            };
            let Some((answers, text)) = read else {
                notes.add("turns without content (left out)");
                continue;
            };
            open = !answers;
            if answers {
                // Answers that follow one another are not one word.
                if prompt.is_empty() && !out.is_empty() {
                    prompt.push('\n');
                }
                out.push(Turn { prompt: std::mem::take(&mut prompt), text });
            } else {
                if prompt.is_empty() && !out.is_empty() {
                    prompt.push('\n');
                }
                prompt.push_str(&text);
                prompt.push('\n');
            }
        }
        if open && !out.is_empty() {
            notes.add("conversations whose last prompt has no answer (it is left out)");
        }
        let mut turns = out.into_iter();
        let first = turns.next().unwrap_or_default();
        Ok(Document { prompt: first.prompt, text: first.text, later: turns.collect() })
    }

    /// Whether a turn answers, and its text; `None` where it has no content.
    fn turn(&self, turn: &Value, notes: &mut Notes) -> Result<Option<(bool, String)>, String> {
        let Value::Fields(fields) = turn else { return Err("is neither a text nor a group of fields".to_owned()) };
        let part = |names: [&str; 2]| {
            // A null beside the other name is no value.
            let given = || names.iter().filter_map(|name| turn.get(name));
            let found = given().find(|value| **value != Value::Null).or_else(|| given().next());
            found.ok_or_else(|| format!("has neither {:?} nor {:?}", names[0], names[1]))
        };
        if turn.get("weight").is_some_and(|weight| weight.text().is_ok_and(|w| w == "0" || w == "0.0")) {
            notes.add("turns of weight 0 (read like others)");
        }
        let answers = self.answers(&part(["role", "from"])?.text()?)?;
        let calls: Vec<&Value> =
            CALLS.iter().filter_map(|name| turn.get(name)).filter(|calls| !calls.is_blank()).collect();
        let mut text = match part(["content", "value"]) {
            Ok(Value::Null) if calls.is_empty() => return Ok(None),
            Ok(content) => content_of(content)?,
            // A call may stand for the content.
            Err(_) if !calls.is_empty() => String::new(),
            Err(reason) => return Err(reason),
        };
        for (name, value) in fields {
            let known = NO_TEXT.contains(&name.as_str()) || CALLS.contains(&name.as_str());
            if !known && matches!(value, Value::Text(_) | Value::List(_) | Value::Fields(_)) && !value.is_blank() {
                notes.add(&format!("turns whose field {name:?} is not read"));
            }
        }
        match self.tool_calls {
            _ if calls.is_empty() => {}
            ToolCalls::Refuse => {
                return Err(
                    "calls tools, which is no text: the template's tool_calls = \"json\" writes each call as a \
                            line of JSON at the end of the answer, \"leave_out\" leaves them out"
                        .to_owned(),
                );
            }
            ToolCalls::LeaveOut => notes.add("turns whose calls of tools are left out"),
            ToolCalls::Json => {
                for call in calls.into_iter().flat_map(|calls| match calls {
                    Value::List(calls) => calls.iter().collect(),
                    one => vec![one],
                }) {
                    if !text.is_empty() && !text.ends_with('\n') {
                        text.push('\n');
                    }
                    text.push_str(&call.get("function").unwrap_or(call).json());
                }
            }
        }
        Ok(Some((answers, text)))
    }
}

/// A turn's content: a text, or parts of which each is one.
fn content_of(content: &Value) -> Result<String, String> {
    let Value::List(parts) = content else { return content.text().map(Into::into) };
    let mut texts = Vec::new();
    for part in parts {
        let kind = part.get("type");
        let is_text = kind.is_none_or(|kind| kind.text().is_ok_and(|kind| TEXT_PARTS.contains(&&*kind)));
        texts.push(match (part, part.get("text")) {
            (Value::Fields(_), Some(text)) if is_text && *text != Value::Null => text.text()?,
            (Value::Fields(_), _) => {
                let kind = kind.map_or_else(|| "nothing".into(), Value::json);
                return Err(format!("has a part of type {kind}, which is no text"));
            }
            _ => part.text()?,
        });
    }
    Ok(texts.join("\n"))
}
