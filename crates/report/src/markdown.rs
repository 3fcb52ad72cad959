//! A table for documents.

use crate::table::{Audience, Column, Kind, Table};

impl Table {
    /// As a Markdown table (GitHub's kind), its title above and its notes below.
    pub fn markdown(&self) -> String {
        let shown: Vec<&Column> = self.shown(Audience::Documents).collect();
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = format!("**{}**\n\n", escaped(&self.title));
        out += &line(shown.iter().map(|c| escaped(&c.heading)).collect());
        let rule = |c: &&Column| if c.kind == Kind::Text { "---" } else { "---:" }.to_owned();
        out += &line(shown.iter().map(rule).collect());
        for row in 0..self.rows() {
            let cell = |c: &&Column| {
                let text = escaped(&c.print(row));
                if c.is_marked(row) { format!("**{text}**") } else { text }
            };
            out += &line(shown.iter().map(cell).collect());
        }
        for remark in self.remarks(Audience::Documents) {
            out += &format!("\n{}\n", escaped(remark.trim()));
        }
        out
    }
}

/// Characters that would end a cell, a line or begin something else.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            '\\' | '|' | '*' | '_' | '`' | '<' | '[' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::{Column, Table};

    #[test]
    fn what_would_break_a_row_is_escaped() {
        let table = Table::new("t", "a|b").with(Column::text("mix", ["x | y\n*z*"]).marked([true]));
        assert_eq!(table.markdown(), "**a\\|b**\n\n| mix |\n| --- |\n| **x \\| y \\*z\\*** |\n");
    }
}
