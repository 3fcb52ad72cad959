//! What every table and figure example does around its protocol: options, data, plan, run, output.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::str::FromStr as _;

use study::{
    Args, DataSpec, DataTable, Error, Execution, Plan, Prepared, Progress, Protocol, StopSignal, StudyResults,
    StudySpec, Table2, execute, exit_code, prepare, write_outputs,
};

use crate::Backend;

/// Runs an example: parses the options, prepares the data, plans, runs what the store lacks, prints and writes.
pub fn run_example(
    name: &str,
    protocol: &Protocol<'_>,
    render: impl FnOnce(&StudySpec, &StudyResults) -> Table2,
) -> ExitCode {
    let args = <Args as clap::Parser>::parse();
    match run(name, protocol, &args, render) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit_code(&error),
    }
}

/// Runs an example whose table shows data alone: prepares what there is, plans, prints and writes. Arms that cannot be
/// had are marked, not an error. `plan` is what `--print-plan` prints.
pub fn run_data_example(
    name: &str,
    protocol: &Protocol<'_>,
    plan: impl FnOnce(&Plan) -> String,
    render: impl FnOnce(&StudySpec, &Plan, Option<&Prepared>) -> Result<DataTable, Error>,
) -> ExitCode {
    let args = <Args as clap::Parser>::parse();
    let run = || {
        let spec = args.study(protocol)?;
        let signal = StopSignal::install().map_err(|source| Error::Io { path: "signal handlers".into(), source })?;
        let progress = Progress::new(args.quiet, signal);
        let prepared = match spec.data {
            DataSpec::Stated { .. } => None,
            _ => Some(prepare(&spec, &args.store, &mut |note| progress.note(note))?),
        };
        let planned = match &prepared {
            Some(prepared) => Plan::marked(&spec, prepared)?,
            None => Plan::stated(&spec)?,
        };
        let description = plan(&planned);
        if args.print_plan {
            return print(&description);
        }
        let table = render(&spec, &planned, prepared.as_ref())?;
        let out = args.out(name);
        table.write(&out, &spec, &description)?;
        print(&table.text())?;
        if !args.quiet {
            eprintln!("\nwritten to {}: tables/, spec.toml, plan.txt", out.display());
        }
        Ok(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit_code(&error),
    }
}

fn run(
    name: &str,
    protocol: &Protocol<'_>,
    args: &Args,
    render: impl FnOnce(&StudySpec, &StudyResults) -> Table2,
) -> Result<(), Error> {
    let spec = args.study(protocol)?;
    let engine = Backend::from_str(&args.backend)
        .and_then(|backend| backend.engine(args.checkpoint_seconds))
        .map_err(|e| Error::Usage { reason: e.to_string() })?;
    if matches!(spec.data, DataSpec::Stated { .. }) {
        if !args.print_plan {
            let reason = "preset = paper holds token counts alone: plan it (--print-plan), or give --data".to_owned();
            return Err(Error::Usage { reason });
        }
        return print(&Plan::stated(&spec)?.describe(None, None));
    }
    let signal = StopSignal::install().map_err(|source| Error::Io { path: "signal handlers".into(), source })?;
    let mut progress = Progress::new(args.quiet, signal);
    let prepared = prepare(&spec, &args.store, &mut |note| progress.note(note))?;
    let plan = Plan::build(&spec, &prepared)?;
    let description = plan.describe(Some(&prepared), None);
    if args.print_plan {
        let speed = engine.speed(&spec)?;
        return print(&plan.describe(Some(&prepared), Some(speed)));
    }
    if !args.quiet {
        let speed = engine.speed(&spec)?;
        progress.note(&plan.describe(Some(&prepared), Some(speed)));
    }
    let execution =
        Execution { spec: &spec, prepared: &prepared, plan: &plan, engine: engine.as_ref(), store: &args.store };
    let results = execute(&execution, &mut progress);
    progress.finish();
    let results = results?;
    let table = render(&spec, &results);
    let out = args.out(name);
    write_outputs(&out, &spec, &description, &results, &table)?;
    print(&table.text(std::io::stdout().is_terminal()))?;
    if !args.quiet {
        eprintln!("\nwritten to {}: tables/, figures/, report.html, spec.toml, plan.txt", out.display());
    }
    Ok(())
}

/// To standard output; a reader that went away is no failure.
fn print(text: &str) -> Result<(), Error> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Io { path: "standard output".into(), source: e })
        }
        _ => Ok(()),
    }
}
