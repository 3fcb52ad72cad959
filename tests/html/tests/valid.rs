//! report.html is HTML that a parser has no complaint about, and can be read aloud.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../../crates/report/tests/sample/mod.rs"]
mod sample;

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use report::Page;
use scraper::{Html, Selector};

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
fn html_is_valid_and_can_be_read_aloud() {
    let page = full(&NASTY);
    let dir = written(&page);
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
    assert_eq!(count("figure > figcaption"), page.figures.len());
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

/// Pages of real studies: the folder of an output directory in REPORT_DIR.
#[test]
fn a_real_page_is_valid() {
    let Some(dir) = std::env::var_os("REPORT_DIR") else {
        eprintln!("skipped: REPORT_DIR is not set");
        return;
    };
    let document = Html::parse_document(&read(Path::new(&dir), "report.html"));
    assert!(document.errors.is_empty(), "{:?}", document.errors);
}

proptest! {
    #[test]
    fn no_words_break_a_page(words in prop::collection::vec("\\PC{0,12}", 1..5)) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let values: Vec<Option<f64>> = words.iter().map(|w| Some(w.len() as f64)).collect();
        let mut page = Page::from(table("t", &words, &values));
        page.found.extend(words.iter().map(|w| (*w).to_owned()));
        let document = Html::parse_document(&read(written(&page).path(), "report.html"));
        prop_assert!(document.errors.is_empty(), "{:?}", document.errors);
    }
}
