//! A table for programs: one header, one record a row, numbers in full, nothing where there is no value.

use crate::table::{Column, Kind, Table};

impl Table {
    /// As CSV (RFC 4180 with line feeds). An interval is two columns, `NAME_low` and `NAME_high`.
    pub fn csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let header: Vec<String> = self.columns.iter().flat_map(names).collect();
        let mut records = vec![header];
        for row in 0..self.rows() {
            let fields = |c: &Column| c.values[row].fields(c.kind == Kind::Interval);
            records.push(self.columns.iter().flat_map(fields).collect());
        }
        for record in records {
            writer.write_record(record).expect("every record has the header's length, and memory takes them all");
        }
        let bytes = writer.into_inner().expect("memory takes what is written");
        String::from_utf8(bytes).expect("made of strings")
    }
}

fn names(column: &Column) -> Vec<String> {
    match column.kind {
        Kind::Interval => ["low", "high"].map(|end| format!("{}_{end}", column.name)).to_vec(),
        _ => vec![column.name.clone()],
    }
}

#[cfg(test)]
mod tests {
    use crate::{Column, Format, Table};

    #[test]
    fn numbers_are_in_full_and_what_is_missing_is_empty() {
        let table = Table::new("t", "")
            .with(Column::text("mix", ["a, \"b\"", "c"]))
            .with(Column::number("loss", Format::Signed(2), [Some(1.0 / 3.0), None]))
            .with(Column::interval("ci", Format::Fixed(1), [None, Some((-1.0, 2.5))]).file_only());
        assert_eq!(table.csv(), "mix,loss,ci_low,ci_high\n\"a, \"\"b\"\"\",0.3333333333333333,,\nc,,-1,2.5\n");
    }
}
