//! What a page's files must be, whatever stands in them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use report::{
    BarPanel, Bars, Column, Curves, Dot, Estimate, Figure, Format, Heatmap, Heatmaps, Lines, Page, Scatter, Table,
};
use scraper::{Html, Selector};

/// Words that break careless writers.
const NASTY: [&str; 6] = ["a|b", "<script>alert(1)</script>", "\"q\" & 'r'", "new\nline", "naïve, 数学", ""];

fn estimate(value: f64) -> Estimate {
    Estimate { value, interval: Some((value - 0.04, value + 0.03)) }
}

fn table(name: &str, words: &[&str], values: &[Option<f64>]) -> Table {
    Table::new(name, "Losses <after> fine-tuning & more, in nats per token of the held-out text of every set")
        .with(Column::text("set", words.iter().copied()))
        .with(Column::text("mix", (0..words.len()).map(|i| format!("mix {i}"))))
        .with(
            Column::number("loss", Format::Fixed(3), values.iter().copied())
                .marked(values.iter().map(|v| v.is_some_and(|v| v < 0.0)))
                .meaning("the mean over seeds"),
        )
        .with(Column::interval("ci", Format::Signed(3), values.iter().map(|v| v.map(|v| (v - 1.0, v + 1.0)))))
        .with(Column::number("p", Format::Probability, values.iter().map(|v| v.map(|v| v.abs() * 1e-7))))
        .with(Column::count("tokens", values.iter().map(|v| v.map(|_| 12u64))).file_only())
        .grouped()
        .note("A note <b>.")
}

/// A page with every kind of table and figure.
fn full(words: &[&str]) -> Page {
    let values: Vec<Option<f64>> = (0..words.len()).map(|i| (i % 3 != 1).then_some(i as f64 * 0.35 - 0.8)).collect();
    let mut page = Page::new("Table 2 <&>");
    page.asked = "Does midtraining help fine-tuning on what it resembles, and what does it cost?".to_owned();
    page.found.push("Starcoder lowers the loss on Pycode by 0.12 nats (95 % interval 0.09 to 0.15).".to_owned());
    page.tables.push(table("table2", words, &values));
    let names: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    let groups = |shift: f64| {
        let bars = |i: usize| vec![Some(estimate(0.1 * i as f64 - shift)), (i != 1).then(|| estimate(-0.05))];
        names.iter().cloned().enumerate().map(|(i, n)| (n, bars(i))).collect()
    };
    let panel = |title: &str, shift| BarPanel { title: title.to_owned(), groups: groups(shift) };
    let bars = Bars {
        axis: "nats per token".to_owned(),
        series: vec!["loss on the fine-tuning set".to_owned(), "loss on held-out C4".to_owned()],
        panels: vec![panel("Pycode", 0.2), panel("GSM8K", 0.1), panel("LIMA", 0.3)],
    };
    let dot = |i: usize| Dot { x: estimate(0.1 * i as f64), y: estimate(0.3 - 0.07 * i as f64), colour: i, shape: i };
    let scatter = Scatter {
        x_axis: "proximity advantage".to_owned(),
        y_axis: "improvement, %".to_owned(),
        dots: (0..8).map(dot).collect(),
        colours: ("fine-tuning set".to_owned(), names.clone()),
        shapes: ("midtraining mix".to_owned(), names.clone()),
    };
    let curve = |slope: f64| (0..20).map(|k| slope * f64::from(k)).collect::<Vec<f64>>();
    let curves = |title: &str| Curves {
        title: title.to_owned(),
        x: (0..20).map(f64::from).collect(),
        ys: vec![curve(0.01), curve(0.008), curve(0.5)],
    };
    let lines = Lines {
        x_axis: "step of fine-tuning".to_owned(),
        y_axis: "nats per token".to_owned(),
        names: ["measured", "first order", "bound (first order + L_P/2 times squared step)"]
            .map(str::to_owned)
            .to_vec(),
        scaled_to: 2,
        panels: vec![curves("C4, fine-tuned on Pycode"), curves("Starcoder (20%), fine-tuned on Pycode")],
        across: 3,
    };
    let cells =
        |i: usize| (0..names.len()).map(|j| (i != j).then(|| (i as f64 * 0.3 + j as f64 * 0.1).min(1.0))).collect();
    let heatmap = |title: &str| Heatmap {
        title: title.to_owned(),
        row_axis: "layers of base".to_owned(),
        column_axis: "layers of midtrained".to_owned(),
        rows: names.clone(),
        columns: names.clone(),
        values: (0..names.len()).map(cells).collect(),
    };
    let heatmaps = Heatmaps {
        panels: vec![heatmap("base × midtrained"), heatmap("base × base + Pycode")],
        across: 2,
        scale: (0.0, 1.0),
        measure: "CKA".to_owned(),
    };
    let data = |name: &str| table(name, words, &values);
    page.figures.push(
        Figure::new(data("bars"), bars)
            .subtitle(["lower is better; intervals are 95 % t-intervals over 5 seeds".to_owned()]),
    );
    page.figures.push(Figure::new(data("scatter"), scatter));
    page.figures.push(Figure::new(data("lines"), lines));
    page.figures.push(Figure::new(data("heatmaps"), heatmaps));
    page.notes.push("Losses < 1 & more.".to_owned());
    page.details.push(table("measurements", words, &values));
    page.attach("spec.toml", "The study", "name = \"<a>\"\n".to_owned());
    page
}

fn written(page: &Page) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    page.write(dir.path()).unwrap();
    dir
}

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn html_is_valid_and_can_be_read_aloud() {
    let dir = written(&full(&NASTY));
    let html = read(dir.path(), "report.html");
    assert!(!Html::parse_document("<p></b>").errors.is_empty(), "the parser finds what is wrong");
    let document = Html::parse_document(&html);
    assert!(document.errors.is_empty(), "{:?}", document.errors);
    let count = |of: &str| document.select(&Selector::parse(of).unwrap()).count();
    assert_eq!(count("script"), 0, "words are words");
    assert_eq!(count("table"), 2);
    assert_eq!(count("table"), count("table > caption"));
    assert_eq!(count("thead th"), count("thead th[scope=col]"));
    assert_eq!(count("tbody tr"), count("tbody tr > th[scope=row]:first-child"));
    assert_eq!(count("figure > figcaption"), 4);
    assert_eq!(count("figure svg"), count("figure svg[role=img] > title"));
    assert_eq!([count("html[lang]"), count("head > title"), count("meta[name=viewport]"), count("h1")], [1; 4]);
    let ids: Vec<_> = document.select(&Selector::parse("[id]").unwrap()).filter_map(|e| e.attr("id")).collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "each id once");
    // Whatever it links to is there.
    for link in document.select(&Selector::parse("a[href]").unwrap()) {
        let href = link.attr("href").unwrap();
        assert!(dir.path().join(href).exists(), "{href}");
        assert!(!link.text().collect::<String>().trim().is_empty());
    }
}

#[test]
fn pictures_are_whole() {
    let page = full(&["Pycode", "GSM8K", "LIMA", "SciQ"]);
    let dir = written(&page);
    for name in ["bars", "scatter", "lines", "heatmaps"] {
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
        let document = Html::parse_document(&read(dir.path(), "report.html"));
        prop_assert!(document.errors.is_empty(), "{:?}", document.errors);
        let markdown = read(dir.path(), "tables/t.md");
        let bars = |line: &str| line.replace("\\\\", "").replace("\\|", "").matches('|').count();
        for line in markdown.lines().filter(|l| l.starts_with('|')) {
            prop_assert_eq!(bars(line), 6, "{}", line);
        }
        page.text(80);
    }
}
