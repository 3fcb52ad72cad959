//! The paper's own tables, as it prints them. (Of Table 8 the sizes of some blocks were put right: its labels are garbled in the
//! text. Losses of Table 2 and Table 8 are those of 1b and of 70m to 410m.)

use std::collections::BTreeMap;

use crate::Error;
use crate::protocol::{C4, Protocol, SFT, Size};
use crate::spec::{StudySpec, preset};

const TABLES: [(u32, &str); 8] = [
    (1, include_str!("../../data/paper/table1.csv")),
    (2, include_str!("../../data/paper/table2.csv")),
    (3, include_str!("../../data/paper/table3.csv")),
    (4, include_str!("../../data/paper/table4.csv")),
    (5, include_str!("../../data/paper/table5.csv")),
    (6, include_str!("../../data/paper/table6.csv")),
    (7, include_str!("../../data/paper/table7.csv")),
    (8, include_str!("../../data/paper/table8.csv")),
];

/// A table of the paper.
#[derive(Debug, Clone)]
pub(super) struct Printed {
    name: String,
    rows: Vec<BTreeMap<String, String>>,
}

/// The paper's own study at one of its sizes.
pub(super) fn papers_study(size: Size) -> Result<StudySpec, Error> {
    preset("paper", &Protocol { sizes: &[size], arms: &[C4], sft: SFT, ..Protocol::PAPER })
}

impl Printed {
    /// By its number in the paper.
    pub(super) fn table(number: u32) -> Result<Self, Error> {
        let name = format!("the paper's table {number}");
        let parse = |reason: String| Error::Parse { path: name.clone().into(), reason };
        let text = TABLES.iter().find(|(known, _)| *known == number).map(|(_, text)| *text);
        let text = text.ok_or_else(|| parse("there is none".to_owned()))?;
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let rows = reader.deserialize().collect::<Result<_, _>>().map_err(|e| parse(e.to_string()))?;
        Ok(Self { name, rows })
    }

    /// All rows, each by the names of its columns.
    pub(super) fn rows(&self) -> &[BTreeMap<String, String>] {
        &self.rows
    }

    /// The row whose column holds this.
    pub(super) fn row(&self, column: &str, value: &str) -> Option<&BTreeMap<String, String>> {
        self.rows.iter().find(|row| row.get(column).is_some_and(|cell| cell == value))
    }

    /// A number of a row.
    pub(super) fn number(&self, row: &BTreeMap<String, String>, column: &str) -> Result<f64, Error> {
        let cell = row.get(column).map_or("", String::as_str);
        cell.parse().map_err(|_| Error::field(format!("{column} of {}", self.name), cell, "must be a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::Printed;

    #[test]
    fn all_tables_are_read() {
        for number in 1..=8 {
            assert!(Printed::table(number).is_ok_and(|table| !table.rows().is_empty()), "{number}");
        }
        assert!(Printed::table(9).is_err());
        let losses = Printed::table(8).and_then(|table| table.number(&table.rows()[0], "sft_loss"));
        assert!(losses.is_ok_and(|loss| (loss - 2.656).abs() < 1e-12));
    }
}
