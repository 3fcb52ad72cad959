//! Source code in three syntaxes, and documented functions.

use super::Writer;
use crate::Document;

/// A file of some functions, all in one syntax.
pub(super) fn source_file(w: &mut Writer<'_>) -> Document {
    let syntax = w.below(4);
    let mut out = String::new();
    if syntax <= 1 {
        out += &format!("import {}\nfrom {} import {}\n\n\n", w.noun(), w.noun(), w.noun());
    }
    for _ in 0..w.between(2, 4) {
        let f = Function::new(w);
        out += &match syntax {
            0 | 1 => format!("{}\n\n", f.python(true)),
            2 => f.c(),
            _ => f.lisp(),
        };
    }
    Document::plain(out)
}

/// A docstring as the prompt, the function as the text.
pub(super) fn documented_function(w: &mut Writer<'_>) -> Document {
    let f = Function::new(w);
    Document::answered(format!("\"\"\"{}\"\"\"\n", f.summary()), f.python(false))
}

/// A problem in words as the prompt, a solution and a check of it as the text.
pub(super) fn problem(w: &mut Writer<'_>) -> Document {
    let f = Function::new(w);
    let ask =
        w.pick(&["Write a function to", "Write a python function that can", "You are given a list. Find a way to"]);
    let task = f.summary();
    let (first, rest) = task.split_at(1);
    let prompt = format!("{ask} {}{rest}\n", first.to_lowercase());
    let check = format!("assert {}({:?}, {}) is not None\n", f.name(), vec![w.between(0, 9); 3], f.number);
    Document::answered(prompt, f.python(false) + &check)
}

/// What a function does, whatever the syntax.
struct Function {
    verb: String,
    items: String,
    item: String,
    limit: String,
    result: String,
    field: String,
    number: i64,
    kind: usize,
}

impl Function {
    fn new(w: &mut Writer<'_>) -> Self {
        let item = w.noun();
        Self {
            verb: w.verb(),
            items: format!("{item}s"),
            item,
            limit: w.pick(&["limit", "threshold", "maximum", "bound", "size"]).to_owned(),
            result: w.pick(&["result", "total", "output", "found", "values"]).to_owned(),
            field: w.noun(),
            number: w.between(0, 40),
            kind: w.below(4),
        }
    }

    fn name(&self) -> String {
        format!("{}_{}", self.verb, self.items)
    }

    fn summary(&self) -> String {
        let Self { verb, items, limit, field, .. } = self;
        match self.kind {
            0 => format!("Sum the {field} of all {items} up to {limit}."),
            1 => format!("Return the {items} whose {field} is above {limit}."),
            2 => format!("Count how many {items} {verb} at least {limit} times."),
            _ => format!("Raise an error if one of the {items} has no {field}."),
        }
    }

    fn python(&self, documented: bool) -> String {
        let Self { items, item, limit, result, field, number, .. } = self;
        let head = format!("def {}({items}, {limit}={number}):\n", self.name());
        let doc = if documented { format!("    \"\"\"{}\"\"\"\n", self.summary()) } else { String::new() };
        let body = match self.kind {
            0 => format!(
                "    {result} = 0\n    for {item} in {items}[:{limit}]:\n        {result} += {item}.{field}\n    return {result}\n"
            ),
            1 => format!("    return [{item} for {item} in {items} if {item}.{field} > {limit}]\n"),
            2 => format!(
                "    {result} = 0\n    for i, {item} in enumerate({items}):\n        if {item}.{}() >= {limit}:\n            {result} += 1\n    return {result}\n",
                self.verb
            ),
            _ => format!(
                "    for {item} in {items}:\n        if {item}.{field} is None:\n            raise ValueError(\"{item} without {field}\")\n    return len({items}) <= {limit}\n"
            ),
        };
        head + &doc + &body
    }

    fn c(&self) -> String {
        let Self { items, item, limit, result, field, number, .. } = self;
        format!(
            "/* {} */\nint {}(const struct {item} *{items}, size_t n) {{\n    int {result} = {number};\n    for (size_t i = 0; i < n; ++i) {{\n        if ({items}[i].{field} > {}) {{\n            {result} += {items}[i].{field};\n        }}\n    }}\n    return {result};\n}}\n\n",
            self.summary(),
            self.name(),
            limit.to_uppercase(),
        )
    }

    fn lisp(&self) -> String {
        let Self { items, item, limit, field, number, .. } = self;
        format!(
            ";; {}\n(define ({} {items} {limit})\n  (let loop (({item} (car {items})) (acc {number}))\n    (if (> ({field} {item}) {limit})\n        acc\n        (loop (cdr {items}) (+ acc ({field} {item}))))))\n\n",
            self.summary(),
            self.name().replace('_', "-"),
        )
    }
}
