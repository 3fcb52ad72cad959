//! A page of tables, figures and notes: as text for a terminal, CSV, Markdown, SVG, PNG and one self-contained HTML file.
//!
//! A [`Table`] holds typed columns, so that one description serves readers, who get rounded numbers, and programs, which
//! get them in full. A [`Figure`] is drawn once, as SVG; the PNG is made from it. A [`Page`] puts both together and
//! [writes](Page::write) the output directory. This crate knows nothing of studies: it is told what to show.
//!
//! ```
//! use report::{BarPanel, Bars, Column, Estimate, Figure, Format, Page, Table};
//!
//! let mixes = ["Starcoder (20%)", "Math (12%)"];
//! let deltas = [(-0.121, (-0.150, -0.092)), (0.004, (-0.010, 0.018))];
//! let table = Table::new("table2", "Change of the loss on Pycode against C4, nats per token")
//!     .with(Column::text("mix", mixes))
//!     .with(Column::number("sft_delta", Format::Signed(3), deltas.map(|d| d.0)))
//!     .with(Column::interval("sft_delta_ci", Format::Signed(3), deltas.map(|d| Some(d.1))).heading("95 % interval"));
//!
//! let bar = |(value, interval)| vec![Some(Estimate { value, interval: Some(interval) })];
//! let groups = mixes.map(str::to_owned).into_iter().zip(deltas.map(bar)).collect();
//! let picture = Bars {
//!     axis: "nats per token".to_owned(),
//!     series: vec!["loss on Pycode".to_owned()],
//!     panels: vec![BarPanel { title: "Pycode".to_owned(), groups }],
//! };
//! let mut page = Page::new("Table 2");
//! page.figures.push(Figure::new(table.clone(), picture));
//! page.tables.push(table);
//!
//! let dir = tempfile::tempdir()?;
//! page.write(dir.path())?;
//! assert!(dir.path().join("figures/table2.png").exists());
//! assert!(page.text(80).contains("[-0.150, -0.092]"));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod csv;
mod error;
mod figure;
mod html;
mod markdown;
mod page;
mod table;
mod text;
mod value;

pub use error::Error;
pub use figure::{
    BarPanel, Bars, Curves, Dot, Estimate, Field, Figure, Heatmap, Heatmaps, Lines, Picture, Plane, Scatter,
    ScatterPanel, Way,
};
pub use page::{Page, TextFile};
pub use table::{Column, Table};
pub use value::{Format, Value};

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
