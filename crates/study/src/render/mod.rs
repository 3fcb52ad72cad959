//! Tables, figures and the report of an output directory.

mod canvas;
mod comparison;
mod data_table;
mod figure;
pub(crate) mod heatmap;
mod html;
pub(crate) mod lines;
pub(crate) mod page;
pub(crate) mod scatter;
mod table1;
mod table2;
mod table5;

use std::path::Path;

pub use data_table::DataTable;
pub use page::{Figure, Page};
pub use table1::{preflights, table1};
pub use table2::Table2;
pub use table5::table5;

use crate::files::{write, write_json};
use crate::{Error, StudyResults, StudySpec};

/// Writes the output directory: spec, plan, tables, figures, report, and every measurement with its addresses.
///
/// # Errors
/// Files that cannot be written.
pub fn write_outputs(
    out: &Path,
    spec: &StudySpec,
    plan: &str,
    results: &StudyResults,
    table: &Table2,
) -> Result<(), Error> {
    let text =
        toml::to_string(spec).map_err(|e| Error::Parse { path: out.join("spec.toml"), reason: e.to_string() })?;
    write(&out.join("spec.toml"), text.as_bytes())?;
    write(&out.join("plan.txt"), plan.as_bytes())?;
    write(&out.join("tables/table2.csv"), table.csv()?.as_bytes())?;
    write(&out.join("tables/table2.md"), table.markdown().as_bytes())?;
    let comparison = comparison::comparison(spec, results)?;
    write(&out.join("tables/comparison.csv"), comparison.csv()?.as_bytes())?;
    write(&out.join("tables/comparison.md"), comparison.markdown().as_bytes())?;
    write_json(&out.join("measurements.json"), results)?;
    write(&out.join("figures/table2.csv"), table.figure_csv()?.as_bytes())?;
    let svg = canvas::svg(table)?;
    write(&out.join("figures/table2.svg"), svg.as_bytes())?;
    write(&out.join("figures/table2.png"), &canvas::png(table)?)?;
    write(&out.join("report.html"), html::report(spec, plan, results, (table, &comparison), &svg).as_bytes())
}
