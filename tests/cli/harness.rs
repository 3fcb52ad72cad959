//! Running an example in a folder of its own.

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
