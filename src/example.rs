//! What every table and figure example does around its protocol: options, data, plan, run, output.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::str::FromStr as _;

use study::{
    Analysis, Args, DataSpec, Error, Execution, Page, Plan, Prepared, Progress, Protocol, Question, StopSignal,
    StudyResults, StudySpec, Table2, execute, exit_code, prepare, write_outputs,
};

use crate::Backend;

fn exit(result: Result<(), Error>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit_code(&error),
    }
}

/// Runs an example: parses the options, prepares the data, plans, runs what the store lacks, prints and writes.
pub fn run_example(
    name: &str,
    protocol: &Protocol<'_>,
    render: impl FnOnce(&StudySpec, &StudyResults) -> Table2,
) -> ExitCode {
    let args = <Args as clap::Parser>::parse();
    exit(run(
        protocol,
        &args,
        |_| Ok(()),
        |analysis, description| {
            let (spec, results) = (analysis.execution.spec, analysis.results);
            let table = render(spec, results);
            let out = args.out(name);
            write_outputs(&out, spec, description, results, &table)?;
            print(&table.text(std::io::stdout().is_terminal()))?;
            say_where(&args, &out, "tables/, figures/, report.html, spec.toml, plan.txt");
            Ok(())
        },
    ))
}

/// Runs an example that asks more of a study than its losses.
pub fn run_analysis(name: &str, protocol: &Protocol<'_>, question: impl Question) -> ExitCode {
    let args = <Args as clap::Parser>::parse();
    exit(run(
        protocol,
        &args,
        |spec| question.check(spec),
        |analysis, description| {
            let page = question.answer(analysis)?;
            analysis.progress.finish();
            write_page(&page, name, &args, analysis.execution.spec, description)
        },
    ))
}

/// Runs an example that shows data alone: prepares what there is, plans, prints and writes. Arms that cannot be had are
/// marked, not an error. `plan` is what `--print-plan` prints.
pub fn run_data_example(
    name: &str,
    protocol: &Protocol<'_>,
    plan: impl FnOnce(&Plan) -> String,
    render: impl FnOnce(&StudySpec, &Plan, Option<&Prepared>) -> Result<Page, Error>,
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
        let page = render(&spec, &planned, prepared.as_ref())?;
        write_page(&page, name, &args, &spec, &description)
    };
    exit(run())
}

fn write_page(page: &Page, name: &str, args: &Args, spec: &StudySpec, description: &str) -> Result<(), Error> {
    let out = args.out(name);
    page.write(&out, spec, description)?;
    print(&page.text())?;
    let figures = if page.figures.is_empty() { "" } else { "figures/, " };
    say_where(args, &out, &format!("tables/, {figures}report.html, spec.toml, plan.txt"));
    Ok(())
}

fn say_where(args: &Args, out: &std::path::Path, what: &str) {
    if !args.quiet {
        eprintln!("\nwritten to {}: {what}", out.display());
    }
}

/// Checks and runs the study, then `show` with its results and the plan's description; with `--print-plan` the plan alone.
fn run(
    protocol: &Protocol<'_>,
    args: &Args,
    check: impl FnOnce(&StudySpec) -> Result<(), Error>,
    show: impl FnOnce(&mut Analysis<'_, '_>, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    let spec = args.study(protocol)?;
    check(&spec)?;
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
    show(&mut Analysis { execution: &execution, results: &results, progress: &mut progress }, &description)
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
