//! The smoke study's Table 2 on the backend: the whole way from a generated corpus to the page.

use std::process::Command;

use serde_json::Value;

use crate::Args;
use crate::child::{Limit, run};

/// The environment variable that turns this program into another one, and its processes with it.
pub(crate) const AS: &str = "GPU_CHECK_AS";
/// The example of that name.
pub(crate) const TABLE2: &str = "table2";

pub(crate) fn part(
    args: &Args,
    limit: &Limit,
    keep: &mut dyn FnMut(Value) -> Result<(), String>,
) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
    let folder = std::env::temp_dir().join(format!("gpu-check-{}", std::process::id()));
    let mut command = Command::new(program);
    command.env(AS, TABLE2);
    command.args(["--backend", &args.backend, "--quiet"]);
    if args.tiny {
        command.args(["--spec", "tests/fixtures/tiny.toml"]);
    }
    command.arg("--store").arg(folder.join("store")).arg("--out").arg(folder.join("out"));
    let mut value = run("study:table2", command, limit);
    let table = folder.join("out/tables/table2.csv");
    // The program prints a page, not JSON: what counts is its end and the table.
    match std::fs::read_to_string(&table) {
        Ok(text) if value["succeeded"] == true => {
            value["failed"] = false.into();
            value["error"] = Value::Null;
            value["rows"] = text.lines().skip(1).count().into();
            value["table2"] = text.into();
        }
        Ok(_) => {}
        Err(e) => value["table"] = format!("{}: {e}", table.display()).into(),
    }
    let _ = std::fs::remove_dir_all(&folder);
    keep(value)
}
