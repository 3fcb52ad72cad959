//! Running the command and the examples in a folder of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The example's binary, which cargo builds with the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples").join(name);
    assert!(
        path.exists(),
        "{} is not built: run the tests without --test, or build the examples first",
        path.display()
    );
    path
}

/// A tool: `midtrain` with its subcommand, or an example.
pub(crate) fn program(name: &str) -> Command {
    if name.starts_with("table") || name.starts_with("figure") {
        return Command::new(example(name));
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_midtrain"));
    // Token stores have subcommands of their own.
    if name != "midtrain" {
        command.arg(name);
    }
    command
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// `table2` with these arguments, in a folder.
pub(crate) fn table2(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(example("table2"));
    command.current_dir(dir).args(["--store", "store", "--out", "out"]).args(args);
    command
}

pub(crate) fn tiny() -> String {
    fixture("tiny.toml").display().to_string()
}

/// The tiny study's table; panics if it fails.
pub(crate) fn run_tiny(dir: &Path, more: &[&str]) -> String {
    let tiny = tiny();
    let mut args = vec!["--spec", &tiny];
    args.extend(more);
    let output = table2(dir, &args).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    read(dir, "tables/table2.csv")
}

pub(crate) fn read(dir: &Path, file: &str) -> String {
    std::fs::read_to_string(dir.join("out").join(file)).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a study leaves in its output folder, whatever ran it.
pub(crate) const FILES: [&str; 7] = [
    "tables/table2.csv",
    "tables/table2.md",
    "tables/comparison.csv",
    "tables/measurements.csv",
    "figures/table2.svg",
    "plan.txt",
    "report.html",
];

/// The tiny study, changed.
pub(crate) fn changed(dir: &Path, name: &str, changes: &[(&str, &str)]) -> String {
    let mut text = std::fs::read_to_string(tiny()).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Words with single spaces between: what is printed is laid out.
pub(crate) fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A CSV file's rows by column: one header, every record of its length.
pub(crate) fn csv(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let row = |record: csv::StringRecord| {
        header.iter().zip(record.iter()).map(|(h, f)| (h.to_owned(), f.to_owned())).collect()
    };
    let rows: Vec<BTreeMap<String, String>> = reader.records().map(|r| row(r.unwrap())).collect();
    assert!(rows.iter().all(|row| row.len() == header.len()), "a column's name comes twice in {header:?}");
    rows
}
