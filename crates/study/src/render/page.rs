//! What an analysis shows: tables, figures, notes; and the output directory that holds them.

use std::path::Path;

use super::canvas::{png, svg};
use super::heatmap::Heatmaps;
use super::html;
use super::lines::Lines;
use super::scatter::Scatter;
use crate::files::write;
use crate::{DataTable, Error, StudySpec};

/// A figure and the numbers it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Its file name, such as `figure6`.
    pub(crate) name: String,
    /// The numbers.
    pub(crate) data: DataTable,
    pub(crate) picture: Picture,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Picture {
    Heatmaps(Heatmaps),
    Scatter(Scatter),
    Lines(Lines),
}

impl Picture {
    fn svg(&self) -> Result<String, Error> {
        match self {
            Self::Heatmaps(p) => svg(p),
            Self::Scatter(p) => svg(p),
            Self::Lines(p) => svg(p),
        }
    }

    fn png(&self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Heatmaps(p) => png(p),
            Self::Scatter(p) => png(p),
            Self::Lines(p) => png(p),
        }
    }
}

/// What an analysis shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// What it is about.
    pub title: String,
    /// Its tables.
    pub tables: Vec<DataTable>,
    /// Its figures.
    pub figures: Vec<Figure>,
    /// What is to be said of them.
    pub notes: Vec<String>,
    /// Further files of the output directory: name, content.
    pub files: Vec<(String, Vec<u8>)>,
    /// Where the page is drawn by hand, that.
    pub(crate) own: Option<Own>,
}

/// A page that is drawn by hand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Own {
    /// For a terminal: plain, and with bold.
    pub(crate) text: [String; 2],
    /// The report before and after the plan.
    pub(crate) html: [String; 2],
}

impl From<DataTable> for Page {
    fn from(table: DataTable) -> Self {
        Self { title: table.title.clone(), tables: vec![table], ..Self::default() }
    }
}

impl Page {
    /// An empty page.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), ..Self::default() }
    }

    /// Whether there are pictures.
    pub fn has_figures(&self) -> bool {
        !self.figures.is_empty() || self.own.is_some()
    }

    /// For a terminal; `ansi`: with bold where there is any.
    pub fn text(&self, ansi: bool) -> String {
        let notes: String = self.notes.iter().map(|note| format!("\n{}\n", note.trim())).collect();
        if let Some(own) = &self.own {
            return own.text[usize::from(ansi)].clone() + &notes;
        }
        let tables = self.tables.iter().map(DataTable::text).collect::<Vec<_>>().join("\n");
        tables + &notes
    }

    /// Writes the output directory: spec, plan, tables, figures, report.
    ///
    /// # Errors
    /// Files that cannot be written, figures that cannot be drawn.
    pub fn write(&self, out: &Path, spec: &StudySpec, plan: &str) -> Result<(), Error> {
        let text =
            toml::to_string(spec).map_err(|e| Error::Parse { path: out.join("spec.toml"), reason: e.to_string() })?;
        write(&out.join("spec.toml"), text.as_bytes())?;
        write(&out.join("plan.txt"), plan.as_bytes())?;
        for table in &self.tables {
            write(&out.join(format!("tables/{}.csv", table.name)), table.csv()?.as_bytes())?;
            write(&out.join(format!("tables/{}.md", table.name)), table.markdown().as_bytes())?;
            table.files.iter().try_for_each(|(name, text)| write(&out.join(name), text.as_bytes()))?;
        }
        let mut pictures = Vec::new();
        for figure in &self.figures {
            let at = |ending: &str| out.join(format!("figures/{}.{ending}", figure.name));
            let svg = figure.picture.svg()?;
            write(&at("csv"), figure.data.csv()?.as_bytes())?;
            write(&at("svg"), svg.as_bytes())?;
            write(&at("png"), &figure.picture.png()?)?;
            pictures.push(svg);
        }
        self.files.iter().try_for_each(|(name, bytes)| write(&out.join(name), bytes))?;
        write(&out.join("report.html"), html::page(self, &pictures, plan).as_bytes())
    }
}
