//! One self-contained file that reads like an appendix: the question, the answer, tables and figures, then how all of it
//! was computed.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::figure::Figure;
use crate::page::Page;
use crate::table::{Audience, Column, Kind, Table};
use crate::value::Value;

/// Legible without any other file, also on a phone, printed, and in the dark.
const STYLE: &str = include_str!("style.css");

/// The page, with its pictures as SVG.
pub(crate) fn document(page: &Page, pictures: &[String]) -> String {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (page.title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (content(page, pictures)) } }
        }
    };
    document.into_string()
}

fn content(page: &Page, pictures: &[String]) -> Markup {
    let mut figures = page.figures.iter().zip(pictures);
    html! {
        h1 { (page.title) }
        @if !page.asked.is_empty() { p .asked { (page.asked) } }
        @if !page.found.is_empty() {
            div .found { @for line in &page.found { p { (prose(line)) } } }
        }
        // The first table is the answer, the first figure its picture.
        @if let Some(table) = page.tables.first() { (of_table(table)) }
        @if let Some((first, svg)) = figures.next() { (of_figure(first, svg)) }
        @for table in page.tables.iter().skip(1) { (of_table(table)) }
        @for (figure, svg) in figures { (of_figure(figure, svg)) }
        @if !page.notes.is_empty() {
            h2 { "Notes" }
            @for note in &page.notes { p { (note.trim()) } }
        }
        @if !page.details.is_empty() || !page.texts.is_empty() {
            h2 { "How it was computed" }
            @for table in &page.details {
                details { summary { (table.title) } (of_table(table)) }
            }
            @for text in &page.texts {
                @if text.shown {
                    details { summary { (text.title) } pre tabindex="0" { (text.text) } p { a href=(text.name) { (text.name) } } }
                } @else {
                    p { (text.title) ": " a href=(text.name) { (text.name) } }
                }
            }
        }
    }
}

fn of_table(table: &Table) -> Markup {
    let csv = format!("tables/{}.csv", table.name);
    let shown: Vec<&Column> = table.shown(Audience::Documents).collect();
    let number = |c: &Column| (c.kind != Kind::Text).then_some("n");
    html! {
        section {
            div .scroll tabindex="0" role="region" aria-label=(table.title) {
                table {
                    caption { span { (table.title) " " a href=(csv) { "CSV" } } }
                    thead {
                        tr { @for c in &shown { th scope="col" class=[number(c)] title=[c.meaning.as_ref()] { (c.heading) } } }
                    }
                    @for group in groups(table) {
                        tbody { @for row in group { (of_row(table, &shown, row)) } }
                    }
                }
            }
            @for remark in table.remarks(Audience::Documents) { p .remark { (remark) } }
        }
    }
}

/// Rows by group; all in one where the table has none.
fn groups(table: &Table) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for row in 0..table.rows() {
        match groups.last_mut() {
            Some(group) if !table.grouped || !table.begins_group(row) => group.push(row),
            _ => groups.push(vec![row]),
        }
    }
    groups
}

/// A row names itself by its words; each number tells its place in the CSV file and its value in full.
fn of_row(table: &Table, shown: &[&Column], row: usize) -> Markup {
    // The header is line 1.
    let line = row + 2;
    html! {
        tr id=(format!("{}-{line}", table.name)) {
            @for (i, c) in shown.iter().enumerate() {
                @let repeated = i == 0 && table.grouped && !table.begins_group(row);
                @if c.kind == Kind::Text && i < 2 {
                    th scope="row" class=[repeated.then_some("repeated")] {
                        @if c.is_marked(row) { b { (c.print(row)) } } @else { (c.print(row)) }
                    }
                } @else {
                    td class=[(c.kind != Kind::Text).then_some("n")] title=[place(table, c, row, line)] {
                        @if c.is_marked(row) { b { (typeset(c, row)) } } @else { (typeset(c, row)) }
                    }
                }
            }
        }
    }
}

/// With a minus sign in the place of a hyphen before a number.
fn prose(text: &str) -> String {
    let mut out = String::new();
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let minus = c == '-' && matches!(before, ' ' | '(' | '[') && rest.peek().is_some_and(char::is_ascii_digit);
        out.push(if minus { '\u{2212}' } else { c });
        before = c;
    }
    out
}

/// Where a number stands in its file.
fn place(table: &Table, column: &Column, row: usize, line: usize) -> Option<String> {
    let value = &column.values[row];
    let full = match value {
        Value::Number { .. } | Value::Interval { .. } => value.full(),
        _ => return None,
    };
    let name = &column.name;
    let names = if column.kind == Kind::Interval { format!("{name}_low, {name}_high") } else { name.clone() };
    Some(format!("{full} (tables/{}.csv, record {}, {names})", table.name, line - 1))
}

/// Words as they are; numbers with a minus sign in the place of a hyphen.
fn typeset(column: &Column, row: usize) -> String {
    let text = column.print(row);
    if matches!(column.values[row], Value::Text(_) | Value::Missing) { text } else { text.replace('-', "\u{2212}") }
}

fn of_figure(figure: &Figure, svg: &str) -> Markup {
    let file = |ending: &str| format!("figures/{}.{ending}", figure.name);
    html! {
        figure {
            div .scroll tabindex="0" role="region" aria-label=(figure.title) { (PreEscaped(svg)) }
            figcaption {
                (figure.title) " "
                a href=(file("csv")) { "CSV" } " " a href=(file("svg")) { "SVG" } " " a href=(file("png")) { "PNG" }
            }
        }
    }
}
