//! Records in the layouts met most often, recognised by their fields.

use super::notes::Notes;
use super::record::Value;
use super::template::Template;
use crate::Document;

/// A layout: the fields that tell it apart, the prompt, the text.
type Layout = (&'static [&'static str], &'static str, &'static str);

const KNOWN: [Layout; 15] = [
    (&["func_name", "docstring", "code"], "\"\"\"{docstring}\"\"\"\n", "{code}\n"),
    (&["text", "code"], "{text}\n", "{code}\n"),
    (&["context", "chain_of_thought", "answer"], "{context}\n", "{chain_of_thought}\nThe answer is {answer}."),
    (&["context", "continuation"], "{context} ", "{continuation}"),
    (&["query", "choices", "gold"], "{query}\n", "Answer: {choices[gold]}"),
    (&["original_text", "equation", "ans"], "{original_text}\n", "{equation}\nThe answer is {ans}."),
    (&["instruction", "instances"], "{instruction}\n{instances[0].input}\n", "{instances[0].output}"),
    (&["instruction", "input", "output", "answer"], "{instruction}\n{input}\n", "{output|answer}"),
    (&["instruction", "output", "answer"], "{instruction}\n", "{output|answer}"),
    (&["instruction", "input", "output"], "{instruction}\n{input}\n", "{output}"),
    (&["prompt", "completion"], "{prompt}\n", "{completion}"),
    (&["prompt", "response"], "{prompt}", "{response}"),
    (&["question", "answer"], "{question}\n", "{answer}"),
    (&["text"], "", "{text}"),
    (&["content"], "", "{content}"),
];

/// Fields that hold conversations.
const CONVERSATIONS: [&str; 2] = ["messages", "conversations"];
/// Fields of known layouts that are no text of their own.
const NO_TEXT: [&str; 3] = ["func_name", "gold", "ans"];

/// A recognised layout.
#[derive(Debug, Clone)]
pub(super) struct Recognised {
    template: Template,
    /// Where `answer` is a list of accepted answers: with the first of them.
    listed: Option<Template>,
    /// The fields that it is known by.
    names: Vec<&'static str>,
}

impl Recognised {
    /// Its template for records like one.
    pub(super) fn into_template(self, record: &Value) -> Result<Template, String> {
        self.check(record, &mut Notes::default())?;
        let listed = matches!(record.get("answer"), Some(Value::List(_)));
        Ok(self.listed.filter(|_| listed).unwrap_or(self.template))
    }
}

impl Template {
    /// The template of a record in one of the layouts met most often: `text`, `question`/`answer`, `prompt`/`completion`,
    /// `instruction`/`output`, conversations, rows of two or three columns, and so on.
    ///
    /// # Errors
    /// The reason: no layout that fits, or two that would give different texts.
    pub fn for_record(record: &serde_json::Value) -> Result<Self, String> {
        let record = Value::from(record);
        recognise(&record)?.into_template(&record)
    }
}

/// The layout of a record.
///
/// 1. Of the layouts whose fields it all has, those whose fields another one has too, and more, are out.
/// 2. One must be left: two would mean two texts, of which one would be lost.
///
/// # Errors
/// No layout, or more than one.
pub(super) fn recognise(record: &Value) -> Result<Recognised, String> {
    match record {
        // One column: text. Two: question, answer. Of more nobody can tell what they are.
        Value::List(columns) => {
            let (prompt, text) = match columns.len() {
                1 => ("", "{0}"),
                2 => ("{0}\n", "{1}"),
                n => return Err(format!("no known layout has {n} columns: give a template, such as \"{{0}} {{1}}\"")),
            };
            Ok(Recognised { template: known(prompt, text)?, listed: None, names: Vec::new() })
        }
        Value::Fields(fields) => {
            let has = |name: &str| fields.iter().any(|(known, _)| known == name);
            let within = |a: &[&str], b: &[&str]| a.len() < b.len() && a.iter().all(|name| b.contains(name));
            let all: Vec<&Layout> = KNOWN.iter().filter(|(names, ..)| names.iter().all(|name| has(name))).collect();
            let most = all.iter().filter(|(names, ..)| !all.iter().any(|(others, ..)| within(names, others)));
            let mut found = Vec::new();
            for (names, prompt, text) in most {
                let listed = if *text == "{answer}" { Some(known(prompt, "{answer[0]}")?) } else { None };
                found.push(Recognised { template: known(prompt, text)?, listed, names: names.to_vec() });
            }
            for name in CONVERSATIONS {
                if matches!(record.get(name), Some(Value::List(_))) {
                    let template = Template::conversation(name).map_err(|e| e.to_string())?;
                    found.push(Recognised { template, listed: None, names: vec![name] });
                }
            }
            let mut found = found.into_iter();
            match (found.next(), found.next()) {
                (Some(one), None) => Ok(one),
                (Some(one), Some(other)) => Err(format!(
                    "its fields fit two layouts, {} and {}: give a template that says which is meant",
                    one.names.join(" + "),
                    other.names.join(" + ")
                )),
                (None, _) => {
                    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
                    Err(format!(
                        "no known layout has the fields {}: give a template that says what is text",
                        names.join(", ")
                    ))
                }
            }
        }
        _ => Err("a record must be an object".to_owned()),
    }
}

fn known(prompt: &str, text: &str) -> Result<Template, String> {
    Template::parse(prompt, text).map_err(|e| e.to_string())
}

impl Recognised {
    /// A record of the layout as a document. Fields that are not read are noted.
    ///
    /// # Errors
    /// A field of another layout with text in it: it would be lost. What the template cannot fill.
    pub(super) fn document(&self, record: &Value, notes: &mut Notes) -> Result<Document, String> {
        self.check(record, notes)?;
        match (&self.listed, record.get("answer")) {
            (Some(template), Some(Value::List(answers))) => {
                if answers.len() > 1 {
                    notes.add("records with several answers, of which the first is read");
                }
                template.fill(record, notes)
            }
            _ => self.template.fill(record, notes),
        }
    }

    fn check(&self, record: &Value, notes: &mut Notes) -> Result<(), String> {
        let Value::Fields(fields) = record else { return Ok(()) };
        for (name, value) in fields.iter().filter(|(name, _)| !self.names.contains(&&**name)) {
            let known = KNOWN.iter().flat_map(|(names, ..)| names.iter()).chain(&CONVERSATIONS);
            let of_another = !NO_TEXT.contains(&&**name) && known.into_iter().any(|known| known == name);
            if of_another && !value.is_blank() {
                return Err(format!(
                    "was recognised by {}, but {name} holds text too: give a template that says what is meant",
                    self.names.join(" + ")
                ));
            }
            if !value.is_blank() {
                notes.unread(name);
            }
        }
        let both = |a: &str, b: &str| match (record.get(a), record.get(b)) {
            (Some(a), Some(b)) => self.names.contains(&"output") && !a.is_blank() && !b.is_blank() && a != b,
            _ => false,
        };
        if both("output", "answer") {
            notes.add("records whose answer is not read beside their output");
        }
        if matches!(record.get("instances"), Some(Value::List(items)) if items.len() > 1) {
            notes.add("records with several instances, of which the first is read");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> Result<String, String> {
        let record = Value::parse(json)?;
        recognise(&record)?.document(&record, &mut Notes::default()).map(|document| document.whole())
    }

    #[test]
    fn the_most_special_layout_wins_and_others_are_refused() {
        assert_eq!(text(r#"{"text":"a","code":"b"}"#).unwrap(), "a\nb\n");
        assert_eq!(text(r#"{"instruction":"a","input":"b","output":"","answer":"c"}"#).unwrap(), "a\nb\nc");
        assert_eq!(text(r#"{"question":"a","answer":["b","c"],"id":7}"#).unwrap(), "a\nb");
        for (json, expected) in [
            (r#"{"text":"a","content":"b"}"#, "fit two layouts, text and content"),
            (r#"{"question":"q","answer":"a","text":"t"}"#, "fit two layouts, question + answer and text"),
            (r#"{"prompt":"p","completion":"c","response":"r"}"#, "prompt + completion and prompt + response"),
            (r#"{"messages":[],"text":"t"}"#, "fit two layouts, text and messages"),
            (
                r#"{"question":"q","answer":"a","context":"c"}"#,
                "recognised by question + answer, but context holds text",
            ),
            (r#"{"instruction":"i","input":"x","output":"o","prompt":"p"}"#, "but prompt holds text too"),
            (r#"{"title":"t"}"#, "no known layout has the fields title"),
        ] {
            assert!(text(json).unwrap_err().contains(expected), "{json}: {:?}", text(json));
        }
        // An empty field competes with nothing.
        assert_eq!(text(r#"{"question":"q","answer":"a","context":null}"#).unwrap(), "q\na");
    }
}
