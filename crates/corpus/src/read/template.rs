//! Field templates: how a record becomes a document.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::ReadError;
use super::conversation::{Roles, ToolCalls};
use super::notes::Notes;
use super::record::Value;
use crate::Document;

/// A record's prompt and text, as text with fields in braces.
///
/// `{question}` is a field, `{0}` a column; `{instances[0].output}` an element and a nested field; `{choices[gold]}` the
/// element whose number the field `gold` holds; `{output|answer}` the first that is not empty. A list becomes its
/// elements, one a line; an element of a text that holds a list in JSON is that list's. `{{` and `}}` are braces. A field
/// whose name has a dot or a bracket in it is named as it is: of several that fit, the longest name is meant.
///
/// Conversations name the field that holds their turns instead of a text: `{ turns = "messages" }`. Turns are objects
/// with `role` (or `from`) and `content` (or `value`), or plain texts by user and assistant in turn. Turns of user, human,
/// prompter, system, developer, tool, function, observation and ipython are prompts, those of assistant, gpt, model, bot,
/// chatbot, ai, chatgpt, bing and bard answers, in any case of letters; `answer_roles` and `prompt_roles` add others, and
/// any other role is an error. Prompts end in a line break, and begin with one after an answer. Calls of tools are an
/// error, or by `tool_calls` lines of JSON at the end of the answer (`"json"`), or left out (`"leave_out"`).
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
    roles: Roles,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTemplate {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    prompt: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    turns: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    answer_roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    prompt_roles: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    tool_calls: ToolCalls,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// A field, or with `|` the first of several that is not empty.
    Field(String),
}

impl Template {
    /// Parses both parts.
    ///
    /// # Errors
    /// Unbalanced braces or an empty field.
    pub fn parse(prompt: &str, text: &str) -> Result<Self, ReadError> {
        Self::build(RawTemplate { prompt: prompt.to_owned(), text: text.to_owned(), ..RawTemplate::default() })
    }

    /// Conversations, whose turns a field holds.
    ///
    /// # Errors
    /// An empty field.
    pub fn conversation(field: &str) -> Result<Self, ReadError> {
        Self::build(RawTemplate { turns: Some(field.to_owned()), ..RawTemplate::default() })
    }

    fn build(raw: RawTemplate) -> Result<Self, ReadError> {
        let error = |reason: &str| {
            let template = raw.turns.clone().unwrap_or_default();
            ReadError::Template { template, reason: reason.to_owned() }
        };
        match &raw.turns {
            Some(_) if !raw.text.is_empty() => return Err(error("turns and a text exclude each other")),
            Some(field) if !is_path(field) => return Err(error("an empty field")),
            None if raw.text.is_empty() => return Err(error("must have a text, or turns")),
            None if !raw.answer_roles.is_empty() || !raw.prompt_roles.is_empty() || !is_default(&raw.tool_calls) => {
                return Err(error("answer_roles, prompt_roles and tool_calls belong to turns"));
            }
            _ => {}
        }
        if let Some(role) = raw.answer_roles.iter().find(|role| raw.prompt_roles.contains(role)) {
            return Err(error(&format!("role {role:?} stands in answer_roles and in prompt_roles")));
        }
        let roles = Roles::new(&raw.answer_roles, &raw.prompt_roles, raw.tool_calls);
        Ok(Self { prompt: pieces(&raw.prompt)?, text: pieces(&raw.text)?, roles, raw })
    }

    /// The record's document.
    ///
    /// # Errors
    /// The reason: a field that does not exist (with those that do), or one that is no text, number or list of them.
    pub fn apply(&self, record: &serde_json::Value) -> Result<Document, String> {
        self.fill(&Value::from(record), &mut Notes::default())
    }

    /// The record's document; what is left out of it is noted.
    pub(super) fn fill(&self, record: &Value, notes: &mut Notes) -> Result<Document, String> {
        let prompt = fill(&self.prompt, record)?;
        let Some(turns) = &self.raw.turns else { return Ok(Document::answered(prompt, fill(&self.text, record)?)) };
        self.roles.document(prompt, &*look_up(turns, record, record)?, notes)
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

/// The text of one field.
pub(super) fn text_of(field: &str, record: &Value) -> Result<String, String> {
    if !is_path(field) {
        return Err(format!("{field:?} is no field"));
    }
    look_up(field, record, record)?.text().map(Into::into)
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
                if !field.split('|').all(is_path) {
                    return Err(error("an empty field"));
                }
                out.push(Piece::Field(field));
            }
            c => literal.push(c),
        }
    }
    if !literal.is_empty() {
        out.push(Piece::Literal(literal));
    }
    Ok(out)
}

/// Whether every part of `a.b[0][c]` has a name.
fn is_path(path: &str) -> bool {
    path.split('.').all(|part| {
        let (key, mut brackets) = part.split_at(part.find('[').unwrap_or(part.len()));
        while let Some((index, rest)) = brackets.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            if index.is_empty() {
                return false;
            }
            brackets = rest;
        }
        !key.is_empty() && brackets.is_empty()
    })
}

fn fill(pieces: &[Piece], record: &Value) -> Result<String, String> {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(text) => out.push_str(text),
            // A name may have a bar in it.
            Piece::Field(field) if record.get(field).is_some() => out.push_str(&text_of(field, record)?),
            Piece::Field(field) => {
                for path in field.split('|') {
                    let found = look_up(path, record, record)?;
                    let text = found.text()?;
                    if !text.is_empty() {
                        out.push_str(&text);
                        break;
                    }
                }
            }
        }
    }
    Ok(out)
}

/// What a path leads to. `record`: the whole, whose fields may choose elements.
fn look_up<'a>(path: &str, at: &'a Value, record: &Value) -> Result<Cow<'a, Value>, String> {
    if path.is_empty() {
        return Ok(Cow::Borrowed(at));
    }
    match (path.strip_prefix('['), at) {
        (None, Value::Fields(_)) => field(path, at, record),
        (Some(inner), _) => {
            let (index, rest) = inner.split_once(']').ok_or_else(|| format!("a bracket is not closed in {path:?}"))?;
            element(chosen(index, record)?, rest, at, record)
        }
        // A column: a plain number.
        (None, _) => {
            let end = path.find(['.', '[']).unwrap_or(path.len());
            let index = path[..end].parse().map_err(|_| no_field(&path[..end], at))?;
            element(index, &path[end..], at, record)
        }
    }
}

/// A field of a group and what follows. Of names with dots and brackets in them the longest that is there is meant, of which
/// the rest leads somewhere.
fn field<'a>(path: &str, at: &'a Value, record: &Value) -> Result<Cow<'a, Value>, String> {
    let ends = path.match_indices(['.', '[']).map(|(end, _)| end).chain([path.len()]);
    let mut wrong = None;
    for end in ends.collect::<Vec<_>>().into_iter().rev() {
        let Some(value) = at.get(&path[..end]) else { continue };
        let rest = path[end..].strip_prefix('.').unwrap_or(&path[end..]);
        match look_up(rest, value, record) {
            Err(reason) => drop(wrong.get_or_insert(reason)),
            found => return found,
        }
    }
    Err(wrong.unwrap_or_else(|| no_field(&path[..path.find(['.', '[']).unwrap_or(path.len())], at)))
}

/// An element of a list, or of a text that holds one in JSON, and what follows.
fn element<'a>(index: usize, rest: &str, at: &'a Value, record: &Value) -> Result<Cow<'a, Value>, String> {
    let rest = rest.strip_prefix('.').unwrap_or(rest);
    let beyond = |items: &[Value]| format!("element {index} of a list of {}", items.len());
    match at {
        Value::List(items) => look_up(rest, items.get(index).ok_or_else(|| beyond(items))?, record),
        Value::Text(text) if text.trim_start().starts_with('[') => match Value::parse(text) {
            Ok(Value::List(mut items)) => {
                if index >= items.len() {
                    return Err(beyond(&items));
                }
                let item = items.swap_remove(index);
                look_up(rest, &item, record).map(|found| Cow::Owned(found.into_owned()))
            }
            _ => Err(format!("element {index} of something that is no list")),
        },
        _ => Err(format!("element {index} of something that is no list")),
    }
}

/// An element's number: written, or that of a field of the record.
fn chosen(index: &str, record: &Value) -> Result<usize, String> {
    if let Ok(index) = index.parse() {
        return Ok(index);
    }
    let number = record.get(index).ok_or_else(|| no_field(index, record))?;
    let number = number.text().ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("field {index:?} is no whole number, so it cannot choose an element"))
}

fn no_field(key: &str, at: &Value) -> String {
    match at {
        Value::Fields(fields) => {
            let mut known: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
            known.sort_unstable();
            format!("no field {key:?}; fields here: {}", known.join(", "))
        }
        Value::List(columns) => {
            format!("no field {key:?}; there are columns 0 to {}", columns.len().saturating_sub(1))
        }
        _ => format!("no field {key:?} in a plain value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Turn;
    use serde_json::{Value, json};

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
        let apply = |record: &Value| Template::for_record(record)?.apply(record);
        assert_eq!(apply(&messages).unwrap(), expected);
        let plain = json!({"conversations": ["Be brief.\nHi", "Yes.", "And?", "Fine."]});
        assert_eq!(apply(&plain).unwrap(), expected);
        let shared = json!({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes."}]});
        assert_eq!(apply(&shared).unwrap(), Document::answered("Hi\n", "Yes."));
        assert!(apply(&json!({"messages": [{"role": "user"}]})).unwrap_err().contains("turn 0: has neither"));
    }

    #[test]
    fn broken_templates_are_refused() {
        for bad in ["{a", "a}", "{}", "{a..b}", "{a[]}", "{a[1}"] {
            assert!(Template::parse("", bad).is_err(), "{bad}");
        }
    }
}
