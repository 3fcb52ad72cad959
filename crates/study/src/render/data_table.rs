//! A table of the data itself: what tables 1 and 5 share.

use std::fmt::Write as _;
use std::path::Path;

use crate::Error;

/// A table that needs no training: text for a terminal, CSV and Markdown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DataTable {
    /// Its file name, such as `table1`.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// Names of the CSV's columns.
    pub header: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<String>>,
    /// What is to be said of it.
    pub notes: Vec<String>,
    /// Further files of the output directory.
    pub files: Vec<(String, String)>,
}

impl DataTable {
    pub(crate) fn new(name: &str, title: &str, header: &[&str]) -> Self {
        let header = header.iter().map(|h| (*h).to_owned()).collect();
        Self { name: name.to_owned(), title: title.to_owned(), header, ..Self::default() }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let width = |c: usize| {
            let cells = self.rows.iter().map(|r| r[c].chars().count());
            cells.chain([self.header[c].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let numeric = |c: usize| {
            let number = |cell: &str| cell.is_empty() || cell.starts_with(|x: char| "+-–0123456789".contains(x));
            c > 0 && self.rows.iter().all(|r| number(&r[c]))
        };
        let mut out = format!("{}\n\n", self.title);
        for row in std::iter::once(&self.header).chain(&self.rows) {
            let cells = row.iter().enumerate().map(|(c, cell)| {
                let pad = " ".repeat(widths[c] - cell.chars().count());
                if numeric(c) { format!("{pad}{cell}") } else { format!("{cell}{pad}") }
            });
            let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        for note in &self.notes {
            let _ = write!(out, "\n{}\n", note.trim());
        }
        out
    }

    pub(crate) fn csv(&self) -> Result<String, Error> {
        let io = |e: csv::Error| Error::io(Path::new(&self.name))(e.into());
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.header).map_err(io)?;
        self.rows.iter().try_for_each(|row| writer.write_record(row)).map_err(io)?;
        let bytes = writer.into_inner().map_err(|e| Error::io(Path::new(&self.name))(e.into_error()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut out = format!("{}\n\n", self.title);
        out += &line(&self.header);
        out += &line(&vec!["---".to_owned(); self.header.len()]);
        self.rows.iter().for_each(|row| out += &line(row));
        self.notes.iter().for_each(|note| out += &format!("\n{}\n", note.trim()));
        out
    }
}
