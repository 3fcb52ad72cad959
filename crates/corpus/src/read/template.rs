//! Field templates: how a record becomes a document.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ReadError;
use crate::{Document, Turn};

/// A record's prompt and text, as text with fields in braces.
///
/// `{question}` is a field, `{0}` a column; `{instances[0].output}` an element and a nested field; `{choices[gold]}` the
/// element whose number the field `gold` holds; `{output|answer}` the first that is not empty. A list becomes its
/// elements, one a line; an element of a text that holds a list in JSON is that list's. `{{` and `}}` are braces.
///
/// Conversations name the field that holds their turns instead of a text: `{ turns = "messages" }`. Turns are objects
/// with `role` (or `from`) and `content` (or `value`), or plain texts by user and assistant in turn. What is not the
/// assistant's is prompt; prompts end in a line break, and begin with one after an answer.
///
/// ```
/// # use corpus::Template;
/// let template = Template::parse("{question}\n", "{answer[0]}")?;
/// let record = serde_json::json!({"question": "Why?", "answer": ["Because.", "So."]});
/// let document = template.apply(&record).unwrap();
/// assert_eq!((document.prompt.as_str(), document.text.as_str()), ("Why?\n", "Because."));
/// # Ok::<(), corpus::ReadError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawTemplate", into = "RawTemplate")]
pub struct Template {
    raw: RawTemplate,
    prompt: Vec<Piece>,
    text: Vec<Piece>,
    turns: Option<Vec<Step>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTemplate {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    prompt: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    turns: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// The first of these that is there and not empty.
    Field(Vec<Vec<Step>>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
    IndexBy(String),
}

/// Records in the layouts met most often: the fields that tell them apart, the prompt, the text.
const KNOWN: [(&[&str], &str, &str); 14] = [
    (&["func_name", "docstring", "code"], "\"\"\"{docstring}\"\"\"\n", "{code}\n"),
    (&["text", "code"], "{text}\n", "{code}\n"),
    (&["context", "chain_of_thought", "answer"], "{context}\n", "{chain_of_thought}\nThe answer is {answer}."),
    (&["context", "continuation"], "{context} ", "{continuation}"),
    (&["query", "choices", "gold"], "{query}\n", "Answer: {choices[gold]}"),
    (&["original_text", "equation", "ans"], "{original_text}\n", "{equation}\nThe answer is {ans}."),
    (&["instruction", "instances"], "{instruction}\n{instances[0].input}\n", "{instances[0].output}"),
    (&["instruction", "output", "answer"], "{instruction}\n", "{output|answer}"),
    (&["instruction", "input", "output"], "{instruction}\n{input}\n", "{output}"),
    (&["prompt", "completion"], "{prompt}\n", "{completion}"),
    (&["prompt", "response"], "{prompt}", "{response}"),
    (&["question", "answer"], "{question}\n", "{answer}"),
    (&["text"], "", "{text}"),
    (&["content"], "", "{content}"),
];

impl Template {
    /// Parses both parts.
    ///
    /// # Errors
    /// Unbalanced braces or an empty field.
    pub fn parse(prompt: &str, text: &str) -> Result<Self, ReadError> {
        Self::build(RawTemplate { prompt: prompt.to_owned(), text: text.to_owned(), turns: None })
    }

    /// Conversations, whose turns a field holds.
    ///
    /// # Errors
    /// An empty field.
    pub fn conversation(field: &str) -> Result<Self, ReadError> {
        Self::build(RawTemplate { prompt: String::new(), text: String::new(), turns: Some(field.to_owned()) })
    }

    fn build(raw: RawTemplate) -> Result<Self, ReadError> {
        let error = |reason: &str| {
            let template = raw.turns.clone().unwrap_or_default();
            ReadError::Template { template, reason: reason.to_owned() }
        };
        let turns = match &raw.turns {
            Some(_) if !raw.text.is_empty() => return Err(error("turns and a text exclude each other")),
            Some(field) => Some(steps(field).ok_or_else(|| error("an empty field"))?),
            None if raw.text.is_empty() => return Err(error("must have a text, or turns")),
            None => None,
        };
        Ok(Self { prompt: pieces(&raw.prompt)?, text: pieces(&raw.text)?, turns, raw })
    }

    /// The template of a record in one of the layouts met most often: `text`, `question`/`answer`, `prompt`/`completion`,
    /// `instruction`/`output`, rows of two or three columns, and so on.
    pub fn for_record(record: &Value) -> Option<Self> {
        let (prompt, text) = match record {
            // One column: text. Two: question, answer. Three: question, answer, rationale (FLAN).
            Value::Array(columns) => match columns.len() {
                1 => ("", "{0}"),
                2 => ("{0}\n", "{1}"),
                3 => ("{0}\n", "{2}\nThe answer is {1}."),
                _ => return None,
            },
            Value::Object(fields) => {
                let is_list = |name: &&str| fields.get(*name).is_some_and(Value::is_array);
                if let Some(field) = ["messages", "conversations"].iter().find(|name| is_list(name)) {
                    return Self::conversation(field).ok();
                }
                let known = KNOWN.iter().find(|(names, ..)| names.iter().all(|n| fields.contains_key(*n)))?;
                // Of several accepted answers, the first.
                let listed = known.2 == "{answer}" && fields.get("answer").is_some_and(Value::is_array);
                (known.1, if listed { "{answer[0]}" } else { known.2 })
            }
            _ => return None,
        };
        Self::parse(prompt, text).ok()
    }

    /// The record's document.
    ///
    /// # Errors
    /// The reason: a field that does not exist (with those that do), or one that is no text, number or list of them.
    pub fn apply(&self, record: &Value) -> Result<Document, String> {
        let prompt = fill(&self.prompt, record)?;
        match &self.turns {
            None => Ok(Document::answered(prompt, fill(&self.text, record)?)),
            Some(path) => conversation(prompt, &*look_up(path, record)?),
        }
    }
}

impl TryFrom<RawTemplate> for Template {
    type Error = ReadError;
    fn try_from(raw: RawTemplate) -> Result<Self, ReadError> {
        Self::build(raw)
    }
}

impl From<Template> for RawTemplate {
    fn from(template: Template) -> Self {
        template.raw
    }
}

/// Turns as prompts and answers; what follows the last answer is left out.
fn conversation(mut prompt: String, turns: &Value) -> Result<Document, String> {
    let turns = turns.as_array().ok_or("the turns are no list")?;
    let mut out: Vec<Turn> = Vec::new();
    for (i, turn) in turns.iter().enumerate() {
        let (answers, content) = match turn {
            Value::String(text) => (i % 2 == 1, text.clone()),
            _ => {
                let part = |names: [&str; 2]| {
                    let found = names.iter().find_map(|name| turn.get(*name));
                    text_of(found.ok_or_else(|| format!("turn {i} has neither {:?} nor {:?}", names[0], names[1]))?)
                };
                let role = part(["role", "from"])?;
                (matches!(role.as_str(), "assistant" | "gpt" | "model" | "bot"), part(["content", "value"])?)
            }
        };
        if answers {
            out.push(Turn { prompt: std::mem::take(&mut prompt), text: content });
        } else {
            if prompt.is_empty() && !out.is_empty() {
                prompt.push('\n');
            }
            prompt.push_str(&content);
            prompt.push('\n');
        }
    }
    let mut turns = out.into_iter();
    let first = turns.next().unwrap_or_default();
    Ok(Document { prompt: first.prompt, text: first.text, later: turns.collect() })
}

/// The text of one field.
pub(super) fn value_of(field: &str, record: &Value) -> Result<String, String> {
    let path = steps(field).ok_or_else(|| format!("{field:?} is no field"))?;
    text_of(&*look_up(&path, record)?)
}

fn pieces(template: &str) -> Result<Vec<Piece>, ReadError> {
    let error = |reason: &str| ReadError::Template { template: template.to_owned(), reason: reason.to_owned() };
    let (mut out, mut literal) = (Vec::new(), String::new());
    let mut rest = template.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '{' | '}' if rest.peek() == Some(&c) => {
                rest.next();
                literal.push(c);
            }
            '}' => return Err(error("a closing brace without an opening one (write }} for a brace)")),
            '{' => {
                let mut field = String::new();
                loop {
                    match rest.next() {
                        Some('}') => break,
                        Some(c) => field.push(c),
                        None => return Err(error("an opening brace without a closing one (write {{ for a brace)")),
                    }
                }
                if !literal.is_empty() {
                    out.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                let alternatives = field.split('|').map(|path| steps(path).ok_or_else(|| error("an empty field")));
                out.push(Piece::Field(alternatives.collect::<Result<_, _>>()?));
            }
            c => literal.push(c),
        }
    }
    if !literal.is_empty() {
        out.push(Piece::Literal(literal));
    }
    Ok(out)
}

/// `a.b[0][c]` → keys and indices.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut out = Vec::new();
    for part in path.split('.') {
        let (key, mut brackets) = part.split_at(part.find('[').unwrap_or(part.len()));
        match key.parse::<usize>() {
            Ok(index) => out.push(Step::Index(index)),
            Err(_) if key.is_empty() => return None,
            Err(_) => out.push(Step::Key(key.to_owned())),
        }
        while let Some(inner) = brackets.strip_prefix('[') {
            let (index, rest) = inner.split_once(']')?;
            out.push(match index.parse::<usize>() {
                Ok(index) => Step::Index(index),
                Err(_) if index.is_empty() => return None,
                Err(_) => Step::IndexBy(index.to_owned()),
            });
            brackets = rest;
        }
    }
    Some(out)
}

fn fill(pieces: &[Piece], record: &Value) -> Result<String, String> {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(text) => out.push_str(text),
            Piece::Field(alternatives) => {
                let mut found = String::new();
                for path in alternatives {
                    found = text_of(&*look_up(path, record)?)?;
                    if !found.is_empty() {
                        break;
                    }
                }
                out.push_str(&found);
            }
        }
    }
    Ok(out)
}

fn look_up<'a>(path: &[Step], record: &'a Value) -> Result<Cow<'a, Value>, String> {
    let mut at = Cow::Borrowed(record);
    for step in path {
        let index = match step {
            Step::Key(key) => {
                at = within(at, |at| at.get(key), |at| no_field(key, at))?;
                continue;
            }
            Step::Index(index) => *index,
            Step::IndexBy(key) => {
                let number = record.get(key).ok_or_else(|| no_field(key, record))?;
                let number = number.as_u64().or_else(|| number.as_str()?.parse().ok());
                number.ok_or_else(|| format!("field {key:?} is no whole number, so it cannot choose an element"))?
                    as usize
            }
        };
        if let Value::String(text) = &*at
            && let Ok(list @ Value::Array(_)) = serde_json::from_str(text)
        {
            at = Cow::Owned(list);
        }
        let list = at.as_array().ok_or_else(|| format!("element {index} of something that is no list"))?;
        let length = list.len();
        at = within(at, |at| at.get(index), |_| format!("element {index} of a list of {length}"))?;
    }
    Ok(at)
}

/// A part of a value, borrowed where the value is.
fn within<'a>(
    at: Cow<'a, Value>,
    part: impl Fn(&Value) -> Option<&Value>,
    missing: impl FnOnce(&Value) -> String,
) -> Result<Cow<'a, Value>, String> {
    let found = match &at {
        Cow::Borrowed(value) => part(value).map(Cow::Borrowed),
        Cow::Owned(value) => part(value).cloned().map(Cow::Owned),
    };
    found.ok_or_else(|| missing(&at))
}

fn no_field(key: &str, at: &Value) -> String {
    match at {
        Value::Object(fields) => {
            let mut known: Vec<&str> = fields.keys().map(String::as_str).collect();
            known.sort_unstable();
            format!("no field {key:?}; fields here: {}", known.join(", "))
        }
        Value::Array(columns) => {
            format!("no field {key:?}; there are columns 0 to {}", columns.len().saturating_sub(1))
        }
        _ => format!("no field {key:?} in a plain value"),
    }
}

fn text_of(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Null => Ok(String::new()),
        Value::Array(items) => Ok(items.iter().map(text_of).collect::<Result<Vec<_>, _>>()?.join("\n")),
        Value::Object(_) => Err("a field that is a group of fields; name one inside it, as {outer.inner}".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn apply(template: &str, record: &Value) -> Result<String, String> {
        Template::parse("", template).unwrap().apply(record).map(|d| d.text)
    }

    #[test]
    fn fields_lists_and_nesting() {
        let solutions = json!(["first()", "second()"]).to_string();
        let record = json!({"a": "x", "n": 3, "j": solutions, "none": "", "l": ["p", "q"], "gold": 1, "o": [{"i": "deep"}], "e": "", "s": "1"});
        for (template, expected) in [
            ("{a}-{n}", "x-3"),
            ("{l[1]}", "q"),
            ("{l[gold]}", "q"),
            ("{l[s]}", "q"),
            ("{l}", "p\nq"),
            ("{o[0].i}", "deep"),
            ("{j[1]}", "second()"),
            ("{e|a}", "x"),
            ("{{{a}}}", "{x}"),
        ] {
            assert_eq!(apply(template, &record).unwrap(), expected, "{template}");
        }
        assert!(apply("{b}", &record).unwrap_err().contains("fields here: a, e, gold, j, l, n, none, o, s"));
        assert!(apply("{l[9]}", &record).unwrap_err().contains("element 9 of a list of 2"));
        assert!(apply("{none[0]}", &record).unwrap_err().contains("element 0 of something that is no list"));
        assert!(apply("{o[0].x}", &record).unwrap_err().contains("fields here: i"));
        assert!(apply("{j[2]}", &record).unwrap_err().contains("element 2 of a list of 2"));
        assert!(apply("{o[0]}", &record).unwrap_err().contains("group of fields"));
        assert!(apply("{x}", &json!(["c0", "c1"])).unwrap_err().contains("columns 0 to 1"));
    }

    #[test]
    fn conversations_alternate() {
        let turn = |prompt: &str, text: &str| Turn { prompt: prompt.into(), text: text.into() };
        let expected =
            Document { later: vec![turn("\nAnd?\n", "Fine.")], ..Document::answered("Be brief.\nHi\n", "Yes.") };
        let say = |role: &str, content: &str| json!({"role": role, "content": content});
        let messages = json!({"messages": [
            say("system", "Be brief."), say("user", "Hi"), say("assistant", "Yes."), say("user", "And?"),
            say("assistant", "Fine."), say("user", "unanswered")
        ]});
        let apply = |record: &Value| Template::for_record(record).unwrap().apply(record);
        assert_eq!(apply(&messages).unwrap(), expected);
        let plain = json!({"conversations": ["Be brief.\nHi", "Yes.", "And?", "Fine."]});
        assert_eq!(apply(&plain).unwrap(), expected);
        let shared = json!({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes."}]});
        assert_eq!(apply(&shared).unwrap(), Document::answered("Hi\n", "Yes."));
        assert!(apply(&json!({"messages": [{"role": "user"}]})).unwrap_err().contains("turn 0 has neither"));
    }

    #[test]
    fn broken_templates_are_refused() {
        for bad in ["{a", "a}", "{}", "{a..b}", "{a[]}", "{a[1}"] {
            assert!(Template::parse("", bad).is_err(), "{bad}");
        }
    }
}
