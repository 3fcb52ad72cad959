//! A table for a terminal.

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Width, presets};

use crate::table::{Audience, Column, Kind, Table};

/// Words of more characters may be broken.
const LONGEST_WORD: usize = 18;

impl Table {
    /// For a terminal: as wide as `width` columns where its numbers fit in; words are broken into lines.
    pub fn text(&self, width: u16) -> String {
        let shown: Vec<&Column> = self.shown(Audience::Terminal).collect();
        let mut out = wrapped(&self.title, width.into(), "") + "\n\n";
        if !shown.is_empty() {
            out += &(layout(self, &shown, width) + "\n");
        }
        let remarks = self.remarks(Audience::Terminal);
        if !remarks.is_empty() {
            out.push('\n');
        }
        for remark in remarks {
            out += &(wrapped(remark.trim(), width.into(), "") + "\n");
        }
        out
    }
}

fn layout(table: &Table, shown: &[&Column], width: u16) -> String {
    let mut out = comfy_table::Table::new();
    out.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    out.set_header(shown.iter().map(|c| aligned(c, c.heading.clone())));
    for row in 0..table.rows() {
        let begins = table.begins_group(row);
        if row > 0 && begins && table.grouped {
            out.add_row(shown.iter().map(|_| ""));
        }
        out.add_row(shown.iter().enumerate().map(|(i, c)| {
            let repeated = i == 0 && !begins;
            aligned(c, if repeated { String::new() } else { printed(c, row) })
        }));
    }
    for (column, of) in out.column_iter_mut().zip(shown) {
        column.set_padding((0, 2));
        if of.kind == Kind::Text {
            // Words are broken only where they are very long.
            let cells = (0..table.rows()).map(|row| printed(of, row)).chain([of.heading.clone()]);
            let longest = cells.flat_map(|cell| cell.split(' ').map(|w| w.chars().count()).collect::<Vec<_>>()).max();
            let least = longest.unwrap_or(1).min(LONGEST_WORD) as u16 + 2;
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
        } else {
            // Numbers are never broken; a heading's words are.
            let widest = (0..table.rows()).map(|row| printed(of, row).chars().count());
            let words = of.heading.split(' ').map(|word| word.chars().count());
            let least = widest.chain(words).max().unwrap_or(1);
            let least = u16::try_from(least).unwrap_or(u16::MAX).saturating_add(2);
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
        }
    }
    out.trim_fmt()
}

/// A value with its mark; where a column has marks, the others leave room for one.
fn printed(column: &Column, row: usize) -> String {
    let text = column.print(row);
    match (column.is_marked(row), column.marked.is_empty()) {
        (true, _) => text + "*",
        (false, false) => text + " ",
        (false, true) => text,
    }
}

fn aligned(column: &Column, text: String) -> Cell {
    let right = column.kind != Kind::Text;
    Cell::new(text).set_alignment(if right { CellAlignment::Right } else { CellAlignment::Left })
}

/// Words in lines of at most `width`.
pub(crate) fn wrapped(text: &str, width: usize, indent: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one from the start");
        let needed = indent.chars().count() + line.chars().count() + 1 + word.chars().count();
        if line.is_empty() {
            line.push_str(word);
        } else if needed <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.iter().map(|line| format!("{indent}{line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use crate::{Column, Format, Table};

    #[test]
    fn it_keeps_to_the_width_and_never_breaks_a_number() {
        let sets = ["Pycode", "Pycode", "GSM8K"];
        let table = Table::new("t", "A title of some words that is longer than forty columns are wide")
            .with(Column::text("set", sets))
            .with(Column::text("mix", ["C4", "a mix of many words that is broken into lines", "Math"]))
            .with(Column::number("loss", Format::Fixed(3), [Some(1.5), Some(2.25), None]).marked([true, false, false]))
            .with(Column::interval("ci", Format::Signed(3), [Some((-0.125, 0.5)), None, None]))
            .with(Column::text("secret", ["x", "y", "z"]).file_only())
            .grouped()
            .note("A note.");
        let text = table.text(52);
        assert!(text.lines().all(|line| line.chars().count() <= 52), "{text}");
        assert!(text.contains("1.500*") && text.contains("2.250 ") && text.contains("[-0.125, +0.500]"), "{text}");
        assert_eq!(text.matches("Pycode").count(), 1, "a group names itself once: {text}");
        assert!(!text.contains("secret"));
        assert!(text.ends_with("\nA note.\n"));
    }

    #[test]
    fn a_table_without_rows_or_columns_is_its_title() {
        assert_eq!(Table::new("t", "Nothing").text(80), "Nothing\n\n");
        assert!(Table::new("t", "Head").with(Column::text("a", [""; 0])).text(80).contains('a'));
    }
}
