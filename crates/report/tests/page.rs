//! What a page's files must be, whatever stands in them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod sample;

use std::path::Path;

use proptest::prelude::*;
use report::{Column, Format, Page, Table};

use crate::sample::{NASTY, full, table};

fn written(page: &Page) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    page.write(dir.path()).unwrap();
    dir
}

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn words_that_break_careless_writers_are_written() {
    let page = full(&NASTY);
    let html = read(written(&page).path(), "report.html");
    assert!(html.contains("&lt;script&gt;") && !html.contains("<script"));
}

#[test]
fn pictures_are_whole() {
    let page = full(&["Pycode", "GSM8K", "LIMA", "SciQ"]);
    let dir = written(&page);
    for name in ["bars", "scatter", "lines", "heatmaps", "plane"] {
        let png = std::fs::read(dir.path().join(format!("figures/{name}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG"), "{name}");
        let svg = read(dir.path(), &format!("figures/{name}.svg"));
        let size = |field: &str| -> u32 {
            svg.split(&format!(" {field}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        // Two pixels for one; every word begins inside.
        let pixels = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        assert_eq!((pixels(16), pixels(20)), (2 * size("width"), 2 * size("height")), "{name}");
        assert!(svg.contains("<title>") && !svg.contains("NaN"), "{name}");
    }
    let lines = read(dir.path(), "figures/lines.svg");
    assert!(lines.contains("ends at 9.50"), "a curve that leaves its panel says where it ends");
    if let Some(to) = std::env::var_os("REPORT_SAMPLE") {
        page.write(Path::new(&to)).unwrap();
    }
}

/// A CSV file's records, by the library's reader: it refuses records of another length than the header.
fn records(text: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let records = reader.records().map(|r| r.unwrap().iter().map(str::to_owned).collect()).collect();
    (header, records)
}

proptest! {
    #[test]
    fn numbers_come_back_from_csv_as_they_were(
        rows in prop::collection::vec((any::<String>(), prop::option::of(any::<f64>()), any::<u64>()), 0..12)
    ) {
        let interval = |v: Option<f64>| v.filter(|v| !v.is_nan()).map(|v| (v, v));
        let table = Table::new("t", "")
            .with(Column::text("words", rows.iter().map(|r| r.0.as_str())))
            .with(Column::number("number", Format::Fixed(1), rows.iter().map(|r| r.1)))
            .with(Column::interval("ci", Format::Signed(1), rows.iter().map(|r| interval(r.1))))
            .with(Column::count("count", rows.iter().map(|r| r.2)));
        let (header, records) = records(&table.csv());
        prop_assert_eq!(header, ["words", "number", "ci_low", "ci_high", "count"]);
        prop_assert_eq!(records.len(), rows.len());
        for (record, (words, number, count)) in records.iter().zip(&rows) {
            prop_assert_eq!(&record[0], words);
            let expected = number.filter(|v| !v.is_nan());
            for field in &record[1..4] {
                prop_assert_eq!((!field.is_empty()).then(|| field.parse::<f64>().unwrap()), expected);
            }
            prop_assert_eq!(record[4].parse::<u64>().unwrap(), *count);
        }
    }

    #[test]
    fn no_words_break_a_page(words in prop::collection::vec("\\PC{0,12}", 1..5)) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let values: Vec<Option<f64>> = words.iter().map(|w| Some(w.len() as f64)).collect();
        let mut page = Page::from(table("t", &words, &values));
        page.found.extend(words.iter().map(|w| (*w).to_owned()));
        let dir = written(&page);
        let markdown = read(dir.path(), "tables/t.md");
        let bars = |line: &str| line.replace("\\\\", "").replace("\\|", "").matches('|').count();
        for line in markdown.lines().filter(|l| l.starts_with('|')) {
            prop_assert_eq!(bars(line), 6, "{}", line);
        }
        page.text(80);
    }
}
