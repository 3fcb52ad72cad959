//! A page: what was asked, what came out, the tables and figures that show it, and how it was computed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::figure::Figure;
use crate::table::Table;
use crate::{Error, html, text};

/// A page, and the output directory that holds it.
///
/// ```
/// use report::{Column, Format, Page, Table};
///
/// let mut page = Page::new("Table 2");
/// page.asked = "Does midtraining help fine-tuning?".to_owned();
/// page.found.push("Starcoder lowers the loss on Pycode by 0.15 nats (95 % interval 0.11 to 0.19).".to_owned());
/// page.tables.push(Table::new("table2", "Losses").with(Column::number("loss", Format::Fixed(3), [2.871])));
/// let dir = tempfile::tempdir()?;
/// page.write(dir.path())?;
/// assert_eq!(std::fs::read_to_string(dir.path().join("tables/table2.csv"))?, "loss\n2.871\n");
/// assert!(dir.path().join("report.html").exists());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Page {
    /// What it is called.
    pub title: String,
    /// What was asked, in a sentence.
    pub asked: String,
    /// What came out, a sentence each, with its interval.
    pub found: Vec<String>,
    /// The answer's tables.
    pub tables: Vec<Table>,
    /// The answer's figures.
    pub figures: Vec<Figure>,
    /// What is to be said of both.
    pub notes: Vec<String>,
    /// How it was computed: tables that readers look up, such as where each number lies.
    pub details: Vec<Table>,
    /// How it was computed: texts that are files of the output directory as well.
    pub texts: Vec<TextFile>,
}

/// A text of the output directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    /// Its file name, such as `spec.toml`.
    pub name: String,
    /// What it is, in a few words.
    pub title: String,
    /// The text.
    pub text: String,
    /// Whether the report shows it; one that is long or for programs is only linked.
    pub shown: bool,
}

impl From<Table> for Page {
    fn from(table: Table) -> Self {
        Self { title: table.title().to_owned(), tables: vec![table], ..Self::default() }
    }
}

impl Page {
    /// An empty page.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), ..Self::default() }
    }

    /// Adds a text that says how the page was computed.
    pub fn attach(&mut self, name: &str, title: &str, text: String) {
        self.texts.push(TextFile { name: name.to_owned(), title: title.to_owned(), text, shown: true });
    }

    /// For a terminal of `width` columns: what came out, the tables, the notes.
    pub fn text(&self, width: u16) -> String {
        let paragraph = |line: &String| format!("\n{}\n", text::wrapped(line, width.into(), ""));
        let mut parts: Vec<String> = self.tables.iter().map(|table| table.text(width)).collect();
        parts.extend(self.found.iter().chain(&self.notes).map(paragraph));
        parts.join("\n").trim_start_matches('\n').replace("\n\n\n", "\n\n")
    }

    /// Writes the output directory: `tables/NAME.csv` and `.md`, `figures/NAME.csv`, `.svg` and `.png`, the texts, and
    /// `report.html`, which holds all of it. Each file is complete or not there.
    ///
    /// # Errors
    /// Files that cannot be written, names that cannot be those of files or are taken twice, figures that cannot be drawn.
    pub fn write(&self, out: &Path) -> Result<(), Error> {
        for (name, bytes) in self.files()? {
            let path = out.join(&name);
            let io = |source| Error::Io { path: path.clone(), source };
            std::fs::create_dir_all(path.parent().unwrap_or(out)).map_err(io)?;
            atomic_file::write(&path, &bytes).map_err(io)?;
        }
        Ok(())
    }

    /// Every file of the output directory: its name in there, its content.
    fn files(&self) -> Result<Vec<(PathBuf, Vec<u8>)>, Error> {
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for table in self.tables.iter().chain(&self.details) {
            checked(table.name())?;
            files.push((format!("tables/{}.csv", table.name()), table.csv().into_bytes()));
            files.push((format!("tables/{}.md", table.name()), table.markdown().into_bytes()));
        }
        let mut pictures = Vec::new();
        for figure in &self.figures {
            let name = checked(figure.name())?;
            let svg = figure.svg()?;
            files.push((format!("figures/{name}.csv"), figure.data.csv().into_bytes()));
            files.push((format!("figures/{name}.png"), figure.png(&svg)?));
            files.push((format!("figures/{name}.svg"), svg.clone().into_bytes()));
            pictures.push(svg);
        }
        for text in &self.texts {
            files.push((checked(&text.name)?.to_owned(), text.text.clone().into_bytes()));
        }
        files.push(("report.html".to_owned(), html::document(self, &pictures).into_bytes()));
        let mut known = BTreeSet::new();
        match files.iter().find(|(name, _)| !known.insert(name.as_str())) {
            Some((name, _)) => Err(Error::Twice { path: name.into() }),
            None => Ok(files.into_iter().map(|(name, bytes)| (name.into(), bytes)).collect()),
        }
    }
}

/// A name that is one of a file in the output directory.
fn checked(name: &str) -> Result<&str, Error> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if plain && !name.is_empty() && !name.starts_with('.') {
        Ok(name)
    } else {
        Err(Error::Name { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Column;

    #[test]
    fn a_file_that_another_would_replace_or_that_lies_elsewhere_is_refused() {
        let table = |name: &str| Table::new(name, "").with(Column::count("a", [1]));
        let mut page = Page::from(table("t"));
        page.details.push(table("t"));
        assert!(matches!(page.files(), Err(Error::Twice { path }) if path == Path::new("tables/t.csv")));
        for name in ["../t", "", "a/b", ".hidden", "ü"] {
            assert!(matches!(Page::from(table(name)).files(), Err(Error::Name { .. })), "{name}");
        }
    }

    #[test]
    fn a_terminal_gets_tables_findings_and_notes() {
        let mut page = Page::from(Table::new("t", "Title").with(Column::count("a", [1])));
        page.found.push("It is so.".to_owned());
        page.notes.push("Beware.".to_owned());
        page.details.push(Table::new("d", "Not shown"));
        assert_eq!(page.text(80), "Title\n\na\n1\n\nIt is so.\n\nBeware.\n");
    }
}
