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
mod table2;

pub use data_table::DataTable;
pub use page::{Figure, Page};

use crate::files::json;
use crate::question::Losses;
use crate::{Error, Study};

/// Table 2's page: the losses, how arms compare, a figure, and every measurement with its addresses.
pub(crate) fn table2(study: &Study, losses: &Losses) -> Result<Page, Error> {
    let table = table2::LossTable::of(study, losses);
    let comparison = comparison::comparison(study, losses)?;
    let svg = canvas::svg(&table)?;
    let html = html::report(losses, (&table, &comparison), &svg);
    Ok(Page {
        title: "Table 2".to_owned(),
        files: vec![
            ("tables/table2.csv".to_owned(), table.csv()?.into_bytes()),
            ("tables/table2.md".to_owned(), table.markdown().into_bytes()),
            ("figures/table2.csv".to_owned(), table.figure_csv()?.into_bytes()),
            ("figures/table2.png".to_owned(), canvas::png(&table)?),
            ("figures/table2.svg".to_owned(), svg.into_bytes()),
            ("measurements.json".to_owned(), json("measurements.json", losses)?),
        ],
        own: Some(page::Own { text: [table.text(false), table.text(true)], html }),
        tables: vec![comparison],
        ..Page::default()
    })
}
